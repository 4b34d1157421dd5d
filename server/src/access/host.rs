//! The host that a request is for: the grammar of `Host`, and the target in absolute form.

use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Uri, Version, header};
use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv6Addr};

/// A host with or without its port, as `Host` has it (RFC 9110 §7.2): `uri-host [":" port]` (RFC 3986 §3.2.2).
///
/// Two hosts are equal if they are written in the same way. A browser writes each host in one way only, so an address
/// in another notation is no host that a page was loaded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// In lower case; an IPv6 address with its brackets.
    name: String,
    /// The digits, without those of the scheme's default port only if they were left out.
    port: Option<String>,
}

impl Host {
    /// Reads a host. Returns `None` if the grammar has no host of this form.
    pub(crate) fn parse(written: &str) -> Option<Self> {
        let (name, port) = match written.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (written, None),
        };
        let is_port = |port: &str| {
            port.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok())
        };
        let is_name = match name.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok()),
            None => is_registered_name(name),
        };
        let is_host = is_name && !name.is_empty() && port.is_none_or(is_port);
        is_host.then(|| Self { name: name.to_ascii_lowercase(), port: port.map(str::to_owned) })
    }

    /// Returns the origin of pages that this host serves, as a browser writes it (RFC 6454 §6.2).
    pub(crate) fn origin(&self, scheme: &str) -> String {
        let default = if scheme == "https" { "443" } else { "80" };
        match self.port.as_deref().filter(|port| *port != default) {
            Some(port) => format!("{scheme}://{}:{port}", self.name),
            None => format!("{scheme}://{}", self.name),
        }
    }

    /// Returns the host without its port.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the host is an IP address, in any notation of those that addresses have.
    pub(crate) fn is_address(&self) -> bool {
        self.name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
    }
}

impl Display for Host {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Returns whether a text is a `reg-name`, which dotted IPv4 addresses are, too.
fn is_registered_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        let is_right = match byte {
            b'%' => [bytes.next(), bytes.next()]
                .iter()
                .all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())),
            _ => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte),
        };
        if !is_right {
            return false;
        }
    }
    true
}

/// Checks the host of a request, and leaves it in `Host` alone: the authority of a target in absolute form
/// takes the place of the header (RFC 9112 §3.2.2), and the target becomes a path.
///
/// # Errors
/// Returns the reason; the server must refuse the request with 400 (RFC 9112 §3.2).
pub(crate) fn settle(parts: &mut Parts) -> Result<(), &'static str> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err("the request has several Host headers");
    }
    // A client whose target has no authority sends an empty one.
    let is_host =
        |host: &HeaderValue| host.is_empty() || host.to_str().is_ok_and(|host| Host::parse(host).is_some());
    if !host.is_none_or(is_host) {
        return Err("the Host header is not a host with an optional port (RFC 9110, section 7.2)");
    }
    let (Some(authority), false) = (parts.uri.authority(), parts.method == Method::CONNECT) else {
        return Ok(());
    };
    if !matches!(parts.uri.scheme_str(), Some("http" | "https")) {
        return Err("the target's scheme is neither http nor https");
    }
    let host = Host::parse(authority.as_str()).and_then(|_| authority.as_str().parse().ok());
    let host = host.ok_or("the target does not name a host with an optional port")?;
    parts.headers.insert(header::HOST, host);
    if parts.version <= Version::HTTP_11 {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = path.parse::<Uri>().map_err(|_| "the target's path is not one")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    #[test]
    fn hosts_that_the_grammar_has() {
        for (written, origin) in [
            ("example.com", "http://example.com"),
            ("EXAMPLE.com:80", "http://example.com"),
            ("example.com:443", "http://example.com:443"),
            ("example.com:8080", "http://example.com:8080"),
            ("a_b.example", "http://a_b.example"),
            ("127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("[::1]", "http://[::1]"),
            ("[::1]:3000", "http://[::1]:3000"),
            ("[2001:DB8::1]:80", "http://[2001:db8::1]"),
            // Correct, and never written so by a browser: the origin of no page.
            ("ex%61mple.com", "http://ex%61mple.com"),
            ("2130706433", "http://2130706433"),
            ("0x7f.1", "http://0x7f.1"),
            ("[0:0:0:0:0:0:0:1]", "http://[0:0:0:0:0:0:0:1]"),
            ("example.com:", "http://example.com:"),
            ("example.com:080", "http://example.com:080"),
        ] {
            let host = Host::parse(written).unwrap_or_else(|| panic!("refused: {written}"));
            assert_eq!(host.origin("http"), origin, "{written}");
        }
    }

    #[test]
    fn what_is_no_host() {
        for written in [
            "",
            ":80",
            "a b",
            "a\tb",
            "\ta",
            "a ",
            "user@a",
            "a/b",
            "a\\b",
            "a?b",
            "a#b",
            "http://a",
            "a:b",
            "a:-1",
            "a:65536",
            "a:8o",
            "a:80:80",
            "::1",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1]:x",
            "[127.0.0.1]",
            "[fe80::1%eth0]",
            "[v1.a]",
            "a%2",
            "a%zz",
            "a%",
            "exämple.com",
            "\u{ff41}.com",
            "a\0",
            "a\"b",
            "<a>",
            "a^b",
            "a|b",
            "[]",
        ] {
            assert_eq!(Host::parse(written), None, "{written:?}");
        }
    }

    fn settled(target: &str, hosts: &[&str]) -> Result<(String, Option<String>), &'static str> {
        let mut request = Request::get(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        settle(&mut parts)?;
        let host = parts.headers.get(header::HOST).map(|host| host.to_str().expect("ASCII").to_owned());
        Ok((parts.uri.to_string(), host))
    }

    #[test]
    fn the_authority_of_an_absolute_target_takes_the_place_of_the_header() {
        let of = |path: &str, host: &str| Ok((path.to_owned(), Some(host.to_owned())));
        assert_eq!(settled("/a?b", &["c.example"]), of("/a?b", "c.example"));
        assert_eq!(settled("http://a.example/b?c", &["evil.example"]), of("/b?c", "a.example"));
        assert_eq!(settled("http://a.example:81", &[]), of("/", "a.example:81"));
        assert_eq!(settled("https://[::1]:9/x", &["y"]), of("/x", "[::1]:9"));
        assert_eq!(settled("/", &[]), Ok(("/".into(), None)));
        assert_eq!(settled("/", &[""]), of("/", ""));
        for (target, hosts) in [
            ("/", &["a", "a"][..]),
            ("/", &["a", "b"]),
            ("/", &["a\tb"]),
            ("/", &["a@b"]),
            ("http://user@a.example/", &["a.example"]),
            ("http://a.example/", &["a b"]),
            ("http://a.example:x/", &["a.example"]),
            ("ftp://a.example/", &["a.example"]),
        ] {
            // The library rejects other values before they get here.
            if target.parse::<Uri>().is_ok() {
                assert!(settled(target, hosts).is_err(), "{target} {hosts:?}");
            }
        }
    }
}
