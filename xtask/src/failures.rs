//! Repeats the failures of a long output at its end, where a reader of a log looks first.

use crate::command;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

/// Characters of one step's failures. A log is often shown from its end, in some 10 KB.
const EXCERPT: usize = 4_000;

/// Lines of an output in which no test reports its failure: a compiler's error fits.
const LAST_LINES: usize = 30;

/// Runs it and passes its output on; the error of a failure repeats the part about it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = command::line(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let errors = child.stderr.take().context("standard error is not piped")?;
    let output = child.stdout.take().context("standard output is not piped")?;
    let errors = thread::spawn(|| pass_on(errors, std::io::stderr()));
    let printed = pass_on(output, std::io::stdout());
    let errors = errors.join().unwrap_or_default();
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})\n{}", excerpt(&printed, &errors));
    }
    Ok(())
}

/// Copies each line as it comes, and returns them all.
fn pass_on(from: impl Read, mut to: impl Write) -> Vec<String> {
    let mut lines = Vec::new();
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        // A closed terminal does not end the tests.
        let _ = to.write_all(&line);
        lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
    lines
}

/// Returns the part of the output about the failure: the reports of failed tests, or the last lines where there are none.
fn excerpt(printed: &[String], errors: &[String]) -> String {
    let mut lines = reports(printed);
    if lines.is_empty() {
        let said = if errors.is_empty() { printed } else { errors };
        lines = said[said.len().saturating_sub(LAST_LINES)..].iter().map(String::as_str).collect();
    }
    let mut text = lines.join("\n");
    if let Some((end, _)) = text.char_indices().nth(EXCERPT) {
        text.truncate(end);
        text.push_str("\n… (the whole is above)");
    }
    text
}

/// Returns the lines in which `cargo test` and Node's test runner report failed tests.
fn reports(printed: &[String]) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut within = false;
    let mut backtrace = false;
    for line in printed {
        // cargo prints one such part for each test program, and Node one at the end of its output.
        within |= line == "failures:" || line.ends_with("failing tests:");
        // A backtrace is mostly of the runtime, and would fill the excerpt.
        backtrace = line == "stack backtrace:" || backtrace && line.starts_with("  ");
        if within && !backtrace {
            lines.push(line.as_str());
        }
        within &= !line.starts_with("test result:");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{EXCERPT, excerpt};

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_report_of_each_test_program_is_repeated() {
        let printed = lines(
            "test a ... ok\n\nfailures:\n---- b ----\nb fell\nstack backtrace:\n   0: main\n             at x\nnote: y\n\ntest result: FAILED. 1 failed\nrunning 1 test\n\
             failures:\n---- c ----\nc fell\ntest result: FAILED. 1 failed\ntest d ... ok",
        );
        let text = excerpt(&printed, &lines("warning: x"));
        assert!(text.contains("b fell") && text.contains("c fell"), "{text}");
        assert!(!text.contains("test a") && !text.contains("test d") && !text.contains("running"), "{text}");
        assert!(text.contains("note: y") && !text.contains("main"), "{text}");
    }

    #[test]
    fn the_report_of_nodes_test_runner_is_repeated() {
        let text = excerpt(&lines("✔ a (1ms)\nℹ fail 1\n\n✖ failing tests:\n\n✖ b (2ms)\n  b fell"), &[]);
        assert!(text.contains("b fell") && !text.contains("✔ a"), "{text}");
    }

    #[test]
    fn without_reports_the_last_lines_are_repeated() {
        let errors: Vec<String> = (0..100).map(|number| format!("error {number}")).collect();
        let text = excerpt(&lines("compiling"), &errors);
        assert!(text.starts_with("error 70\n") && text.ends_with("error 99"), "{text}");
        assert_eq!(excerpt(&lines("only output"), &[]), "only output");
    }

    #[test]
    fn a_long_report_is_cut() {
        let text = excerpt(&lines(&format!("failures:\n{}", "ä".repeat(EXCERPT))), &[]);
        assert!(text.chars().count() < EXCERPT + 40 && text.ends_with("(the whole is above)"), "{text}");
    }
}
