//! An HTTP/2 client, and WebSockets as its streams (RFC 8441).

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use manysocket_protocol::SUBPROTOCOL;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::http::{HeaderMap, Method, Request, StatusCode};
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::common::{PATIENCE, tls};

/// The side of a WebSocket that a test speaks on.
pub(crate) type Wire = WebSocketStream<DuplexStream>;

pub(crate) type Link = tls::Link<DuplexStream>;

/// A connection to a server.
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
    /// `scheme://host`, as the client names the server.
    server: String,
    /// Completes when the server has ended the connection: with the reason of its GOAWAY, if it has sent one.
    pub(crate) ended: JoinHandle<Option<Reason>>,
}

/// A response, and the client's end of the stream.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) sent: SendStream<Bytes>,
    pub(crate) received: RecvStream,
}

impl Connection {
    /// Starts a connection, and asks for a page, after which the server's settings are known.
    pub(crate) async fn over<S>(stream: S, server: String) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut connection = Self::unused(stream, server).await;
        connection.get("/").await;
        assert!(connection.requests.is_extended_connect_protocol_enabled());
        connection
    }

    /// The same without a request.
    pub(crate) async fn unused<S>(stream: S, server: String) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Windows as large as a browser's.
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(6 << 20)
            .initial_connection_window_size(15 << 20)
            .handshake(stream)
            .await
            .expect("a connection");
        let ended = tokio::spawn(async move { connection.await.err().and_then(|error| error.reason()) });
        Self { requests, server, ended }
    }

    /// A request with headers.
    pub(crate) fn request(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.server));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    /// The handshake of a WebSocket as a page of the server's own makes it.
    pub(crate) fn handshake(&self, path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = self.request(Method::CONNECT, path, headers);
        request.headers_mut().insert("sec-websocket-version", "13".parse().expect("a value"));
        let origin = self.server.parse().expect("a value");
        request.headers_mut().entry("origin").or_insert(origin);
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        request
    }

    /// Sends the head of a request as soon as there may be another stream.
    pub(crate) async fn begin(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut requests = self.requests.clone().ready().await.expect("an open connection");
        requests.send_request(request, ends).expect("a request")
    }

    /// Returns whether the server still takes requests on the connection.
    pub(crate) async fn is_open(&mut self) -> bool {
        let request = self.request(Method::HEAD, "/", &[]);
        let Ok(mut requests) = self.requests.clone().ready().await else { return false };
        match requests.send_request(request, true) {
            Ok((response, _)) => response.await.is_ok(),
            Err(_) => false,
        }
    }

    /// Sends a request, and waits for the head of its response.
    pub(crate) async fn ask(&mut self, request: Request<()>, ends: bool) -> Result<Answer, h2::Error> {
        let (response, sent) = self.begin(request, ends).await;
        let (head, received) = timeout(PATIENCE, response).await.expect("an answer in time")?.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, sent, received })
    }

    /// The status and the content of a page.
    pub(crate) async fn get(&mut self, path: &str) -> (StatusCode, String) {
        let request = self.request(Method::GET, path, &[]);
        let answer = self.ask(request, true).await.expect("an answer");
        (answer.status, text(answer.received).await)
    }

    /// Opens a WebSocket with headers.
    ///
    /// # Errors
    /// Returns the answer if it is no success.
    pub(crate) async fn dial(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Wire, Answer> {
        let request = self.handshake(path, headers);
        let answer = self.ask(request, false).await.expect("an answer");
        if answer.status == StatusCode::OK { Ok(wire(answer).await) } else { Err(answer) }
    }

    /// Opens a link with one channel.
    pub(crate) async fn link(&mut self, path: &str) -> Link {
        let dialled = self.dial("/multiplexer", &[("sec-websocket-protocol", SUBPROTOCOL)]).await;
        Link::on(dialled.unwrap_or_else(|answer| panic!("{}", answer.status)), "/multiplexer", path).await
    }
}

/// Reads a body to its end.
pub(crate) async fn text(mut body: RecvStream) -> String {
    let mut all = Vec::new();
    while let Some(part) = timeout(PATIENCE, body.data()).await.expect("a body in time") {
        let part = part.expect("a body");
        let _ = body.flow_control().release_capacity(part.len());
        all.extend_from_slice(&part);
    }
    String::from_utf8(all).expect("UTF-8")
}

/// Speaks WebSocket on a stream. Dropping the result ends the stream as a browser does that has gone away: with a reset.
async fn wire(answer: Answer) -> Wire {
    let Answer { mut sent, mut received, .. } = answer;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut from, mut to) = tokio::io::split(far);
    tokio::spawn(async move {
        while let Some(Ok(part)) = received.data().await {
            if to.write_all(&part).await.is_err() {
                return;
            }
            let _ = received.flow_control().release_capacity(part.len());
        }
        let _ = to.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return sent.send_reset(Reason::CANCEL),
                Ok(length) if !send(&mut sent, &buffer[..length]).await => return,
                Ok(_) => {}
            }
        }
    });
    WebSocketStream::from_raw_socket(near, Role::Client, None).await
}

/// Sends bytes as the server's windows allow it. Returns false if the stream has ended.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return false };
        let (now, rest) = bytes.split_at(room.min(bytes.len()));
        if stream.send_data(Bytes::copy_from_slice(now), false).is_err() {
            return false;
        }
        bytes = rest;
    }
    true
}
