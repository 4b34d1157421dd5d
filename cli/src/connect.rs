//! `manysocket connect`: lines of the input to sockets, and messages to the output.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use http::HeaderMap;
use manysocket::{Error, Message, MultiWebSocket, WebSocket};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::options::Connect;

/// Lines that wait for one socket, and messages that wait for the output: enough to hide the change of tasks. Beyond
/// that, the input waits, or the server does.
const QUEUE: usize = 64;

/// The first and the longest wait before a socket is opened again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Runs the command.
pub(crate) async fn run(options: Connect) -> Result<()> {
    let client = options.link.client()?;
    let (messages, output) = mpsc::channel(QUEUE);
    let is_alone = options.urls.len() == 1;
    let mut lines = Vec::new();
    let mut sockets = tokio::task::JoinSet::new();
    for (index, url) in options.urls.iter().enumerate() {
        let (sender, receiver) = mpsc::channel(QUEUE);
        lines.push(sender);
        let socket = Socket {
            client: client.clone(),
            url: url.clone(),
            protocols: options.protocol.clone(),
            headers: options.open_header.iter().cloned().collect(),
            reconnect: options.reconnect,
            prefix: if is_alone { String::new() } else { format!("{}:", index + 1) },
            json: options.json,
            lines: receiver,
            messages: messages.clone(),
        };
        sockets.spawn(socket.run());
    }
    drop(messages);
    // The input may end long before the sockets: they go on receiving.
    let input = tokio::spawn(read(lines, options.json));
    let mut printed = tokio::spawn(print(output, options.count));
    let mut ended = std::pin::pin!(async {
        let mut result = Ok(());
        while let Some(socket) = sockets.join_next().await {
            result = result.and(socket.context("a socket's task has failed").flatten());
        }
        result
    });
    let result = tokio::select! {
        result = &mut ended => {
            // The last messages may still wait for the output.
            printed.await.context("the output's task has failed").flatten()?;
            result
        }
        is_enough = &mut printed => match is_enough.context("the output's task has failed").flatten()? {
            true => Ok(()),
            false => ended.await,
        },
        result = tokio::signal::ctrl_c() => result.context("cannot wait for signals"),
    };
    input.abort();
    result
}

/// Passes the lines of the input on to the sockets.
async fn read(sockets: Vec<mpsc::Sender<String>>, json: bool) -> Result<()> {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = input.next_line().await.context("cannot read the input")? {
        let (socket, text) = match sockets.as_slice() {
            [socket] => (socket, line.as_str()),
            several => match addressed(&line, several.len()) {
                Some((index, text)) => (&several[index], text),
                None => {
                    eprintln!(
                        "manysocket: not sent, since it does not begin with a socket's number and a colon: {line}"
                    );
                    continue;
                }
            },
        };
        if json && let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
            eprintln!("manysocket: not sent, since it is not JSON ({error}): {text}");
            continue;
        }
        // The socket has ended: the line is lost, as one that is sent on a closed WebSocket.
        let _ = socket.send(text.to_owned()).await;
    }
    Ok(())
}

/// The index of the socket that a line is for, and the text.
fn addressed(line: &str, sockets: usize) -> Option<(usize, &str)> {
    let (number, text) = line.split_once(':')?;
    let index = number.parse::<usize>().ok()?.checked_sub(1)?;
    (index < sockets).then_some((index, text))
}

/// Prints messages until there are `count` of them, or no more; returns whether there were `count`.
async fn print(mut messages: mpsc::Receiver<String>, count: Option<u64>) -> Result<bool> {
    let mut output = tokio::io::stdout();
    let mut left = count;
    while let Some(line) = messages.recv().await {
        output.write_all(line.as_bytes()).await.context("cannot write the output")?;
        left = left.map(|left| left - 1);
        // A burst is written at once.
        if messages.is_empty() || left == Some(0) {
            output.flush().await.context("cannot write the output")?;
        }
        if left == Some(0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One socket of the command line.
struct Socket {
    client: MultiWebSocket,
    url: String,
    protocols: Vec<String>,
    headers: HeaderMap,
    reconnect: bool,
    /// The beginning of its lines of the output.
    prefix: String,
    json: bool,
    lines: mpsc::Receiver<String>,
    messages: mpsc::Sender<String>,
}

impl Socket {
    /// Runs until the server closes the socket.
    async fn run(mut self) -> Result<()> {
        let protocols: Vec<&str> = self.protocols.iter().map(String::as_str).collect();
        let mut wait = BACKOFF.0;
        loop {
            let socket = self.client.open_with(&self.url, &protocols, &self.headers)?;
            let handle = socket.handle();
            let failed =
                match exchange(socket, &mut self.lines, &self.messages, &self.prefix, self.json, &mut wait)
                    .await
                {
                    Ok(()) => {
                        let close = handle.closed().await;
                        // 1000: normal closure; 1001: going away; 1005: no code (RFC 6455 §7.4.1).
                        if matches!(close.code, 1000 | 1001 | 1005) {
                            return Ok(());
                        }
                        bail!("{}: closed with {} {:?}", self.url, close.code, close.reason);
                    }
                    Err(error) => error,
                };
            if !self.reconnect {
                return Err(failed.context(self.url));
            }
            eprintln!("manysocket: {}: {failed:#}; again in {:.1} s", self.url, wait.as_secs_f64());
            // Between half and all of it: many clients must not come back in the same moment.
            sleep(wait.mul_f64(fastrand::f64().mul_add(0.5, 0.5))).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }
}

/// Sends lines and receives messages until the socket ends; an error unless the server has closed it.
async fn exchange(
    socket: WebSocket,
    lines: &mut mpsc::Receiver<String>,
    messages: &mpsc::Sender<String>,
    prefix: &str,
    json: bool,
    wait: &mut Duration,
) -> Result<()> {
    match socket.opened().await {
        // Opened, and closed by the server: its messages are there.
        Ok(_) | Err(Error::Closed) => *wait = BACKOFF.0,
        Err(error) => return Err(error.into()),
    }
    let (mut sink, mut stream) = socket.split();
    let receive = async {
        while let Some(message) = stream.next().await {
            if messages.send(shown(&message?, prefix, json)).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    tokio::select! {
        result = receive => result,
        // It never returns: the socket's end is the receiver's to see.
        () = send(&mut sink, lines) => Ok(()),
    }
}

/// Sends lines for as long as there are any, and then waits for ever.
async fn send(sink: &mut SplitSink<WebSocket, Message>, lines: &mut mpsc::Receiver<String>) {
    while let Some(line) = lines.recv().await {
        if sink.send(Message::from(line)).await.is_err() {
            break;
        }
    }
    std::future::pending::<()>().await;
}

/// A message as lines of the output: a text as it is, with JSON in its short form; bytes in hexadecimal digits behind `0x`.
fn shown(message: &Message, prefix: &str, json: bool) -> String {
    let mut line = String::from(prefix);
    match message {
        Message::Text(text) => match serde_json::from_str::<serde_json::Value>(text) {
            Ok(value) if json => {
                let _ = write!(line, "{value}");
            }
            _ => line.push_str(text),
        },
        Message::Binary(bytes) => {
            line.push_str("0x");
            for byte in bytes {
                let _ = write!(line, "{byte:02x}");
            }
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_their_socket() {
        assert_eq!(addressed("2:a:b", 2), Some((1, "a:b")));
        assert_eq!(addressed("1:", 2), Some((0, "")));
        for line in ["0:a", "3:a", "a", "", ":a", "-1:a", "99999999999999999999:a"] {
            assert_eq!(addressed(line, 2), None, "{line}");
        }
    }

    #[test]
    fn messages_are_lines() {
        assert_eq!(shown(&Message::from("{ \"a\": 1 }"), "", false), "{ \"a\": 1 }\n");
        assert_eq!(shown(&Message::from("{ \"a\": 1 }"), "2:", true), "2:{\"a\":1}\n");
        assert_eq!(shown(&Message::from("no json"), "", true), "no json\n");
        assert_eq!(shown(&Message::from(vec![0, 255]), "1:", false), "1:0x00ff\n");
    }
}
