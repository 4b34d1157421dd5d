//! A server that shuts down closes its links in good order before it returns.

mod common;

use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::routing::any;
use common::{Link, Server};
use manysocket_protocol::Event;
use manysocket_server::{Multiplexer, Stats, WebSocketUpgrade, serve};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Sends when the other side has closed is an error; until then the handler only reads.
fn app() -> Router {
    let reads = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| while let Some(Ok(_)) = socket.recv().await {})
    };
    Router::new().route("/reads", any(reads))
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// The page sees 1001 on its channel and then on the link, and only then the server returns.
async fn closes_first(
    address: SocketAddr,
    stats: Stats,
    stop: CancellationToken,
    server: JoinHandle<io::Result<()>>,
) {
    let mut link = Link::dial(&Server { address, stats: stats.clone(), shutdown: stop.clone() }).await;
    let channel = link.open("/reads").await;
    stop.cancel();
    let event = link.event().await.expect("the channel closes first");
    assert!(matches!(&event, Event::Closed { close, .. } if close.code == Some(1001)), "{event:?}");
    assert!(!server.is_finished(), "the server waits for the page");
    link.endpoint.close(channel, Some(1001), "");
    assert_eq!(link.event().await, Err(1001));
    drop(link);
    server.await.expect("no panic").expect("no error");
    assert_eq!(stats.links(), 0);
}

#[tokio::test]
async fn serve_returns_after_links_have_closed() {
    let (listener, address) = listener().await;
    let multiplexer = Multiplexer::new("/multiplexer");
    let (stats, stop) = (multiplexer.stats(), CancellationToken::new());
    let server =
        serve(listener, multiplexer.serve(app())).with_graceful_shutdown(stop.clone().cancelled_owned());
    // A connection without a request is not waited for.
    let idle = TcpStream::connect(address).await.expect("a connection");
    closes_first(address, stats, stop, tokio::spawn(server.into_future())).await;
    drop(idle);
}

#[tokio::test]
async fn axum_serve_returns_after_links_have_closed_if_its_signal_waits_for_them() {
    let (listener, address) = listener().await;
    let stop = CancellationToken::new();
    let multiplexer = Multiplexer::new("/multiplexer").shutdown(stop.clone());
    let (stats, links, stopped) = (multiplexer.stats(), multiplexer.links(), stop.clone());
    let signal = async move {
        stopped.cancelled().await;
        links.closed().await;
    };
    let server = axum::serve(listener, multiplexer.serve(app())).with_graceful_shutdown(signal);
    closes_first(address, stats, stop, tokio::spawn(server.into_future())).await;
}
