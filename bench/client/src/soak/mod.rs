//! Pages with a mixed load, on connections that break: small and large echoes, text and binary, slow readers, topics,
//! calls, documents, aborted opens. Every message is checked:
//!
//! - on each channel messages arrive in order, each once, with the content that was sent;
//! - a channel ends with the requested close and has lost nothing, or it is lost, and only if a connection broke;
//! - every message published before a clean close reaches every subscriber;
//! - an acknowledged commit stays, and another happened once or never.
//!
//! Every few seconds it prints the counts as a line of JSON; it reports failed checks on standard error as they happen.

mod content;
mod page;
mod socket;
mod state;
mod tally;
mod topic;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use page::Page;
use socket::Kind;
use tally::Tally;
use tokio::task::JoinSet;

/// The interval of the printed counts: some hundred points for a chart of half an hour.
const REPORT: Duration = Duration::from_secs(5);

/// The number of pages and of sockets on each: some hundred sockets in all, which two cores carry beside other work.
const PAGES: usize = 8;
const SOCKETS: [Kind; 16] = [
    Kind::Small,
    Kind::Small,
    Kind::Small,
    Kind::Small,
    Kind::Large,
    Kind::SlowReader,
    Kind::Topic,
    Kind::Topic,
    Kind::Topic,
    Kind::Room,
    Kind::Room,
    Kind::Index,
    Kind::Sum,
    Kind::SlowCall,
    Kind::State,
    Kind::Missing,
];

/// Pages of the gateway, whose sockets lead to the same server.
const GATEWAY_PAGES: usize = 3;
const GATEWAY_SOCKETS: [Kind; 5] = [Kind::Small, Kind::Small, Kind::Small, Kind::Large, Kind::SlowReader];

/// Runs for the given time; returns an error if a check failed.
pub(crate) async fn soak(server: &str, gateway: &str, duration: Duration) -> Result<()> {
    let (tally, begun) = (Arc::new(Tally::default()), Instant::now());
    let end = begun + duration;
    let mut pages = JoinSet::new();
    for number in 0..PAGES + GATEWAY_PAGES {
        let (host, prefix, kinds) = match number < PAGES {
            true => (server, "/demo", &SOCKETS[..]),
            false => (gateway, "/up", &GATEWAY_SOCKETS[..]),
        };
        pages.spawn(Page::new(number, host, prefix, kinds, &tally).run(end));
    }
    let mut report = tokio::time::interval(REPORT);
    loop {
        tokio::select! {
            _ = report.tick() => println!("{}", tally.line(begun.elapsed())),
            page = pages.join_next() => match page {
                Some(page) => page?,
                None => break,
            }
        }
    }
    println!("{}", tally.line(begun.elapsed()));
    let violations = tally.count(|counts| counts.violations);
    ensure!(violations == 0, "{violations} things that must hold did not");
    Ok(())
}
