//! Functions whose types the page takes from the server: `functions.d.ts` is written by this program.
//!
//! ```sh
//! cargo run -p example-typed-calls -- types > examples/typed-calls/functions.d.ts
//! ```

use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use axum::response::Html;
use axum::routing::get;
use futures_util::{Stream, stream};
use manysocket_server::rpc::{Error, Streamed, typed};
use manysocket_server::{Multiplexer, Site};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower_http::services::ServeDir;
use ts_rs::TS;

/// How much a task matters.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
enum Priority {
    Low,
    High,
}

/// A task of the list.
#[derive(Debug, Clone, Serialize, TS)]
struct Task {
    title: String,
    priority: Priority,
    /// Its place in the list, counted from 1.
    number: usize,
}

#[derive(Debug, Clone, Default)]
struct Tasks(Arc<Mutex<Vec<Task>>>);

impl Tasks {
    fn add(&self, title: String, priority: Priority) -> Result<Task, Error> {
        if title.is_empty() {
            return Err(Error::new("title", "a task needs a title"));
        }
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let task = Task { title, priority, number: tasks.len() + 1 };
        tasks.push(task.clone());
        Ok(task)
    }

    fn all(&self) -> Vec<Task> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Returns the functions, as pages call them below the path where the site is nested.
fn functions() -> Site {
    let tasks = Tasks::default();
    let add = {
        let tasks = tasks.clone();
        move |title, priority| ready(tasks.add(title, priority))
    };
    let all = move || ready(tasks.all());
    Site::new()
        .endpoint("/tasks/add", typed(add).arguments(["title", "priority"]).endpoint())
        .endpoint("/tasks/all", typed(all).endpoint())
        .endpoint("/countdown", typed(countdown).arguments(["from"]).endpoint())
}

async fn countdown(from: u32) -> Streamed<impl Stream<Item = u32>> {
    Streamed(stream::iter((0..=from).rev()))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("types") {
        print!("{}", functions().typescript().map_err(std::io::Error::other)?);
        return Ok(());
    }
    // The npm package from `cargo xtask build`, and the page's code.
    let package = ServeDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pkg"));
    let code = get(async || ([("content-type", "text/javascript")], include_str!("../page.js")));
    let page = get(async || Html(include_str!("../index.html")));
    let site = Site::new().route("/", page).route("/page.js", code).nest("/rpc", functions());
    let app = Multiplexer::new("/multiplexer").serve(site.into_router().nest_service("/pkg", package));

    let listener = TcpListener::bind(argument.unwrap_or("127.0.0.1:8080".into())).await?;
    println!("listening on http://{}", listener.local_addr()?);
    manysocket_server::serve(listener, app).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_of_the_page_are_those_of_the_functions() {
        let types = functions().typescript().expect("no two types of one name");
        let stale =
            "write it again: cargo run -p example-typed-calls -- types > examples/typed-calls/functions.d.ts";
        assert_eq!(types, include_str!("../functions.d.ts"), "{stale}");
    }
}
