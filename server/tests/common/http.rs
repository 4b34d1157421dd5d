//! HTTP carriers as a client has them (docs/protocol.md §3.3): single requests, and a whole link over them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use futures_util::StreamExt;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use manysocket_protocol::{Endpoint, HANDSHAKE_PARAMETER, Settings, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::common::tls::Files;
use crate::common::{Link, PATIENCE, Server, Wire};

/// The header with a request's command.
pub(crate) const CARRIER: &str = "manysocket-carrier";

/// The kinds of HTTP carriers.
pub(crate) const KINDS: [&str; 2] = ["stream", "poll"];

/// A frame as a client sends it (RFC 6455 §5.2), with a masking key that changes nothing.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..0x10000 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// An answer whose body is to be read.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The beginning of the body that has been read and put back.
    start: Bytes,
    body: BodyDataStream,
}

impl Answer {
    /// The next bytes of the body; none at its end.
    pub(crate) async fn next(&mut self) -> Bytes {
        if !self.start.is_empty() {
            return std::mem::take(&mut self.start);
        }
        match timeout(PATIENCE, self.body.next()).await.expect("bytes in time") {
            Some(bytes) => bytes.expect("a whole body"),
            None => Bytes::new(),
        }
    }

    /// The rest of the body; as much as there was before the connection broke.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        let mut all = self.start.to_vec();
        while let Some(Ok(bytes)) = timeout(PATIENCE, self.body.next()).await.expect("bytes in time") {
            all.extend_from_slice(&bytes);
        }
        all
    }
}

/// Requests to a multiplexer, as its own page sends them.
#[derive(Clone)]
pub(crate) struct Requests {
    address: SocketAddr,
    /// The certificate of a proxy in front.
    tls: Option<Arc<Files>>,
    path: String,
    headers: Vec<(&'static str, String)>,
}

impl Requests {
    pub(crate) fn new(server: &Server) -> Self {
        let origin = format!("http://{}", server.address);
        let headers = vec![("host", server.address.to_string()), ("origin", origin)];
        Self { address: server.address, tls: None, path: "/multiplexer".into(), headers }
    }

    /// Requests to a proxy that ends TLS.
    pub(crate) fn behind(proxy: SocketAddr, files: &Arc<Files>) -> Self {
        let host = format!("localhost:{}", proxy.port());
        let headers = vec![("origin", format!("https://{host}")), ("host", host)];
        Self { address: proxy, tls: Some(Arc::clone(files)), path: "/multiplexer".into(), headers }
    }

    /// The same with a query.
    pub(crate) fn query(mut self, query: &str) -> Self {
        self.path = format!("/multiplexer?{query}");
        self
    }

    /// The same with headers, which replace others of their names.
    pub(crate) fn with(mut self, headers: &[(&'static str, &str)]) -> Self {
        for &(name, value) in headers {
            self.headers.retain(|(other, _)| *other != name);
            self.headers.push((name, value.to_owned()));
        }
        self
    }

    /// The same without a header.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self
    }

    pub(crate) async fn connect(&self) -> SendRequest<Body> {
        if let Some(files) = &self.tls {
            let stream = files.connect(self.address).await.expect("TLS");
            let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("a connection");
            tokio::spawn(connection);
            return sender;
        }
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        stream.set_nodelay(true).expect("an open connection");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        sender
    }

    /// Sends a request over a connection; an error if that ends.
    pub(crate) async fn over(
        &self,
        sender: &mut SendRequest<Body>,
        method: &str,
        body: Body,
    ) -> hyper::Result<Answer> {
        let mut request = Request::builder().method(method).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        sender.ready().await?;
        let sending = sender.send_request(request.body(body).expect("a request"));
        let (parts, body) = timeout(PATIENCE, sending).await.expect("an answer in time")?.into_parts();
        let body = Body::new(body).into_data_stream();
        Ok(Answer { status: parts.status, headers: parts.headers, start: Bytes::new(), body })
    }

    /// Sends a request over a separate connection.
    pub(crate) async fn request(&self, method: &str, body: impl Into<Body>) -> Answer {
        let mut sender = self.connect().await;
        self.over(&mut sender, method, body.into()).await.expect("an answer")
    }

    /// Sends a request of a carrier.
    pub(crate) async fn post(&self, command: &str, body: impl Into<Body>) -> Answer {
        self.clone().with(&[(CARRIER, command)]).request("POST", body).await
    }

    /// Opens a carrier; the status if it is refused.
    pub(crate) async fn open(&self, kind: &str) -> Result<(String, Answer), u16> {
        let mut answer = self.post(kind, Body::empty()).await;
        if answer.status != StatusCode::OK {
            return Err(answer.status.as_u16());
        }
        let mut id = Vec::new();
        while id.len() < 32 {
            let more = answer.next().await;
            assert!(!more.is_empty(), "half an id");
            id.extend_from_slice(&more);
        }
        // A proxy may pass on several chunks as one.
        answer.start = id.split_off(32).into();
        Ok((String::from_utf8(id).expect("digits"), answer))
    }

    pub(crate) async fn send(&self, id: &str, offset: u64, body: impl Into<Body>) -> u16 {
        self.post(&format!("send {id} {offset}"), body).await.status.as_u16()
    }

    pub(crate) async fn receive(&self, id: &str, offset: u64) -> Result<Vec<u8>, u16> {
        let answer = self.post(&format!("receive {id} {offset}"), Body::empty()).await;
        if answer.status == StatusCode::OK { Ok(answer.rest().await) } else { Err(answer.status.as_u16()) }
    }
}

/// Opens a connection over an HTTP carrier, with headers and a query; the status if it is refused. The frames of the returned
/// WebSocket pass through requests.
pub(crate) async fn carry(
    server: &Server,
    kind: &str,
    query: &str,
    headers: &[(&'static str, &str)],
) -> Result<Wire, u16> {
    carry_over(Requests::new(server).query(query).with(headers), kind).await
}

/// The same with requests of one's choice.
pub(crate) async fn carry_over(requests: Requests, kind: &str) -> Result<Wire, u16> {
    let (id, answer) = requests.open(kind).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
    let (far, _) = listener.accept().await.expect("a connection");
    let (reader, writer) = far.into_split();
    let receiving = if kind == "stream" {
        tokio::spawn(receive_stream(answer, writer))
    } else {
        tokio::spawn(receive_polls(requests.clone(), id.clone(), writer))
    };
    tokio::spawn(async move {
        send(requests, id, reader).await;
        // The client has gone without a word.
        receiving.abort();
    });
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let near = MaybeTlsStream::Plain(near);
    Ok(WebSocketStream::from_raw_socket(near, Role::Client, Some(config)).await)
}

async fn send(requests: Requests, id: String, mut reader: OwnedReadHalf) {
    let mut sender = requests.connect().await;
    let (mut bytes, mut offset) = (vec![0; 256 * 1024], 0);
    loop {
        let Ok(length @ 1..) = reader.read(&mut bytes).await else { return };
        let requests = requests.clone().with(&[(CARRIER, &format!("send {id} {offset}"))]);
        let answered = requests.over(&mut sender, "POST", Body::from(bytes[..length].to_vec())).await;
        match answered {
            Ok(answer) if answer.status == StatusCode::NO_CONTENT => offset += length,
            _ => return,
        }
    }
}

async fn receive_stream(mut answer: Answer, mut writer: OwnedWriteHalf) {
    if writer.write_all(&answer.start).await.is_err() {
        return;
    }
    while let Some(Ok(bytes)) = answer.body.next().await {
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn receive_polls(requests: Requests, id: String, mut writer: OwnedWriteHalf) {
    let mut sender = requests.connect().await;
    let mut offset = 0;
    loop {
        let requests = requests.clone().with(&[(CARRIER, &format!("receive {id} {offset}"))]);
        let Ok(answer) = requests.over(&mut sender, "POST", Body::empty()).await else { return };
        if answer.status != StatusCode::OK {
            return;
        }
        let bytes = answer.rest().await;
        offset += bytes.len();
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Dials a link over an HTTP carrier; `before` may open channels that ride along.
pub(crate) async fn link(
    server: &Server,
    kind: &str,
    headers: &[(&'static str, &str)],
    before: impl FnOnce(&mut Endpoint),
) -> Result<Link, u16> {
    let mut endpoint = Endpoint::new(Side::Client, Settings::default(), 0);
    before(&mut endpoint);
    let query = format!("{HANDSHAKE_PARAMETER}={}", endpoint.handshake());
    Ok(Link { wire: carry(server, kind, &query, headers).await?, endpoint })
}
