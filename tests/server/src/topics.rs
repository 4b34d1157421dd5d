//! Topics that anybody may publish on by plain HTTP, below `/report`.

use axum::Router;
use axum::extract::Query;
use axum::routing::get;
use manysocket_server::topic::Topics;
use serde::Deserialize;

/// A message to publish.
#[derive(Deserialize)]
struct Publication {
    path: String,
    message: String,
}

pub(crate) fn routes() -> Router {
    let topics = Topics::new();
    let (publisher, lister) = (topics.clone(), topics.clone());
    let publish = async move |Query(Publication { path, message }): Query<Publication>| {
        publisher.publish(&path, message).to_string()
    };
    let list = async move || lister.topics().join("\n");
    Router::new()
        .route_service("/report/chat/{room}", topics)
        .route("/report/publish", get(publish))
        .route("/report/topics", get(list))
}
