//! Sockets whose URLs are relative to a base.

use tokio_tungstenite::tungstenite::http::HeaderMap;
use url::Url;

use super::multi::{socket_url, url_error};
use super::{Error, MultiWebSocket, WebSocket};

/// Opens sockets of a [`MultiWebSocket`] whose URLs are relative to a base, as a page's are relative to the page.
///
/// ```
/// use manysocket::{MultiWebSocket, RelativeWebSocket};
///
/// let multi = MultiWebSocket::new("ws://example.com/multiplexer")?;
/// let rooms = RelativeWebSocket::new(&multi, "ws://example.com/rooms/")?;
/// # let _ = rooms;
/// # Ok::<(), manysocket::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RelativeWebSocket {
    multi: MultiWebSocket,
    base: Url,
}

impl RelativeWebSocket {
    /// Resolves URLs against `base` from here on.
    ///
    /// # Errors
    /// Returns [`Error::Url`] if `base` is not an absolute URL of a WebSocket.
    pub fn new(multi: &MultiWebSocket, base: &str) -> Result<Self, Error> {
        let parsed = Url::parse(base).map_err(|error| url_error(base, error.to_string()))?;
        Ok(Self { multi: multi.clone(), base: socket_url(base, parsed)? })
    }

    /// Opens a socket to a URL that is relative to the base.
    ///
    /// # Errors
    /// As [`MultiWebSocket::open_with`].
    pub fn open(&self, url: &str) -> Result<WebSocket, Error> {
        self.open_with(url, &[], &HeaderMap::new())
    }

    /// Opens a socket to a URL that is relative to the base, with subprotocols, best first, and headers.
    ///
    /// # Errors
    /// As [`MultiWebSocket::open_with`].
    pub fn open_with(&self, url: &str, protocols: &[&str], headers: &HeaderMap) -> Result<WebSocket, Error> {
        let resolved = self.base.join(url).map_err(|error| url_error(url, error.to_string()))?;
        self.multi.open_with(resolved.as_str(), protocols, headers)
    }
}
