//! Parses the command line.

use anyhow::Result;
use clap::{Args, Parser, Subcommand, value_parser};
use http::{HeaderName, HeaderValue};
use manysocket::MultiWebSocket;

/// Talks to the WebSockets behind a multiplexer, over one connection.
#[derive(Debug, Parser)]
#[command(name = "manysocket", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sends the lines of the input to sockets, and prints received messages.
    Connect(Connect),
    /// Measures how fast a server opens sockets and echoes messages.
    Bench(Bench),
}

/// The link to the multiplexer.
#[derive(Debug, Args)]
pub(crate) struct Link {
    /// URL of the multiplexer: `ws://127.0.0.1:8080/multiplexer`.
    multiplexer: String,

    /// Header of the link's handshake, such as `Authorization: Bearer …` or `Cookie: …`; may be given several times.
    #[arg(long, value_name = "NAME:VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
}

impl Link {
    /// The client of the multiplexer. Nothing is dialled yet.
    pub(crate) fn client(&self) -> Result<MultiWebSocket> {
        let mut client = MultiWebSocket::new(&self.multiplexer)?;
        for (name, value) in &self.header {
            client = client.header(name.clone(), value.clone());
        }
        Ok(client)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Connect {
    #[command(flatten)]
    pub(crate) link: Link,

    /// URLs of the sockets, absolute or relative to the multiplexer's. With several, each line begins with the number
    /// of the socket, from 1 on, and a colon: `2:hello`.
    #[arg(required = true)]
    pub(crate) urls: Vec<String>,

    /// Subprotocol to offer, best first; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) protocol: Vec<String>,

    /// Header of each socket's open, for its handler; may be given several times.
    #[arg(long, value_name = "NAME:VALUE", value_parser = header)]
    pub(crate) open_header: Vec<(HeaderName, HeaderValue)>,

    /// Read and write JSON values: a line that is none is reported and not sent, and values are printed on one line.
    #[arg(long)]
    pub(crate) json: bool,

    /// End after this many messages.
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Open a socket again that fails, or whose connection is lost, after 0.5 s, and then twice as long each time, up to
    /// 30 s.
    #[arg(long)]
    pub(crate) reconnect: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) link: Link,

    /// URL of a socket that echoes.
    pub(crate) url: String,

    /// Sockets to open.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=16_384))]
    pub(crate) sockets: u32,

    /// Messages that each socket sends, one after the other: the next once the last has come back.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
    pub(crate) messages: u32,

    /// Length of a message, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 32, value_parser = value_parser!(u32).range(1..=1_048_576))]
    pub(crate) size: u32,
}

/// A header as curl reads it.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written NAME:VALUE")?;
    let name = HeaderName::try_from(name.trim()).map_err(|error| format!("{name:?}: {error}"))?;
    // The value may be a secret: it is in no message.
    let value =
        HeaderValue::try_from(value.trim()).map_err(|error| format!("the value of {name}: {error}"))?;
    Ok((name, value))
}
