//! `manysocket`: talks to the WebSockets behind a multiplexer, over one connection.

mod bench;
mod connect;
mod options;

use std::process::ExitCode;

use clap::Parser;
use options::{Command, Options};

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Options::parse().command {
        Command::Connect(options) => connect::run(options).await,
        Command::Bench(options) => bench::run(options).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manysocket: {error:#}");
            ExitCode::FAILURE
        }
    }
}
