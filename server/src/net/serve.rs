//! Accepts connections, with TLS and without, and gives up those that send no request in time.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request};
use axum::http::uri::Scheme;
use axum::http::{StatusCode, Version, header};
use axum::response::Response;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::access::plain;
use crate::net::extended_connect::translate;
use crate::net::fair_read::Paced;
#[cfg(all(feature = "http2", feature = "tls"))]
use crate::net::http2;
#[cfg(all(feature = "http2", feature = "tls"))]
use crate::net::taken::InParts;
use crate::net::timed::{Counted, HEAD, Requests, Timed};
#[cfg(feature = "tls")]
use crate::net::tls::Tls;
#[cfg(all(feature = "http2", feature = "tls"))]
use crate::net::tls::is_http2;

/// The timeout for a TLS handshake: the same as for a head, for the same reason.
const HANDSHAKE_TIMEOUT: Duration = HEAD;

/// The largest head of a request: what nginx takes by default. A link's own takes 4 KB with its first batch, and cookies
/// rarely as much again; hyper's 400 KB had 500 clients take 200 MiB, which no budget of memory counts. hyper stops reading
/// at it and may have read 8 KiB more by then, so that the length is checked once more.
const MAX_HEAD: usize = 32 * 1024;

/// The most lines of a head, which is hyper's limit for HTTP/1.1: each takes some 100 bytes besides its text.
const MAX_LINES: usize = 100;

/// How long to wait when there are no file descriptors left: until some connections have ended.
const PAUSE: Duration = Duration::from_millis(200);

/// How often the server logs that while it lasts.
const REPEAT: Duration = Duration::from_secs(10);

/// How long requests under way may take once the server shuts down. Event streams have no end, so there has to be one for them.
const LINGER: Duration = Duration::from_secs(5);

/// The header of the requests of HTTP carriers (docs/protocol.md §3.3).
pub(crate) const CARRIER: &str = "manysocket-carrier";

/// Serves an application. Unlike [`axum::serve()`] it limits how long a request's head may take (10 s) and how long a
/// connection may be without a request (75 s) or take nothing of an answer (2 min), refuses requests without a `Host`, passes the multiplexer the addresses of
/// peers, sends small messages at once (`TCP_NODELAY`), and closes links in good order when it shuts down.
///
/// ```no_run
/// use axum::Router;
/// use manysocket_server::{Multiplexer, serve};
/// use tokio_util::sync::CancellationToken;
///
/// # async fn run() -> std::io::Result<()> {
/// let app = Multiplexer::new("/multiplexer").serve(Router::new());
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// let shutdown = CancellationToken::new();
/// serve(listener, app).with_graceful_shutdown(shutdown.cancelled_owned()).await
/// # }
/// ```
pub fn serve(listener: TcpListener, app: Router) -> Serve {
    Serve {
        listener,
        app,
        #[cfg(feature = "tls")]
        tls: None,
        signal: Box::pin(std::future::pending()),
    }
}

/// A server that [`serve`] has set up. It runs when it is awaited.
#[must_use = "a server does nothing until it is awaited"]
pub struct Serve {
    listener: TcpListener,
    app: Router,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    signal: BoxFuture<'static, ()>,
}

impl Serve {
    /// Serves over TLS: HTTP/1.1 and, with the feature `http2`, HTTP/2 and WebSockets over it (RFC 8441). The application sees
    /// the handshakes of both as HTTP/1.1's.
    ///
    /// ```no_run
    /// use axum::Router;
    /// use manysocket_server::{Multiplexer, Tls, serve};
    ///
    /// # async fn run() -> std::io::Result<()> {
    /// let app = Multiplexer::new("/multiplexer").serve(Router::new());
    /// let listener = tokio::net::TcpListener::bind("0.0.0.0:443").await?;
    /// serve(listener, app).tls(Tls::open("chain.pem", "key.pem")?).await
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Shuts down once `signal` completes. The server then accepts no more connections, and ends those that have no request.
    /// Requests under way have 5 s to end. Links close each channel with 1001 after all messages that handlers have sent,
    /// within [`Multiplexer::drain`](crate::Multiplexer::drain). Awaiting the server returns when all links have closed.
    ///
    /// The server does not wait for native WebSockets, like [`axum::serve()`].
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.signal = Box::pin(signal);
        self
    }

    async fn run(self) {
        let serving = Serving::default();
        #[cfg(feature = "tls")]
        let scheme = if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        #[cfg(not(feature = "tls"))]
        let scheme = Scheme::HTTP;
        let mut signal = self.signal;
        let mut warned: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut signal => break,
            };
            match accepted {
                Ok((stream, remote)) => {
                    // Output has been gathered already: to wait for more (Nagle's algorithm) only costs time.
                    let _ = stream.set_nodelay(true);
                    let stream = Paced::new(stream);
                    let (app, scheme) = (self.app.clone(), scheme.clone());
                    let about =
                        About { remote, scheme, app, serving: serving.clone(), carries: Arc::default() };
                    #[cfg(feature = "tls")]
                    if let Some(tls) = &self.tls {
                        serving.connections.spawn(secure(stream, tls.acceptor(), about));
                        continue;
                    }
                    serving.connections.spawn(connection(stream, about));
                }
                Err(error) if is_of_the_peer(&error) => {
                    debug!("a connection ended before it was accepted: {error}");
                }
                Err(error) => {
                    if warned.is_none_or(|warned| warned.elapsed() > REPEAT) {
                        warn!("no connection can be accepted for now: {error}");
                        warned = Some(Instant::now());
                    }
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        () = &mut signal => break,
                    }
                }
            }
        }
        // In this order: a peer that can connect no more finds that its link accepts no more opens.
        serving.shutdown.cancel();
        drop(self.listener);
        serving.connections.close();
        serving.links.close();
        let _ = tokio::time::timeout(LINGER, serving.connections.wait()).await;
        serving.links.wait().await;
    }
}

impl IntoFuture for Serve {
    /// As with [`axum::serve()`]. There is never an error: those of connections are logged.
    type Output = io::Result<()>;
    type IntoFuture = BoxFuture<'static, io::Result<()>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async {
            self.run().await;
            Ok(())
        })
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Serve").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// The state that the connections of a server share. It is an extension of their requests, so that a multiplexer knows its server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Serving {
    /// Cancelled when the server shuts down.
    pub(crate) shutdown: CancellationToken,
    /// The links that the server waits for.
    pub(crate) links: TaskTracker,
    connections: TaskTracker,
}

/// Serves a connection over TLS.
#[cfg(feature = "tls")]
async fn secure(stream: Paced, acceptor: tokio_rustls::TlsAcceptor, about: About) {
    let (remote, shutdown) = (about.remote, about.serving.shutdown.clone());
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
    match shutdown.run_until_cancelled(handshake).await {
        #[cfg(feature = "http2")]
        Some(Ok(Ok(stream))) if is_http2(&stream) => connection_of_streams(stream, about).await,
        Some(Ok(Ok(stream))) => connection(stream, about).await,
        Some(Ok(Err(error))) => debug!(%remote, "the TLS handshake failed: {error}"),
        Some(Err(_)) => debug!(%remote, "the TLS handshake took too long"),
        None => {}
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Bytes of the head of a request, as most clients write it (RFC 9112 §2.1).
fn head_length<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let target = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
    let first = request.method().as_str().len() + " ".len() + target + " HTTP/1.1\r\n".len();
    let lines =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    first + lines.sum::<usize>() + "\r\n".len()
}

/// Returns whether a request lacks what HTTP demands (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn is_without_host(request: &Request) -> bool {
    request.version() >= Version::HTTP_11
        && request.uri().authority().is_none()
        && !request.headers().contains_key(header::HOST)
}

/// The data that requests carry of their connection, and the application that answers them.
#[derive(Clone)]
struct About {
    remote: SocketAddr,
    scheme: Scheme,
    app: Router,
    serving: Serving,
    /// Whether there have been requests of an HTTP carrier.
    carries: Arc<AtomicBool>,
}

impl About {
    /// Waits until no request may begin any more: the server shuts down. A client of an HTTP carrier goes on asking until its link
    /// has closed.
    fn leaving(&self) -> impl Future<Output = ()> + Send + use<> {
        let (Serving { shutdown, links, .. }, carries) = (self.serving.clone(), Arc::clone(&self.carries));
        async move {
            shutdown.cancelled().await;
            if carries.load(Ordering::Relaxed) {
                links.wait().await;
            }
        }
    }

    /// Answers a request, which lasts for as long as `under_way` is shared.
    fn answer<R: Send + Sync + 'static>(
        &self,
        request: Request<Incoming>,
        under_way: &Arc<R>,
    ) -> impl Future<Output = Response> + Send + use<R> {
        if request.headers().contains_key(CARRIER) {
            self.carries.store(true, Ordering::Relaxed);
        }
        let About { remote, scheme, app, serving, .. } = self.clone();
        let mut request = request.map(|body| match body.is_end_stream() {
            true => Body::empty(),
            false => Body::new(Counted::new(Body::new(body), Arc::clone(under_way))),
        });
        request.extensions_mut().insert(ConnectInfo(remote));
        request.extensions_mut().insert(scheme);
        request.extensions_mut().insert(serving);
        async move {
            let head = head_length(&request);
            let (mut parts, body) = request.into_parts();
            let translated = match translate(&mut parts) {
                Ok(translated) => translated,
                Err(refusal) => return *refusal,
            };
            let request = Request::from_parts(parts, body);
            if head > MAX_HEAD || request.headers().len() > MAX_LINES {
                return plain(
                    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                    "the head of the request is longer than 32 KiB, or has more than 100 lines",
                );
            }
            if is_without_host(&request) {
                return plain(StatusCode::BAD_REQUEST, "the request has no Host header");
            }
            let Ok(response) = app.oneshot(request).await;
            translated.answer(response)
        }
    }
}

/// Serves a connection of HTTP/1.1.
async fn connection<S>(stream: S, about: About)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let requests = Requests::default();
    let stream = Timed::new(stream, requests.clone());
    let (under_way, leaving, remote) = (requests.clone(), about.leaving(), about.remote);
    let service = service_fn(move |request: Request<Incoming>| {
        let under_way = requests.begin();
        let answer = about.answer(request, &under_way);
        async move { Ok::<_, Infallible>(Counted::response(answer.await, under_way)) }
    });
    let connection = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = leaving => {
            if !under_way.is_busy() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    log_end(remote, ended);
}

/// Serves a connection of HTTP/2.
#[cfg(all(feature = "http2", feature = "tls"))]
async fn connection_of_streams<S>(stream: S, about: About)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let requests = http2::Uses::default();
    let (under_way, leaving, remote) = (requests.clone(), about.leaving(), about.remote);
    let service = service_fn(move |request: Request<Incoming>| {
        let under_way = Arc::new(requests.begin());
        let answer = about.answer(request, &under_way);
        async move { Ok::<_, Infallible>(answer.await.map(|body| InParts::new(Counted::new(body, under_way)))) }
    });
    log_end(remote, http2::serve(stream, service, under_way, leaving).await);
}

fn log_end(remote: SocketAddr, ended: hyper::Result<()>) {
    if let Err(error) = ended {
        debug!(%remote, "a connection failed: {error}");
    }
}
