//! Reads header fields that hold lists (RFC 9110 §5.6.1).

use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Returns the members of a list. Several lines with one name are one list (RFC 9110 §5.3).
pub(crate) fn members<'a>(
    values: impl IntoIterator<Item = &'a HeaderValue>,
) -> impl Iterator<Item = &'a str> {
    values
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|member| member.trim_matches([' ', '\t']))
        .filter(|member| !member.is_empty())
}

/// Returns whether a list has a token, whatever its case.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    members(headers.get_all(name)).any(|member| member.eq_ignore_ascii_case(token))
}

/// Rewrites the two lists of a WebSocket handshake as single values. axum's extractor reads one line of each, and
/// proxies do send `Connection: keep-alive` and `Connection: Upgrade` in two.
pub(crate) fn join_upgrade(headers: &mut HeaderMap) {
    for (name, token) in [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket")] {
        if has_token(headers, &name, token) {
            headers.insert(name, HeaderValue::from_static(token));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn several_lines_are_one_list() {
        for (lines, expected) in [
            (&["upgrade"][..], true),
            (&["keep-alive", "Upgrade"], true),
            (&["keep-alive,\tUPGRADE , x"], true),
            (&["", ", ,", "upgrade"], true),
            (&["keep-alive", "x"], false),
            (&["upgrades", "not upgrade"], false),
            (&[], false),
        ] {
            let lines = lines.iter().map(|line| (header::CONNECTION, *line)).collect::<Vec<_>>();
            let mut headers = headers(&lines);
            assert_eq!(has_token(&headers, &header::CONNECTION, "upgrade"), expected, "{lines:?}");
            join_upgrade(&mut headers);
            let is_one = headers.get_all(header::CONNECTION).iter().eq([&"upgrade"]);
            assert_eq!(is_one, expected, "{lines:?}");
        }
    }
}
