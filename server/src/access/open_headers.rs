//! The headers of a virtual open that its client writes: which of them a client may write, and their form.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use manysocket_protocol::may_be_in_open;

use super::inherited::Inherited;

/// The most headers of an open. Each takes some 100 bytes besides its text.
const MOST: usize = 64;

/// Reads the headers of an open: a line `name: value` each (docs/protocol.md §4.1).
///
/// # Errors
/// Returns the status and the reason of a refusal.
pub(crate) fn parse(lines: &str, inherited: &Inherited) -> Result<HeaderMap, (u16, &'static str)> {
    let mut headers = HeaderMap::new();
    if lines.is_empty() {
        return Ok(headers);
    }
    for (at, line) in lines.split('\n').enumerate() {
        if at == MOST {
            return Err((431, "the open has more than 64 headers"));
        }
        let (name, value) = line.split_once(':').ok_or((400, "a header of the open has no colon"))?;
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| (400, "the name of a header of the open is no token"))?;
        if !may_be_in_open(name.as_str()) || inherited.is_by_proxy(&name) {
            return Err((400, "the open has a header that a client must not write"));
        }
        let value = value_of(value.trim_matches([' ', '\t']))
            .ok_or((400, "the value of a header of the open has a character that none may have"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Returns a value, whose characters are bytes, as in `fetch`.
fn value_of(text: &str) -> Option<HeaderValue> {
    let bytes = text.chars().map(|character| u8::try_from(character).ok()).collect::<Option<Vec<_>>>()?;
    HeaderValue::from_bytes(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(lines: &str) -> Option<u16> {
        parse(lines, &Inherited::default()).err().map(|(status, _)| status)
    }

    #[test]
    fn headers_are_read_line_by_line() {
        let lines =
            "authorization: Bearer a.b=\nX-Tenant:blue\nx-a: 1\nx-a: \t2 \nx-empty: \nx-latin: \u{e9}";
        let headers = parse(lines, &Inherited::default()).expect("headers");
        let of = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        assert_eq!(of("authorization"), [b"Bearer a.b="]);
        assert_eq!(of("x-tenant"), [b"blue"]);
        assert_eq!(of("x-a"), [b"1", b"2"]);
        assert_eq!(of("x-empty"), [b""]);
        assert_eq!(of("x-latin"), [b"\xe9"]);
        assert_eq!(parse("", &Inherited::default()).expect("none"), HeaderMap::new());
    }

    #[test]
    fn a_client_cannot_write_what_others_say() {
        for name in [
            "Connection",
            "Upgrade",
            "Host",
            "Origin",
            "Cookie",
            "Content-Length",
            "Transfer-Encoding",
            "Sec-WebSocket-Key",
            "Sec-Fetch-Site",
            "Proxy-Authorization",
            "X-Forwarded-For",
            "Forwarded",
            "X-Real-IP",
            "X-User",
            "Remote-User",
            "CF-Connecting-IP",
            "X-Auth-Request-Email",
        ] {
            assert_eq!(status(&format!("{name}: x")), Some(400), "{name}");
        }
        let mut inherited = Inherited::default();
        inherited.add([HeaderName::from_static("x-own-user")]);
        assert!(parse("x-own-user: a", &inherited).is_err() && parse("x-own: a", &inherited).is_ok());
        for name in ["authorization", "accept", "x-api-key", "traceparent", "x-request-id"] {
            assert_eq!(status(&format!("{name}: x")), None, "{name}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for lines in [
            "x",
            ": x",
            "a b: x",
            "\n",
            "a: b\n",
            "a: \u{0}",
            "a: b\rc: d",
            "a: \u{20ac}",
            "é: x",
            "a: \u{7f}",
        ] {
            assert_eq!(status(lines), Some(400), "{lines:?}");
        }
        let many = |count: usize| vec!["a: b"; count].join("\n");
        assert_eq!((status(&many(64)), status(&many(65))), (None, Some(431)));
    }
}
