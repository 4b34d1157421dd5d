//! The multiplexer and its settings. It accepts links, and answers virtual opens through the application.

mod connect;
mod cookies;
mod http;
mod refusal;
mod unclaimed;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::ws::CloseFrame;
use axum::extract::{Request, State};
use axum::http::HeaderName;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Router, middleware};
use manysocket_protocol::Settings;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use self::http::Carriers;
use self::unclaimed::Unclaimed;
use crate::access::entry::enter;
use crate::access::forwarded::Trusted;
use crate::access::inherited::Inherited;
use crate::access::origin::{Origin, Origins};
use crate::access::proxies::Proxies;
use crate::access::scope::Scope;
use crate::limits::Limits;
use crate::link::dispatch::{InheritExtension, inherit_extension};
use crate::link::registry::{Links, Revalidation};
use crate::link::resumptions::{ResumeRules, Resumptions};
use crate::link::tickets::Tickets;
use crate::metrics::stats::Stats;

/// The default time for channels to close when their link drains: longer than any round trip, and shorter than the
/// time after which process managers kill a program.
const DRAIN: Duration = Duration::from_secs(5);

/// The default time for which a link outlives its connection: most changes of a network, and most tunnels, are shorter.
const RESUME_TIMEOUT: Duration = Duration::from_secs(30);

/// Carries any number of WebSockets over one connection. It wraps an application, and answers virtual opens through
/// it. Where no WebSocket gets through, HTTP requests to its path carry a link.
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
    /// also if another site's page opens it (RFC 6455 §10.2). The setting also applies to the application's topics, documents,
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
    /// read all forwarding data from [`Forwarded`](crate::Forwarded). The proxy must replace or append to these headers, and must not
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
    /// A page cannot set headers of a WebSocket handshake, so the values are those of the proxies in front. It can set them on
    /// the requests of a link over HTTP; there they count from [trusted proxies](Self::trust_forwarded) only. Virtual opens
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

    /// Lets virtual opens inherit the extension of type `T` that a layer around the multiplexer has put on the request of the
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
    /// [`serve`](crate::serve()) does not need it. Other servers do not inform links that they shut down. With [`axum::serve()`],
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
    /// client connects again. Then the client gets the messages lost on the way, and no socket notices. With
    /// [`Duration::ZERO`], links end with their connections.
    #[must_use]
    pub fn resume_timeout(mut self, time: Duration) -> Self {
        self.resume_timeout = time;
        self
    }

    /// Sets how to identify the user of a handshake. A connection resumes a link only if both have the same user and the same
    /// `Origin`; by default, only the origin is compared. (A client also proves with a secret of the link that it is the same
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
        let shared = Arc::new(Shared {
            multiplexer: self,
            app: app.clone(),
            next_link: AtomicU64::new(1),
            unclaimed: Unclaimed::default(),
            carriers: Carriers::default(),
        });
        let entry = middleware::from_fn_with_state(trusted, enter);
        Router::new().route(&path, any(answer)).with_state(shared).fallback_service(app).layer(entry)
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
    unclaimed: Unclaimed,
    carriers: Carriers,
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared.answer(request).await
}
