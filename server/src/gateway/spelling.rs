//! Spells header names as browsers do: `Sec-WebSocket-Key`, where hyper writes `Sec-Websocket-Key`. Some servers
//! compare names with case.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{Extensions, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

/// A request with the header names that have a capital letter within a word.
const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
    Sec-WebSocket-Key: x\r\nSec-WebSocket-Protocol: x\r\nSec-WebSocket-Version: x\r\n\r\n";

/// The size of the in-memory pipe: more than the head and hyper's response need.
const BUFFER: usize = 1024;

/// Returns extensions that make hyper use this spelling for a request.
///
/// Only hyper can create them: it records the spelling of each request it reads, and reuses the record when it writes
/// a request that carries it. So a hyper server parses a head from memory, once.
pub(crate) async fn of_browsers() -> Extensions {
    static SPELLING: OnceCell<Extensions> = OnceCell::const_new();
    SPELLING.get_or_init(read).await.clone()
}

async fn read() -> Extensions {
    let (mut ours, theirs) = tokio::io::duplex(BUFFER);
    let spelling = Arc::new(Mutex::new(Extensions::new()));
    let place = Arc::clone(&spelling);
    let service = service_fn(move |mut request: Request<Incoming>| {
        *place.lock().unwrap_or_else(PoisonError::into_inner) = std::mem::take(request.extensions_mut());
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    });
    // If either call fails, hyper's own spelling remains.
    let _ = ours.write_all(HEAD).await;
    let _ = http1::Builder::new()
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(theirs), service)
        .await;
    let spelling = spelling.lock().unwrap_or_else(PoisonError::into_inner);
    spelling.clone()
}
