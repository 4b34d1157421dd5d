//! Clients of links that can be resumed, step by step (docs/protocol.md §8.1).

use futures_util::SinkExt;
use manysocket_protocol::{
    Endpoint, Event, HANDSHAKE_PARAMETER, Physical, RESUME_PARAMETER, SUBPROTOCOL, Settings, Side,
};
use tokio_tungstenite::tungstenite as ts;

use super::{Link, Server, Wire, dial};

/// A link that can be resumed, with a socket that echoes.
pub(crate) async fn link(server: &Server, echo: &str, headers: &[(&'static str, &str)]) -> (Link, u32) {
    let settings = Settings::new().resume_timeout(1);
    let mut endpoint = Endpoint::new(Side::Client, settings, 0);
    let channel = endpoint.open(echo, "").expect("below the limit");
    let path = format!("/multiplexer?{HANDSHAKE_PARAMETER}={}", endpoint.handshake());
    let wire = connect(server, &path, headers).await.expect("a link");
    let mut link = Link { wire, endpoint };
    let event = link.news().await;
    assert!(matches!(event, Event::Accepted { .. }), "{event:?}");
    // The echo comes behind the server's knowledge that the client has the token.
    link.assert_echo(channel, "ready").await;
    (link, channel)
}

pub(crate) async fn connect(
    server: &Server,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<Wire, u16> {
    let origin = format!("http://{}", server.address);
    let mut all = vec![("sec-websocket-protocol", SUBPROTOCOL)];
    if !headers.iter().any(|(name, _)| *name == "origin") {
        all.push(("origin", origin.as_str()));
    }
    all.extend(headers);
    dial(server, path, &all).await
}

/// Opens a connection that is to resume a link, and sends its first message.
pub(crate) async fn arrive(
    server: &Server,
    headers: &[(&'static str, &str)],
    first: Vec<u8>,
) -> Result<Wire, u16> {
    let mut wire = connect(server, &format!("/multiplexer?{RESUME_PARAMETER}=0"), headers).await?;
    wire.send(ts::Message::Binary(first.into())).await.expect("an open connection");
    Ok(wire)
}

/// RESUME, as the link's client would send it now.
pub(crate) fn resume(link: &mut Link) -> Vec<u8> {
    assert!(link.endpoint.carrier_lost(0), "the link can be resumed");
    link.endpoint.redialled(0);
    match link.endpoint.poll_transmit() {
        Some(Physical::Binary(first)) => first.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Goes on over another connection.
pub(crate) async fn resumed(server: &Server, link: &mut Link, headers: &[(&'static str, &str)]) {
    let first = resume(link);
    link.wire = arrive(server, headers, first).await.expect("a connection");
}
