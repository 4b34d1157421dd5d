//! The binary's options, as far as they decide what is served and to whom.

mod common;

use common::binary::Binary;
use common::upstream::{accepted, upstream};
use common::{KINDS, Link, Received, Socket, dial, get};
use futures_util::{SinkExt, StreamExt};
use manysocket_protocol::{Event, Message};

/// It used to end with a panic: the demo has a route there, too.
#[tokio::test]
async fn a_gateway_takes_the_place_of_the_demo() {
    let echo = upstream(async |stream, head| {
        let mut wire = accepted(stream, &head).await;
        while let Some(Ok(message)) = wire.next().await {
            if wire.send(message).await.is_err() {
                return;
            }
        }
    })
    .await;
    let binary = Binary::start(&["--upstream", &format!("/games=ws://{echo}")], &[]).await;
    for kind in KINDS {
        let (mut socket, _) =
            Socket::open(kind, &binary.server, "/games/blue/chat", "", "").await.expect("open");
        socket.send(Message::text("hi")).await;
        assert_eq!(socket.receive().await, Received::Message(Message::text("hi")));
        let demo = Socket::open(kind, &binary.server, "/demo/echo", "", "").await;
        assert_eq!(demo.err(), Some(404), "{kind:?}: no demo beside upstreams");
    }
    assert!(get(binary.server.address, "/demo/").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn an_allowed_origin_reaches_what_is_behind_the_multiplexer_either_way() {
    let binary = Binary::start(&["--allow-origin", "https://*.listed.example"], &[]).await;
    let paths = ["/demo/topics/x", "/demo/state/x", "/demo/rpc/add", "/games/x/chat"];
    for (origin, expected) in [("https://a.listed.example", None), ("https://evil.example", Some(403))] {
        for path in paths {
            let native = dial(&binary.server, path, &[("origin", origin)]).await;
            assert_eq!(native.err(), expected, "{path} from {origin}");
        }
    }
    // The header of the page's own origin is replaced: the map of headers has one of a name.
    let headers = [("origin", "https://a.listed.example")];
    let mut link = Link::dial_with(&binary.server, &headers, |_| {}).await.expect("a link");
    for path in paths {
        link.endpoint.open(path, "");
        loop {
            match link.news().await {
                Event::Accepted { .. } => break,
                Event::Message { .. } => {}
                other => panic!("{path}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn pages_of_the_server_itself_need_not_be_listed() {
    let binary = Binary::start(&[], &[]).await;
    for kind in KINDS {
        assert!(Socket::open(kind, &binary.server, "/demo/topics/x", "", "").await.is_ok());
    }
    let foreign = dial(&binary.server, "/demo/topics/x", &[("origin", "https://evil.example")]).await;
    assert_eq!(foreign.err(), Some(403));
}
