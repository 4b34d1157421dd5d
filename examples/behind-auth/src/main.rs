//! An authentication layer in front of every handler: virtual opens pass through it as native ones do, with the cookies of
//! their link.

use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get, post};
use manysocket_server::{Multiplexer, WebSocketUpgrade};
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

#[derive(Clone)]
struct User(String);

/// Accepts any name as proof, where an application would look up a session.
async fn log_in(name: String) -> impl IntoResponse {
    let age = Duration::from_secs(3600).as_secs();
    [(header::SET_COOKIE, format!("user={name}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict"))]
}

/// Accepts requests with the cookie, and passes the user's name to handlers.
async fn authenticate(headers: HeaderMap, mut request: Request, next: Next) -> Response {
    let cookies = headers.get(header::COOKIE).and_then(|cookies| cookies.to_str().ok()).unwrap_or_default();
    let Some(user) = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("user=")) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    request.extensions_mut().insert(User(user.to_owned()));
    next.run(request).await
}

async fn greet(Extension(User(name)): Extension<User>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        // The send fails only if the page is gone.
        let _ = socket.send(format!("hello {name}").into()).await;
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let inside = Router::new().route("/greeting", any(greet)).layer(from_fn(authenticate));
    let app = inside.route("/login", post(log_in));
    // The npm package from `cargo xtask build`.
    let package = ServeDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pkg"));
    let page = get(async || Html(include_str!("../index.html")));
    let app = app.route("/", page).nest_service("/pkg", package);
    let app = Multiplexer::new("/multiplexer").serve(app);

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    manysocket_server::serve(listener, app).await
}
