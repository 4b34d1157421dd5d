//! Limits virtual opens to the part of the site that a multiplexer reaches.

use super::path_form;

/// The part of the site that virtual opens reach.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// Begins and ends with a slash.
    prefix: String,
}

impl Scope {
    pub(crate) fn new(prefix: &str) -> Self {
        let inner = prefix.trim_matches('/');
        Self { prefix: if inner.is_empty() { "/".into() } else { format!("/{inner}/") } }
    }

    /// The folder that the multiplexer itself is in.
    pub(crate) fn around(multiplexer: &str) -> Self {
        Self::new(&multiplexer[..multiplexer.rfind('/').unwrap_or(0)])
    }

    /// Checks the target of a virtual open: its form, and whether it is inside.
    ///
    /// # Errors
    /// An HTTP status, and the reason.
    pub(crate) fn check(&self, target: &str) -> Result<(), (u16, &'static str)> {
        path_form::check(target).map_err(|why| (400, why))?;
        let path = target.split('?').next().unwrap_or_default();
        if !path.starts_with(&self.prefix) && format!("{path}/") != self.prefix {
            return Err((403, "the path is outside this multiplexer's scope"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jail_is_compared_by_whole_segments() {
        let scope = Scope::around("/a/b/mux");
        for good in ["/a/b/", "/a/b/x", "/a/b/x/y?q=/../..", "/a/b", "/a/b?x", "/a/b/%41;x"] {
            assert_eq!(scope.check(good), Ok(()), "{good}");
        }
        for outside in ["/", "/a", "/a/bc", "/a/b2/x", "/A/b/x", "//a/b/x"] {
            assert!(matches!(scope.check(outside), Err((403, _))), "{outside}: {:?}", scope.check(outside));
        }
        assert_eq!(Scope::around("/mux").check("/anything"), Ok(()));
        // Encoded twice is encoded once after decoding: a name with a percent sign, inside the scope.
        for literal in ["/a/b/%252e%252e/c", "/a/b/;/..;/c", "/a/b//c"] {
            assert_eq!(scope.check(literal), Ok(()), "{literal}");
        }
    }

    #[test]
    fn tricks_with_paths_are_refused() {
        let scope = Scope::new("/");
        for trick in path_form::tests::TRICKS {
            assert!(matches!(scope.check(trick), Err((400, _))), "{trick:?}: {:?}", scope.check(trick));
        }
    }
}
