//! The pages of the documentation: links lead to files and headings that exist, and lines stay readable.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// The longest line of a page, in characters. Longer lines hide changes in a diff, and a terminal wraps them.
const LINE: usize = 200;

/// Where a page that leaves the repository, such as the package's README, finds the others.
const PUBLIC: &str = "https://github.com/manysocket/manysocket/blob/main/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of xtask has a parent")
}

/// Returns the Markdown files below a folder.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").filter_map(Result::ok) {
        let (path, name) = (entry.path(), entry.file_name());
        let is_foreign = matches!(name.to_str(), Some("node_modules" | "target" | "pkg" | "corpus"));
        if path.is_dir() && !is_foreign && !name.to_string_lossy().starts_with('.') {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// Returns the lines of a page outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Returns the anchors that GitHub gives the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let headings =
        prose(text).filter_map(|line| Some(line.trim_start_matches('#')).filter(|rest| *rest != line));
    let anchor = |heading: &str| {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings
        .map(|heading| {
            let anchor = anchor(heading);
            let count = counts.entry(anchor.clone()).or_default();
            *count += 1;
            if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
        })
        .collect()
}

/// Returns the targets of a page's links.
fn links(text: &str) -> Vec<String> {
    let targets = prose(text).flat_map(|line| line.split("](").skip(1));
    targets.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut found = Vec::new();
    pages(root(), &mut found);
    assert!(found.len() > 20, "{found:?}");
    let mut broken = Vec::new();
    for page in &found {
        let text = fs::read_to_string(page).expect("a page");
        for link in links(&text) {
            let (base, target) = match link.strip_prefix(PUBLIC) {
                Some(target) => (root(), target),
                None if link.contains("://") || link.starts_with("mailto:") => continue,
                None => (page.parent().expect("a folder"), &*link),
            };
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { page.clone() } else { base.join(file) };
            let leads = if anchor.is_empty() {
                file.exists()
            } else {
                fs::read_to_string(&file).is_ok_and(|text| anchors(&text).contains(anchor))
            };
            if !leads {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{} links lead nowhere:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn no_line_is_longer_than_a_reader_sees() {
    let mut found = Vec::new();
    pages(root(), &mut found);
    let mut long = Vec::new();
    for page in &found {
        let text = fs::read_to_string(page).expect("a page");
        let lines = text.lines().enumerate().filter(|(_, line)| line.chars().count() > LINE);
        long.extend(lines.map(|(at, _)| format!("{}:{}", page.display(), at + 1)));
    }
    assert!(long.is_empty(), "lines of more than {LINE} characters:\n{}", long.join("\n"));
}

/// Returns the code blocks of a page in a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let blocks = text.split("\n```").skip(1).step_by(2);
    blocks
        .filter_map(|block| block.strip_prefix(language))
        .filter(|block| block.starts_with(['\n', ',']))
        .collect()
}

/// Errors lead to the log, and on a page of `https:` a URL of `ws:` is another origin's, which a multiplexer does not carry.
#[test]
fn examples_that_are_copied_log_and_dial_their_own_site() {
    let mut found = Vec::new();
    pages(root(), &mut found);
    let (mut programs, mut dials) = (0, 0);
    for page in found {
        let text = fs::read_to_string(&page).expect("a page");
        let is_program =
            |block: &&str| block.contains("fn main") && block.contains("manysocket_server::serve(");
        for program in blocks(&text, "rust").into_iter().filter(is_program) {
            programs += 1;
            assert!(program.contains("tracing_subscriber"), "{}: no log in\n{program}", page.display());
        }
        // Other pages show URLs of any kind.
        if page.file_name().is_some_and(|name| name == "README.md") {
            for line in
                ["js", "html", "ts"].iter().flat_map(|language| blocks(&text, language)).flat_map(str::lines)
            {
                dials += usize::from(line.contains("WebSocket(\""));
                assert!(!line.contains("WebSocket(\"ws:"), "{}: {line}", page.display());
            }
        }
    }
    assert!(programs > 0 && dials > 2, "{programs} programs, {dials} URLs");
}
