//! Builds short HTML pages for browsers.

/// A long line scrolls, and does not widen the page.
const STYLE: &str = "body { font: 1rem/1.5 system-ui; max-width: 42rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere } \
     pre { overflow-x: auto } \
     form { display: flex; flex-wrap: wrap; gap: .5rem } \
     input { flex: 1 10rem; min-width: 0 } \
     input, button { font: inherit; padding: .25rem .75rem } \
     ol { list-style: none; padding: 0 }";

/// Returns a page with a heading; `body` is HTML.
pub(crate) fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n\
         <h1>{title}</h1>\n{body}"
    )
}

/// Escapes text for HTML, also within quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}
