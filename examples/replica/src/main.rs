//! Adds lines to a list that pages and programs share, and prints the list whenever it changes.
//!
//! `example-replica MULTIPLEXER DOCUMENT NAME LINES`: adds the lines `NAME 0`, `NAME 1`, … one after the other.

use std::error::Error;

use futures_util::StreamExt;
use manysocket::{MultiWebSocket, State, StateError, state};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct List {
    #[serde(default)]
    lines: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [multiplexer, document, name, lines] = &arguments[..] else {
        return Err(
            "usage: example-replica ws://127.0.0.1:8080/multiplexer /demo/state/list NAME LINES".into()
        );
    };
    let list: State<List> = state(&MultiWebSocket::new(multiplexer)?, document).await?;
    tokio::spawn(add(list.clone(), name.clone(), lines.parse()?));
    let mut changes = list.watch();
    while let Some(list) = changes.next().await {
        println!("{}", serde_json::to_string(&list?.lines)?);
    }
    Ok(())
}

async fn add(list: State<List>, name: String, lines: usize) {
    for number in 0..lines {
        if let Err(error) = add_line(&list, format!("{name} {number}")).await {
            eprintln!("{name} {number}: {error}");
        }
    }
}

/// Lines that are added at the end at the same time do not conflict. The first one of an empty document may.
async fn add_line(list: &State<List>, line: String) -> Result<u64, StateError> {
    loop {
        let result = match list.update(|list| list.lines.push(line.clone())) {
            Ok(commit) => commit.committed().await,
            Err(error) => Err(error),
        };
        match result {
            // Others were first: their list, and the line again.
            Err(StateError::Conflict(_)) => list.discard(),
            result => return result,
        }
    }
}
