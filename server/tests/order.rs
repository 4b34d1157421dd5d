//! A page closes a socket and opens another at once: the handler or upstream sees the close first, as natively.

mod common;

use axum::Router;
use axum::extract::ws as axum_ws;
use axum::extract::ws::Message as WsMessage;
use axum::routing::any;
use common::upstream::{accepted, upstream};
use common::{Link, Server, told};
use futures_util::{Sink, Stream, StreamExt};
use manysocket_protocol::Event;
use manysocket_server::{Gateway, WebSocketUpgrade};
use tokio::sync::mpsc;

/// Openings and closings, one after the other, as the handlers see them.
type Heard = mpsc::UnboundedReceiver<&'static str>;

/// Reports the beginning of a socket, and its end once the page has closed it.
async fn script<S>(mut socket: S, tell: mpsc::UnboundedSender<&'static str>)
where
    S: Stream<Item = Result<WsMessage, axum::Error>> + Sink<WsMessage> + Unpin,
{
    while let Some(Ok(message)) = socket.next().await {
        if let WsMessage::Close(_) = message {
            let _ = tell.send("close");
        }
    }
}

async fn server() -> (Server, Heard) {
    let (tell, heard) = mpsc::unbounded_channel();
    let told = tell.clone();
    let upstream = upstream(move |stream, head| {
        let tell = told.clone();
        async move {
            let _ = tell.send("open");
            let mut wire = accepted(stream, &head).await;
            while let Some(Ok(_)) = wire.next().await {}
            let _ = tell.send("close");
        }
    })
    .await;
    let (ours, axums) = (tell.clone(), tell);
    let app = Router::new()
        .route(
            "/ours",
            any(async move |upgrade: WebSocketUpgrade| {
                let _ = ours.send("open");
                upgrade.on_upgrade(async move |socket| script(socket, ours).await)
            }),
        )
        .route(
            "/axums",
            any(async move |upgrade: axum_ws::WebSocketUpgrade| {
                let _ = axums.send("open");
                upgrade.on_upgrade(async move |socket| script(socket, axums).await)
            }),
        )
        .route(
            "/deaf",
            any(async |upgrade: WebSocketUpgrade| {
                upgrade.on_upgrade(async |socket| {
                    std::future::pending::<()>().await;
                    drop(socket);
                })
            }),
        );
    let gateway = Gateway::new("/up", &format!("ws://{upstream}")).expect("a gateway");
    (Server::start(gateway.mount(app)).await, heard)
}

/// Waits for the acceptance of a channel. The ends of others come in between.
async fn accepted_next(link: &mut Link) -> u32 {
    loop {
        match link.news().await {
            Event::Accepted { channel, .. } => return channel,
            Event::Closed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_open_that_follows_a_close_comes_after_it() {
    for path in ["/ours", "/axums", "/up"] {
        let (server, mut heard) = server().await;
        let mut link = Link::dial(&server).await;
        let mut channel = link.open(path).await;
        assert_eq!(told(&mut heard).await, "open");
        for round in 0..60 {
            // Both in one batch; the query is no part of the path.
            link.endpoint.close(channel, Some(1000), "");
            link.endpoint.open(&format!("{path}?{round}"), "").expect("below the limit");
            channel = accepted_next(&mut link).await;
            assert_eq!(told(&mut heard).await, "close", "{path} {round}");
            assert_eq!(told(&mut heard).await, "open", "{path} {round}");
        }
    }
}

/// Other paths do not wait, and a handler that reads nothing delays the next open, but does not prevent it.
#[tokio::test]
async fn an_open_waits_for_its_own_path_and_not_for_ever() {
    let (server, mut heard) = server().await;
    let mut link = Link::dial(&server).await;
    let deaf = link.open("/deaf").await;
    link.endpoint.close(deaf, Some(1000), "");
    let same = link.endpoint.open("/deaf", "").expect("below the limit");
    let other = link.endpoint.open("/ours", "").expect("below the limit");
    assert_eq!(accepted_next(&mut link).await, other);
    assert_eq!(told(&mut heard).await, "open");
    assert_eq!(accepted_next(&mut link).await, same);

    // An open that waits can be given up, and its number used again.
    link.endpoint.close(same, Some(1000), "");
    let given_up = link.endpoint.open("/deaf", "").expect("below the limit");
    link.flush().await;
    link.endpoint.close(given_up, None, "");
    let next = link.endpoint.open("/ours", "").expect("below the limit");
    assert_eq!(accepted_next(&mut link).await, next);
}
