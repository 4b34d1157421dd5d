//! Reads what trusted proxies say of the request that they forward: scheme, host, client and path prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Once;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::uri::Scheme;
use axum::http::{HeaderMap, header};
use tracing::warn;

use super::host::Host;
use super::path_form::is_normal_path;
use super::proxies::{Proxies, is_private};
use super::tokens::members;

const FOR: &str = "x-forwarded-for";
const HOST: &str = "x-forwarded-host";
const PROTO: &str = "x-forwarded-proto";
const PREFIX: &str = "x-forwarded-prefix";

/// The original address, scheme and host of a request that has passed proxies. The multiplexer adds it to the extensions of each request,
/// virtual opens included, so that handlers can read it:
///
/// ```
/// use axum::Extension;
/// use manysocket_server::Forwarded;
///
/// async fn who(Extension(forwarded): Extension<Forwarded>) -> String {
///     format!("You are {:?}", forwarded.client())
/// }
/// ```
///
/// Forwarding headers (`X-Forwarded-For`, `-Proto`, `-Host`, `-Prefix`, or `Forwarded` of RFC 7239) count only if the peer
/// that sent them is one of [`Multiplexer::trust_forwarded`](crate::Multiplexer::trust_forwarded). If a request has both
/// kinds, `Forwarded` is ignored.
///
/// A list of several hops is read from the right, where the nearest proxy has added its entry, for as long as the
/// hops are trusted proxies themselves: the client may have written anything further to the left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarded {
    scheme: Option<Scheme>,
    host: Option<Host>,
    client: Option<IpAddr>,
    prefix: Option<String>,
    by_proxy: bool,
    identifies: bool,
}

impl Forwarded {
    /// Returns the scheme of the page's URL, `http` or `https` (`ws` and `wss` count as these). `None` if it is not known:
    /// a server without TLS and without trusted proxies may have a proxy in front that ends TLS.
    pub fn scheme(&self) -> Option<&Scheme> {
        self.scheme.as_ref()
    }

    /// Returns the host, with its port if that is not the scheme's, if a trusted proxy names another than the header `Host`.
    pub fn host(&self) -> Option<String> {
        self.host.as_ref().map(Host::to_string)
    }

    /// Returns the address of the client: that of the peer, or the one that a trusted proxy names. `None` if neither is known.
    pub fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// Returns the part of the path that proxies have removed, without a slash at its end.
    pub fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    /// Returns whether the request came from a trusted proxy, whose other headers can be believed, too.
    pub(crate) fn is_by_proxy(&self) -> bool {
        self.by_proxy
    }

    /// Returns whether the peer's word on users counts: it is a trusted proxy or, if the server knows no proxies, at an address
    /// of a private network.
    pub(crate) fn identifies(&self) -> bool {
        self.identifies
    }

    /// Returns the host that a trusted proxy names, or that of the header.
    pub(crate) fn host_or_header(&self, headers: &HeaderMap) -> Option<Host> {
        let in_header = || headers.get(header::HOST)?.to_str().ok().and_then(Host::parse);
        self.host.clone().or_else(in_header)
    }

    /// Returns the values that the multiplexer has read. A request that has not passed it has no proxies, its scheme is known
    /// only if the server has TLS, and the target may name its host (RFC 9112 §3.2.2, RFC 9113 §8.3.1).
    pub(crate) fn of(parts: &Parts) -> Self {
        parts.extensions.get().cloned().unwrap_or_else(|| {
            let host = parts.uri.authority().and_then(|authority| Host::parse(authority.as_str()));
            Self { scheme: own_tls(parts), host, ..Self::default() }
        })
    }
}

/// The proxies whose forwarding headers count.
#[derive(Debug)]
pub(crate) struct Trusted {
    proxies: Vec<Proxies>,
    told: Once,
}

impl Trusted {
    pub(crate) fn new(proxies: Vec<Proxies>) -> Self {
        Self { proxies, told: Once::new() }
    }

    fn contain(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|proxies| proxies.contain(address))
    }

    /// Reads a request that has arrived over its own connection.
    pub(crate) fn read(&self, parts: &Parts) -> Forwarded {
        let peer = parts.extensions.get().map(|ConnectInfo::<SocketAddr>(peer)| peer.ip().to_canonical());
        let direct = Forwarded { client: peer, ..Forwarded::default() };
        if self.proxies.is_empty() {
            let identifies = peer.is_some_and(is_private);
            return Forwarded { scheme: own_tls(parts), identifies, ..direct };
        }
        let Some(peer) = peer else {
            self.told.call_once(|| {
                warn!(
                    "forwarding headers are ignored, because the server does not know the addresses of its peers: \
                     serve with manysocket_server::serve, or with into_make_service_with_connect_info::<SocketAddr>()"
                );
            });
            return Forwarded { scheme: own_tls(parts), ..direct };
        };
        if !self.contain(peer) {
            return Forwarded { scheme: parts.extensions.get().cloned(), ..direct };
        }
        let headers = &parts.headers;
        if [FOR, HOST, PROTO, PREFIX].iter().any(|name| headers.contains_key(*name)) {
            self.read_common(headers)
        } else {
            self.read_standard(headers)
        }
    }

    /// Reads `X-Forwarded-*`, each of which is a separate list.
    fn read_common(&self, headers: &HeaderMap) -> Forwarded {
        let list = |name: &str| members(headers.get_all(name)).collect::<Vec<_>>();
        let (hops, client) = self.walk(list(FOR).into_iter().map(address));
        // A proxy that replaces a header in place of adding to it leaves one value for all hops.
        let outermost = |values: Vec<&str>| {
            let place = values.len().saturating_sub(hops);
            values.get(place).map(|value| unquoted(value))
        };
        let prefixes = list(PREFIX);
        let prefixes = &prefixes[prefixes.len().saturating_sub(hops)..];
        Forwarded {
            scheme: outermost(list(PROTO)).and_then(|value| scheme(&value)),
            host: outermost(list(HOST)).and_then(|value| Host::parse(&value)),
            client,
            // Each proxy removes the beginning of the remaining path, the outermost first.
            prefix: prefixes
                .iter()
                .map(|value| prefix(value))
                .collect::<Option<String>>()
                .filter(|all| !all.is_empty()),
            by_proxy: true,
            identifies: true,
        }
    }

    /// Reads `Forwarded` (RFC 7239), a list of hops.
    fn read_standard(&self, headers: &HeaderMap) -> Forwarded {
        let lines = headers.get_all(header::FORWARDED).iter().map(|line| line.to_str().unwrap_or("\""));
        let elements = split(&lines.collect::<Vec<_>>().join(","), ',')
            .into_iter()
            .filter(|element| !element.is_empty())
            .map(|element| Element::parse(&element))
            .collect::<Vec<_>>();
        let named =
            |element: &Option<Element>| element.as_ref().and_then(|element| address(element.by_name("for")?));
        let (hops, client) = self.walk(elements.iter().map(named));
        let element = elements.get(elements.len().saturating_sub(hops)).and_then(Option::as_ref);
        let value = |name: &str| element.and_then(|element| element.by_name(name));
        Forwarded {
            scheme: value("proto").and_then(scheme),
            host: value("host").and_then(Host::parse),
            client,
            prefix: None,
            by_proxy: true,
            identifies: true,
        }
    }

    /// Walks from the nearest proxy, which is last, to the outermost trusted one. Returns how many there are, and the client
    /// of the outermost, if it is named by its address.
    fn walk(
        &self,
        clients: impl DoubleEndedIterator<Item = Option<IpAddr>> + ExactSizeIterator,
    ) -> (usize, Option<IpAddr>) {
        let count = clients.len();
        for (index, client) in clients.rev().enumerate() {
            let is_proxy = client.is_some_and(|client| self.contain(client));
            if !is_proxy || index + 1 == count {
                return (index + 1, client);
            }
        }
        (1, None)
    }
}

/// Returns the scheme of a connection whose TLS this server ends.
fn own_tls(parts: &Parts) -> Option<Scheme> {
    parts.extensions.get::<Scheme>().filter(|scheme| **scheme == Scheme::HTTPS).cloned()
}

/// Reads a scheme. Traefik names that of a WebSocket `ws` or `wss`.
fn scheme(written: &str) -> Option<Scheme> {
    match written.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(Scheme::HTTPS),
        "http" | "ws" => Some(Scheme::HTTP),
        _ => None,
    }
}

/// Reads a path that has been removed, as URLs have it. `/` is nothing.
fn prefix(written: &str) -> Option<&str> {
    let is_path = is_normal_path(written) && !written.starts_with("//");
    is_path.then(|| written.trim_end_matches('/'))
}

/// Reads the address of a hop (RFC 7239 §6), which may have a port. `None` for `unknown`, for a name that only its
/// proxy understands, and for nonsense.
fn address(written: &str) -> Option<IpAddr> {
    let written = unquoted(written);
    let is_port = |port: &str| {
        let port = port.strip_prefix('_').unwrap_or(port);
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let address = if let Some(rest) = written.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_right = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        IpAddr::V6(address.parse::<Ipv6Addr>().ok().filter(|_| is_right)?)
    } else if let Ok(address) = written.parse() {
        address
    } else {
        let (address, port) = written.split_once(':')?;
        IpAddr::V4(address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port))?)
    };
    Some(address.to_canonical())
}

/// Removes the quotes of a quoted string, and the backslashes in it (RFC 9110 §5.6.4).
fn unquoted(written: &str) -> String {
    let Some(inner) = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return written.to_owned();
    };
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

/// Splits at a separator that does not stand in a quoted string. The parts have no space around them.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut is_quoted, mut is_escaped) = (false, false);
    for character in text.chars() {
        if character == separator && !is_quoted {
            parts.push(String::new());
            continue;
        }
        is_quoted ^= character == '"' && !is_escaped;
        is_escaped = is_quoted && character == '\\' && !is_escaped;
        if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    parts.into_iter().map(|part| part.trim_matches([' ', '\t']).to_owned()).collect()
}

/// One hop of `Forwarded`: its parameters, names in lower case.
struct Element(Vec<(String, String)>);

impl Element {
    /// Reads a hop. `None` if it is not one, or has a parameter twice, which makes it ambiguous.
    fn parse(written: &str) -> Option<Self> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in split(written, ';').iter().filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            let name = name.to_ascii_lowercase();
            let is_whole = value.starts_with('"') == value.ends_with('"') && value != "\"";
            if !is_whole || pairs.iter().any(|(other, _)| *other == name) {
                return None;
            }
            pairs.push((name, unquoted(value)));
        }
        Some(Self(pairs))
    }

    fn by_name(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue, Request};

    /// Reads the lines of a head that a peer sends over a connection with a scheme, where 10.0.0.0/8 are proxies.
    fn read(peer: Option<&str>, own: Scheme, lines: &str) -> Forwarded {
        let (mut parts, ()) = Request::new(()).into_parts();
        for line in lines.lines() {
            let (name, value) = line.split_once(": ").expect("a header");
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            parts.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        parts.extensions.insert(own);
        if let Some(peer) = peer {
            parts.extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().expect("an address"), 9)));
        }
        Trusted::new(vec!["10.0.0.0/8".parse().expect("a range"), "fd00::/8".parse().expect("a range")])
            .read(&parts)
    }

    /// In short: scheme, host, client, prefix.
    fn by_proxy(lines: &str) -> String {
        let read = read(Some("10.0.0.1"), Scheme::HTTP, lines);
        let client = read.client().map(|client| client.to_string());
        let scheme = read.scheme().map(Scheme::as_str);
        let host = read.host();
        let all = [scheme, host.as_deref(), client.as_deref(), read.prefix()];
        all.map(|value| value.unwrap_or("-")).join(" ")
    }

    #[test]
    fn the_common_headers_of_a_proxy_are_read_from_the_right() {
        for (lines, expected) in [
            ("X-Forwarded-Proto: https", "https - - -"),
            ("X-Forwarded-Proto: WSS", "https - - -"),
            ("X-Forwarded-Proto: ftp", "- - - -"),
            ("X-Forwarded-Proto: ", "- - - -"),
            ("X-Forwarded-Host: a.example:81", "- a.example:81 - -"),
            ("X-Forwarded-Host: a b", "- - - -"),
            ("X-Forwarded-For: 203.0.113.7", "- - 203.0.113.7 -"),
            ("X-Forwarded-For: 203.0.113.7:5000", "- - 203.0.113.7 -"),
            ("X-Forwarded-For: 2001:db8::7", "- - 2001:db8::7 -"),
            ("X-Forwarded-For: [2001:db8::7]:5000", "- - 2001:db8::7 -"),
            ("X-Forwarded-For: ::ffff:203.0.113.7", "- - 203.0.113.7 -"),
            ("X-Forwarded-For: 6.6.6.6, 203.0.113.7", "- - 203.0.113.7 -"),
            ("X-Forwarded-For: 6.6.6.6\nX-Forwarded-For: 203.0.113.7", "- - 203.0.113.7 -"),
            ("X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.2,10.9.9.9", "- - 203.0.113.7 -"),
            ("X-Forwarded-For: 203.0.113.7,, 10.0.0.2 ,", "- - 203.0.113.7 -"),
            ("X-Forwarded-For: 203.0.113.7, fd00::5", "- - 203.0.113.7 -"),
            ("X-Forwarded-For: 203.0.113.7, unknown", "- - - -"),
            ("X-Forwarded-For: 203.0.113.7, \u{e9}", "- - - -"),
            ("X-Forwarded-For: 10.0.0.3, 10.0.0.2", "- - 10.0.0.3 -"),
            // One value for two hops; one for each of them; one that the client has added.
            ("X-Forwarded-For: 1.1.1.1, 10.0.0.2\nX-Forwarded-Proto: https", "https - 1.1.1.1 -"),
            ("X-Forwarded-For: 1.1.1.1, 10.0.0.2\nX-Forwarded-Proto: https, http", "https - 1.1.1.1 -"),
            ("X-Forwarded-For: 1.1.1.1\nX-Forwarded-Proto: https, http", "http - 1.1.1.1 -"),
            ("X-Forwarded-Host: evil.example, a.example", "- a.example - -"),
            ("X-Forwarded-Prefix: /app/", "- - - /app"),
            ("X-Forwarded-Prefix: /", "- - - -"),
            ("X-Forwarded-Prefix: /evil, /app", "- - - /app"),
            (
                "X-Forwarded-For: 1.1.1.1, 10.0.0.2\nX-Forwarded-Prefix: /evil, /a\nX-Forwarded-Prefix: /b",
                "- - 1.1.1.1 /a/b",
            ),
            ("X-Forwarded-Prefix: app", "- - - -"),
            ("X-Forwarded-Prefix: //evil.example", "- - - -"),
            ("X-Forwarded-Prefix: /a/../b", "- - - -"),
            ("X-Forwarded-Prefix: /a?b", "- - - -"),
            // With these the other is the client's.
            (
                "X-Forwarded-For: 1.1.1.1\nForwarded: proto=https;host=evil.example;for=6.6.6.6",
                "- - 1.1.1.1 -",
            ),
        ] {
            assert_eq!(by_proxy(lines), expected, "{lines}");
        }
    }

    #[test]
    fn the_standard_header_of_a_proxy_is_read_from_the_right() {
        for (line, expected) in [
            ("for=203.0.113.7;proto=https;host=a.example", "https a.example 203.0.113.7 -"),
            ("For=203.0.113.7; PROTO=\"https\" ;Host=\"a.example:81\"", "https a.example:81 203.0.113.7 -"),
            ("for=\"203.0.113.7:5000\"", "- - 203.0.113.7 -"),
            ("for=\"[2001:db8::7]\"", "- - 2001:db8::7 -"),
            ("for=\"[2001:db8::7]:5000\"", "- - 2001:db8::7 -"),
            ("for=\"[2001:db8::7]:_obscure\"", "- - 2001:db8::7 -"),
            ("for=\"20\\3.0.113.7\"", "- - 203.0.113.7 -"),
            ("for=unknown;proto=https", "https - - -"),
            ("for=_hidden;proto=https", "https - - -"),
            ("for=6.6.6.6;proto=http, for=203.0.113.7;proto=https", "https - 203.0.113.7 -"),
            (
                "for=6.6.6.6;proto=http,for=203.0.113.7;proto=https, for=10.0.0.2;proto=http",
                "https - 203.0.113.7 -",
            ),
            ("for=6.6.6.6;proto=https, for=unknown, for=10.0.0.2;proto=http", "- - - -"),
            ("for=6.6.6.6;proto=https, for=_x;proto=http, for=10.0.0.2", "http - - -"),
            ("for=\"6.6.6.6, for=10.0.0.2\", for=203.0.113.7;proto=https", "https - 203.0.113.7 -"),
            ("for=\"a\\\", for=10.0.0.2;proto=https\", for=203.0.113.7", "- - 203.0.113.7 -"),
            // Nobody knows what these mean: the server ignores them, and everything further to the left.
            ("for=6.6.6.6;proto=https, nonsense", "- - - -"),
            ("for=6.6.6.6;proto=https, for=203.0.113.7;proto=http;proto=https", "- - - -"),
            ("for=6.6.6.6;proto=https, for=\"203.0.113.7", "- - - -"),
            ("", "- - - -"),
            (",, ,", "- - - -"),
            ("proto=https", "https - - -"),
        ] {
            assert_eq!(by_proxy(&format!("Forwarded: {line}")), expected, "{line}");
        }
        let lines = "Forwarded: for=6.6.6.6;proto=http\nForwarded: for=203.0.113.7;proto=https";
        assert_eq!(by_proxy(lines), "https - 203.0.113.7 -");
    }

    #[test]
    fn nobody_else_is_believed() {
        let lines = "X-Forwarded-Proto: https\nX-Forwarded-Host: evil.example\nX-Forwarded-For: 6.6.6.6\n\
                     X-Forwarded-Prefix: /evil";
        let standard = "Forwarded: for=6.6.6.6;proto=https;host=evil.example";
        for lines in [lines, standard] {
            for peer in ["203.0.113.9", "11.0.0.1", "::1", "::ffff:11.0.0.1"] {
                let client = peer.parse::<IpAddr>().expect("an address").to_canonical();
                for own in [Scheme::HTTP, Scheme::HTTPS] {
                    let expected =
                        Forwarded { scheme: Some(own.clone()), client: Some(client), ..Forwarded::default() };
                    assert_eq!(read(Some(peer), own, lines), expected, "{peer}");
                }
            }
            assert_eq!(read(None, Scheme::HTTP, lines), Forwarded::default(), "from wherever");
            let (parts, ()) = Request::get("/")
                .header("x-forwarded-proto", "https")
                .body(())
                .expect("a request")
                .into_parts();
            assert_eq!(Trusted::new(Vec::new()).read(&parts), Forwarded::default(), "without proxies");
        }
        assert!(read(Some("::ffff:10.0.0.1"), Scheme::HTTP, lines).is_by_proxy());
    }
}
