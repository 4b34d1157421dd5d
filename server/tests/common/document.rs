//! Sockets on documents.

use manysocket_protocol::Message;
use serde_json::{Value, json};

use super::{Kind, Server, Socket, next, open};

/// A socket on a document.
pub(crate) struct Page(pub(crate) Socket);

impl Page {
    pub(crate) async fn open(kind: Kind, server: &Server, path: &str) -> Self {
        Self(open(kind, server, path).await)
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await;
    }

    pub(crate) async fn commit(&mut self, id: &str, base: u64, delta: &Value) {
        self.send(&json!({"id": id, "base": base, "delta": delta})).await;
    }

    pub(crate) async fn receive(&mut self) -> Value {
        next(&mut self.0).await
    }

    /// The answer to a commit, past the commits of others.
    pub(crate) async fn answer(&mut self) -> Value {
        loop {
            let message = self.receive().await;
            if message["id"].is_string() {
                return message;
            }
        }
    }

    /// The first message, which must be the whole document; its name, which differs each time, and the rest.
    pub(crate) async fn whole(&mut self) -> (String, u64, Value) {
        let mut message = self.receive().await;
        let document = message["document"].as_str().expect("a document").to_owned();
        (document, message["version"].as_u64().expect("a version"), message["data"].take())
    }
}

/// A delta of one operation.
pub(crate) fn set(path: &str, value: impl Into<Value>) -> Value {
    json!([{"op": "add", "path": path, "value": value.into()}])
}
