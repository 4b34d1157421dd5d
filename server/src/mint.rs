//! Virtual opens for handlers that use axum's own `WebSocketUpgrade`, or anything else that wants a genuine upgrade.
//!
//! Only hyper can make a `hyper::upgrade::OnUpgrade`. So hyper's own server reads a handshake from memory, and what it
//! attaches to that request is attached to the virtual one. Once the application has answered with 101, hyper
//! upgrades, and the handler speaks WebSocket frames with the other end of the memory, which a bridge joins to the channel.
//! It costs about twice the time of an open, and framing for each message; handlers with this crate's extractor
//! leave it unused.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::bridge::bridge;
use crate::socket::WebSocket;

/// What is buffered in each direction: one large batch. Memory is taken as it is needed.
const BUFFER: usize = 64 * 1024;

/// The least that hyper takes for an upgrade (RFC 9110 §7.8).
const HANDSHAKE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An upgrade that has been offered to the application, and that hyper has not been told the answer to.
pub(crate) struct Minted {
    connection: Connection,
    answer: oneshot::Sender<()>,
    wire: DuplexStream,
}

impl Minted {
    /// Makes an upgrade. `None` if hyper did not take the handshake, which it does.
    pub(crate) async fn new() -> Option<(Self, OnUpgrade)> {
        let (mut wire, theirs) = tokio::io::duplex(BUFFER);
        wire.write_all(HANDSHAKE).await.ok()?;
        let (answer, answered) = oneshot::channel::<()>();
        let (give, mut given) = oneshot::channel::<OnUpgrade>();
        // A service may be called many times; this connection has one request.
        let once = Arc::new(Mutex::new(Some((give, answered))));
        let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
            let once = once.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::BAD_REQUEST;
                if let Some((give, answered)) = once {
                    let _ = give.send(hyper::upgrade::on(&mut request));
                    if answered.await.is_ok() {
                        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                        response.headers_mut().insert("upgrade", "websocket".parse().expect("a valid value"));
                    }
                }
                Ok::<_, Infallible>(response)
            }
        });
        let serving = http1::Builder::new().serve_connection(TokioIo::new(theirs), service).with_upgrades();
        let mut connection: Connection = Box::pin(async move {
            // An error means that one of the ends has gone, and each end sees that for itself.
            let _ = serving.await;
        });
        let upgrade = tokio::select! {
            biased;
            // Everything is in memory: hyper reads the request at its first poll, and calls the service.
            () = &mut connection => None,
            upgrade = &mut given => upgrade.ok(),
        }?;
        Some((Self { connection, answer, wire }, upgrade))
    }

    /// The application answered with 101: joins the handler's end to the channel until either ends.
    pub(crate) async fn serve(self, socket: WebSocket) {
        let Self { connection, answer, mut wire } = self;
        if answer.send(()).is_err() {
            return;
        }
        let bridged = async move {
            if skip_response(&mut wire).await {
                bridge(socket, WebSocketStream::from_raw_socket(wire, Role::Client, None).await).await;
            }
        };
        tokio::join!(connection, bridged);
    }
}

/// Reads hyper's own 101, up to the empty line.
async fn skip_response(wire: &mut DuplexStream) -> bool {
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
