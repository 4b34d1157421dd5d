//! Accepts connections, with TLS and without, and gives up those that do not say what they want.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request};
use axum::http::uri::Scheme;
use axum::http::{StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::access::plain;
use crate::net::fair_read::Paced;
use crate::net::timed::{Counted, HEAD, Requests, Timed};
#[cfg(feature = "tls")]
use crate::net::tls::Tls;

/// What a client has for a TLS handshake: as much as for a head, for the same reason.
const HANDSHAKE_TIMEOUT: Duration = HEAD;

/// The largest head of a request: what nginx takes by default. A link's own takes 4 KB with its first batch, and cookies
/// rarely as much again; hyper's 400 KB had 500 clients take 200 MiB, which no budget of memory counts. hyper stops reading
/// at it and may have read 8 KiB more by then, so that the length is checked once more.
const MAX_HEAD: usize = 32 * 1024;

/// How long to wait when there are no file descriptors left: until some connections have ended.
const PAUSE: Duration = Duration::from_millis(200);

/// How often that is told while it lasts.
const REPEAT: Duration = Duration::from_secs(10);

/// Serves an application until `shutdown` is cancelled; then it accepts no more, and connections end after their
/// requests. Unlike [`axum::serve()`] it limits how long a request's head may take (10 s) and how long a
/// connection may be without a request (75 s), refuses requests without a `Host`, and sends small messages at once.
pub async fn serve(listener: TcpListener, app: Router, shutdown: CancellationToken) {
    accept(listener, &shutdown, |stream, remote| {
        let about = About { remote, scheme: Scheme::HTTP };
        connection(stream, about, app.clone(), shutdown.clone())
    })
    .await;
}

/// [Serves](serve) an application over TLS.
///
/// ```no_run
/// use axum::Router;
/// use manysocket_server::{Multiplexer, Tls, serve_tls};
/// use tokio_util::sync::CancellationToken;
///
/// # async fn run() -> std::io::Result<()> {
/// let app = Multiplexer::new("/multiplexer").serve(Router::new());
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:443").await?;
/// serve_tls(listener, Tls::open("chain.pem", "key.pem")?, app, CancellationToken::new()).await;
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "tls")]
pub async fn serve_tls(listener: TcpListener, tls: Tls, app: Router, shutdown: CancellationToken) {
    accept(listener, &shutdown, |stream, remote| {
        let (acceptor, app, shutdown) = (tls.acceptor(), app.clone(), shutdown.clone());
        let about = About { remote, scheme: Scheme::HTTPS };
        async move {
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    connection(stream, about, app, shutdown).await;
                }
                Ok(Err(error)) => debug!(%remote, "the TLS handshake failed: {error}"),
                Err(_) => debug!(%remote, "the TLS handshake took too long"),
            }
        }
    })
    .await;
}

/// Runs a task for each connection.
async fn accept<F>(
    listener: TcpListener,
    shutdown: &CancellationToken,
    connection: impl Fn(Paced, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut told: Option<Instant> = None;
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, remote)) => {
                // What is sent has been gathered already: to wait for more (Nagle's algorithm) only costs time.
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(Paced::new(stream), remote));
            }
            Err(error) if is_of_the_peer(&error) => {
                debug!("a connection ended before it was accepted: {error}");
            }
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() > REPEAT) {
                    warn!("no connection can be accepted for now: {error}");
                    told = Some(Instant::now());
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
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

/// What requests carry of their connection.
struct About {
    remote: SocketAddr,
    scheme: Scheme,
}

/// Returns whether a request lacks what HTTP/1.1 demands (RFC 9112 §3.2).
fn is_without_host(request: &Request) -> bool {
    request.version() == Version::HTTP_11
        && request.uri().authority().is_none()
        && !request.headers().contains_key(header::HOST)
}

async fn connection<S>(stream: S, about: About, app: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let About { remote, scheme } = about;
    let requests = Requests::default();
    let stream = Timed::new(stream, requests.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let under_way = requests.begin();
        let mut request = request.map(|body| match body.is_end_stream() {
            true => Body::empty(),
            false => Body::new(Counted::new(Body::new(body), Arc::clone(&under_way))),
        });
        request.extensions_mut().insert(ConnectInfo(remote));
        request.extensions_mut().insert(scheme.clone());
        let (head, app) = (head_length(&request), app.clone());
        async move {
            let response = if head > MAX_HEAD {
                plain(
                    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                    "the head of the request is longer than 32 KiB",
                )
            } else if is_without_host(&request) {
                plain(StatusCode::BAD_REQUEST, "the request has no Host header")
            } else {
                let Ok(response) = app.oneshot(request).await;
                response
            };
            Ok::<_, Infallible>(Counted::response(response, under_way))
        }
    });
    let connection = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%remote, "a connection failed: {error}");
    }
}
