//! Virtual opens for handlers that use axum's own `WebSocketUpgrade`, or anything else that wants a genuine upgrade.
//!
//! Only hyper can make a `hyper::upgrade::OnUpgrade`. So hyper's own server reads a handshake from memory, and the
//! extension that it attaches to that request is attached to the virtual one. Once the application has answered with 101, hyper
//! upgrades, and the handler speaks WebSocket frames with the other end of the memory, which a bridge joins to the channel.
//! For handlers that take it, it costs framing for each message; those with this crate's extractor leave it unused.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;

use crate::ws::bridge::bridge;
use crate::ws::duplex::Duplex;
use crate::ws::frame::Config;
use crate::ws::frames::FramedSocket;
use crate::ws::socket::WebSocket;

/// The bytes that are buffered in each direction: one large batch.
const BUFFER: usize = 64 * 1024;

/// The memory of an idle connection: hyper's, and the buffer into which axum's extractor reads, 128 KiB unless the handler
/// sets another size.
const CONNECTION: usize = (10 + 128) * 1024;

/// The least that hyper takes for an upgrade (RFC 9110 §7.8).
const HANDSHAKE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Connections that are kept for further upgrades: about as many as a machine's threads use at once. 10 KiB each.
const SPARE: usize = 16;

/// Connections whose upgrade nobody wanted. To make one costs 6 µs, to use one again 1.5; each request on it gets an
/// separate upgrade, so that nobody can hold another's upgrade.
static SPARES: Mutex<Vec<Mint>> = Mutex::new(Vec::new());

/// An upgrade that hyper has attached to a request, and the way to have it granted.
type Asked = (OnUpgrade, oneshot::Sender<()>);

/// hyper's server on a connection in memory, between two requests.
struct Mint {
    connection: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Where hyper's service leaves its request.
    asked: Arc<Mutex<Option<Asked>>>,
    wire: Duplex,
}

impl Mint {
    fn new() -> Self {
        let (wire, theirs) = Duplex::pair(BUFFER);
        let asked = Arc::new(Mutex::new(None));
        let place = Arc::clone(&asked);
        let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
            let (answer, answered) = oneshot::channel::<()>();
            *lock(&place) = Some((hyper::upgrade::on(&mut request), answer));
            async move {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                if answered.await.is_ok() {
                    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let serving = http1::Builder::new().serve_connection(TokioIo::new(theirs), service).with_upgrades();
        let connection = Box::pin(async move {
            // An error means that one of the ends has gone, and each end sees that for itself.
            let _ = serving.await;
        });
        Self { connection, asked, wire }
    }

    /// Sends a request, and waits until hyper has attached an upgrade to it.
    async fn ask(&mut self) -> Option<Asked> {
        self.wire.write_all(HANDSHAKE).await.ok()?;
        poll_fn(|cx| {
            // Everything is in memory: hyper reads the request at its first poll, and calls the service.
            let ended = self.connection.as_mut().poll(cx).is_ready();
            match lock(&self.asked).take() {
                None if !ended => Poll::Pending,
                asked => Poll::Ready(asked),
            }
        })
        .await
    }

    /// Takes hyper's answer to a request whose upgrade has not been granted; false if the connection is of no more use.
    async fn skip_refusal(&mut self) -> bool {
        let mut response = [0; 256];
        let mut response = ReadBuf::new(&mut response);
        poll_fn(|cx| {
            let ended = self.connection.as_mut().poll(cx).is_ready();
            match Pin::new(&mut self.wire).poll_read(cx, &mut response) {
                Poll::Pending if ended => Poll::Ready(false),
                read => read.map(|read| read.is_ok() && !ended),
            }
        })
        .await
            && response.filled().ends_with(b"\r\n\r\n")
    }
}

/// An upgrade that has been offered to the application, and whose answer hyper does not have yet.
pub(crate) struct Minted {
    mint: Mint,
    answer: oneshot::Sender<()>,
}

impl Minted {
    /// Makes an upgrade. `None` if hyper did not take the handshake, which it does.
    pub(crate) async fn new() -> Option<(Self, OnUpgrade)> {
        let spare = lock(&SPARES).pop();
        let mut mint = spare.unwrap_or_else(Mint::new);
        let (upgrade, answer) = mint.ask().await?;
        Some((Self { mint, answer }, upgrade))
    }

    /// The application has taken the open in another way: the connection may serve the next.
    pub(crate) async fn put_back(self) {
        let Self { mut mint, answer } = self;
        drop(answer);
        if mint.skip_refusal().await {
            let mut spares = lock(&SPARES);
            if spares.len() < SPARE {
                spares.push(mint);
            }
        }
    }

    /// The application answered with 101: joins the handler's end to the channel until either ends.
    pub(crate) async fn serve(self, socket: WebSocket) {
        let Self { mint: Mint { connection, mut wire, .. }, answer } = self;
        if answer.send(()).is_err() {
            return;
        }
        if let Some(reservation) = socket.reservation() {
            wire.count_for(&reservation);
        }
        let bridged = async move {
            if skip_response(&mut wire).await {
                // The handler's limits are the application's.
                let wire = FramedSocket::new(wire, Config::bridged(usize::MAX));
                bridge(socket, wire, |wire| CONNECTION + wire.held()).await;
            }
        };
        tokio::join!(connection, bridged);
    }
}

/// The locked data is consistent at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads hyper's own 101, up to the empty line.
async fn skip_response(wire: &mut Duplex) -> bool {
    let mut last = [0; 4];
    while last != *b"\r\n\r\n" {
        last.rotate_left(1);
        match wire.read_u8().await {
            Ok(byte) => last[3] = byte,
            Err(_) => return false,
        }
    }
    true
}
