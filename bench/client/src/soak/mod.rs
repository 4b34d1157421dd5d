//! Pages that do a little of everything, on connections that break: echoes small and large, text and binary, readers that are slow, topics,
//! calls, documents, opens that come to nothing. What must hold is checked with every message:
//!
//! - on each channel messages come in their order, each once, with the content that was sent;
//! - a channel ends with the close that it was told, having lost nothing, or as lost, and that only if a connection broke;
//! - what was published before a clean close reached every subscriber;
//! - a commit that was acknowledged stays, and one that was not happened once or never.
//!
//! Every few seconds a line of JSON tells what has been done; what does not hold is told on standard error as it happens.

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

/// How often figures are told: some hundred points for a chart of half an hour.
const REPORT: Duration = Duration::from_secs(5);

/// Pages and the sockets of each: some hundred sockets in all, which two cores carry beside other work.
const PAGES: usize = 8;
const SOCKETS: [Kind; 13] = [
    Kind::Small,
    Kind::Small,
    Kind::Small,
    Kind::Small,
    Kind::Large,
    Kind::SlowReader,
    Kind::Topic,
    Kind::Topic,
    Kind::Topic,
    Kind::Sum,
    Kind::SlowCall,
    Kind::State,
    Kind::Missing,
];

/// Pages of the gateway, whose sockets lead to the same server.
const GATEWAY_PAGES: usize = 3;
const GATEWAY_SOCKETS: [Kind; 5] = [Kind::Small, Kind::Small, Kind::Small, Kind::Large, Kind::SlowReader];

/// Runs for so long; an error if anything did not hold.
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
