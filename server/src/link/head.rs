//! Keeps the handshake of a link for the link's lifetime: once, and in an allocation of exactly its size.

use axum::extract::OriginalUri;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Uri};
use bytes::Bytes;
use manysocket_protocol::{HANDSHAKE_PARAMETER, RESUME_PARAMETER};

/// The bytes of a header in a map besides its value: an entry of about 104 bytes, and its place in the index.
const ENTRY: usize = 112;

/// Copies the handshake out of its read buffer. Values and target are slices of the buffer and would keep all of it
/// alive, 64 KiB and more. Drops the first batch, which is part of the target.
pub(crate) fn compact(handshake: &mut Parts) {
    let query = handshake.uri.query().unwrap_or_default();
    let is_ours = |part: &&str| {
        let name = part.split_once('=').map(|(name, _)| name);
        matches!(name, Some(HANDSHAKE_PARAMETER | RESUME_PARAMETER))
    };
    let query = query.split('&').filter(|part| !is_ours(part)).collect::<Vec<_>>().join("&");
    let path = handshake.uri.path();
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    // The parts come from a valid target, so this cannot fail.
    handshake.uri = Uri::try_from(target).unwrap_or_default();
    if let Some(OriginalUri(original)) = handshake.extensions.get_mut() {
        *original = handshake.uri.clone();
    }
    let content: usize = handshake.headers.values().map(HeaderValue::len).sum();
    let mut copy = Vec::with_capacity(content);
    handshake.headers.values().for_each(|value| copy.extend_from_slice(value.as_bytes()));
    let mut copy = Bytes::from(copy);
    for value in handshake.headers.values_mut() {
        if let Ok(mut compact) = HeaderValue::from_maybe_shared(copy.split_to(value.len())) {
            compact.set_sensitive(value.is_sensitive());
            *value = compact;
        }
    }
}

/// Returns the bytes that a handshake holds.
pub(crate) fn held(handshake: &Parts) -> usize {
    let headers = &handshake.headers;
    let content: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    content + entries(headers) + handshake.uri.path().len() + handshake.uri.query().map_or(0, str::len)
}

/// Returns the bytes that a map of headers holds besides names and values.
pub(crate) fn entries(headers: &HeaderMap) -> usize {
    headers.capacity().max(headers.len()) * ENTRY
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn a_handshake_stays_what_it_is_without_its_first_batch() {
        for (target, expected) in [
            ("/m", "/m"),
            ("/m?manysocket=AAAA", "/m"),
            ("/m?a=1&manysocket=AAAA&b=%20&flag", "/m?a=1&b=%20&flag"),
            ("/m?manysocketx=1", "/m?manysocketx=1"),
            ("/m?a=1&manysocket-resume=7", "/m?a=1"),
        ] {
            let request = Request::get(target)
                .header("cookie", "a=1")
                .header("x-own", "")
                .header("cookie", "b=\u{e9}")
                .extension(OriginalUri(target.parse().expect("a target")));
            let (before, ()) = request.body(()).expect("a request").into_parts();
            let mut after = before.clone();
            compact(&mut after);
            assert_eq!(after.headers, before.headers);
            assert_eq!(after.uri, expected);
            let original = after.extensions.get().map(|OriginalUri(original)| original);
            assert_eq!(original, Some(&after.uri));
            assert!(held(&after) >= 2 * ENTRY);
        }
    }
}
