//! Reads origins of the web in the one form in which browsers write them (RFC 6454 §6.2).

use std::net::{Ipv4Addr, Ipv6Addr};

/// An origin whose scheme is `http` or `https`.
///
/// A parser of URLs takes many texts for the same origin: `http://127.1`, `http://2130706433` and `http://0x7f.1` are all
/// `http://127.0.0.1`. A browser writes each origin in one form only. The server accepts that form and no other, so two
/// origins are equal exactly if their texts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WebOrigin<'a> {
    pub(crate) scheme: &'a str,
    /// The host in lower case; an IPv6 address with its brackets.
    pub(crate) name: &'a str,
    /// `None` for the default port of the scheme.
    pub(crate) port: Option<u16>,
}

impl<'a> WebOrigin<'a> {
    /// Reads an origin. Returns `None` for every text that no browser writes.
    ///
    /// Browsers write names in ASCII (`xn--…`). The server does not check whether such a label can be decoded: a browser
    /// does, and a text that is equal to another is the same origin either way.
    pub(crate) fn parse(written: &'a str) -> Option<Self> {
        let (scheme, authority) = written.split_once("://")?;
        let default = default_port(scheme)?;
        let (name, port) = match authority.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            Some(port) => Some(canonical_port(port).filter(|port| *port != default)?),
            None => None,
        };
        is_canonical_host(name).then_some(Self { scheme, name, port })
    }

    /// Returns whether the host is an IP address.
    pub(crate) fn is_address(&self) -> bool {
        self.name.starts_with('[') || self.name.parse::<Ipv4Addr>().is_ok()
    }
}

/// Returns the port that an origin of the scheme leaves out; `None` if it is not a scheme of the web.
pub(crate) fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Reads a port without a sign and without leading zeros.
fn canonical_port(written: &str) -> Option<u16> {
    let port = written.parse::<u16>().ok()?;
    (port.to_string() == written).then_some(port)
}

fn is_canonical_host(name: &str) -> bool {
    if let Some(rest) = name.strip_prefix('[') {
        let inner = rest.strip_suffix(']').unwrap_or_default();
        return inner.parse::<Ipv6Addr>().is_ok_and(|address| serialized(address) == inner);
    }
    // The characters of a `reg-name` (RFC 3986 §3.2.2) without `%`, which no host of a browser has.
    let is_character =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._~!$&'()*+,;=".contains(&byte);
    let is_right = !name.is_empty() && name.bytes().all(is_character);
    is_right && (!ends_in_number(name) || name.parse::<Ipv4Addr>().is_ok())
}

/// Returns whether a parser of URLs reads a name as an IPv4 address, because its last label is a number.
fn ends_in_number(name: &str) -> bool {
    let last = name.strip_suffix('.').unwrap_or(name).rsplit('.').next().unwrap_or_default();
    let is_decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let is_hexadecimal =
        || last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_decimal || is_hexadecimal()
}

/// Writes an address as the URL standard does: like the standard library, but an IPv4 address inside in hexadecimal digits.
fn serialized(address: Ipv6Addr) -> String {
    match (address.to_ipv4_mapped(), address.segments()) {
        (Some(_), [.., high, low]) => format!("::ffff:{high:x}:{low:x}"),
        (None, _) => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::fuzzing::rng::Rng;

    /// Whether a parser of URLs leaves an origin as it is.
    fn is_left_unchanged(origin: &str) -> bool {
        Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == origin)
    }

    #[test]
    fn an_origin_is_read_exactly_if_a_url_parser_leaves_it_unchanged() {
        const PIECES: [&str; 46] = [
            "a",
            "b",
            "z",
            ".",
            ".",
            "..",
            "-",
            "_",
            "~",
            "0",
            "1",
            "7",
            "127",
            "255",
            "256",
            "08",
            "0x",
            "0x7f",
            "f",
            ":",
            ":",
            "::",
            "[",
            "]",
            "[::1]",
            "[::ffff:1.2.3.4]",
            "[::ffff:102:304]",
            "[1:0:0:2::]",
            "[1::2:0:0:3]",
            "80",
            "443",
            "8080",
            "65535",
            "65536",
            "@",
            "/",
            "?",
            "#",
            "%",
            "%61",
            " ",
            "\\",
            "A",
            "é",
            "127.0.0.1",
            "example.com",
        ];
        let mut random = Rng::new(7);
        let mut read = 0;
        for _ in 0..50_000 {
            let scheme = ["http://", "https://", "http:", "ws://"][random.below(40).saturating_sub(36)];
            let origin = (0..=random.below(5))
                .fold(scheme.to_owned(), |origin, _| origin + PIECES[random.below(PIECES.len())]);
            let parsed = WebOrigin::parse(&origin);
            read += usize::from(parsed.is_some());
            let is_web = origin.starts_with("http");
            assert_eq!(parsed.is_some(), is_web && is_left_unchanged(&origin), "{origin:?}");
        }
        assert!(read > 1000, "{read}");
    }

    #[test]
    fn a_name_is_read_exactly_if_a_url_parser_leaves_it_unchanged() {
        for byte in 0..128_u8 {
            for name in [format!("a{}b", char::from(byte)), char::from(byte).to_string()] {
                let origin = format!("https://{name}");
                // These stand in no name that the grammar of `Host` has.
                let is_of_no_host = b"\"`{}".contains(&byte);
                assert_eq!(
                    WebOrigin::parse(&origin).is_some(),
                    is_left_unchanged(&origin) && !is_of_no_host,
                    "{origin:?}"
                );
            }
        }
    }

    #[test]
    fn the_parts_of_an_origin_are_read() {
        let read = |written| WebOrigin::parse(written).expect("an origin");
        assert_eq!(read("https://a.org"), WebOrigin { scheme: "https", name: "a.org", port: None });
        assert_eq!(read("http://[::1]:443"), WebOrigin { scheme: "http", name: "[::1]", port: Some(443) });
        assert!(read("http://127.0.0.1").is_address() && read("http://[::1]").is_address());
        assert!(!read("http://a.org").is_address());
    }
}
