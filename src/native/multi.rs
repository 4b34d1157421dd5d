//! The multiplexer's client: it dials a link on first use, and opens sockets over it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use manysocket_protocol::{Millis, Settings, may_be_in_open};
use tokio::runtime::Handle as Runtime;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue};
use tracing::debug;
use url::{Position, Url};

use super::link::Link;
use super::target::Target;
use super::{Carrier, Carriers, Error, WebSocket, dial, driver};

/// A client may announce any time but 0: the server's counts.
const RESUMES: Millis = 1;

/// The URL of a multiplexer, and the link to it. Clones share the link.
///
/// The first [`open`](MultiWebSocket::open) dials the link. A link without sockets closes after 10 s, and the next open
/// dials again. When a link is lost for good, its sockets end with [`Error::Lost`], and the next open dials again; see
/// [`MultiWebSocket::resume`].
#[derive(Clone)]
pub struct MultiWebSocket {
    target: Target,
    settings: Settings,
    link: Arc<Mutex<Option<Arc<Link>>>>,
}

impl fmt::Debug for MultiWebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither query nor headers: they may hold secrets.
        f.debug_struct("MultiWebSocket")
            .field("url", &&self.target.url[..Position::AfterPath])
            .finish_non_exhaustive()
    }
}

impl MultiWebSocket {
    /// Names the multiplexer at `url` (`ws:`, `wss:`, `http:` or `https:`). Nothing is dialled yet.
    ///
    /// # Errors
    /// Returns [`Error::Url`] if `url` is not an absolute URL of one of these schemes, or has a fragment or credentials.
    pub fn new(url: &str) -> Result<Self, Error> {
        let parsed = Url::parse(url).map_err(|error| url_error(url, error.to_string()))?;
        Ok(Self {
            target: Target {
                url: socket_url(url, parsed)?,
                headers: HeaderMap::new(),
                carriers: Carriers::Any,
                is_blocked: Arc::default(),
            },
            settings: Settings::new().resume_timeout(RESUMES),
            link: Arc::default(),
        })
    }

    /// Adds a header to the handshake of links to come, such as `Authorization` or `Cookie`; it replaces an earlier one of
    /// the same name. `Origin` is the multiplexer's own unless it is set here.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.target.headers.insert(name, value);
        self
    }

    /// Sets whether a link outlives the loss of its connection; by default it does. The client then connects again, and gets
    /// the lost messages, for as long as the server keeps the link: sockets notice nothing. Otherwise, and if that
    /// fails, they end with [`Error::Lost`].
    #[must_use]
    pub fn resume(mut self, resume: bool) -> Self {
        self.settings.resume_timeout = if resume { RESUMES } else { 0 };
        self
    }

    /// Sets the kinds of connections that may carry later links; [`Carriers::Any`] by default: a WebSocket, and HTTP where WebSockets fail or do not
    /// open within 2 s. A link over HTTP returns to a WebSocket once one opens, and its sockets notice nothing.
    ///
    /// ```
    /// use manysocket::{Carriers, MultiWebSocket};
    ///
    /// let multi = MultiWebSocket::new("wss://example.com/multiplexer")?.carriers(Carriers::WebSocket);
    /// assert_eq!(multi.carrier(), None);
    /// # Ok::<(), manysocket::Error>(())
    /// ```
    #[must_use]
    pub fn carriers(mut self, carriers: Carriers) -> Self {
        self.target.carriers = carriers;
        self
    }

    /// Returns the kind of connection under the link; `None` while there is none.
    #[must_use]
    pub fn carrier(&self) -> Option<Carrier> {
        let current = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().and_then(|link| link.lock().carrier)
    }

    /// Opens a socket to a URL, absolute or relative to the multiplexer's.
    ///
    /// # Errors
    /// As [`MultiWebSocket::open_with`].
    pub fn open(&self, url: &str) -> Result<WebSocket, Error> {
        self.open_with(url, &[], &HeaderMap::new())
    }

    /// Opens a socket, offers subprotocols, best first, and sends headers with the request that opens it. Returns at once:
    /// [`WebSocket::opened`] waits for the server.
    ///
    /// These headers replace those of the link's handshake with the same name. The server refuses those by which proxies name
    /// users and addresses.
    ///
    /// # Errors
    /// Returns [`Error::Url`] if the URL is not on the multiplexer's server, [`Error::Protocol`] if a subprotocol is no token
    /// or is given twice, [`Error::Header`] if a header cannot be set (`Host`, `Origin`, `Cookie`, `Sec-*`, `X-Forwarded-*` and
    /// those of a connection), and [`Error::NoRuntime`] outside of a tokio runtime.
    pub fn open_with(&self, url: &str, protocols: &[&str], headers: &HeaderMap) -> Result<WebSocket, Error> {
        let parsed = self.target.url.join(url).map_err(|error| url_error(url, error.to_string()))?;
        let target = socket_url(url, parsed)?;
        if target[..Position::BeforePath] != self.target.url[..Position::BeforePath] {
            return Err(url_error(url, "it is on another server than the multiplexer".into()));
        }
        for (index, name) in protocols.iter().enumerate() {
            if !is_token(name) || protocols[..index].contains(name) {
                return Err(Error::Protocol((*name).to_owned()));
            }
        }
        let headers = lines(headers)?;
        let runtime = Runtime::try_current().map_err(|_| Error::NoRuntime)?;
        let target = &target[Position::BeforePath..Position::AfterQuery];
        Ok(self.open_target(target, &protocols.join(", "), &headers, &runtime))
    }

    fn open_target(&self, target: &str, protocols: &str, headers: &str, runtime: &Runtime) -> WebSocket {
        let mut current = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = &*current {
            let mut state = link.lock();
            if !state.has_ended {
                let id = state.open(target, protocols, headers);
                let wakers = state.deliver();
                drop(state);
                driver::wake(wakers);
                link.driver.wake();
                return WebSocket::new(Arc::clone(link), id);
            }
        }
        let link = Arc::new(Link::new(self.settings));
        let id = link.lock().open(target, protocols, headers);
        *current = Some(Arc::clone(&link));
        drop(current);
        runtime.spawn(run(self.target.clone(), Arc::clone(&link)));
        WebSocket::new(link, id)
    }
}

/// Dials a link, and drives it to its end.
async fn run(target: Target, link: Arc<Link>) {
    // The program may open further sockets at once: all of them ride in the handshake.
    tokio::task::yield_now().await;
    let first_batch = {
        let client = &mut link.lock().client;
        client.set_dialled_path(target.url.path());
        client.handshake()
    };
    match dial::dial_first(&target, first_batch).await {
        Ok(dialled) => driver::drive(link, dialled, &target).await,
        Err(error) => {
            debug!(url = &target.url[..Position::AfterPath], "the link cannot be opened: {error}");
            driver::finish(&link, true);
        }
    }
}

/// The headers of an open, a line each (docs/protocol.md §4.1). Their bytes are characters there.
fn lines(headers: &HeaderMap) -> Result<String, Error> {
    let mut lines = Vec::new();
    for (name, value) in headers {
        if !may_be_in_open(name.as_str()) {
            return Err(Error::Header(name.to_string()));
        }
        let value: String = value.as_bytes().iter().copied().map(char::from).collect();
        lines.push(format!("{name}: {value}"));
    }
    Ok(lines.join("\n"))
}

/// A URL with the scheme `ws` or `wss`, as the constructor of a page's `WebSocket` makes it (WHATWG WebSockets §3.1).
pub(super) fn socket_url(given: &str, mut url: Url) -> Result<Url, Error> {
    let scheme = match url.scheme() {
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        _ => return Err(url_error(given, "its scheme is none of ws, wss, http and https".into())),
    };
    if url.fragment().is_some() {
        return Err(url_error(given, "it has a fragment (#…)".into()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(url_error(
            given,
            "it has a user or a password; set the header Authorization instead".into(),
        ));
    }
    match url.set_scheme(scheme) {
        Ok(()) => Ok(url),
        Err(()) => Err(url_error(given, "its scheme cannot be changed to that of a WebSocket".into())),
    }
}

pub(super) fn url_error(url: &str, why: String) -> Error {
    Error::Url { url: url.to_owned(), why }
}

/// Whether a name is a token (RFC 9110 §5.6.2).
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
