//! A client without a browser, for loads that a browser cannot produce: a million sockets, opens at a rate that the
//! server limits, or a mixed load for hours.
//!
//! - `idle HOST native|virtual LINKS SOCKETS` opens that many sockets on each of that many connections, and then sends
//!   one message over each and waits for its echo.
//! - `opens HOST PATH COUNT` opens and closes that many sockets over one link.
//! - `soak HOST GATEWAY SECONDS` is described in `soak/mod.rs`.
//!
//! It prints figures as lines of JSON. After those of the first two it waits for a line on standard input, while the caller
//! measures the server.

mod link;
mod soak;

use std::io::{BufRead, stdin};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use link::{Link, dial};
use manysocket_protocol::{Event, Message};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite as ts;

/// The number of opens in flight: as a page of many frames, and enough to keep a server busy.
const AT_ONCE: u32 = 1000;

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["idle", host, kind, links, each] => idle(host, kind, links.parse()?, each.parse()?).await,
        ["opens", host, path, count] => opens(host, path, count.parse()?).await,
        ["soak", host, gateway, seconds] => {
            soak::soak(host, gateway, Duration::from_secs(seconds.parse()?)).await
        }
        _ => {
            bail!(
                "usage: manysocket-bench-client idle HOST native|virtual LINKS SOCKETS | opens HOST PATH COUNT | \
                 soak HOST GATEWAY SECONDS"
            )
        }
    }
}

/// Prints a figure and waits for the caller.
fn tell(figure: &str) -> Result<()> {
    println!("{figure}");
    stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

async fn open_all(link: &mut Link, count: u32) -> Result<()> {
    let (mut asked, mut accepted) = (0, 0);
    while accepted < count {
        while asked < count && asked - accepted < AT_ONCE {
            link.endpoint.open("/test/echo", "").context("the server allows no more channels")?;
            asked += 1;
        }
        match link.event().await? {
            Event::Accepted { .. } => accepted += 1,
            Event::Refused { status, reason, .. } => bail!("refused: {status} {reason}"),
            _ => {}
        }
    }
    Ok(())
}

async fn echo_all(link: &mut Link, count: u32) -> Result<()> {
    for channel in 1..=count {
        link.endpoint.send(channel, Message::text("hello"));
    }
    let mut left = count;
    while left > 0 {
        if let Event::Message { channel, message } = link.event().await? {
            link.endpoint.consumed(channel, 1, message.units());
            left -= 1;
        }
    }
    Ok(())
}

async fn idle(host: &str, kind: &str, links: u32, each: u32) -> Result<()> {
    let start = Instant::now();
    let (mut open_links, mut open_sockets) = (JoinSet::new(), vec![]);
    let (go, _) = watch::channel(());
    for _ in 0..links {
        if kind == "native" {
            open_sockets.push(dial(host, "/test/echo", None).await?);
            continue;
        }
        let mut link = Link::dial(host).await?;
        open_all(&mut link, each).await?;
        let mut go = go.subscribe();
        open_links.spawn(async move {
            // Meanwhile the link must answer the server's pings.
            loop {
                tokio::select! {
                    told = go.changed() => break told?,
                    event = link.event() => drop(event?),
                }
            }
            echo_all(&mut link, each).await?;
            Ok::<_, anyhow::Error>(link)
        });
    }
    tell(&format!(r#"{{"opened": {}}}"#, start.elapsed().as_millis()))?;
    let start = Instant::now();
    go.send_replace(());
    let mut answered = vec![];
    while let Some(link) = open_links.join_next().await {
        answered.push(link??);
    }
    for socket in &mut open_sockets {
        socket.send(ts::Message::text("hello")).await?;
        socket.next().await.context("no echo")??;
    }
    tell(&format!(r#"{{"answered": {}}}"#, start.elapsed().as_millis()))
}

async fn opens(host: &str, path: &str, count: u32) -> Result<()> {
    let mut link = Link::dial(host).await?;
    let start = Instant::now();
    let (mut asked, mut ended) = (0, 0);
    while ended < count {
        while asked < count && asked - ended < AT_ONCE {
            link.endpoint.open(path, "").context("the server allows no more channels")?;
            asked += 1;
        }
        match link.event().await? {
            Event::Accepted { channel, .. } => link.endpoint.close(channel, Some(1000), ""),
            Event::Closed { .. } => ended += 1,
            Event::Refused { status, reason, .. } => bail!("refused: {status} {reason}"),
            _ => {}
        }
    }
    tell(&format!(r#"{{"opens": {count}, "ms": {}}}"#, start.elapsed().as_millis()))
}
