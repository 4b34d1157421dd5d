//! Checks the form of paths: whether all who read a path take it for the same one.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use url::{Position, Url};

/// How often a path may be decoded until nothing in it is encoded any more. Twice is what a careless chain of servers does;
/// each further round would cost a client 2 bytes and the server a pass over the path.
const ROUNDS: usize = 4;

/// Checks that a target is an absolute path with an optional query, as a URL parser leaves them, without encoded separators.
/// Whatever a parser would still change, and whatever some handlers would read as another path, is refused rather than repaired.
///
/// # Errors
/// Says what is wrong; the request is to be refused with 400.
pub(crate) fn check(target: &str) -> Result<(), &'static str> {
    let path = target.split('?').next().unwrap_or_default();
    if !path.starts_with('/') {
        return Err("the target is not an absolute path");
    }
    if has_other_separators(path) {
        return Err("the path has an encoded separator or a backslash");
    }
    let parsed = Url::parse(&format!("http://localhost{target}"));
    let is_normal = parsed.is_ok_and(|url| {
        url.fragment().is_none() && url.path() == path && &url[Position::BeforePath..] == target
    });
    if is_normal { Ok(()) } else { Err("the target is not in the form that a URL parser gives it") }
}

/// Checks what goes to a server that may read paths in any way: besides [`check`], no way of decoding it, and no treatment of
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

    /// What is refused wherever it goes.
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
