//! Defines one property for each fuzz target of `fuzz/`: a function that accepts any bytes and panics if the property
//! does not hold. The tests run them on the saved inputs of `fuzz/corpus/`, and on mutations of these.

mod paths;
mod readers;
mod site;

pub use crate::rpc::fuzzing::calls;
pub use crate::state::fuzzing::{commits, documents};
pub use crate::ws::fuzzing::buffers;
#[cfg(test)]
pub(crate) use paths::is_as_the_parser_has_it;
pub use paths::{origins, scope, subjects};
pub use readers::readers;
pub use site::{events, index};

#[cfg(test)]
#[path = "../../../protocol/tests/support/rng.rs"]
#[allow(dead_code, reason = "shared with the protocol's tests")]
pub(crate) mod rng;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::rng::Rng;
    use super::*;

    type Target = (&'static str, fn(&[u8]));

    const TARGETS: [Target; 10] = [
        ("buffers", buffers),
        ("calls", calls),
        ("commits", commits),
        // Only the fuzz target installs an allocator that counts allocations.
        ("documents", |input| documents(input, || 0)),
        ("events", events),
        ("index", index),
        ("scope", scope),
        ("origins", origins),
        ("readers", readers),
        ("subjects", subjects),
    ];

    /// Tokens that are significant to one of the parsers.
    const TOKENS: [&str; 24] = [
        "/",
        "//",
        "..",
        ".",
        "%2e",
        "%2F",
        "%5c",
        "\\",
        "?",
        "#",
        "@",
        ":",
        "*.",
        "://",
        "%",
        "\t",
        "~0",
        "~1",
        "/-",
        "\"op\":\"move\"",
        "\"from\":\"\"",
        "null",
        "[",
        "é",
    ];

    fn saved(target: &str) -> Vec<Vec<u8>> {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus")).join(target);
        let mut files: Vec<_> =
            folder.read_dir().expect("a corpus").map(|file| file.expect("a file").path()).collect();
        files.sort();
        files.into_iter().map(|file| std::fs::read(file).expect("a saved input")).collect()
    }

    /// Returns a mutation of the saved inputs.
    fn change(inputs: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
        let mut input = inputs[rng.below(inputs.len())].clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(input.len() + 1);
            let to = at + rng.below((input.len() - at).min(8) + 1);
            let token = TOKENS[rng.below(TOKENS.len())].as_bytes().to_vec();
            let other = &inputs[rng.below(inputs.len())];
            let from = rng.below(other.len() + 1);
            let put = match rng.below(4) {
                0 => token,
                1 => vec![rng.next() as u8],
                2 => other[from..from + rng.below(other.len() - from + 1)].to_vec(),
                _ => Vec::new(),
            };
            input.splice(at..to, put);
        }
        input
    }

    #[test]
    fn it_holds_for_saved_inputs_and_changes_of_them() {
        let iterations = std::env::var("MANYSOCKET_FUZZ_ITERATIONS");
        let iterations = iterations.ok().and_then(|number| number.parse().ok()).unwrap_or(5_000);
        for (name, target) in TARGETS {
            let inputs = saved(name);
            assert!(inputs.len() >= 12, "{name} has {} saved inputs", inputs.len());
            let mut rng = Rng::new(1);
            let changed = std::iter::repeat_with(|| change(&inputs, &mut rng)).take(iterations);
            for input in inputs.clone().into_iter().chain(changed) {
                // The output of a failing test ends with the failing input.
                println!("{name} {}", input.escape_ascii());
                target(&input);
            }
        }
    }
}
