//! A server on a free port, and sockets to it: native ones, and virtual ones over a link.

// Each test uses a part of it.
#![allow(dead_code)]

pub(crate) mod binary;
pub(crate) mod document;
pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod nats;
#[cfg(target_os = "linux")]
pub(crate) mod network;
pub(crate) mod positions;
pub(crate) mod program;
pub(crate) mod relay;
pub(crate) mod resuming;
pub(crate) mod tls;
pub(crate) mod upstream;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{
    Endpoint, Event, FAILED, HANDSHAKE_PARAMETER, Message, Physical, SUBPROTOCOL, Settings, Side,
};
use manysocket_server::{Multiplexer, Stats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self as ts, client::IntoClientRequest, protocol::WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

/// Turns what would wait for ever into a failure. No promise about time: on a busy machine everything takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) stats: Stats,
    pub(crate) shutdown: CancellationToken,
}

impl Server {
    pub(crate) async fn start(app: Router) -> Self {
        Self::with(Multiplexer::new("/multiplexer"), app).await
    }

    /// One that runs in another process.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, stats: Multiplexer::new("/").stats(), shutdown: CancellationToken::new() }
    }

    pub(crate) async fn with(multiplexer: Multiplexer, app: Router) -> Self {
        let shutdown = CancellationToken::new();
        let multiplexer = multiplexer.shutdown(shutdown.clone());
        let stats = multiplexer.stats();
        let app = multiplexer.serve(app).into_make_service_with_connect_info::<SocketAddr>();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, stats, shutdown }
    }
}

pub(crate) type Wire = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Dials a WebSocket with headers; the status if it is refused.
pub(crate) async fn dial(server: &Server, path: &str, headers: &[(&'static str, &str)]) -> Result<Wire, u16> {
    let mut request = format!("ws://{}{path}", server.address).into_client_request().expect("a URL");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a header value"));
    }
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    match tokio_tungstenite::connect_async_with_config(request, Some(config), true).await {
        Ok((wire, _)) => Ok(wire),
        Err(ts::Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// The client's end of a link, as a page has it.
pub(crate) struct Link {
    pub(crate) wire: Wire,
    pub(crate) endpoint: Endpoint,
}

impl Link {
    pub(crate) async fn dial(server: &Server) -> Self {
        Self::dial_with(server, &[], |_| {}).await.expect("a link")
    }

    /// Dials with headers besides those of a page of the server's own; `before` may open channels that ride along.
    pub(crate) async fn dial_with(
        server: &Server,
        headers: &[(&'static str, &str)],
        before: impl FnOnce(&mut Endpoint),
    ) -> Result<Self, u16> {
        let mut endpoint = Endpoint::new(Side::Client, Settings::default(), 0);
        before(&mut endpoint);
        let path = format!("/multiplexer?{HANDSHAKE_PARAMETER}={}", endpoint.handshake());
        let origin = format!("http://{}", server.address);
        let mut all = vec![("sec-websocket-protocol", SUBPROTOCOL), ("origin", origin.as_str())];
        all.extend(headers);
        Ok(Self { wire: dial(server, &path, &all).await?, endpoint })
    }

    /// Sends the waiting messages.
    pub(crate) async fn flush(&mut self) {
        while let Some(message) = self.endpoint.poll_transmit() {
            let message = match message {
                Physical::Text(bytes) => ts::Message::Text(bytes.try_into().expect("UTF-8")),
                Physical::Binary(bytes) => ts::Message::Binary(bytes),
            };
            // A link that the server has ended takes nothing more: reading shows how it ended.
            let _ = self.wire.feed(message).await;
        }
        let _ = self.wire.flush().await;
    }

    /// The next event; the code of the physical close if the server ends the link.
    pub(crate) async fn event(&mut self) -> Result<Event, u16> {
        timeout(PATIENCE, async {
            loop {
                self.flush().await;
                if let Some(event) = self.endpoint.poll_event() {
                    return Ok(event);
                }
                match self.wire.next().await {
                    Some(Ok(ts::Message::Text(text))) => {
                        self.endpoint.receive(0, Physical::Text(text.into())).expect("a correct server");
                    }
                    Some(Ok(ts::Message::Binary(bytes))) => {
                        self.endpoint.receive(0, Physical::Binary(bytes)).expect("a correct server");
                    }
                    Some(Ok(ts::Message::Close(frame))) => {
                        return Err(frame.map_or(1005, |frame| frame.code.into()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(1006),
                }
            }
        })
        .await
        .expect("an event in time")
    }

    /// The next event that is not `Drained`.
    pub(crate) async fn news(&mut self) -> Event {
        self.news_or_end().await.expect("the link lives")
    }

    /// The same; the code of the physical close if the link has ended.
    async fn news_or_end(&mut self) -> Result<Event, u16> {
        loop {
            match self.event().await? {
                Event::Drained { .. } => {}
                event => return Ok(event),
            }
        }
    }

    /// The answer to an open. A page fetches cookies that come before it.
    async fn answer(&mut self) -> Event {
        loop {
            match self.news().await {
                Event::Cookies { .. } => {}
                event => return event,
            }
        }
    }

    /// Opens a channel and waits until it is accepted.
    pub(crate) async fn open(&mut self, path: &str) -> u32 {
        let channel = self.endpoint.open(path, "").expect("below the limit");
        let event = self.answer().await;
        assert!(matches!(event, Event::Accepted { .. }), "{event:?}");
        channel
    }

    /// Sends a text and waits for its echo.
    pub(crate) async fn assert_echo(&mut self, channel: u32, text: &str) {
        self.endpoint.send(channel, Message::text(text));
        let event = self.news().await;
        assert_eq!(event, Event::Message { channel, message: Message::text(text) });
    }
}

/// Which way a socket comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Native,
    Virtual,
}

pub(crate) const KINDS: [Kind; 2] = [Kind::Native, Kind::Virtual];

/// One socket, whichever way it came.
pub(crate) enum Socket {
    Native(Box<Wire>),
    Virtual(Box<Link>, u32),
}

/// An item that a socket receives.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Message(Message),
    Close(Option<u16>, String),
    /// The connection broke: a page sees `close` with 1006.
    Lost,
    /// The server broke RFC 6455: a page sees `error` before that.
    Failed,
}

impl Socket {
    /// Opens a socket with a cookie and subprotocols; the chosen subprotocol, or the status of the refusal.
    pub(crate) async fn open(
        kind: Kind,
        server: &Server,
        path: &str,
        cookie: &str,
        protocols: &str,
    ) -> Result<(Self, String), u16> {
        let origin = format!("http://{}", server.address);
        let mut headers = vec![("cookie", cookie), ("origin", origin.as_str())];
        if kind == Kind::Native {
            if !protocols.is_empty() {
                headers.push(("sec-websocket-protocol", protocols));
            }
            // The library, unlike a server, will not take an answer that it did not ask for; nor will we.
            let wire = dial(server, path, &headers).await?;
            return Ok((Self::Native(Box::new(wire)), String::new()));
        }
        let mut link = Link::dial_with(server, &[("cookie", cookie)], |endpoint| {
            endpoint.open(path, protocols);
        })
        .await?;
        match link.answer().await {
            Event::Accepted { channel, protocol } => Ok((Self::Virtual(Box::new(link), channel), protocol)),
            Event::Refused { status, .. } => Err(status),
            other => panic!("{other:?}"),
        }
    }

    /// As in a page, messages to a socket that has ended are lost.
    pub(crate) async fn send(&mut self, message: Message) {
        match self {
            Self::Native(wire) => {
                let message = match message {
                    Message::Text(bytes) => ts::Message::Text(bytes.try_into().expect("UTF-8")),
                    Message::Binary(bytes) => ts::Message::Binary(bytes),
                };
                let _ = wire.send(message).await;
            }
            Self::Virtual(link, channel) => {
                link.endpoint.send(*channel, message);
                link.flush().await;
            }
        }
    }

    pub(crate) async fn close(&mut self, code: Option<u16>, reason: &str) {
        match self {
            Self::Native(wire) => {
                let frame =
                    code.map(|code| ts::protocol::CloseFrame { code: code.into(), reason: reason.into() });
                wire.send(ts::Message::Close(frame)).await.expect("an open socket");
            }
            Self::Virtual(link, channel) => {
                link.endpoint.close(*channel, code, reason);
                link.flush().await;
            }
        }
    }

    pub(crate) async fn receive(&mut self) -> Received {
        match self {
            Self::Native(wire) => loop {
                match timeout(PATIENCE, wire.next()).await.expect("a message in time") {
                    Some(Ok(ts::Message::Text(text))) => {
                        return Received::Message(Message::Text(text.into()));
                    }
                    Some(Ok(ts::Message::Binary(bytes))) => return Received::Message(Message::Binary(bytes)),
                    Some(Ok(ts::Message::Close(frame))) => {
                        // The library answers when it is read again.
                        let _ = timeout(PATIENCE, wire.next()).await;
                        let close = frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                        return match close {
                            // How the library reports a code that no Close frame may carry (RFC 6455 §7.4.1).
                            Some((1002, reason)) if reason == "Protocol violation" => Received::Failed,
                            Some((code, reason)) => Received::Close(Some(code), reason),
                            None => Received::Close(None, String::new()),
                        };
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) if is_breach(&error) => return Received::Failed,
                    Some(Err(_)) | None => return Received::Lost,
                }
            },
            Self::Virtual(link, channel) => match link.news_or_end().await {
                // The link has ended, and its sockets with it.
                Err(_) => Received::Lost,
                Ok(event) => Self::received(link, *channel, event).await,
            },
        }
    }

    /// An event of a channel, as its page sees it.
    async fn received(link: &mut Link, channel: u32, event: Event) -> Received {
        match event {
            Event::Message { message, .. } => {
                link.endpoint.consumed(channel, 1, message.units());
                Received::Message(message)
            }
            Event::Closed { close, .. } if close.code == Some(1006) => Received::Lost,
            Event::Closed { close, .. } if close.code == Some(FAILED) => Received::Failed,
            Event::Closed { close, .. } => {
                link.endpoint.close(channel, close.code, "");
                link.flush().await;
                Received::Close(close.code, close.reason)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Closes the connection with a code, as a browser closes those of a page that goes away.
    pub(crate) async fn leave(&mut self, code: u16) {
        let wire = match self {
            Self::Native(wire) => wire,
            Self::Virtual(link, _) => &mut link.wire,
        };
        let frame = ts::protocol::CloseFrame { code: code.into(), reason: "".into() };
        wire.send(ts::Message::Close(Some(frame))).await.expect("an open connection");
    }

    /// Goes away without a closing handshake.
    pub(crate) fn vanish(self) {
        drop(self);
    }
}

/// Whether the server broke RFC 6455, so that a browser fails the connection.
fn is_breach(error: &ts::Error) -> bool {
    match error {
        ts::Error::Protocol(error) => {
            !matches!(error, ts::error::ProtocolError::ResetWithoutClosingHandshake)
        }
        ts::Error::Utf8(_) | ts::Error::Capacity(_) => true,
        _ => false,
    }
}

/// The whole answer to a plain HTTP request.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("an open connection");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer in time").expect("UTF-8");
    answer
}

/// Opens a socket without a cookie and subprotocols.
pub(crate) async fn open(kind: Kind, server: &Server, path: &str) -> Socket {
    Socket::open(kind, server, path, "", "").await.expect("open").0
}

/// The next message, as JSON.
pub(crate) async fn next(socket: &mut Socket) -> serde_json::Value {
    match socket.receive().await {
        Received::Message(Message::Text(bytes)) => serde_json::from_slice(&bytes).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

/// Reads Server-Sent Events until `until` has arrived.
pub(crate) async fn events(server: &Server, path: &str, headers: &str, until: &str) -> String {
    let mut wire = TcpStream::connect(server.address).await.expect("a connection");
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\n{headers}\r\n",
        server.address
    );
    wire.write_all(request.as_bytes()).await.expect("sent");
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains(until) {
        let read = timeout(PATIENCE, wire.read(&mut buffer)).await;
        let count = read.expect("an event in time").expect("an answer");
        assert!(count > 0, "it ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

/// Waits for a report of a handler; fails if none arrives.
pub(crate) async fn told<T>(heard: &mut mpsc::UnboundedReceiver<T>) -> T {
    timeout(PATIENCE, heard.recv()).await.expect("word in time").expect("a handler that lives")
}
