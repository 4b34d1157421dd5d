//! Builds short HTML pages for browsers.

use percent_encoding::percent_decode_str;

/// A long line scrolls, and does not widen the page.
const STYLE: &str = "body { font: 1rem/1.5 system-ui; max-width: 42rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere } \
     pre { overflow-x: auto } \
     form { display: flex; flex-wrap: wrap; gap: .5rem } \
     input { flex: 1 10rem; min-width: 0 } \
     input, button { font: inherit; padding: .25rem .75rem } \
     ol { list-style: none; padding: 0 } \
     nav a { display: inline-block; padding: .25rem .125rem } \
     ul:not(:has(li))::before { content: 'Nothing is here yet. Names appear when sockets use them.' }";

/// Returns a page about the URL's path `path`, with links to the paths above it and a heading; `body` is HTML.
pub(crate) fn page(title: &str, path: &str, body: &str) -> String {
    let (title, above) = (escape(title), above(path));
    let head =
        if path_name(path) == title { title.clone() } else { format!("{title} · {}", path_name(path)) };
    format!(
        "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{head}</title>\n\
         <style>{STYLE}</style>\n{above}\
         <h1>{title}</h1>\n{body}"
    )
}

/// Returns the path as people read it, escaped for HTML.
fn path_name(path: &str) -> String {
    escape(&percent_decode_str(path).decode_utf8_lossy())
}

/// Returns links to the paths above `path`, and its last segment. The links are relative: a proxy may have removed a prefix.
fn above(path: &str) -> String {
    let names: Vec<_> = path.split_inclusive('/').collect();
    let Some((last, names)) = names.split_last().filter(|(_, names)| !names.is_empty()) else {
        return String::new();
    };
    let up = names.len() - usize::from(!last.ends_with('/'));
    let links = names.iter().enumerate().map(|(level, name)| {
        let href = if level == up { "./".to_owned() } else { "../".repeat(up - level) };
        format!("<a href=\"{href}\">{}</a>\n", path_name(name))
    });
    format!("<nav aria-label=\"Path\">\n{}{}\n</nav>\n", links.collect::<String>(), path_name(last))
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

#[cfg(test)]
mod tests {
    use super::above;

    /// Returns the targets of the links, resolved against the path.
    fn targets(path: &str) -> Vec<String> {
        let base = url::Url::parse("http://host").expect("a URL").join(path).expect("a path");
        let html = above(path);
        let hrefs = html.split("href=\"").skip(1).filter_map(|rest| rest.split_once('"'));
        hrefs.map(|(href, _)| base.join(href).expect("a URL").path().to_owned()).collect()
    }

    #[test]
    fn links_lead_to_each_path_above() {
        assert_eq!(targets("/"), [""; 0]);
        assert_eq!(targets("/echo"), ["/"]);
        assert_eq!(targets("/demo/"), ["/"]);
        assert_eq!(targets("/demo/echo"), ["/", "/demo/"]);
        assert_eq!(targets("/demo/topics/"), ["/", "/demo/"]);
        assert_eq!(targets("/demo/topics/a%20b"), ["/", "/demo/", "/demo/topics/"]);
    }

    #[test]
    fn names_are_decoded_and_escaped() {
        let html = above("/a/%3Cb%3E");
        assert!(html.contains("&lt;b&gt;") && !html.contains("<b>"), "{html}");
    }
}
