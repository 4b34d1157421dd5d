//! The multiplexer as a tower layer, around a service that is no axum router.

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use common::{KINDS, Received, Server, Socket};
use manysocket_protocol::Message;
use manysocket_server::{Multiplexer, WebSocketUpgrade};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};

/// Echoes, and first sends the extension that a layer has put into the request.
async fn application(request: Request) -> Result<Response, Infallible> {
    let (mut parts, _) = request.into_parts();
    let seen = format!("{} {:?}", parts.uri.path(), parts.headers.get("x-layer"));
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(refusal) => return Ok(refusal.into_response()),
    };
    Ok(upgrade.on_upgrade(async |mut socket| {
        socket.send(seen.into()).await.expect("open");
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    }))
}

#[tokio::test]
async fn native_and_virtual_sockets_pass_the_layers_inside_of_it() {
    let service = ServiceBuilder::new()
        .layer(Multiplexer::new("/multiplexer"))
        .map_request(|mut request: Request| {
            request.headers_mut().insert("x-layer", "passed".parse().expect("a value"));
            request
        })
        .service(service_fn(application));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let server = Server::at(listener.local_addr().expect("an address"));
    let service = service.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });

    for kind in KINDS {
        let (mut socket, _) =
            Socket::open(kind, &server, "/any/where", "", "").await.expect("an open socket");
        assert_eq!(
            socket.receive().await,
            Received::Message(Message::text("/any/where Some(\"passed\")")),
            "{kind:?}"
        );
        socket.send(Message::text("hello")).await;
        assert_eq!(socket.receive().await, Received::Message(Message::text("hello")), "{kind:?}");
    }
}
