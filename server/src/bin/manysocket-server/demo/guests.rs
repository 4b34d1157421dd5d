//! Names the guests of the demo's topics: a page that has `?name=` in its URL is listed as a member.

use axum::http::request::Parts;
use axum::response::Response;
use manysocket_server::topic::{Member, TopicPolicy};

/// The most characters of a name, as in the pages' inputs.
const LONGEST: usize = 20;

/// The policy of the demo's topics: everybody may do everything under any name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guests;

impl TopicPolicy for Guests {
    /// The name, if the page has given one.
    type Subscriber = Option<String>;

    async fn accept(&self, _topic: &str, request: &Parts) -> Result<Option<String>, Response> {
        let query = request.uri.query().unwrap_or_default();
        let name = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "name");
        let name = name.map(|(_, name)| name.trim().chars().take(LONGEST).collect::<String>());
        Ok(name.filter(|name| !name.is_empty()))
    }

    fn member(&self, name: &Option<String>) -> Option<Member> {
        name.as_ref().map(Member::new)
    }
}
