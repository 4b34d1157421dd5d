//! Selects a response's media type: proactive negotiation by `Accept` (RFC 9110 §12.5.1).

use axum::http::{HeaderMap, header};

use crate::access::tokens::members;

pub(crate) const JSON: &str = "application/json";
pub(crate) const HTML: &str = "text/html";
pub(crate) const EVENTS: &str = "text/event-stream";

/// Returns the media type that the request prefers, or the first among equals. Returns `None` if the request accepts
/// none of them.
pub(crate) fn choose(headers: &HeaderMap, offered: &[&'static str]) -> Option<&'static str> {
    let mut ranges = members(headers.get_all(header::ACCEPT)).filter_map(Range::parse).peekable();
    if ranges.peek().is_none() {
        // The request has no preference, or no valid one.
        return offered.first().copied();
    }
    let ranges: Vec<Range<'_>> = ranges.collect();
    let liked = offered.iter().rev().map(|form| (quality(form, &ranges), *form));
    let (quality, form) = liked.max_by_key(|(quality, _)| *quality)?;
    (quality > 0).then_some(form)
}

/// Returns the weight of the most specific range that contains a media type; 0 if none does.
fn quality(form: &str, ranges: &[Range<'_>]) -> u16 {
    let matching = ranges.iter().filter(|range| range.specificity(form).is_some());
    matching.max_by_key(|range| range.specificity(form)).map_or(0, |range| range.quality)
}

struct Range<'a> {
    media: &'a str,
    /// The weight in thousandths: it has at most three decimal digits (§12.4.2).
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(range: &'a str) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().filter(|media| media.contains('/'))?;
        let weight = parts
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        let quality = match weight {
            // An invalid weight counts as 0.
            Some((_, weight)) => {
                weight.trim().parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0)
            }
            None => 1.0,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1000")]
        let quality = (quality * 1000.0) as u16;
        Some(Self { media, quality })
    }

    fn specificity(&self, form: &str) -> Option<u8> {
        let kind = form.split('/').next().unwrap_or_default();
        if self.media.eq_ignore_ascii_case(form) {
            Some(2)
        } else if self.media.strip_suffix("/*").is_some_and(|range| range.eq_ignore_ascii_case(kind)) {
            Some(1)
        } else {
            (self.media == "*/*").then_some(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_liked_form_is_chosen() {
        const ALL: [&str; 3] = [JSON, HTML, EVENTS];
        for (accept, expected) in [
            (None, Some(JSON)),
            (Some("*/*"), Some(JSON)),
            (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Some(HTML)),
            (Some("text/event-stream"), Some(EVENTS)),
            (Some("TEXT/HTML; charset=utf-8"), Some(HTML)),
            (Some("text/*"), Some(HTML)),
            (Some("text/*;q=0.5, application/json;q=0.4"), Some(HTML)),
            (Some("text/html;q=0.1, */*;q=0.2"), Some(JSON)),
            (Some("application/json;q=0, */*"), Some(HTML)),
            (Some("text/html ; Q=0.9 , application/json ; q=0.8"), Some(HTML)),
            (Some("image/png"), None),
            (Some("application/json;q=0"), None),
            (Some("application/json;q=nonsense, text/html;q=0.001"), Some(HTML)),
            (Some("nonsense"), Some(JSON)),
            (Some(",,;,"), Some(JSON)),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            }
            assert_eq!(choose(&headers, &ALL), expected, "{accept:?}");
        }
    }
}
