//! Functions and documents that show how values pass through the server, below `/report`.

use std::collections::BTreeMap;
use std::io;

use axum::Router;
use axum::extract::Path;
use axum::http::Uri;
use axum::routing::any;
use manysocket_server::WebSocketUpgrade;
use manysocket_server::rpc::rpc;
use manysocket_server::state::{Documents, Store};
use serde_json::json;

/// Returns the routes, or an error if the system has no thread for the documents.
pub(crate) fn routes() -> io::Result<Router> {
    let documents = Documents::new(&Store::in_memory()?, "report").initial(json!({ "p": 1.0 }));
    let document = async move |Path(name): Path<String>, uri: Uri, upgrade: WebSocketUpgrade| {
        documents.serve(&name, &uri, upgrade).await
    };
    Ok(Router::new()
        .route("/report/doc/{name}", any(document))
        .route_service("/report/rpc/f32", rpc(async |value: f32| value))
        .route_service("/report/rpc/f32s", rpc(async |values: Vec<f32>| values))
        .route_service("/report/rpc/nan", rpc(async || f64::NAN))
        .route_service("/report/rpc/u128", rpc(async || u128::MAX))
        .route_service("/report/rpc/i128", rpc(async || i128::from(i64::MAX)))
        .route_service("/report/rpc/u64", rpc(async |value: u64| value))
        .route_service("/report/rpc/u64max", rpc(async || u64::MAX))
        .route_service("/report/rpc/pairs", rpc(async || BTreeMap::from([((1_u8, 2_u8), "a pair")])))
        .route_service("/report/rpc/text", rpc(async |text: String| text)))
}
