//! The client side of a link over a WebSocket, as in a page.

use std::fmt;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{
    Endpoint, Event, HANDSHAKE_PARAMETER, Millis, Physical, SUBPROTOCOL, Settings, Side, Violation,
};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self as ts, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub(crate) type Wire = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Dials a WebSocket with the origin of a page of that host.
pub(crate) async fn dial(host: &str, path: &str, protocol: Option<&str>) -> Result<Wire> {
    let mut request = format!("ws://{host}{path}").into_client_request()?;
    request.headers_mut().insert("origin", format!("http://{host}").parse()?);
    if let Some(protocol) = protocol {
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse()?);
    }
    let (wire, _) = tokio_tungstenite::connect_async_with_config(request, None, true).await?;
    Ok(wire)
}

/// Why a link has ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The connection broke, or nothing has arrived for too long.
    Lost(String),
    /// The server closed it.
    Closed(u16),
    /// The server broke the protocol.
    Broken(Violation),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) => write!(f, "the link is lost: {why}"),
            Self::Closed(code) => write!(f, "the server closed the link with {code}"),
            Self::Broken(violation) => write!(f, "the server broke the protocol: {violation}"),
        }
    }
}

impl std::error::Error for Ended {}

impl From<ts::Error> for Ended {
    fn from(error: ts::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

/// A link that one task drives.
pub(crate) struct Link {
    wire: Wire,
    pub(crate) endpoint: Endpoint,
    started: Instant,
}

impl Link {
    pub(crate) async fn dial(host: &str) -> Result<Self> {
        let mut endpoint = Endpoint::new(Side::Client, Settings::default(), 0);
        let path = format!("/multiplexer?{HANDSHAKE_PARAMETER}={}", endpoint.handshake());
        let started = Instant::now();
        Ok(Self { wire: dial(host, &path, Some(SUBPROTOCOL)).await?, endpoint, started })
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Returns the next event. Dropping the future loses nothing.
    pub(crate) async fn event(&mut self) -> Result<Event, Ended> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Reads while it cannot write, and writes while nothing arrives. Otherwise two ends could wait for each other for ever.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Ended>> {
        loop {
            if let Some(event) = self.endpoint.poll_event() {
                return Poll::Ready(Ok(event));
            }
            self.poll_write(cx)?;
            if let Some(event) = self.endpoint.poll_event() {
                return Poll::Ready(Ok(event));
            }
            let message = match ready!(self.wire.poll_next_unpin(cx)) {
                Some(Ok(ts::Message::Text(text))) => Physical::Text(text.into()),
                Some(Ok(ts::Message::Binary(bytes))) => Physical::Binary(bytes),
                Some(Ok(ts::Message::Close(frame))) => {
                    let code = frame.map_or(1005, |frame| frame.code.into());
                    return Poll::Ready(Err(Ended::Closed(code)));
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                None => return Poll::Ready(Err(Ended::Lost("it ended".into()))),
            };
            let now = self.now();
            self.endpoint.receive(now, message).map_err(Ended::Broken)?;
        }
    }

    /// Writes queued messages, as far as the connection accepts them.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        while let Poll::Ready(ready) = self.wire.poll_ready_unpin(cx) {
            ready?;
            let Some(message) = self.endpoint.poll_transmit() else { break };
            self.wire.start_send_unpin(match message {
                Physical::Text(bytes) => ts::Message::Text(bytes.try_into().expect("text made of texts")),
                Physical::Binary(bytes) => ts::Message::Binary(bytes),
            })?;
        }
        match self.wire.poll_flush_unpin(cx) {
            Poll::Ready(flushed) => Ok(flushed?),
            Poll::Pending => Ok(()),
        }
    }

    /// Handles due timers. Callers that keep a link for long must call it regularly.
    pub(crate) fn keep_alive(&mut self) -> Result<(), Ended> {
        let now = self.now();
        match self.endpoint.poll_timeout() {
            Some(at) if at <= now => {
                self.endpoint.handle_timeout(now).map_err(|silent| Ended::Lost(silent.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Closes it in good order, and waits for the server's answer.
    pub(crate) async fn close(mut self) -> Result<(), Ended> {
        self.wire.close(None).await?;
        while let Some(message) = self.wire.next().await {
            message?;
        }
        Ok(())
    }
}
