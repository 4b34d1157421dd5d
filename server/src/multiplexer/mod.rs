//! The multiplexer: accepts links and answers virtual opens through the application.

mod cookies;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::extract::ws::{CloseFrame, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Scheme;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use manysocket_protocol::{Endpoint, Millis, RESUME_PARAMETER, SUBPROTOCOL, Settings, Side};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower::{Layer, Service};
use tracing::{Instrument, debug, info_span, warn};

use crate::access::entry::enter;
use crate::access::forwarded::{Forwarded, Trusted};
use crate::access::inherited::Inherited;
use crate::access::origin::{Origin, Origins};
use crate::access::proxies::Proxies;
use crate::access::scope::Scope;
use crate::access::{as_declared, plain};
use crate::limits::Limits;
use crate::link::dispatch::{Dispatcher, InheritExtension, inherit_extension};
use crate::link::drain::Departure;
use crate::link::registry::{Links, Revalidation};
use crate::link::resumptions::{self, Arrival, ResumeRules, Resumptions, new_token, read_resume};
use crate::link::tickets::Tickets;
use crate::link::{Link, head};
use crate::metrics::stats::Stats;
use crate::net::serve::Serving;
use crate::ws::frame::Config;
use crate::ws::frames::FramedSocket;
use crate::ws::upgrade::{Offer, switching_protocols};

/// The bytes by which a batch may exceed its content, for headers and lengths. A batch of 4-byte messages is twice as
/// large as its content.
const BATCH_OVERHEAD: usize = 64 * 1024;

/// The default time for channels to close when their link drains: longer than any round trip, and shorter than the
/// time after which process managers kill a program.
const DRAIN: Duration = Duration::from_secs(5);

/// The default time for which a link outlives its connection: most changes of a network, and most tunnels, are shorter.
const RESUME_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections that may be about to resume a link, at once. Each has ten seconds.
const RESUMING: usize = 1024;

/// Carries any number of WebSockets over one connection. It wraps an application, and answers virtual opens through
/// it.
///
/// ```
/// use axum::{Router, routing::get};
/// use manysocket_server::Multiplexer;
///
/// # fn main() -> Result<(), manysocket_server::OriginError> {
/// let app = Router::new().route("/hello", get(|| async { "hello" }));
/// let app = Multiplexer::new("/multiplexer").allow_origin("https://app.example.com".parse()?).serve(app);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Multiplexer {
    path: Arc<str>,
    scope: Scope,
    origins: Origins,
    proxies: Vec<Proxies>,
    inherited: Inherited,
    inherit_extensions: Vec<InheritExtension>,
    settings: Settings,
    limits: Limits,
    stats: Stats,
    shutdown: CancellationToken,
    drain: Duration,
    links: Links,
    revalidation: Option<Revalidation>,
    resume_timeout: Duration,
    resume_rules: ResumeRules,
    resumptions: Resumptions,
    tickets: Tickets,
}

impl Multiplexer {
    /// Creates a multiplexer at `path`. It reaches all paths below its folder: one at `/a/b/mux` reaches `/a/b/…`.
    pub fn new(path: &str) -> Self {
        Self {
            path: path.into(),
            scope: Scope::around(path),
            origins: Origins::default(),
            proxies: Vec::new(),
            inherited: Inherited::default(),
            inherit_extensions: Vec::new(),
            settings: Settings::default(),
            limits: Limits::default(),
            stats: Stats::default(),
            shutdown: CancellationToken::new(),
            drain: DRAIN,
            links: Links::default(),
            revalidation: None,
            resume_timeout: RESUME_TIMEOUT,
            resume_rules: ResumeRules::default(),
            resumptions: Resumptions::default(),
            tickets: Tickets::default(),
        }
    }

    /// Sets the prefix below which virtual sockets may open paths; `/` is the whole site. The default is the
    /// multiplexer's folder.
    #[must_use]
    pub fn scope(mut self, prefix: &str) -> Self {
        self.scope = Scope::new(prefix);
        self
    }

    /// Allows pages of another [`Origin`](crate::Origin) to connect: `https://example.com`, `https://*.example.com`.
    /// By default only pages of the server's own host may: a browser sends the user's cookies with every connection,
    /// whichever page opens it (RFC 6455 §10.2). The setting also applies to the application's topics, documents,
    /// calls, indexes and event streams, over virtual and native connections.
    #[must_use]
    pub fn allow_origin(mut self, origin: Origin) -> Self {
        self.origins.allow(origin);
        self
    }

    /// Adds proxies whose forwarding headers the server trusts: `X-Forwarded-Proto`, `-Host`, `-For` and `-Prefix`, or
    /// `Forwarded` (RFC 7239). By default the server ignores these headers.
    ///
    /// The server compares the origins of its own pages with the scheme and host that a trusted proxy names; handlers
    /// read all forwarding data from [`Forwarded`]. The proxy must replace or append to these headers, and must not
    /// forward the clients' values.
    ///
    /// The server must know the address of the peer. [`serve`](crate::serve()) provides it; with [`axum::serve()`] the
    /// application must use `into_make_service_with_connect_info::<SocketAddr>()`. Otherwise the server trusts no
    /// proxy, and logs that once.
    ///
    /// ```
    /// use manysocket_server::Multiplexer;
    ///
    /// # fn main() -> Result<(), manysocket_server::ProxiesError> {
    /// let proxies = ["loopback".parse()?, "10.1.0.0/16".parse()?];
    /// let multiplexer = Multiplexer::new("/multiplexer").trust_forwarded(proxies);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn trust_forwarded(mut self, proxies: impl IntoIterator<Item = Proxies>) -> Self {
        self.proxies.extend(proxies);
        self
    }

    /// Adds headers that virtual opens inherit from the handshake of their link, such as one by which a proxy names the user.
    ///
    /// A page cannot set headers of a WebSocket handshake, so the values are those of the proxies in front. Virtual opens
    /// inherit the well-known headers without this setting: cookies, identities (`X-User`, `Remote-User`,
    /// `X-Auth-Request-Email` …), addresses of clients and traces. [`Gateway`](crate::Gateway)s pass these and the added
    /// ones to upstreams.
    ///
    /// ```
    /// use axum::http::HeaderName;
    /// use manysocket_server::Multiplexer;
    ///
    /// let multiplexer = Multiplexer::new("/multiplexer").inherit_headers([HeaderName::from_static("x-tenant")]);
    /// ```
    #[must_use]
    pub fn inherit_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.inherited.add(names);
        self
    }

    /// Has virtual opens inherit the extension of type `T` that a layer around the multiplexer has put on the request of the
    /// link's handshake, such as the user of a session.
    ///
    /// ```
    /// use axum::{Extension, Router};
    /// use manysocket_server::Multiplexer;
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// let multiplexer = Multiplexer::new("/multiplexer").inherit_extension::<User>();
    /// let app = multiplexer.serve(Router::new()).layer(Extension(User("ada".into())));
    /// ```
    #[must_use]
    pub fn inherit_extension<T: Clone + Send + Sync + 'static>(mut self) -> Self {
        self.inherit_extensions.push(inherit_extension::<T>);
        self
    }

    /// Sets the limits of the protocol.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the limits of the server.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the token that starts a shutdown. When it is cancelled, the multiplexer closes all channels with 1001
    /// after the messages already sent on them, then the links.
    ///
    /// [`serve`](crate::serve()) does not need it. Other servers do not tell links that they shut down. With [`axum::serve()`],
    /// cancel the token in the signal, and wait there until all links have closed:
    ///
    /// ```no_run
    /// use axum::Router;
    /// use manysocket_server::Multiplexer;
    /// use tokio_util::sync::CancellationToken;
    ///
    /// # async fn stopped() {}
    /// # async fn run() -> std::io::Result<()> {
    /// let shutdown = CancellationToken::new();
    /// let multiplexer = Multiplexer::new("/multiplexer").shutdown(shutdown.clone());
    /// let links = multiplexer.links();
    /// let signal = async move {
    ///     stopped().await;
    ///     shutdown.cancel();
    ///     links.closed().await;
    /// };
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    /// axum::serve(listener, multiplexer.serve(Router::new())).with_graceful_shutdown(signal).await
    /// # }
    /// ```
    #[must_use]
    pub fn shutdown(mut self, token: CancellationToken) -> Self {
        self.shutdown = token;
        self
    }

    /// Sets the time for channels to close when the server shuts down or the application [ends](Links::close_where) their
    /// link; the default is 5 s. After that, the link closes with channels open.
    #[must_use]
    pub fn drain(mut self, time: Duration) -> Self {
        self.drain = time;
        self
    }

    /// Repeats a check of each link's handshake at an interval, for example of a session that may expire. If the check
    /// fails, the multiplexer [ends](Links::close_where) the link with the close frame it returns.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum::extract::ws::CloseFrame;
    /// use manysocket_server::Multiplexer;
    ///
    /// # async fn is_valid(_: Option<&axum::http::HeaderValue>) -> bool { true }
    /// let multiplexer = Multiplexer::new("/multiplexer").revalidate(Duration::from_secs(60), async |handshake| {
    ///     if is_valid(handshake.headers.get("cookie")).await {
    ///         Ok(())
    ///     } else {
    ///         Err(CloseFrame { code: 4401, reason: "the session has expired".into() })
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn revalidate<F, R>(mut self, interval: Duration, check: F) -> Self
    where
        F: Fn(Arc<Parts>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), CloseFrame>> + Send + 'static,
    {
        self.revalidation = Some(Revalidation::new(interval, check));
        self
    }

    /// Sets how long a link outlives the loss of its connection; the default is 30 s. Meanwhile its handlers go on, and its
    /// client connects again. Then the client gets what was lost on the way, and no socket has noticed. With
    /// [`Duration::ZERO`], links end with their connections.
    #[must_use]
    pub fn resume_timeout(mut self, time: Duration) -> Self {
        self.resume_timeout = time;
        self
    }

    /// Sets how to tell the user of a handshake. A connection resumes a link only if both have the same user and the same
    /// `Origin`; by default, the origin is compared only. (A client also proves with a secret of the link that it is the same
    /// client.)
    ///
    /// ```
    /// use manysocket_server::Multiplexer;
    ///
    /// /// The user that an authentication layer stores in a request's extensions.
    /// #[derive(Clone)]
    /// struct User(u64);
    ///
    /// let multiplexer = Multiplexer::new("/multiplexer")
    ///     .resume_identity(|handshake| handshake.extensions.get::<User>().map(|user| user.0.to_string()));
    /// ```
    #[must_use]
    pub fn resume_identity<F>(mut self, identity: F) -> Self
    where
        F: Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    {
        self.resume_rules = ResumeRules::by_identity(identity);
        self
    }

    /// Returns the open links, to end some of them.
    pub fn links(&self) -> Links {
        self.links.clone()
    }

    /// Returns the metrics of the multiplexer.
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// Wraps `app`: the multiplexer answers requests for its path, and `app` answers all others and the virtual opens.
    /// Layers of `app` see virtual opens as they see native ones.
    pub fn serve(self, app: Router) -> Router {
        let path = self.path.to_string();
        let app = if self.origins.is_empty() { app } else { app.layer(Extension(self.origins.clone())) };
        let app = if self.inherited.is_empty() { app } else { app.layer(Extension(self.inherited.clone())) };
        // Topics register their memory in these metrics.
        let app = app.layer(Extension(self.stats.clone()));
        let trusted = Arc::new(Trusted::new(self.proxies.clone()));
        let resuming = Arc::new(Semaphore::new(RESUMING));
        let shared = Shared { multiplexer: self, app: app.clone(), next_link: AtomicU64::new(1), resuming };
        let shared = Arc::new(shared);
        let entry = middleware::from_fn_with_state(trusted, enter);
        Router::new().route(&path, any(connect)).with_state(shared).fallback_service(app).layer(entry)
    }
}

/// The multiplexer as a layer, for services that are not a [`Router`]: hyper's, tonic's, and those of other tower
/// frameworks.
///
/// ```
/// use std::convert::Infallible;
/// use axum::body::Body;
/// use axum::extract::Request;
/// use axum::response::Response;
/// use manysocket_server::Multiplexer;
/// use tower::{ServiceBuilder, service_fn};
///
/// let application = service_fn(async |_: Request| Ok::<_, Infallible>(Response::new(Body::from("hello"))));
/// let service = ServiceBuilder::new().layer(Multiplexer::new("/multiplexer")).service(application);
/// ```
///
/// Make it the outermost layer, so that virtual opens pass all other layers. Do not use it with [`Router::layer`],
/// which would wrap each route separately: pass a router to [`serve`](Self::serve) instead.
impl<S> Layer<S> for Multiplexer
where
    S: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    type Service = Router;

    fn layer(&self, inner: S) -> Router {
        self.clone().serve(Router::new().fallback_service(inner))
    }
}

struct Shared {
    multiplexer: Multiplexer,
    app: Router,
    next_link: AtomicU64,
    /// The places of connections that are about to resume a link.
    resuming: Arc<Semaphore>,
}

impl Shared {
    /// Returns what answers the opens of a link with this handshake.
    fn dispatcher(&self, handshake: &Parts) -> Arc<Dispatcher> {
        let Multiplexer { inherited, inherit_extensions, .. } = &self.multiplexer;
        Arc::new(Dispatcher::new(self.app.clone(), handshake, inherited, inherit_extensions))
    }
}

/// Answers the physical handshake.
async fn connect(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if request.method() == Method::POST {
        let Multiplexer { origins, tickets, links, .. } = &shared.multiplexer;
        return cookies::fetch(origins, tickets, links, request).await;
    }
    let (mut parts, _) = request.into_parts();
    let multiplexer = &shared.multiplexer;
    let refuse = |status: StatusCode, limit: Option<&str>, why: String| {
        warn!(path = %multiplexer.path, %status, limit, "link refused: {why}");
        multiplexer.stats.link_refused(status.as_u16());
        plain(status, &why)
    };
    if parts.extensions.get::<Offer>().is_some() {
        return refuse(StatusCode::BAD_REQUEST, None, "a multiplexer inside a multiplexer".into());
    }
    let is_upgrade = parts.headers.get(header::UPGRADE).is_some();
    let connection = parts.extensions.get::<OnUpgrade>().cloned();
    // axum checks the handshake.
    let checked = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let (Some(upgrade), Ok(offer)) = (connection, checked) else {
        let why = "This is a manysocket multiplexer: connect with `new MultiWebSocket(url)` of the npm package manysocket.";
        let status = if is_upgrade { StatusCode::BAD_REQUEST } else { StatusCode::UPGRADE_REQUIRED };
        return as_declared((status, [(header::UPGRADE, "websocket")], format!("{why}\n")));
    };
    if let Err(why) = multiplexer.origins.check(&parts.headers, &Forwarded::of(&parts)) {
        return refuse(StatusCode::FORBIDDEN, None, why);
    }
    if offer.protocols([SUBPROTOCOL]).selected_protocol().is_none() {
        let why = format!(
            "the subprotocol {SUBPROTOCOL} is not offered: this URL is a multiplexer's, not a WebSocket's"
        );
        return refuse(StatusCode::BAD_REQUEST, None, why);
    }
    // The largest content is a message in one piece, or a batch. Text counts in UTF-16 code units, each of at most
    // three bytes.
    let max_size = 3 * multiplexer.settings.max_fragment as usize + BATCH_OVERHEAD;
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).cloned();
    let accepted = switching_protocols(key.as_ref(), Some(HeaderValue::from_static(SUBPROTOCOL)));
    if is_resuming(parts.uri.query().unwrap_or_default()) {
        let Ok(slot) = Arc::clone(&shared.resuming).try_acquire_owned() else {
            let limit = "max_resuming";
            multiplexer.stats.limit_crossed(limit);
            let why = format!("{RESUMING} connections are about to resume a link already");
            return refuse(StatusCode::SERVICE_UNAVAILABLE, Some(limit), why);
        };
        let resuming = resume(Arc::clone(&shared), parts, upgrade, max_size, slot);
        tokio::spawn(resuming.instrument(info_span!("resuming")));
        return accepted;
    }
    let counted = multiplexer.stats.count_link();
    if multiplexer.stats.links() > multiplexer.limits.max_links {
        let limit = "max_links";
        multiplexer.stats.limit_crossed(limit);
        let why = format!("there are {} links already", multiplexer.limits.max_links);
        return refuse(StatusCode::SERVICE_UNAVAILABLE, Some(limit), why);
    }
    multiplexer.stats.link_opened();
    let query = parts.uri.query().map(str::to_owned);
    let started = Instant::now();
    let resume_timeout = Millis::try_from(multiplexer.resume_timeout.as_millis()).unwrap_or(Millis::MAX);
    let (settings, limits) = (multiplexer.settings.resume_timeout(resume_timeout), multiplexer.limits);
    let id = shared.next_link.fetch_add(1, Ordering::Relaxed);
    let serving = parts.extensions.remove::<Serving>();
    head::compact(&mut parts);
    let dispatcher = shared.dispatcher(&parts);
    let head = head::held(&parts) + dispatcher.held();
    let has_tls = parts.extensions.get() == Some(&Scheme::HTTPS);
    let (scope, path) = (multiplexer.scope.clone(), Arc::clone(&multiplexer.path));
    let stats = multiplexer.stats.clone();
    let handshake = Arc::new(parts);
    let (registered, ended) = multiplexer.links.register(id, Arc::clone(&handshake));
    let departure = Departure::new(
        multiplexer.shutdown.clone(),
        serving.as_ref().map(|serving| serving.shutdown.clone()),
        ended,
        multiplexer.drain,
        multiplexer.stats.clone(),
    );
    let awaited = serving.map(|serving| serving.links.token());
    let (links, revalidation) = (multiplexer.links.clone(), multiplexer.revalidation.clone());
    let tickets = multiplexer.tickets.of_link(id);
    let (place, resume_rules) = (multiplexer.resumptions.open(), multiplexer.resume_rules.clone());
    let serving = async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => return debug!("a link's connection ended before it was upgraded: {error}"),
        };
        let watch = revalidation.map(|revalidation| tokio::spawn(revalidation.watch(links, id)));
        let _watch = watch.map(AbortOnDropHandle::new);
        let mut endpoint = Endpoint::new(Side::Server, settings, 0);
        if let Some(token) = new_token() {
            endpoint.allow_resumption(token);
        }
        let link = Link {
            socket: Some(FramedSocket::new(upgraded, Config::server(max_size))),
            head,
            has_tls,
            handshake,
            place,
            resume_rules,
            endpoint,
            dispatcher,
            scope,
            path,
            limits,
            max_message: settings.max_message,
            stats,
            _counted: counted,
            departure,
            registered,
            tickets,
            started,
        };
        link.run(query).await;
        // The server waits for it until here.
        drop(awaited);
    };
    tokio::spawn(serving.instrument(info_span!("link", id)));
    accepted
}

/// Returns whether a connection is to resume a link (docs/protocol.md §8.1).
fn is_resuming(query: &str) -> bool {
    query.split('&').any(|part| part.split_once('=').is_some_and(|(name, _)| name == RESUME_PARAMETER))
}

/// Hands a connection to the link that it resumes.
async fn resume(
    shared: Arc<Shared>,
    mut parts: Parts,
    upgrade: OnUpgrade,
    max_size: usize,
    _slot: OwnedSemaphorePermit,
) {
    let multiplexer = &shared.multiplexer;
    parts.extensions.remove::<Serving>();
    head::compact(&mut parts);
    let dispatcher = shared.dispatcher(&parts);
    let head = head::held(&parts) + dispatcher.held();
    let handshake = Arc::new(parts);
    let upgraded = match upgrade.await {
        Ok(upgraded) => TokioIo::new(upgraded),
        Err(error) => return debug!("a connection ended before it was upgraded: {error}"),
    };
    let Some((socket, resume)) = read_resume(upgraded, max_size).await else { return };
    if let Some(revalidation) = &multiplexer.revalidation
        && let Err(close) = revalidation.check(Arc::clone(&handshake)).await
    {
        debug!("a link is not resumed: {}", close.reason);
        return resumptions::refuse(socket).await;
    }
    let arrival = Arrival { socket, resume, handshake, dispatcher, head };
    if let Err(arrival) = multiplexer.resumptions.offer(arrival).await {
        debug!("a connection resumes a link that is not known");
        resumptions::refuse(arrival.socket).await;
    }
}
