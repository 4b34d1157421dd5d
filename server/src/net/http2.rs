//! Serves an HTTP/2 connection: limits the bytes of its streams, and the time without a stream.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::net::extended_connect::SEND_BUFFER;
use crate::net::taken::limit_stall;
use crate::net::timed::{HEAD, IDLE};

/// The largest head of a request as HTTP/2 counts it (RFC 9113 §10.5.1): 32 bytes more for each line, and browsers write
/// each cookie in a separate line (§8.2.3). The rest has the limits of HTTP/1.1.
const MAX_HEADER_LIST: u32 = 48 * 1024;

/// Streams that a connection may have at once. A browser opens no other connection beside a full one, so this is more than
/// the 255 WebSockets that Chromium allows a page over HTTP/1.1, and the requests of a page. A page may also take all of them
/// back before the server has looked at one; more in one reading is an attack ("rapid reset").
const MAX_STREAMS: u32 = 320;

/// The bytes that a client may send on a stream before the server has read any: 256 KiB in each round trip are 2.6 MB/s at 100 ms.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The same for all streams of a connection. Only handlers that do not read leave it unread, and 64 of them may before
/// others on the connection have to wait. h2 allows small frames that nobody has read to take half as much again.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// How long a connection whose end has been announced (GOAWAY) is waited for: longer than a round trip, in which the
/// client's last requests arrive.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a connection until it ends. A connection without a stream ends as one of HTTP/1.1 without a request does. After
/// `leaving`, the future completes once no request is under way; the WebSockets of the connection go on until they close.
pub(crate) async fn serve<I, S, B>(
    stream: I,
    service: S,
    requests: Uses,
    leaving: impl Future<Output = ()>,
) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let streams = Uses::default();
    let connection = http2::Builder::new(streams.clone())
        .enable_connect_protocol()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_STREAMS as usize)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = Box::pin(connection);
    let mut leaving = std::pin::pin!(leaving);
    let mut is_told = false;
    loop {
        let idle = if is_told { FAREWELL } else { IDLE };
        tokio::select! {
            ended = &mut connection => return ended,
            () = &mut leaving => break,
            had_any = streams.unused(HEAD, idle) => {
                if is_told || !had_any {
                    return Ok(());
                }
                connection.as_mut().graceful_shutdown();
                is_told = true;
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    let answered = async {
        requests.none().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        ended = &mut connection => return ended,
        () = answered => {}
    }
    tokio::spawn(connection);
    Ok(())
}

/// Counts uses of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Uses(Arc<watch::Sender<Used>>);

#[derive(Debug, Clone, Copy, Default)]
struct Used {
    now: usize,
    ever: bool,
}

impl Uses {
    /// Counts a use, until the returned value is dropped.
    pub(crate) fn begin(&self) -> Use {
        self.0.send_if_modified(|used| {
            used.ever = true;
            used.now += 1;
            used.now == 1
        });
        Use(self.clone())
    }

    /// Waits until there is none.
    async fn none(&self) {
        // It cannot fail: the sender is here.
        let _ = self.0.subscribe().wait_for(|used| used.now == 0).await;
    }

    /// Waits until there has been none for so long: `first` at the beginning, `next` after others. Returns whether there were
    /// others.
    async fn unused(&self, first: Duration, next: Duration) -> bool {
        let mut uses = self.0.subscribe();
        loop {
            let Used { now, ever } = *uses.borrow_and_update();
            if now > 0 {
                let _ = uses.changed().await;
                continue;
            }
            let limit = if ever { next } else { first };
            if tokio::time::timeout(limit, uses.changed()).await.is_err() {
                return ever;
            }
        }
    }
}

/// The tasks of hyper, of which each stream has one until both its sides have ended.
impl<F> Executor<F> for Uses
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        let used = self.begin();
        // Boxed: it would stand in each of the futures around it.
        let task = Box::pin(task);
        tokio::spawn(async move {
            limit_stall(task).await;
            drop(used);
        });
    }
}

/// One use of a connection.
#[derive(Debug)]
pub(crate) struct Use(Uses);

impl Drop for Use {
    fn drop(&mut self) {
        self.0.0.send_if_modified(|used| {
            used.now -= 1;
            used.now == 0
        });
    }
}
