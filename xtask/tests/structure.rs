//! The structure of the crates: no import cycle between files, arrows in the order of ARCHITECTURE.md, and no public
//! type name twice.

mod source;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use source::{Crate, root};

/// The crates that are checked, by the folder of their sources.
const CRATES: [&str; 3] = ["protocol/src", "server/src", "src"];

/// The order of the server's rooms, top to bottom: the lines of the block `text rooms` in ARCHITECTURE.md.
fn rooms() -> HashMap<String, usize> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let (_, block) = text.split_once("```text rooms\n").expect("a block `text rooms` in ARCHITECTURE.md");
    let (block, _) = block.split_once("```").expect("the end of the block");
    let lines = block.lines().enumerate();
    lines
        .flat_map(|(level, line)| line.split_whitespace().map(move |room| (room.to_owned(), level)))
        .collect()
}

/// The room of a file: the folder below `src`, or the file itself.
fn room(file: &str) -> &str {
    file.split_once('/').map_or_else(|| file.trim_end_matches(".rs"), |(folder, _)| folder)
}

/// Returns the files on a cycle, each followed by its imports.
fn cycle(arrows: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit<'a>(
        file: &'a str,
        arrows: &'a BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(start) = path.iter().position(|on_path| *on_path == file) {
            return Some(path[start..].iter().map(ToString::to_string).collect());
        }
        if !done.insert(file) {
            return None;
        }
        path.push(file);
        let found = arrows.get(file).into_iter().flatten().find_map(|next| visit(next, arrows, path, done));
        path.pop();
        found
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|file| visit(file, arrows, &mut Vec::new(), &mut done))
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut wrong = Vec::new();
    for folder in CRATES {
        let mut arrows = Crate::read(&root().join(folder)).arrows();
        while let Some(cycle) = cycle(&arrows) {
            // Cut, to find the others, too.
            let next = cycle.get(1).unwrap_or(&cycle[0]).clone();
            arrows.get_mut(&cycle[0]).expect("a file of the cycle").remove(&next);
            wrong.push(format!("{folder}: {} -> {}", cycle.join(" -> "), cycle[0]));
        }
    }
    assert!(wrong.is_empty(), "{} import cycles:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn arrows_of_the_server_point_down() {
    let rooms = rooms();
    let level = |file: &str| {
        *rooms.get(room(file)).unwrap_or_else(|| panic!("ARCHITECTURE.md has no room for server/src/{file}"))
    };
    let mut wrong = Vec::new();
    for (file, imports) in Crate::read(&root().join("server/src")).arrows() {
        // The front page of the crate exports from everywhere, and the fuzz targets reach everywhere.
        if file == "lib.rs" || room(&file) == "fuzzing" {
            continue;
        }
        for import in imports.iter().filter(|import| level(import) < level(&file)) {
            wrong.push(format!("{file} -> {import}"));
        }
    }
    assert!(wrong.is_empty(), "{} arrows point up:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_public_type_name_stands_twice_in_a_crate() {
    let mut twice = Vec::new();
    for folder in CRATES {
        let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, file) in Crate::read(&root().join(folder)).public_types() {
            places.entry(name).or_default().push(file);
        }
        places.retain(|_, files| files.len() > 1);
        twice.extend(
            places.into_iter().map(|(name, files)| format!("{folder}: {name} in {}", files.join(", "))),
        );
    }
    assert!(twice.is_empty(), "{} public type names stand twice:\n{}", twice.len(), twice.join("\n"));
}
