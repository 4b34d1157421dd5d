//! How the proxies between a page and this server change the beginning of paths, and the same for targets of virtual opens.

use std::borrow::Cow;

use super::path_form::is_normal_path;

/// A beginning of paths that proxies replace: `from`, as pages write it, by `to`, as this server sees it. Both are whole
/// segments, and either may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rewrite<'a> {
    from: &'a str,
    to: &'a str,
}

impl<'a> Rewrite<'a> {
    /// Compares the path of the multiplexer that a client dialled with the one that arrived. Without a common last segment
    /// nothing is known of other paths, so they stay as they are.
    pub(crate) fn between(dialled: &'a str, arrived: &'a str) -> Self {
        if !is_normal_path(dialled) {
            return Self::default();
        }
        let ends = dialled.bytes().rev().zip(arrived.bytes().rev());
        let common = ends.take_while(|(one, other)| one == other).count();
        let tail = &arrived.as_bytes()[arrived.len() - common..];
        let Some(cut) = tail.iter().position(|byte| *byte == b'/') else { return Self::default() };
        let kept = common - cut;
        Self { from: &dialled[..dialled.len() - kept], to: &arrived[..arrived.len() - kept] }
    }

    /// Removes a prefix that a trusted proxy names.
    pub(crate) fn removing(prefix: &'a str) -> Self {
        Self { from: prefix, to: "" }
    }

    /// Returns the target that the proxies would make of this one; `None` if it does not begin with the prefix that they replace: its native
    /// request would not come here. The result may be anything: its form and the scope are still to be checked.
    pub(crate) fn apply<'t>(&self, target: &'t str) -> Option<Cow<'t, str>> {
        let rest = target.strip_prefix(self.from)?;
        if self.from == self.to {
            return Some(Cow::Borrowed(target));
        }
        if !rest.starts_with('/') {
            return None;
        }
        Some(if self.to.is_empty() { Cow::Borrowed(rest) } else { Cow::Owned(format!("{}{rest}", self.to)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::scope::Scope;

    fn applied(dialled: &str, arrived: &str, target: &str) -> Option<String> {
        Rewrite::between(dialled, arrived).apply(target).map(Cow::into_owned)
    }

    #[test]
    fn targets_change_as_the_path_of_the_multiplexer_did() {
        for (dialled, arrived, target, expected) in [
            // A prefix is removed.
            ("/app/mux", "/mux", "/app/ws?q=/app/", Some("/ws?q=/app/")),
            ("/app/mux", "/mux", "/app/app/ws", Some("/app/ws")),
            ("/a/b%20c/mux", "/mux", "/a/b%20c/ws", Some("/ws")),
            ("/a/b/mux", "/b/mux", "/a/b/ws", Some("/b/ws")),
            ("/a/b/mux", "/b/mux", "/a/ws", Some("/ws")),
            ("/app/mux", "/mux", "/app/", Some("/")),
            // One is added, or replaced.
            ("/mux", "/base/mux", "/ws", Some("/base/ws")),
            ("/app/mux", "/base/x/mux", "/app/ws", Some("/base/x/ws")),
            ("/wapp/mux", "/app/mux", "/wapp/ws", Some("/app/ws")),
            // Paths agree, or nothing can be said.
            ("/mux", "/mux", "/app/ws", Some("/app/ws")),
            ("/app/mux", "/app/mux", "/app/ws", Some("/app/ws")),
            ("/socket", "/mux", "/ws", Some("/ws")),
            ("/app/amux", "/mux", "/app/ws", Some("/app/ws")),
            ("app/mux", "/mux", "/ws", Some("/ws")),
            ("/app/../mux", "/mux", "/app/../ws", Some("/app/../ws")),
            ("", "/mux", "/ws", Some("/ws")),
            // These would not have come here.
            ("/app/mux", "/mux", "/ws", None),
            ("/app/mux", "/mux", "/application/ws", None),
            ("/app/mux", "/mux", "/app", None),
            ("/app/mux", "/mux", "/app?q", None),
            ("/app/mux", "/base/mux", "/base/ws", None),
        ] {
            let changed = applied(dialled, arrived, target);
            assert_eq!(changed.as_deref(), expected, "{dialled} as {arrived}: {target}");
        }
    }

    #[test]
    fn a_prefix_of_a_proxy_is_removed() {
        for (prefix, target, expected) in [
            ("/app", "/app/ws", Some("/ws")),
            ("/app", "/ws", None),
            ("/app", "/apple/ws", None),
            ("", "/ws", Some("/ws")),
        ] {
            assert_eq!(Rewrite::removing(prefix).apply(target).as_deref(), expected, "{prefix}: {target}");
        }
    }

    #[test]
    fn no_claim_leads_out_of_the_scope() {
        let scope = Scope::around("/inner/mux");
        for dialled in ["/x/inner/mux", "/x/mux", "/mux", "/inner/mux", "/x/inner/inner/mux", "//mux", "/"] {
            for target in [
                "/x/../secret",
                "/x/inner/../secret",
                "/x//secret",
                "/secret",
                "/x/secret",
                "/../secret",
                "//secret",
                "/x/inner/%2e%2e/secret",
                "/x\\..\\secret",
            ] {
                if let Some(changed) = applied(dialled, "/inner/mux", target)
                    && scope.check(&changed).is_ok()
                {
                    assert!(changed.starts_with("/inner/") && !changed.contains(".."), "{dialled} {target}");
                }
            }
        }
    }
}
