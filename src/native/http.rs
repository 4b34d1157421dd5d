//! A carrier over HTTP: a tunnel for the bytes of a WebSocket connection in the bodies of requests (docs/protocol.md §3.3).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::{self, Either};
use futures_util::task::AtomicWaker;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf, duplex,
    split,
};
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tracing::debug;

use super::carrier::Carrier;
use super::target::{Io, Target, connect};

/// The header with a request's command.
const CARRIER: &str = "manysocket-carrier";

/// The time after which a streamed answer without a byte is one that a proxy keeps until it ends.
const STREAMS_WITHIN: Duration = Duration::from_secs(2);

/// The bytes of a request, and of those that wait for one: a fourth of nginx's default limit.
const MOST: usize = 256 * 1024;

/// The bytes that are read from the tunnel at once.
const READ: usize = 16 * 1024;

/// The length of a carrier's name.
const NAME: usize = 32;

/// Opens a carrier: a stream, or polls where streamed answers do not get through. Returns this end of the tunnel.
pub(super) async fn open(target: &Target, address: &str) -> io::Result<(Tunnel, Carrier)> {
    let requests = Requests::new(target, address)?;
    let stream = Box::pin(Opened::stream(&requests));
    let opened = match future::select(stream, Box::pin(tokio::time::sleep(STREAMS_WITHIN))).await {
        Either::Left((opened, _)) => opened?,
        Either::Right(((), stream)) => {
            match future::select(stream, Box::pin(Opened::poll(&requests))).await {
                Either::Left((Ok(opened), _)) | Either::Right((Ok(opened), _)) => opened,
                Either::Left((Err(_), poll)) => poll.await?,
                Either::Right((Err(_), stream)) => stream.await?,
            }
        }
    };
    let carrier = if opened.stream.is_some() { Carrier::HttpStream } else { Carrier::HttpPoll };
    let (near, far) = duplex(MOST);
    let untaken = Arc::<Untaken>::default();
    tokio::spawn(carry(requests, opened, far, Arc::clone(&untaken)));
    Ok((Tunnel { near, untaken }, carrier))
}

/// This end of the tunnel.
pub(super) struct Tunnel {
    near: DuplexStream,
    untaken: Arc<Untaken>,
}

/// The bytes that were written into the tunnel, and that the server has not confirmed.
#[derive(Default)]
struct Untaken {
    bytes: AtomicU64,
    /// The task that writes.
    writer: AtomicWaker,
}

impl Io for Tunnel {
    fn untaken(&self, cx: &Context<'_>) -> u64 {
        self.untaken.writer.register(cx.waker());
        self.untaken.bytes.load(Ordering::Acquire)
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_read(cx, into)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // The other end may take them before this has returned.
        let written = ready!(Pin::new(&mut self.near).poll_write(cx, bytes))?;
        self.untaken.bytes.fetch_add(written as u64, Ordering::AcqRel);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.near).poll_shutdown(cx)
    }
}

/// A carrier that the server has opened.
struct Opened {
    name: String,
    /// The rest of a streamed answer, and the bytes that arrived with the name.
    stream: Option<Incoming>,
    rest: Bytes,
}

impl Opened {
    async fn stream(requests: &Requests) -> io::Result<Self> {
        let mut stream = requests.open("stream").await?;
        let mut all = BytesMut::new();
        while all.len() < NAME {
            all.extend_from_slice(&next(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?);
        }
        let name = name(&all.split_to(NAME))?;
        Ok(Self { name, stream: Some(stream), rest: all.freeze() })
    }

    async fn poll(requests: &Requests) -> io::Result<Self> {
        let answer = requests.open("poll").await?;
        let name = name(&answer.collect().await.map_err(io::Error::other)?.to_bytes())?;
        Ok(Self { name, stream: None, rest: Bytes::new() })
    }
}

/// Returns a carrier's name, unless the answer is that of a proxy, or of a server that answers all requests.
fn name(bytes: &[u8]) -> io::Result<String> {
    let is_name = bytes.len() == NAME && bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match str::from_utf8(bytes) {
        Ok(name) if is_name => Ok(name.to_owned()),
        _ => Err(io::Error::other("the server is no multiplexer")),
    }
}

/// Returns the next bytes of an answer; `None` at its end.
async fn next(answer: &mut Incoming) -> io::Result<Option<Bytes>> {
    while let Some(frame) = answer.frame().await {
        if let Ok(bytes) = frame.map_err(io::Error::other)?.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Carries bytes in both directions until one of them ends.
async fn carry(requests: Requests, opened: Opened, far: DuplexStream, untaken: Arc<Untaken>) {
    let Opened { name, stream, rest } = opened;
    let (reader, writer) = split(far);
    let sending = Box::pin(send_all(&requests, &name, reader, &untaken));
    let receiving = Box::pin(async {
        match stream {
            Some(stream) => receive_stream(stream, rest, writer).await,
            None => receive_polls(&requests, &name, writer).await,
        }
    });
    let (ended, _) = future::select(sending, receiving).await.factor_first();
    if let Err(error) = ended {
        debug!("a carrier over HTTP has ended: {error}");
    }
}

/// Sends in one request at a time: the next one has all bytes that have come meanwhile.
async fn send_all(
    requests: &Requests,
    name: &str,
    mut reader: ReadHalf<DuplexStream>,
    untaken: &Untaken,
) -> io::Result<()> {
    let mut connection = None;
    let mut offset = 0;
    loop {
        let mut waiting = BytesMut::with_capacity(READ);
        if reader.read_buf(&mut waiting).await? == 0 {
            return Ok(());
        }
        while waiting.len() < MOST {
            waiting.reserve(READ);
            match reader.read_buf(&mut waiting).now_or_never() {
                Some(Ok(1..)) => {}
                // The next read says why.
                _ => break,
            }
        }
        let length = waiting.len();
        let body = waiting.freeze();
        let answer = requests.repeat(&mut connection, &format!("send {name} {offset}"), &body).await?;
        if answer.status() != StatusCode::NO_CONTENT {
            return Err(refused(&answer));
        }
        // The connection is free for the next one.
        answer.collect().await.map_err(io::Error::other)?;
        offset += length;
        untaken.bytes.fetch_sub(length as u64, Ordering::AcqRel);
        untaken.writer.wake();
    }
}

async fn receive_stream(
    mut stream: Incoming,
    rest: Bytes,
    mut writer: WriteHalf<DuplexStream>,
) -> io::Result<()> {
    writer.write_all(&rest).await?;
    while let Some(bytes) = next(&mut stream).await? {
        writer.write_all(&bytes).await?;
    }
    Ok(())
}

async fn receive_polls(
    requests: &Requests,
    name: &str,
    mut writer: WriteHalf<DuplexStream>,
) -> io::Result<()> {
    let mut connection = None;
    let mut offset = 0;
    loop {
        let command = format!("receive {name} {offset}");
        let bytes = match requests.receive(&mut connection, &command).await {
            Ok(bytes) => bytes,
            // The server keeps the answer until the next offset confirms it.
            Err(Failed::OnItsWay(_)) => {
                connection = None;
                requests.receive(&mut connection, &command).await.map_err(Failed::into_error)?
            }
            Err(Failed::Refused(error)) => return Err(error),
        };
        offset += bytes.len();
        writer.write_all(&bytes).await?;
    }
}

/// Why a request has no result.
enum Failed {
    OnItsWay(io::Error),
    Refused(io::Error),
}

impl Failed {
    fn into_error(self) -> io::Error {
        let (Self::OnItsWay(error) | Self::Refused(error)) = self;
        error
    }
}

fn refused(answer: &Response<Incoming>) -> io::Error {
    io::Error::other(format!("the server answered {}", answer.status()))
}

/// Returns whether an answer with bytes is a multiplexer's.
fn has_bytes(answer: &Response<Incoming>) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE);
    answer.status() == StatusCode::OK && kind.is_some_and(|kind| kind == "application/octet-stream")
}

type Connection = SendRequest<Full<Bytes>>;

/// The requests of one carrier.
struct Requests {
    target: Target,
    /// Path and query.
    uri: String,
    headers: HeaderMap,
}

impl Requests {
    /// `address`: the multiplexer's URL with the parameters of a handshake.
    fn new(target: &Target, address: &str) -> io::Result<Self> {
        let url = &target.url;
        let start = address.len().min(url[..url::Position::BeforePath].len());
        let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut headers = target.handshake_headers();
        headers.insert(header::HOST, host.parse().map_err(io::Error::other)?);
        Ok(Self { target: target.clone(), uri: address[start..].to_owned(), headers })
    }

    async fn connect(&self) -> io::Result<Connection> {
        let stream = connect(&self.target.url).await.map_err(io::Error::other)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn post(
        &self,
        connection: &mut Option<Connection>,
        command: &str,
        body: Bytes,
    ) -> io::Result<Response<Incoming>> {
        let mut request = Request::post(&self.uri);
        if let Some(headers) = request.headers_mut() {
            headers.clone_from(&self.headers);
        }
        let request = request.header(CARRIER, command).body(Full::new(body)).map_err(io::Error::other)?;
        // The server may have closed it.
        if let Some(sender) = connection
            && sender.ready().await.is_err()
        {
            *connection = None;
        }
        let sender = match connection {
            Some(sender) => sender,
            None => connection.insert(self.connect().await?),
        };
        sender.send_request(request).await.map_err(io::Error::other)
    }

    /// Sends a request that opens a carrier. Returns the body of the answer.
    async fn open(&self, kind: &str) -> io::Result<Incoming> {
        let answer = self.post(&mut None, kind, Bytes::new()).await?;
        if has_bytes(&answer) { Ok(answer.into_body()) } else { Err(refused(&answer)) }
    }

    /// Sends a request, and once more if it fails on its way: its offset shows the server which bytes are repeated.
    async fn repeat(
        &self,
        connection: &mut Option<Connection>,
        command: &str,
        body: &Bytes,
    ) -> io::Result<Response<Incoming>> {
        match self.post(connection, command, body.clone()).await {
            Ok(answer) => Ok(answer),
            Err(_) => {
                *connection = None;
                self.post(connection, command, body.clone()).await
            }
        }
    }

    async fn receive(&self, connection: &mut Option<Connection>, command: &str) -> Result<Bytes, Failed> {
        let answer = self.post(connection, command, Bytes::new()).await.map_err(Failed::OnItsWay)?;
        if !has_bytes(&answer) {
            return Err(Failed::Refused(refused(&answer)));
        }
        let whole = answer.collect().await.map_err(|error| Failed::OnItsWay(io::Error::other(error)))?;
        Ok(whole.to_bytes())
    }
}
