//! Properties of paths, URLs and origins that pages send.

use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use percent_encoding::percent_decode_str;
use url::{Position, Url};

use crate::access::forwarded::Forwarded;
use crate::access::origin::{Origin, Origins};
use crate::access::path_form;
use crate::access::scope::Scope;
use crate::access::web_origin::WebOrigin;
use crate::nats::{path, subject};

/// Checks that the parts of a target that our code reads without a URL parser equal those that a URL parser reads.
pub(crate) fn is_as_the_parser_has_it(target: &str) {
    let path = target.split('?').next().unwrap_or_default();
    let lower = path.to_ascii_lowercase();
    let has_separators = path.contains('\\') || lower.contains("%2f") || lower.contains("%5c");
    let parsed = Url::parse(&format!("http://localhost{target}"));
    let is_unchanged = parsed.is_ok_and(|url| {
        let is_whole = url.fragment().is_none() && url.path() == path;
        is_whole && &url[Position::BeforePath..] == target
    });
    let is_normal = target.starts_with('/') && is_unchanged && !has_separators;
    assert_eq!(path_form::check(target).is_ok(), is_normal, "{target:?}");
}

/// Checks targets of virtual opens: the first line is the multiplexer's path, the second the page's target.
pub fn scope(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (multiplexer, target) = text.split_once('\n').unwrap_or_default();
    is_as_the_parser_has_it(target);
    let scope = Scope::around(multiplexer);
    if scope.check(target).is_ok() {
        let path = target.split('?').next().unwrap_or_default();
        // Compare whole segments, both as written and percent-decoded.
        let segments = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        let prefix = multiplexer[..multiplexer.rfind('/').unwrap_or(0)].trim_matches('/').to_owned();
        let prefix = if prefix.is_empty() { vec![String::new()] } else { segments(&format!("/{prefix}")) };
        assert!(segments(path).starts_with(&prefix), "{path:?} is outside of {prefix:?}");
        for segment in segments(path) {
            let decoded = percent_decode_str(&segment).collect::<Vec<_>>();
            assert!(!decoded.contains(&b'/') && !decoded.contains(&b'\\'), "{segment:?} is several");
            assert!(decoded != b"." && decoded != b"..", "{segment:?} leads elsewhere");
        }
        assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "{target:?}");
        // The request's URI and the URL that a browser makes of it equal the checked text.
        if let Ok(uri) = target.parse::<Uri>() {
            assert_eq!((uri.path(), uri.host()), (path, None));
            assert_eq!(uri.path_and_query().map(PathAndQuery::as_str), Some(target), "nothing is left out");
        }
        if !target.starts_with("//") {
            let base = Url::parse("https://example.com/some/page?q#f").expect("a URL");
            assert_eq!(base.join(target).map(String::from), Ok(format!("https://example.com{target}")));
        }
    }
    // The output of a browser's URL parser is never refused, except for encoded separators.
    if let Ok(url) = Url::parse("http://example.com/a/page").expect("a URL").join(target) {
        let asked = &url[Position::BeforePath..Position::AfterQuery];
        let lower = url.path().to_ascii_lowercase();
        let is_special = matches!(url.scheme(), "http" | "https");
        if is_special && !lower.contains("%2f") && !lower.contains("%5c") {
            assert_eq!(Scope::new("/").check(asked), Ok(()), "{asked:?}");
        }
    }
}

/// Checks origins: the first line is a pattern, the second a page's origin, the third the server's host.
pub fn origins(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (pattern, origin, host) = (line(), line(), line());
    let mut headers = HeaderMap::new();
    let (Ok(given), Ok(own)) = (HeaderValue::from_str(origin), HeaderValue::from_str(host)) else { return };
    headers.insert(header::ORIGIN, given);
    let accepts =
        |origins: &Origins, headers: &HeaderMap| origins.check(headers, &Forwarded::default()).is_ok();
    if let Ok(parsed) = pattern.parse::<Origin>() {
        let written = parsed.to_string();
        assert_eq!(written.parse(), Ok(parsed.clone()), "{pattern:?} is written as {written:?}");
        let mut origins = Origins::default();
        origins.allow(parsed);
        if accepts(&origins, &headers) && pattern != "*" && written != "null" {
            // The origin has the form that browsers write, and matches the pattern by whole names.
            let origin = origin.to_ascii_lowercase();
            let (scheme, rest) = written.split_once("://").expect("an origin");
            let (given_scheme, authority) = origin.split_once("://").expect("an origin");
            assert!(!authority.contains(['/', '@', '?', '#', '\\']), "{origin:?}");
            assert_eq!(given_scheme, scheme);
            match rest.strip_prefix('*') {
                None => assert_eq!(authority, rest),
                Some(below) => {
                    let name = below.split(':').next().unwrap_or_default();
                    let given = authority.split(':').next().unwrap_or_default();
                    assert!(
                        given.len() > name.len() && given.ends_with(name),
                        "{given:?} is not below {name:?}"
                    );
                }
            }
        }
    }
    // An origin that our code accepts without a URL parser is one that a URL parser leaves unchanged. The exception
    // are names that cannot be decoded; no browser sends one.
    if WebOrigin::parse(origin).is_some() && !origin.contains("xn--") {
        let url = Url::parse(origin).expect("a URL");
        assert_eq!(url.origin().ascii_serialization(), origin);
    }
    // By default, only a page of the host that it connects to is accepted.
    headers.insert(header::HOST, own);
    if accepts(&Origins::default(), &headers) {
        let scheme = origin.split("://").next().unwrap_or_default();
        let [page, server] =
            [origin, &format!("{scheme}://{host}")].map(|url| Url::parse(url).expect("a URL"));
        assert!(page.has_host() && page.origin() == server.origin(), "{origin:?} at {host:?}");
    }
}

/// Checks paths of topics and functions on NATS.
pub fn subjects(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Some(subject) = subject("p.q", &format!("/{text}")) {
        for token in subject.split('.') {
            let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte);
            assert!(!token.is_empty() && token.bytes().all(is_safe), "{subject}");
        }
        assert_eq!(path("p.q", &subject).as_deref(), Some(&*text), "each path has its own");
    }
    // Other programs may publish on any subject.
    let _ = path("p", &text);
}
