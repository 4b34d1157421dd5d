//! `manysocket bench`: how fast a server opens sockets and echoes messages.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use manysocket::{Message, WebSocket};
use tokio::task::JoinSet;

use crate::options::Bench;

/// Runs the command.
pub(crate) async fn run(options: Bench) -> Result<()> {
    let client = options.link.client()?;
    let begun = Instant::now();
    let sockets = (0..options.sockets).map(|_| client.open(&options.url)).collect::<Result<Vec<_>, _>>()?;
    for socket in &sockets {
        socket.opened().await.with_context(|| options.url.clone())?;
    }
    let opened = begun.elapsed().as_secs_f64();
    println!(
        "opened {} sockets in {:.1} ms: {:.0}/s",
        sockets.len(),
        opened * 1e3,
        f64::from(options.sockets) / opened
    );

    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for socket in sockets {
        tasks.spawn(echo(socket, options.messages, options.size as usize));
    }
    let mut times = Vec::new();
    while let Some(result) = tasks.join_next().await {
        times.append(&mut result.context("a task has failed").flatten()?);
    }
    let echoed = begun.elapsed().as_secs_f64();
    println!(
        "echoed {} messages of {} bytes in {echoed:.2} s: {:.0}/s",
        times.len(),
        options.size,
        times.len() as f64 / echoed
    );
    times.sort_unstable_by(f64::total_cmp);
    let quantile = |part: f64| times[((times.len() - 1) as f64 * part) as usize] * 1e3;
    println!(
        "round trip: p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        quantile(0.5),
        quantile(0.99),
        quantile(1.0)
    );
    Ok(())
}

/// Sends messages one after the other; returns the seconds of each round trip.
async fn echo(mut socket: WebSocket, messages: u32, size: usize) -> Result<Vec<f64>> {
    let text = "x".repeat(size);
    let mut times = Vec::with_capacity(messages as usize);
    for _ in 0..messages {
        let begun = Instant::now();
        socket.send(Message::from(text.as_str())).await?;
        match socket.next().await {
            Some(Ok(Message::Text(answer))) => {
                ensure!(answer == text, "the socket does not echo: it answered {answer:?}");
            }
            Some(Ok(Message::Binary(bytes))) => {
                bail!("the socket does not echo: it answered a text with {} bytes", bytes.len())
            }
            Some(Err(error)) => return Err(error.into()),
            None => bail!("the server closed the socket"),
        }
        times.push(begun.elapsed().as_secs_f64());
    }
    Ok(times)
}
