//! A server with a path for every behaviour that the browser tests need. One set of handlers serves native and virtual
//! sockets, so that a test runs the same over both.
//!
//! `manysocket-test-server --listen ADDRESS --static DIR [--ping-interval MILLISECONDS] [--resume SECONDS] [--isolated]
//! [--tls-cert FILE --tls-key FILE]`
//!
//! `manysocket-test-server --certificate DIR` writes a certificate for `localhost` and its key, `cert.pem` and `key.pem`.

mod handlers;
mod streams;
mod topics;
mod values;

use std::path::Path as FilePath;
use std::sync::Mutex;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message};
use axum::extract::{Path, Query, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, get_service, post};
use axum::{Json, Router};
use futures_util::{SinkExt, stream};
use manysocket_server::rpc::rpc;
use manysocket_server::{
    Endpoint, LastEventId, Listing, Multiplexer, Settings, Site, SseMessage, Tls, WebSocket,
    WebSocketUpgrade, sse,
};
use serde::Deserialize;
use serde_json::json;
use tower_http::services::ServeDir;

/// Parameters of the query.
#[derive(Deserialize)]
#[serde(default)]
struct Wish {
    choose: String,
    status: u16,
    count: usize,
    size: usize,
    code: u16,
    reason: String,
    milliseconds: u64,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            choose: String::new(),
            status: 400,
            count: 0,
            size: 0,
            code: 0,
            reason: String::new(),
            milliseconds: 0,
        }
    }
}

impl Wish {
    fn close(&self) -> Message {
        let reason = self.reason.as_str().into();
        Message::Close((self.code != 0).then_some(CloseFrame { code: self.code, reason }))
    }

    async fn wait(&self) {
        tokio::time::sleep(Duration::from_millis(self.milliseconds)).await;
    }
}

fn routes() -> Router {
    let secret = Router::new().route("/echo", any(echo)).layer(middleware::from_fn(only_with_session));
    Router::new()
        .route("/test/echo", any(echo))
        .route("/test/echo-axum", any(echo_axum))
        .route("/test/protocol", any(protocol))
        .route("/test/refuse", any(refuse))
        .route("/test/late", any(late))
        .route("/test/burst", any(burst))
        .route("/test/close", any(close))
        .route("/test/close-on-message", any(close_on_message))
        .route("/test/drop", any(drop_at_once))
        .route("/test/drop-on-message", any(drop_on_message))
        .route("/test/deaf", any(deaf))
        .route("/test/sink", any(sink))
        .route("/test/push", any(push))
        .route("/test/rooms/{room}", any(room))
        .route("/test/watched", any(watched))
        .route("/test/add", post(add_by_http))
        .route_service("/test/rpc/add", rpc(add))
        .route("/test/ends", get(async || ENDS.lock().map(|ends| format!("{ends:?}")).unwrap_or_default()))
        .nest("/test/secret", secret)
}

/// A site with rooms that exist while somebody is in them.
fn site() -> Site {
    let rooms = Listing::new();
    let names = rooms.clone();
    let enter = async move |Path(name): Path<String>, upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async move |mut socket| {
            names.insert(&name);
            let _ = socket.send(Message::Text(name.as_str().into())).await;
            while let Some(Ok(_)) = socket.recv().await {}
            names.remove(&name);
        })
    };
    let numbers = get(async |LastEventId(last): LastEventId| {
        let seen: u64 = last.and_then(|last| last.parse().ok()).unwrap_or(0);
        let text = SseMessage::from(Message::Text(format!("after {seen}").into())).id(seen + 1);
        sse(stream::iter([text, Message::Binary(vec![0, 255].into()).into()]))
    });
    Site::new()
        .endpoint("/rooms/{room}", Endpoint::new(any(enter)).title("A room").listing(rooms))
        .endpoint("/numbers", Endpoint::new(any(echo)).title("Numbers").events(numbers))
        .nest("/geo", Site::new().endpoint("/raster", Endpoint::new(any(echo))))
}

/// Accepts requests with the cookie `session=good`: an ordinary layer, unaware of multiplexers.
async fn only_with_session(request: Request, next: Next) -> Response {
    let cookie = request.headers().get(header::COOKIE).and_then(|cookie| cookie.to_str().ok());
    if cookie.is_some_and(|cookie| cookie.split("; ").any(|pair| pair == "session=good")) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

/// A function to call over a socket.
async fn add(left: f64, right: f64) -> f64 {
    left + right
}

/// The same function over HTTP, with the arguments and the answer of a call.
async fn add_by_http(Json((left, right)): Json<(f64, f64)>) -> Json<serde_json::Value> {
    Json(json!({ "result": add(left, right).await }))
}

async fn echo_all(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
        if is_data && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(echo_all)
}

/// The same with axum's own extractor.
async fn echo_axum(upgrade: axum::extract::ws::WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
            if is_data && socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

/// Chooses the subprotocol that the query names.
async fn protocol(Query(wish): Query<Wish>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols([wish.choose]).on_upgrade(echo_all)
}

async fn refuse(Query(wish): Query<Wish>) -> StatusCode {
    StatusCode::from_u16(wish.status).unwrap_or(StatusCode::BAD_REQUEST)
}

/// Answers the open after a delay.
async fn late(Query(wish): Query<Wish>, upgrade: WebSocketUpgrade) -> Response {
    wish.wait().await;
    upgrade.on_upgrade(echo_all)
}

/// Sends `count` numbered messages, of at least `size` characters, as soon as it is open. With a size,
/// every third is binary.
async fn burst(Query(wish): Query<Wish>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        for n in 0..wish.count {
            let text = format!("{n:<width$}", width = wish.size);
            let message = if wish.size > 0 && n % 3 == 2 {
                Message::Binary(text.into_bytes().into())
            } else {
                Message::Text(text.into())
            };
            if socket.send(message).await.is_err() {
                return;
            }
        }
        echo_all(socket).await;
    })
}

/// Sends `count` messages and closes.
async fn close(Query(wish): Query<Wish>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        for n in 0..wish.count {
            if socket.send(Message::Text(n.to_string().into())).await.is_err() {
                return;
            }
        }
        if socket.send(wish.close()).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    })
}

/// Answers the first message with `bye` and a close.
async fn close_on_message(Query(wish): Query<Wish>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        let Some(Ok(Message::Text(_) | Message::Binary(_))) = socket.recv().await else { return };
        if socket.send(Message::Text("bye".into())).await.is_ok() && socket.send(wish.close()).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    })
}

/// Ends without a closing handshake.
async fn drop_at_once(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |_| {})
}

/// The same, after echoing a message.
async fn drop_on_message(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        if let Some(Ok(message)) = socket.recv().await {
            let _ = socket.send(message).await;
        }
    })
}

/// Stops reading for a while, so that it does not see a close either.
async fn deaf(Query(wish): Query<Wish>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |socket| {
        wish.wait().await;
        echo_all(socket).await;
    })
}

/// The codes with which sockets of `/test/watched` were closed.
static ENDS: Mutex<Vec<u16>> = Mutex::new(Vec::new());

/// An echo that records how its sockets end; 1006 without a closing handshake.
async fn watched(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        let code = loop {
            match socket.recv().await {
                Some(Ok(Message::Close(close))) => break close.map_or(1005, |close| close.code),
                Some(Ok(message)) => drop(socket.send(message).await),
                _ => break 1006,
            }
        };
        if let Ok(mut ends) = ENDS.lock() {
            ends.push(code);
        }
    })
}

/// Keeps its messages, and answers `?` with the sum of their lengths in bytes.
async fn sink(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        let mut sum = 0;
        while let Some(Ok(message)) = socket.recv().await {
            let answer = match message {
                Message::Text(text) if text.as_str() == "?" => Message::Text(sum.to_string().into()),
                Message::Text(_) | Message::Binary(_) => {
                    sum += message.into_data().len();
                    continue;
                }
                _ => continue,
            };
            if socket.send(answer).await.is_err() {
                return;
            }
        }
    })
}

/// Answers `100 32` with 100 texts of 32 bytes, `100 32 binary` with as many binary messages, as fast as the page reads.
async fn push(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(Message::Text(wish))) = socket.recv().await {
            let mut words = wish.split(' ');
            let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).unwrap_or_default();
            let (count, size) = (number(), number());
            let message = match words.next() {
                Some(_) => Message::Binary(vec![7; size].into()),
                None => Message::Text("x".repeat(size).into()),
            };
            for _ in 0..count {
                // Feeds each message, and flushes when the handler must wait or is done, as a busy server does.
                if socket.feed(message.clone()).await.is_err() {
                    return;
                }
            }
            if socket.flush().await.is_err() {
                return;
            }
        }
    })
}

/// Sends its view of the request, one line for each property.
async fn room(
    Path(room): Path<String>,
    request_headers: HeaderMap,
    uri: axum::http::Uri,
    upgrade: WebSocketUpgrade,
) -> Response {
    let shown =
        |name| request_headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    let lines = [
        format!("room {room}"),
        format!("uri {uri}"),
        format!("cookie {}", shown(header::COOKIE)),
        format!("authorization {}", shown(header::AUTHORIZATION)),
        format!("origin {}", shown(header::ORIGIN)),
        format!("host {}", shown(header::HOST)),
        format!("upgrade {}", shown(header::UPGRADE)),
        format!("protocols {}", shown(header::SEC_WEBSOCKET_PROTOCOL)),
    ];
    upgrade.protocols(["v2", "v1"]).on_upgrade(async move |mut socket| {
        if socket.send(Message::Text(lines.join("\n").into())).await.is_ok() {
            echo_all(socket).await;
        }
    })
}

async fn isolate(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-embedder-policy", HeaderValue::from_static("require-corp"));
    response
}

/// Writes a certificate that signs itself, and its key.
fn write_certificate(folder: &FilePath) -> std::io::Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let rcgen::CertifiedKey { cert, signing_key } = made.map_err(std::io::Error::other)?;
    std::fs::write(folder.join("cert.pem"), cert.pem())?;
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1))
    };
    if let Some(folder) = option("--certificate") {
        return write_certificate(folder.as_ref());
    }
    let (Some(address), Some(files)) = (option("--listen"), option("--static")) else {
        return Err(std::io::Error::other("usage: manysocket-test-server --listen ADDRESS --static DIR"));
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let files = ServeDir::new(files);
    let site = Site::new().nest("/test/site", site()).route("/", get_service(files.clone()));
    let app = routes()
        .merge(handlers::routes())
        .merge(topics::routes())
        .merge(streams::routes())
        .merge(values::routes()?)
        .merge(site.into_router())
        .fallback_service(files);
    let mut settings = Settings::default();
    if let Some(milliseconds) = option("--ping-interval").and_then(|text| text.parse().ok()) {
        settings.ping_interval = milliseconds;
    }
    // Isolated pages get a clock of 5 µs, others one of 100 µs (High Resolution Time §7.1).
    let isolated = arguments.iter().any(|argument| argument == "--isolated");
    let app = if isolated { app.layer(middleware::map_response(isolate)) } else { app };
    let mut multiplexer = Multiplexer::new("/multiplexer").settings(settings);
    if let Some(seconds) = option("--resume").and_then(|text| text.parse().ok()) {
        multiplexer = multiplexer.resume_timeout(Duration::from_secs(seconds));
    }
    let stats = multiplexer.stats();
    // The same as in the shipped server, and the links that wait for their clients.
    let count = async move || {
        let (links, channels, parked) = (stats.links(), stats.channels(), stats.parked());
        format!(r#"{{"physical":{links},"virtual":{channels},"parked":{parked}}}"#)
    };
    let app = multiplexer.serve(app.route("/demo/stats", get(count)));
    let listener = tokio::net::TcpListener::bind(address).await?;
    let at = listener.local_addr()?;
    let mut server = manysocket_server::serve(listener, app);
    let tls = option("--tls-cert").zip(option("--tls-key"));
    println!("listening on {}://{at}", if tls.is_some() { "https" } else { "http" });
    if let Some((certificate, key)) = tls {
        server = server.tls(Tls::open(certificate, key)?);
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = server.into_future() => result,
        _ = terminate.recv() => Ok(()),
    }
}
