//! Accepts connections, with TLS and without, and gives up those that do not say what they want.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::uri::Scheme;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::net::fair_read::{Arriving, Paced};
use crate::net::tls::Tls;

/// What a client has to send the head of a request, the first as well as one on a connection that is kept: much
/// longer than any network takes, and short enough that those who send it byte by byte do not add up.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a client has for a TLS handshake, for the same reason.
const HANDSHAKE_TIMEOUT: Duration = HEADER_TIMEOUT;

/// The largest head of a request: what nginx takes by default. A link's own takes 4 KB with its first batch, and cookies
/// rarely as much again; hyper's 400 KB had 500 clients take 200 MiB, which no budget of memory counts.
const MAX_HEAD: usize = 32 * 1024;

/// How long to wait when there are no file descriptors left: until some connections have ended.
const PAUSE: Duration = Duration::from_millis(200);

/// How often that is told while it lasts.
const REPEAT: Duration = Duration::from_secs(10);

/// Serves an application until `shutdown` is cancelled; then it accepts no more, and connections end after their
/// requests. Unlike [`axum::serve()`] it limits how long a request's head may take, and sends small messages at once.
pub async fn serve(listener: TcpListener, app: Router, shutdown: CancellationToken) {
    accept(listener, &shutdown, |stream, remote| {
        let about = About { remote, scheme: Scheme::HTTP, arriving: stream.arriving() };
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
pub async fn serve_tls(listener: TcpListener, tls: Tls, app: Router, shutdown: CancellationToken) {
    accept(listener, &shutdown, |stream, remote| {
        let (acceptor, app, shutdown) = (tls.acceptor(), app.clone(), shutdown.clone());
        let about = About { remote, scheme: Scheme::HTTPS, arriving: stream.arriving() };
        async move {
            match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
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

/// What requests carry of their connection.
struct About {
    remote: SocketAddr,
    scheme: Scheme,
    arriving: Arriving,
}

async fn connection<S>(stream: S, about: About, app: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let About { remote, scheme, arriving } = about;
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(remote));
        request.extensions_mut().insert(scheme.clone());
        request.extensions_mut().insert(arriving.clone());
        let app = app.clone();
        async move {
            let Ok(response) = app.oneshot(request).await;
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
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
