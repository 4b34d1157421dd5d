//! Decides which pages may connect, by the origin of the page.

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use axum::http::uri::Scheme;
use axum::http::{HeaderMap, HeaderValue, header};

use super::excerpt::excerpt;
use super::forwarded::Forwarded;
use super::host::Host;
use super::web_origin::{WebOrigin, default_port};

/// Pages that may connect besides the server's own: those of one origin, written as browsers do (`https://example.com`),
/// those of all names below one (`https://*.example.com`), those of an application (`tauri://localhost`,
/// `chrome-extension://ID`), or `*`: everybody, programs that name no origin included. With that, any page of any site can
/// act as its visitor: use it only for servers without users.
///
/// `null` has to be named, too, and is as good as `*` towards pages: any site can make one in a sandboxed frame. So is `file://`,
/// as pages of files call themselves in Android's web view.
///
/// ```
/// use manysocket_server::Origin;
///
/// assert!("https://*.example.com".parse::<Origin>().is_ok());
/// assert!("tauri://localhost".parse::<Origin>().is_ok());
/// assert!("example.com".parse::<Origin>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(Pattern);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Everybody,
    /// As browsers write it.
    One(String),
    /// Names below another, which begins with the dot. The scheme's default port is `None`.
    Below {
        scheme: String,
        name: String,
        port: Option<u16>,
    },
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(written: &str) -> Result<Self, OriginError> {
        let error = |problem| OriginError { written: written.into(), problem };
        if written == "*" {
            return Ok(Self(Pattern::Everybody));
        }
        if let Some(origin) = of_an_application(written) {
            return Ok(Self(Pattern::One(origin)));
        }
        if !written.is_ascii() {
            return Err(error(Problem::NotAscii));
        }
        let lower = written.to_ascii_lowercase();
        let lower = lower.strip_suffix('/').unwrap_or(&lower);
        let (scheme, host) = lower.split_once("://").ok_or_else(|| error(Problem::Form))?;
        let (is_below, host) = match host.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, host),
        };
        // Browsers leave the default port out; people may write it.
        let default = default_port(scheme).map(|port| format!(":{port}"));
        let host = default.and_then(|port| host.strip_suffix(&port)).unwrap_or(host);
        let origin = format!("{scheme}://{host}");
        let read = WebOrigin::parse(&origin).filter(|read| !read.name.contains('*'));
        let read = read.ok_or_else(|| error(Problem::Form))?;
        if !is_below {
            return Ok(Self(Pattern::One(origin)));
        }
        if read.is_address() {
            return Err(error(Problem::BelowAddress));
        }
        Ok(Self(Pattern::Below { scheme: scheme.into(), name: format!(".{}", read.name), port: read.port }))
    }
}

/// The error for a text that names no [`Origin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginError {
    written: String,
    problem: Problem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    Form,
    NotAscii,
    BelowAddress,
}

impl Display for OriginError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let written = &self.written;
        match self.problem {
            Problem::Form => write!(
                f,
                "{written:?} is not an origin: expected scheme://host[:port], scheme://*.host[:port], null or *"
            ),
            Problem::NotAscii => write!(
                f,
                "{written:?} is not an origin as browsers write it: write the host in its ASCII form (xn--…)"
            ),
            Problem::BelowAddress => {
                write!(f, "{written:?} is not an origin: there are no names below an address")
            }
        }
    }
}

impl Error for OriginError {}

/// Returns an origin whose scheme is not one of the web, as browsers write it, or `null`.
fn of_an_application(written: &str) -> Option<String> {
    let written = written.to_ascii_lowercase();
    if written == "null" || written == "file://" {
        return Some(written);
    }
    let (scheme, host) = written.split_once("://")?;
    // The URL standard defines the origins of these, or that they have none.
    let is_other = ["http", "https", "ws", "wss", "ftp", "file"].contains(&scheme);
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_right = is_scheme && !is_other && !host.contains('*') && Host::parse(host).is_some();
    is_right.then_some(written)
}

impl Display for Origin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Everybody => f.write_str("*"),
            Pattern::One(origin) => f.write_str(origin),
            Pattern::Below { scheme, name, port: None } => write!(f, "{scheme}://*{name}"),
            Pattern::Below { scheme, name, port: Some(port) } => write!(f, "{scheme}://*{name}:{port}"),
        }
    }
}

impl Origin {
    /// Whether the pattern fits the value of an Origin header.
    fn fits(&self, origin: &str) -> bool {
        match &self.0 {
            Pattern::Everybody => true,
            Pattern::One(one) => one == origin,
            Pattern::Below { scheme, name, port } => WebOrigin::parse(origin).is_some_and(|page| {
                let is_below = page.name.ends_with(name) && page.name != name;
                is_below && page.scheme == scheme && page.port == *port
            }),
        }
    }
}

/// Which pages may connect (RFC 6455 §10.2). A browser sends cookies along wherever a connection comes from, so
/// without this check any page of any site could act as its visitor.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins {
    allowed: Vec<Origin>,
}

impl Origins {
    /// Allows pages of another origin than the server's own.
    pub(crate) fn allow(&mut self, origin: Origin) {
        self.allowed.push(origin);
    }

    /// Adds the origins that the other allows.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.allowed.extend_from_slice(&other.allowed);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.allowed.is_empty()
    }

    /// Checks the headers of a physical handshake.
    ///
    /// # Errors
    /// The reason, for the log and the refusal's body.
    pub(crate) fn check(&self, headers: &HeaderMap, forwarded: &Forwarded) -> Result<(), String> {
        if self.allowed.contains(&Origin(Pattern::Everybody)) {
            return Ok(());
        }
        let mut given = headers.get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (given.next(), given.next()) else {
            return Err("the request has no Origin header, or several".into());
        };
        self.check_origin(origin, headers, forwarded)
    }

    /// Checks the headers of a request that only reads. With GET a browser names the origin when another site's page wants to
    /// read the answer, but not when the server's own does; it sends `Sec-Fetch-Site` then, and over plain HTTP neither.
    /// A request without either has no origin that it acts for, or one that the browser keeps the answer from.
    ///
    /// # Errors
    /// The reason, for the refusal's body.
    pub(crate) fn check_reader(&self, headers: &HeaderMap, forwarded: &Forwarded) -> Result<(), String> {
        if headers.contains_key(header::ORIGIN) || self.allowed.contains(&Origin(Pattern::Everybody)) {
            return self.check(headers, forwarded);
        }
        match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
            // `none`: typed by the user.
            None | Some(b"same-origin" | b"none") => Ok(()),
            Some(site) => Err(format!(
                "the page is of another origin (Sec-Fetch-Site: {})",
                excerpt(&String::from_utf8_lossy(site)).escape_debug()
            )),
        }
    }

    fn check_origin(
        &self,
        origin: &HeaderValue,
        headers: &HeaderMap,
        forwarded: &Forwarded,
    ) -> Result<(), String> {
        let origin = origin.to_str().map_err(|_| "the Origin header is not ASCII")?.to_ascii_lowercase();
        if self.allowed.iter().any(|allowed| allowed.fits(&origin)) {
            return Ok(());
        }
        // A proxy in front may choose another of several than this server would. The server refuses them on entry, unless the
        // application is served without a multiplexer.
        let is_one = headers.get_all(header::HOST).iter().count() == 1;
        let host = forwarded.host_or_header(headers).filter(|_| is_one || forwarded.host().is_some());
        let host = host.ok_or("the request does not name one host")?;
        let scheme = forwarded.scheme().map(Scheme::as_str);
        // A server that does not know its scheme may have either: a proxy in front may end TLS.
        let mut schemes =
            ["http", "https"].into_iter().filter(|other| scheme.is_none_or(|own| own == *other));
        // Nothing that only a parser takes for this host.
        let is_canonical = WebOrigin::parse(&origin).is_some();
        if is_canonical && schemes.any(|scheme| host.origin(scheme) == origin) {
            return Ok(());
        }
        let (origin, host) = (excerpt(&origin), host.to_string());
        let scheme = scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
        Err(format!(
            "the origin {origin:?} is neither the server's own ({scheme}{}) nor allowed; \
             a proxy in front must keep the page's Host (Vite: no changeOrigin), or the server must allow the origin",
            excerpt(&host)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(origin: Option<&str>, host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("a header"));
        }
        headers
    }

    /// On a server that does not know its scheme.
    fn check(origins: &Origins, headers: &HeaderMap) -> Result<(), String> {
        origins.check(headers, &Forwarded::default())
    }

    #[test]
    fn the_servers_own_pages_may_connect() {
        let origins = Origins::default();
        for (origin, host) in [
            ("http://example.com", "example.com"),
            ("https://example.com", "example.com"),
            ("https://Example.com", "EXAMPLE.com"),
            ("http://example.com:8080", "example.com:8080"),
            ("http://example.com", "example.com:80"),
            ("https://example.com", "example.com:443"),
            ("http://[::1]:3000", "[::1]:3000"),
        ] {
            assert_eq!(check(&origins, &headers(Some(origin), host)), Ok(()), "{origin} at {host}");
        }
    }

    #[test]
    fn others_may_not() {
        let origins = Origins::default();
        for (origin, host) in [
            (None, "example.com"),
            (Some("null"), "example.com"),
            (Some("http://example.com"), "example.com:8080"),
            (Some("http://example.com:443"), "example.com"),
            (Some("http://evil.com"), "example.com"),
            (Some("http://example.com.evil.com"), "example.com"),
            (Some("http://evilexample.com"), "example.com"),
            (Some("file://example.com"), "example.com"),
            (Some("http://example.com"), ""),
            (Some("http://user@example.com:80"), "evil.com"),
            (Some("garbage"), "garbage"),
            (Some(""), "example.com"),
            (Some("http://example.com"), "user@evil.com"),
            (Some("http://example.com, http://evil.com"), "example.com"),
            (Some("http://xn--exmple-cua.com"), "example.com"),
            (Some("https://example.com:80"), "example.com"),
            (Some("http://user@example.com"), "example.com"),
            (Some("http://example.com/"), "example.com"),
            (Some("http://example.com:80"), "example.com"),
            (Some("http://example.com."), "example.com"),
            (Some("http://127.1"), "127.0.0.1"),
            (Some("ws://example.com"), "example.com"),
            (Some("http://example.com"), "evil.com@example.com"),
            (Some("http://example.com"), "example.com/evil"),
            // Other ways to write a host, which no browser does.
            (Some("http://example.com"), "ex%61mple.com"),
            (Some("http://ex%61mple.com"), "ex%61mple.com"),
            (Some("http://127.0.0.1"), "2130706433"),
            (Some("http://2130706433"), "2130706433"),
            (Some("http://127.0.0.1"), "0x7f.1"),
            (Some("http://127.0.0.1"), "127.1"),
            (Some("http://[::1]"), "[0:0:0:0:0:0:0:1]"),
            (Some("http://[::1]"), "[::0001]"),
            (Some("http://example.com"), "example.com:080"),
            (Some("http://example.com"), "example.com:"),
            (Some("http://example.com"), "exam\tple.com"),
            (Some("http://example.com"), "\texample.com"),
            (Some("http://example.com"), "example.com\t"),
        ] {
            assert!(check(&origins, &headers(origin, host)).is_err(), "{origin:?} at {host}");
        }
    }

    #[test]
    fn of_several_hosts_none_counts() {
        let mut headers = headers(Some("http://evil.com"), "evil.com");
        headers.append(header::HOST, "example.com".parse().expect("a header"));
        assert!(check(&Origins::default(), &headers).is_err());
    }

    #[test]
    fn of_a_server_that_knows_its_scheme_only_pages_with_that() {
        let page = |scheme: &str, host: &str| headers(Some(&format!("{scheme}://{host}")), host);
        for (own, other) in [("https", "http"), ("http", "https")] {
            let request = axum::http::Request::get("/").header("x-forwarded-proto", own).body(());
            let mut parts = request.expect("a request").into_parts().0;
            let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
            parts.extensions.insert(axum::extract::ConnectInfo(peer));
            let proxies = vec!["loopback".parse().expect("proxies")];
            let forwarded = crate::access::forwarded::Trusted::new(proxies).read(&parts);
            for host in ["example.com", "example.com:8443", "[::1]"] {
                assert_eq!(Origins::default().check(&page(own, host), &forwarded), Ok(()));
                assert!(Origins::default().check(&page(other, host), &forwarded).is_err(), "{own} {host}");
            }
        }
    }

    #[test]
    fn applications_have_origins_that_may_be_listed() {
        for origin in [
            "tauri://localhost",
            "capacitor://localhost",
            "ionic://localhost",
            "app://.",
            "app://obsidian.md",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
            "vscode-webview://1a2b3c",
            "my.app+x://localhost:8080",
            "file://",
            "null",
        ] {
            let given = headers(Some(origin), "example.com");
            assert!(check(&Origins::default(), &given).is_err(), "{origin}: not without the others");
            let mut origins = Origins::default();
            origins.allow(origin.parse().expect("an origin"));
            assert_eq!(check(&origins, &given), Ok(()), "{origin}");
            for other in
                ["tauri://other", "x-tauri://localhost", "file:///x", "null://", "", "http://localhost"]
            {
                assert!(check(&origins, &headers(Some(other), "example.com")).is_err(), "{origin}: {other}");
            }
        }
    }

    #[test]
    fn unless_they_are_listed() {
        let mut origins = Origins::default();
        origins.allow("https://other.org/".parse().expect("an origin"));
        assert!(check(&origins, &headers(Some("https://other.org"), "example.com")).is_ok());
        assert!(check(&origins, &headers(Some("http://other.org"), "example.com")).is_err());
        assert!(check(&origins, &headers(Some("https://other.org:444"), "example.com")).is_err());
    }

    #[test]
    fn names_below_another_may_be_listed() {
        let mut origins = Origins::default();
        origins.allow("https://*.other.org".parse().expect("an origin"));
        for (origin, expected) in [
            ("https://a.other.org", true),
            ("https://a.b.other.org", true),
            ("https://other.org", false),
            ("https://.other.org", false),
            ("https://another.org", false),
            ("https://a.other.org.evil.com", false),
            ("http://a.other.org", false),
            ("https://a.other.org:444", false),
            ("https://evil.com/.other.org", false),
            ("https://evil.com@a.other.org", false),
            ("null", false),
        ] {
            let checked = check(&origins, &headers(Some(origin), "example.com"));
            assert_eq!(checked.is_ok(), expected, "{origin}");
        }
    }

    #[test]
    fn a_star_is_everybody() {
        let mut origins = Origins::default();
        origins.allow("*".parse().expect("an origin"));
        for origin in [Some("null"), Some("http://evil.com"), None] {
            assert!(check(&origins, &headers(origin, "example.com")).is_ok(), "{origin:?}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_when_it_is_listed() {
        for bad in [
            "",
            "example.com",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://u@a",
            "file:///x",
            "file://h",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
        for bad in [
            "tauri:localhost",
            "tauri://",
            "tauri://a/b",
            "tauri://*.a",
            "t_x://a",
            "://a",
            "1x://a",
            "tauri://u@a",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
        for bad in ["https://*", "https://*.", "https://a.*.org", "https://*.127.0.0.1", "https://**.a.org"] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
        for good in
            ["https://a.org", "http://a.org:8080", "https://*.a.org", "http://[::1]:9", "*", "HTTPS://A.org/"]
        {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        assert_eq!("HTTPS://A.org:443/".parse::<Origin>().expect("an origin").to_string(), "https://a.org");
    }
}
