//! Spells the names of headers as browsers do: `Sec-WebSocket-Key`, where hyper has `Sec-Websocket-Key`. Some servers look.

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

/// The names that have a capital letter within a word.
const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
    Sec-WebSocket-Key: x\r\nSec-WebSocket-Protocol: x\r\nSec-WebSocket-Version: x\r\n\r\n";

/// More than the head and hyper's response.
const BUFFER: usize = 1024;

/// Returns extensions that have hyper spell a request's names so.
///
/// Only hyper can make them: it attaches the spelling of a request that it has read, and writes one that has them in the
/// same way. So its own server reads a head from memory, once.
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
    // If either fails, names are spelled as hyper does.
    let _ = ours.write_all(HEAD).await;
    let _ = http1::Builder::new()
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(theirs), service)
        .await;
    let spelling = spelling.lock().unwrap_or_else(PoisonError::into_inner);
    spelling.clone()
}
