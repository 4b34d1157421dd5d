//! Limits virtual opens to the part of the site that a multiplexer reaches.

use url::Url;

/// The part of the site that virtual opens reach.
#[derive(Debug, Clone)]
pub(crate) struct Jail {
    /// Begins and ends with a slash.
    prefix: String,
}

impl Jail {
    pub(crate) fn new(prefix: &str) -> Self {
        let inner = prefix.trim_matches('/');
        Self { prefix: if inner.is_empty() { "/".into() } else { format!("/{inner}/") } }
    }

    /// The folder that the multiplexer itself is in.
    pub(crate) fn around(multiplexer: &str) -> Self {
        Self::new(&multiplexer[..multiplexer.rfind('/').unwrap_or(0)])
    }

    /// Checks the target of a virtual open: path and query as a URL parser leaves them. Whatever a parser would
    /// still change, and whatever some handlers would read as another path, is refused rather than repaired.
    ///
    /// # Errors
    /// An HTTP status, and what is wrong.
    pub(crate) fn check(&self, target: &str) -> Result<(), (u16, &'static str)> {
        let path = target.split('?').next().unwrap_or_default();
        if !path.starts_with('/') {
            return Err((400, "the target is not an absolute path"));
        }
        let lower = path.to_ascii_lowercase();
        if path.contains('\\') || lower.contains("%2f") || lower.contains("%5c") {
            return Err((400, "the path has an encoded separator or a backslash"));
        }
        let parsed = Url::parse(&format!("http://localhost{target}"));
        let is_normal = parsed.is_ok_and(|url| {
            url.fragment().is_none() && url.path() == path && &url[url::Position::BeforePath..] == target
        });
        if !is_normal {
            return Err((400, "the target is not in the form that a URL parser gives it"));
        }
        if !path.starts_with(&self.prefix) && format!("{path}/") != self.prefix {
            return Err((403, "the path is outside of what this multiplexer reaches"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jail_is_compared_by_whole_segments() {
        let jail = Jail::around("/a/b/mux");
        for good in ["/a/b/", "/a/b/x", "/a/b/x/y?q=/../..", "/a/b", "/a/b?x", "/a/b/%41;x"] {
            assert_eq!(jail.check(good), Ok(()), "{good}");
        }
        for outside in ["/", "/a", "/a/bc", "/a/b2/x", "/A/b/x", "//a/b/x"] {
            assert!(matches!(jail.check(outside), Err((403, _))), "{outside}: {:?}", jail.check(outside));
        }
        assert_eq!(Jail::around("/mux").check("/anything"), Ok(()));
        // Encoded twice is encoded once to whoever decodes: a name with a percent sign, inside the jail.
        for literal in ["/a/b/%252e%252e/c", "/a/b/;/..;/c", "/a/b//c"] {
            assert_eq!(jail.check(literal), Ok(()), "{literal}");
        }
    }

    #[test]
    fn tricks_with_paths_are_refused() {
        let jail = Jail::new("/");
        for trick in [
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
            "/a/%2e./b",
            "user@host/",
            "\\\\host/",
        ] {
            assert!(matches!(jail.check(trick), Err((400, _))), "{trick:?}: {:?}", jail.check(trick));
        }
    }
}
