//! Checks the form of paths: whether all programs read a path as the same one.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// How often a path may be decoded until nothing in it is encoded any more. A careless chain of servers decodes twice;
/// each further round would cost a client 2 bytes and the server a pass over the path.
const ROUNDS: usize = 4;

/// The characters that URL parsers encode in a path, of those that ASCII prints, besides `#` and `?`, which end one. Parsers
/// read the backslash as a slash.
const ENCODED_IN_PATHS: &[u8] = b"\"<>\\`{}#?";

/// The same for a query, which `#` ends.
const ENCODED_IN_QUERIES: &[u8] = b"\"'<>#";

/// Checks that a target is an absolute path with an optional query, as a URL parser leaves them, without encoded separators.
/// Refuses, and does not repair, paths that a parser would still change, or that some handlers would read as another path.
///
/// # Errors
/// Returns the reason; the server must refuse the request with 400.
pub(crate) fn check(target: &str) -> Result<(), &'static str> {
    let path = target.split('?').next().unwrap_or_default();
    if !path.starts_with('/') {
        return Err("the target is not an absolute path");
    }
    if has_other_separators(path) {
        return Err("the path has an encoded separator or a backslash");
    }
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let is_normal_query = query.bytes().all(|byte| is_left(byte, ENCODED_IN_QUERIES));
    if is_normal_path(path) && is_normal_query {
        Ok(())
    } else {
        Err("the target is not in the form that a URL parser gives it")
    }
}

/// Returns whether a text is an absolute path that a URL parser leaves as it is: nothing in it is encoded, repaired or resolved.
pub(crate) fn is_normal_path(path: &str) -> bool {
    path.starts_with('/')
        && path.bytes().all(|byte| is_left(byte, ENCODED_IN_PATHS))
        && !path.split('/').any(is_resolved)
}

/// Returns whether a URL parser leaves a character as it is, where it encodes the given ones. It encodes all that ASCII does
/// not print, too, and removes tabs and line breaks.
fn is_left(byte: u8, encoded: &[u8]) -> bool {
    byte.is_ascii_graphic() && !encoded.contains(&byte)
}

/// Returns whether a URL parser resolves a segment: `.` or `..`, whose dots may be encoded.
fn is_resolved(segment: &str) -> bool {
    let segment = segment.to_ascii_lowercase().replace("%2e", ".");
    segment == "." || segment == ".."
}

/// Checks a path for a server that may read it in any way: besides [`check`], no way of decoding it, and no treatment of
/// parameters behind `;`, finds a dot segment, a separator or a control character.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_for_any_reader(target: &str) -> Result<(), &'static str> {
    check(target)?;
    let path = target.split('?').next().unwrap_or_default();
    let mut codes = path.split('%').skip(1);
    if !codes.all(|code| code.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2) {
        return Err("the path has a percent sign that encodes nothing");
    }
    let mut path = Cow::Borrowed(path);
    for _ in 0..ROUNDS {
        if has_other_separators(&path) {
            return Err("the path has an encoded separator or a backslash");
        }
        if path.chars().any(char::is_control) {
            return Err("the path has an encoded control character");
        }
        if path.split('/').any(is_dots) {
            return Err("the path has a dot segment");
        }
        let decoded = percent_decode_str(&path).decode_utf8().map_err(|_| "the path is not UTF-8")?;
        if decoded == path {
            return Ok(());
        }
        path = Cow::Owned(decoded.into_owned());
    }
    Err("the path is encoded several times")
}

fn has_other_separators(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.contains(['\\']) || path.contains("%2f") || path.contains("%5c")
}

/// Returns whether some server takes a segment for `.` or `..`: Java's remove parameters, Windows removes spaces at the end.
fn is_dots(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or_default().trim();
    name == "." || name == ".."
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fuzzing::is_as_the_parser_has_it;
    use crate::fuzzing::rng::Rng;

    /// Paths that are refused for every destination.
    pub(crate) const TRICKS: [&str; 26] = [
        "",
        "x",
        "?q",
        "/a/../b",
        "/a/./b",
        "/a/%2e%2e/b",
        "/a/%2E/b",
        "/a/..",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a b",
        "/a#f",
        "/a\u{0}",
        "/a\nb",
        "/é",
        "/a\"b",
        "http://other/",
        "/a?b#c",
        "/a?b c",
        "/%2e%2e%2fb",
        "/a/%2e%2e",
        "/a/.%2e/b",
        "user@host/",
        "\\\\host/",
    ];

    #[test]
    fn tricks_are_refused() {
        for trick in TRICKS {
            assert!(check(trick).is_err() && check_for_any_reader(trick).is_err(), "{trick:?}");
        }
    }

    #[test]
    fn a_target_passes_exactly_if_a_url_parser_leaves_it_unchanged() {
        const PIECES: [&str; 22] = [
            "/", "/", ".", "..", "%2e", "%2E", ".%2e", "a", "Z", "?", "?", "#", "%", "%20", "//", ";", "@",
            ":", "'", "~", "é", "\\",
        ];
        let mut random = Rng::new(3);
        let mut passed = 0;
        for _ in 0..50_000 {
            let mut target = String::from("/");
            for _ in 0..random.below(7) {
                match random.below(20) {
                    0 => target.push(char::from(random.below(256) as u8)),
                    _ => target += PIECES[random.below(PIECES.len())],
                }
            }
            passed += usize::from(check(&target).is_ok());
            is_as_the_parser_has_it(&target);
        }
        assert!(passed > 1000, "{passed}");
        for byte in 0..=255_u8 {
            let byte = char::from(byte);
            for target in
                [format!("/a{byte}b"), format!("/{byte}"), format!("/?a{byte}b"), format!("/?{byte}")]
            {
                is_as_the_parser_has_it(&target);
            }
        }
    }

    #[test]
    fn what_some_servers_would_read_in_another_way_goes_to_none() {
        for trick in [
            "/a/..;/b",
            "/a/.;x=1/b",
            "/a/%2e%2e;x/b",
            "/a/..%3b/b",
            "/a/..%3Bx/b",
            "/a/..%20/b",
            "/a/%20../b",
            "/a/%252e%252e/b",
            "/a/%252e./b",
            "/a/%25252e%25252e/b",
            "/a%252fb",
            "/a%255cb",
            "/a%25252fb",
            "/a/..%253b/b",
            "/a%00",
            "/a%2500",
            "/a%0d%0aX:1",
            "/a%0A",
            "/a%7f",
            "/a%1b",
            "/a%c2%85",
            "/a/%c0%ae%c0%ae/b",
            "/a%c0%afb",
            "/a%ff",
            "/a%25ff",
            "/a/%u002e%u002e/b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%252525252e",
        ] {
            assert!(check_for_any_reader(trick).is_err(), "{trick:?}");
        }
    }

    #[test]
    fn names_may_have_all_that_stands_for_itself() {
        for path in [
            "/",
            "/a/b",
            "/a//b/",
            "/a;x=1/b;y",
            "/a;b=..",
            "/.../b",
            "/..a/.b/c..",
            "/.well-known/x",
            "/a%20b",
            "/100%25",
            "/100%2525",
            "/%3f%23",
            "/gr%C3%BC%C3%9Fe",
            "/a@b:80",
            "/http://example.com/",
            "/a?x=/../..&y=%2f%2e%2e",
            "/a?x=%0d%0aX:1&y=%00&z=%ff&%",
        ] {
            assert_eq!(check_for_any_reader(path), Ok(()), "{path}");
        }
    }
}
