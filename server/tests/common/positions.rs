//! Topics with positions, as a page uses them over a bare socket (docs/topics.md).

use manysocket_protocol::Message;
use serde_json::Value;

use super::{Kind, Server, Socket, next, open};

/// Subscribes with positions, and returns the socket, the epoch and the greeting.
pub(crate) async fn subscribe(kind: Kind, server: &Server, path: &str) -> (Socket, String, Value) {
    let mut socket = open(kind, server, path).await;
    let greeting = next(&mut socket).await;
    let epoch = greeting["epoch"].as_str().expect("an epoch").to_owned();
    (socket, epoch, greeting)
}

/// Publishes and waits for the number, past messages of others.
pub(crate) async fn publish(socket: &mut Socket, text: &str) -> Value {
    socket.send(Message::text(text)).await;
    loop {
        let message = next(socket).await;
        if message.get("published").is_some() {
            return message["published"].clone();
        }
    }
}
