//! What the command line of the binary says.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use clap::error::ErrorKind;
use manysocket_server::{Gateway, Limits, Origin, Settings};

/// Serves any number of WebSockets over one connection.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Options {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// Certificate chain in PEM, to serve https: and wss:; read again on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Path of the multiplexer.
    #[arg(long, default_value = "/multiplexer", value_parser = path)]
    pub(crate) multiplexer: String,

    /// Part of the site that virtual sockets reach [default: the multiplexer's folder].
    #[arg(long, value_parser = path)]
    pub(crate) jail: Option<String>,

    /// Folder whose files are served.
    #[arg(long = "static", value_name = "DIR", value_parser = folder)]
    pub(crate) files: Option<PathBuf>,

    /// Upstream WebSocket server (ws: or wss:) for a path and all below it; may be given several times, the longest
    /// prefix wins. With one, there are no demo endpoints.
    #[arg(long, value_name = "PREFIX=ws://HOST:PORT/PATH", value_parser = gateway)]
    pub(crate) upstream: Vec<Gateway>,

    /// Origin whose pages may connect, besides the server's own: `https://example.com`, `https://*.example.com` for
    /// all below that name, `*` for everybody; may be given several times.
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<Origin>,

    /// Folder where documents are kept, made if it is not there; without it and without --nats they are kept in memory,
    /// and end with the server.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// NATS server over which several servers share their topics and, in its JetStream, their documents:
    /// `nats://[USER:PASSWORD@]HOST:PORT`; several of a cluster, separated by commas.
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "upstream"])]
    pub(crate) nats: Option<String>,

    /// Address and port where monitoring finds `/metrics` and `/healthz`; without it, nowhere.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,

    /// Seconds that sockets have to close when the server is told to stop; what is open then is cut.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) drain: u32,

    /// Links at once; further ones are refused.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_links)]
    pub(crate) max_links: usize,

    /// Channels of a link at once; further ones are refused.
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_channels)]
    pub(crate) max_channels: u32,

    /// The largest message, in bytes (text: in UTF-16 code units).
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().max_message)]
    pub(crate) max_message: u32,

    /// What a link may have the server hold for it, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().link_memory)]
    pub(crate) link_memory: usize,

    /// What all links together may have the server hold for them, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().total_memory)]
    pub(crate) total_memory: usize,
}

impl Options {
    /// Reads the command line, and ends the program with a message if something is wrong with it.
    pub(crate) fn read() -> Self {
        let options = Self::parse();
        if let Err(why) = options.check() {
            <Self as clap::CommandFactory>::command().error(ErrorKind::ArgumentConflict, why).exit();
        }
        options
    }

    /// What no option says alone.
    fn check(&self) -> Result<(), String> {
        let prefixes = self.upstream.iter().map(Gateway::prefix).collect::<Vec<_>>();
        match prefixes.iter().enumerate().find(|(index, prefix)| prefixes[..*index].contains(prefix)) {
            Some((_, twice)) => Err(format!("two values of --upstream are for \"{twice}/\"")),
            None => Ok(()),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings { max_channels: self.max_channels, max_message: self.max_message, ..Settings::default() }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_links: self.max_links,
            link_memory: self.link_memory,
            total_memory: self.total_memory,
            ..Limits::default()
        }
    }
}

/// A path as URLs have it, with nothing in it that routes would take for a pattern.
fn path(path: &str) -> Result<String, String> {
    let url = url::Url::parse(&format!("http://localhost{path}"));
    if path.starts_with('/') && url.is_ok_and(|url| url.path() == path) && !path.contains(['{', '}', '*']) {
        Ok(path.to_owned())
    } else {
        Err("it is not a path that begins with a slash, as it stands in a URL".into())
    }
}

fn folder(path: &str) -> Result<PathBuf, String> {
    let folder = PathBuf::from(path);
    if folder.is_dir() { Ok(folder) } else { Err("there is no such folder".into()) }
}

fn gateway(option: &str) -> Result<Gateway, String> {
    let (prefix, upstream) = option.split_once('=').ok_or("expected PREFIX=ws://HOST:PORT/PATH")?;
    Gateway::new(&path(prefix)?, upstream)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the command line comes to: `Err` if it is refused.
    fn read(arguments: &str) -> Result<Options, String> {
        let arguments = std::iter::once("manysocket-server").chain(arguments.split_whitespace());
        let options = Options::try_parse_from(arguments).map_err(|error| error.to_string())?;
        options.check().map(|()| options)
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_a_reason() {
        for (arguments, reason) in [
            ("--upstream /a=ws://h --upstream /a/=ws://h", "two values of --upstream"),
            ("--nats nats://h --data d", "cannot be used with"),
            ("--nats nats://h --upstream /a=ws://h", "cannot be used with"),
            ("--upstream /a/{b}=ws://h", "not a path"),
            ("--upstream /a/../b=ws://h", "not a path"),
            ("--upstream a=ws://h", "not a path"),
            ("--upstream /a", "PREFIX="),
            ("--multiplexer mux", "not a path"),
            ("--multiplexer /{mux}", "not a path"),
            ("--multiplexer /a?b", "not a path"),
            ("--static /there/is/no/such", "no such folder"),
            ("--allow-origin example.com", "scheme://host"),
        ] {
            let error = read(arguments).err().unwrap_or_else(|| panic!("taken: {arguments}"));
            assert!(error.contains(reason), "{arguments}: {error}");
        }
        assert!(read("--upstream /a=ws://h --upstream /a/b=ws://h --upstream /=ws://h").is_ok());
    }
}
