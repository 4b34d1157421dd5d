//! Cookies of virtual opens, which a browser fetches for a ticket (docs/protocol.md §4.2): only an HTTP response can set them.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderValue;
use manysocket_protocol::Token;

use crate::budget::{ALLOCATION, Reservation};
use crate::link::resumptions::new_token;

/// How long a ticket is valid: longer than a page waits, and short for a secret.
const LIFE: Duration = Duration::from_secs(30);

/// Tickets of one link at once. A page fetches cookies as soon as it has a ticket.
const MOST: usize = 256;

/// The bytes of cookies in one response: many proxies refuse a head of more than 4 KiB.
const RESPONSE: usize = 3 * 1024;

/// The bytes of a ticket besides its cookies: its place in the map, and the task that ends it.
const TICKET: usize = 1024;

/// The bytes of tickets in one request.
pub(crate) const REQUEST: usize = 64 * size_of::<Token>();

/// The valid tickets of a multiplexer. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tickets(Arc<Shared>);

/// The keys are hashes under a secret key, as those of links that can be resumed are.
#[derive(Debug, Default)]
struct Shared {
    hasher: RandomState,
    tickets: Mutex<HashMap<u64, Ticket>>,
}

#[derive(Debug)]
struct Ticket {
    token: Token,
    origin: HeaderValue,
    link: u64,
    /// Empty once the browser has them.
    cookies: Vec<HeaderValue>,
    share: Reservation,
    _issued: Arc<()>,
}

/// The answer to a browser's tickets.
#[derive(Debug, PartialEq)]
pub(crate) enum Redeemed {
    /// Cookies. The browser asks again with the same tickets.
    Cookies(Vec<HeaderValue>),
    /// It has them all, and its request shows those of these links.
    Links(HashSet<u64>),
    /// Nothing: the tickets are not valid.
    Nothing,
}

impl Tickets {
    /// Returns the tickets of a new link.
    pub(crate) fn of_link(&self, link: u64) -> LinkTickets {
        LinkTickets { tickets: self.clone(), link, issued: Arc::default() }
    }

    /// Takes the tickets of a request. Those of pages of another origin are as good as unknown.
    pub(crate) fn redeem(&self, origin: &HeaderValue, request: &[u8]) -> Redeemed {
        let (chunks, _) = request.as_chunks();
        let tokens = chunks.iter().map(|&bytes| Token::new(bytes));
        let mut tickets = self.lock();
        let mut valid: Vec<u64> = Vec::new();
        for token in tokens {
            let key = self.key(&token);
            let is_valid = |ticket: &Ticket| ticket.token == token && ticket.origin == *origin;
            if tickets.get(&key).is_some_and(is_valid) && !valid.contains(&key) {
                valid.push(key);
            }
        }
        let mut found = Found::default();
        for key in &valid {
            let Some(ticket) = tickets.get_mut(key).filter(|ticket| !ticket.cookies.is_empty()) else {
                continue;
            };
            if !found.has_room(&ticket.cookies) {
                break;
            }
            found.add(std::mem::take(&mut ticket.cookies));
            ticket.share.set(TICKET);
        }
        if !found.cookies.is_empty() {
            return Redeemed::Cookies(found.cookies);
        }
        let links: HashSet<u64> = valid.iter().filter_map(|key| Some(tickets.remove(key)?.link)).collect();
        if links.is_empty() { Redeemed::Nothing } else { Redeemed::Links(links) }
    }

    fn key(&self, token: &Token) -> u64 {
        self.0.hasher.hash_one(token.bytes())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Ticket>> {
        self.0.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cookies of one response. A later cookie replaces an earlier one, as in a browser (RFC 6265 §5.3): a response should not have both
/// (§4.1.1).
#[derive(Debug, Default)]
struct Found {
    cookies: Vec<HeaderValue>,
    places: HashMap<[Vec<u8>; 3], usize>,
    bytes: usize,
}

impl Found {
    /// Returns whether more cookies fit; the first always do.
    fn has_room(&self, more: &[HeaderValue]) -> bool {
        let added: usize = more.iter().map(HeaderValue::len).sum();
        let replaced = more.iter().filter_map(|cookie| self.places.get(&identity(cookie)));
        let freed: usize = replaced.filter_map(|&place| self.cookies.get(place)).map(HeaderValue::len).sum();
        self.cookies.is_empty() || self.bytes + added <= RESPONSE + freed
    }

    fn add(&mut self, cookies: Vec<HeaderValue>) {
        for cookie in cookies {
            self.bytes += cookie.len();
            let place = *self.places.entry(identity(&cookie)).or_insert(self.cookies.len());
            match self.cookies.get_mut(place) {
                Some(earlier) => self.bytes -= std::mem::replace(earlier, cookie).len(),
                None => self.cookies.push(cookie),
            }
        }
    }
}

/// The tickets that one link issues. They outlive it, as cookies of a native handshake do.
#[derive(Debug)]
pub(crate) struct LinkTickets {
    tickets: Tickets,
    link: u64,
    /// Shared with each valid ticket.
    issued: Arc<()>,
}

impl LinkTickets {
    /// Issues a ticket for the cookies of the answer to an open of `path`.
    ///
    /// # Errors
    /// Returns the name of a limit if too many tickets of the link are valid.
    pub(crate) fn issue(
        &self,
        origin: &HeaderValue,
        cookies: &[HeaderValue],
        path: &str,
        mut share: Reservation,
    ) -> Result<Token, &'static str> {
        const LIMIT: &str = "max_tickets";
        if Arc::strong_count(&self.issued) > MOST {
            return Err(LIMIT);
        }
        let cookies: Vec<_> = cookies.iter().filter_map(|cookie| with_path(cookie, path)).collect();
        share.set(TICKET + cookies.iter().map(|cookie| cookie.len() + ALLOCATION).sum::<usize>());
        let token = new_token().ok_or(LIMIT)?;
        let ticket = Ticket {
            token,
            origin: origin.clone(),
            link: self.link,
            cookies,
            share,
            _issued: Arc::clone(&self.issued),
        };
        let (tickets, key) = (self.tickets.clone(), self.tickets.key(&token));
        tickets.lock().insert(key, ticket);
        tokio::spawn(async move {
            tokio::time::sleep(LIFE).await;
            tickets.lock().remove(&key);
        });
        Ok(token)
    }
}

/// Returns a copy of a cookie that names its path: without one, a browser takes that of the request (RFC 6265 §5.1.4), which
/// was the open's. `None`: no cookie can name it.
fn with_path(cookie: &HeaderValue, path: &str) -> Option<HeaderValue> {
    let mut copy = cookie.as_bytes().to_vec();
    if attribute(&copy, b"path").is_none_or(|path| !path.starts_with(b"/")) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if folder.contains(';') {
            return None;
        }
        copy.extend_from_slice(b"; Path=");
        copy.extend_from_slice(if folder.is_empty() { "/" } else { folder }.as_bytes());
    }
    HeaderValue::from_bytes(&copy).ok()
}

/// Returns the name, domain and path by which browsers distinguish cookies (RFC 6265 §5.3).
fn identity(cookie: &HeaderValue) -> [Vec<u8>; 3] {
    let cookie = cookie.as_bytes();
    let name = cookie.split(|&byte| byte == b'=').next().unwrap_or_default().trim_ascii();
    let domain = attribute(cookie, b"domain").unwrap_or_default().to_ascii_lowercase();
    [name.to_vec(), domain, attribute(cookie, b"path").unwrap_or_default().to_vec()]
}

/// Returns the value of an attribute of a cookie. The first part is its name and value (RFC 6265 §5.2). The last attribute of
/// a name counts.
fn attribute<'a>(cookie: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let attributes = cookie.split(|&byte| byte == b';').skip(1);
    let pairs = attributes.map(|attribute| {
        let at = attribute.iter().position(|&byte| byte == b'=').unwrap_or(attribute.len());
        (&attribute[..at], attribute.get(at + 1..).unwrap_or_default())
    });
    let found = pairs.filter(|(name, _)| name.trim_ascii().eq_ignore_ascii_case(wanted));
    found.last().map(|(_, value)| value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_names_the_path_of_its_open() {
        for (cookie, path, expected) in [
            ("a=1", "/", Some("a=1; Path=/")),
            ("a=1", "/chat", Some("a=1; Path=/")),
            ("a=1; HttpOnly", "/rooms/blue/chat", Some("a=1; HttpOnly; Path=/rooms/blue")),
            ("a=1", "/rooms/blue/", Some("a=1; Path=/rooms/blue")),
            ("a=1; path=/own", "/rooms/blue", Some("a=1; path=/own")),
            ("a=1; Path=/own; PATH =", "/rooms/blue", Some("a=1; Path=/own; PATH =; Path=/rooms")),
            ("a=1; Path=own", "/rooms/blue", Some("a=1; Path=own; Path=/rooms")),
            ("path=/1", "/rooms/blue", Some("path=/1; Path=/rooms")),
            ("a=1", "/a;b/c", None),
        ] {
            let named = with_path(&HeaderValue::from_static(cookie), path);
            assert_eq!(
                named.as_ref().and_then(|cookie| cookie.to_str().ok()),
                expected,
                "{cookie} at {path}"
            );
        }
    }

    #[test]
    fn cookies_differ_by_name_domain_and_path() {
        let of = |cookie| identity(&HeaderValue::from_static(cookie));
        assert_eq!(of("a=1; Path=/; Expires=now"), of(" a =2;path=/"));
        assert_eq!(of("a=1; Domain=A.test"), of("a=1; domain=a.test"));
        assert_ne!(of("a=1; Path=/"), of("b=1; Path=/"));
        assert_ne!(of("a=1; Path=/"), of("a=1; Path=/b"));
        assert_ne!(of("a=1; Domain=a.test"), of("a=1"));
    }
}
