//! Which headers a client may write in an open (docs/protocol.md §4.1).

/// Headers that browsers or the protocol write, that describe a connection, or that name the way of a request.
const FORBIDDEN: [&str; 19] = [
    "connection",
    "content-length",
    "cookie",
    "cookie2",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "referer",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-real-ip",
];

/// The beginnings of further ones.
const FAMILIES: [&str; 4] = ["access-control-", "proxy-", "sec-", "x-forwarded-"];

/// Returns whether a client may write a header of this name in an open. The name is in lower case.
pub fn may_be_in_open(name: &str) -> bool {
    !FORBIDDEN.contains(&name) && !FAMILIES.iter().any(|family| name.starts_with(family))
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn clients_write_what_only_the_application_reads() {
        for name in ["authorization", "accept-language", "x-api-key", "traceparent", "secret", "hosts"] {
            assert!(may_be_in_open(name), "{name}");
        }
        for name in ["host", "cookie", "sec-websocket-key", "proxy-authorization", "x-forwarded-for", "te"] {
            assert!(!may_be_in_open(name), "{name}");
        }
    }
}
