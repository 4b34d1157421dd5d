//! Parses the command line of the binary.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::http::HeaderName;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand, value_parser};
use manysocket_server::{Gateway, Limits, Origin, Proxies, Settings};

/// Serves any number of WebSockets over one connection.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Address and port to listen on: `127.0.0.1:8080` for this machine only, `0.0.0.0:8080` or `[::]:8080` for all
    /// networks; port 0 selects a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
    pub(crate) listen: SocketAddr,

    /// Certificate chain in PEM, to serve https: and wss:; reloaded on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Path of the multiplexer.
    #[arg(long, default_value = "/multiplexer", value_parser = path)]
    pub(crate) multiplexer: String,

    /// Part of the site that virtual sockets reach [default: the multiplexer's folder].
    #[arg(long, alias = "jail", value_parser = path)]
    pub(crate) scope: Option<String>,

    /// Folder whose files are served, except hidden files outside `.well-known`; symbolic links that lead out of it
    /// are not followed.
    #[arg(long = "static", value_name = "DIR", value_parser = folder)]
    pub(crate) files: Option<PathBuf>,

    /// File of that folder to serve in place of missing pages, for routes that a page's own script handles:
    /// `index.html`.
    #[arg(long, value_name = "FILE", requires = "files")]
    pub(crate) static_fallback: Option<String>,

    /// Upstream WebSocket server (ws: or wss:) for a path and all below it; may be given several times, the longest
    /// prefix wins. With one, there are no demo endpoints.
    #[arg(long, value_name = "PREFIX=ws://HOST:PORT/PATH", value_parser = gateway)]
    pub(crate) upstream: Vec<Gateway>,

    /// Prefix whose upstream gets its own host in the header `Host`, in place of the page's; may be given several times.
    #[arg(long, value_name = "PREFIX", value_parser = path, requires = "upstream")]
    pub(crate) upstream_host: Vec<String>,

    /// Proxies whose forwarding headers the server trusts (`X-Forwarded-Proto`, `-Host`, `-For`, `-Prefix`,
    /// `Forwarded`): an address, a range (`10.0.0.0/8`), `loopback`, or `private` for all private networks; may be
    /// given several times.
    #[arg(long, value_name = "CIDR")]
    pub(crate) trust_forwarded: Vec<Proxies>,

    /// Header that virtual sockets inherit from the handshake of their link, and that upstreams get, besides the
    /// well-known ones of users, client addresses and traces; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) inherit_header: Vec<HeaderName>,

    /// Origin whose pages may connect, besides the server's own: `https://example.com`, `https://*.example.com` for
    /// all subdomains, `tauri://localhost` and the like for applications, `*` for every origin; may be given several
    /// times.
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<Origin>,

    /// Folder for documents and the messages of topics, created if it does not exist; without it and without --nats, they
    /// are kept in memory and lost when the server ends.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// NATS server with JetStream, in which several servers keep their topics and their documents:
    /// `nats://[USER:PASSWORD@]HOST:PORT`; several servers of a cluster are separated by commas.
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "upstream"])]
    pub(crate) nats: Option<String>,

    /// Address and port for monitoring: `/metrics` and `/healthz`; off by default.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) metrics: Option<SocketAddr>,

    /// Host name that monitoring uses for `/metrics`, besides addresses and names that do not exist on the internet;
    /// may be given several times.
    #[arg(long, value_name = "NAME", requires = "metrics")]
    pub(crate) metrics_host: Vec<String>,

    /// Seconds for sockets to close when the server shuts down; after that, the server cuts their connections.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) drain: u32,

    /// Seconds for which a link outlives the loss of its connection, for its page to connect again; 0: it ends at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) resume: u32,

    /// Maximum number of links; the server refuses further ones.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_links, value_parser = some)]
    pub(crate) max_links: usize,

    /// Maximum number of channels of a link; the server refuses further ones.
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_channels,
        value_parser = value_parser!(u32).range(1..))]
    pub(crate) max_channels: u32,

    /// Size of the largest message, in bytes (text: in UTF-16 code units).
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().max_message,
        value_parser = value_parser!(u32).range(1..))]
    pub(crate) max_message: u32,

    /// Maximum memory that the server holds for a link, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().link_memory, value_parser = some)]
    pub(crate) link_memory: usize,

    /// Maximum memory that the server holds for all links together, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().total_memory, value_parser = some)]
    pub(crate) total_memory: usize,
}

/// A command to run instead of serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Maintains the documents that --data keeps.
    #[command(subcommand)]
    Store(Action),
}

/// Actions on a store. PATH is the folder that --data names, or the file itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Reads all documents and reports damaged ones; no server may have the store open.
    Check { path: PathBuf },

    /// Writes all documents to standard output, one line of JSON each; a server may have the store open.
    Export { path: PathBuf },

    /// Writes all documents to a file, which appears only when it is complete; a server may have the store open.
    Backup {
        path: PathBuf,
        /// The file; an existing one is replaced.
        file: PathBuf,
    },

    /// Imports the lines of an export or a backup into the store, all of them or none; no server may have the store
    /// open.
    Import {
        path: PathBuf,
        /// The file with the lines; standard input by default.
        file: Option<PathBuf>,
        /// Imports into a store that has documents, and replaces those with the same names.
        #[arg(long)]
        overwrite: bool,
    },
}

impl Options {
    /// Parses the command line, and exits with a message if it is invalid.
    pub(crate) fn read() -> Self {
        let options = Self::parse();
        if let Err(why) = options.check() {
            <Self as clap::CommandFactory>::command().error(ErrorKind::ArgumentConflict, why).exit();
        }
        options
    }

    /// Checks options against each other.
    fn check(&self) -> Result<(), String> {
        let prefixes = self.upstream.iter().map(Gateway::prefix).collect::<Vec<_>>();
        let mut earlier = prefixes.iter().enumerate();
        if let Some((_, twice)) = earlier.find(|(index, prefix)| prefixes[..*index].contains(prefix)) {
            return Err(format!("two values of --upstream are for \"{twice}/\""));
        }
        let mut hosts = self.upstream_host.iter().map(|prefix| prefix.trim_end_matches('/'));
        if let Some(prefix) = hosts.find(|prefix| !prefixes.contains(prefix)) {
            return Err(format!("--upstream-host is for \"{prefix}/\", and no --upstream is"));
        }
        Ok(())
    }

    /// Returns the upstreams, configured by the other options.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = Gateway> {
        self.upstream.iter().cloned().map(|gateway| {
            let gateway = gateway.max_message_size(self.max_message as usize);
            let mut hosts = self.upstream_host.iter().map(|prefix| prefix.trim_end_matches('/'));
            if hosts.any(|prefix| prefix == gateway.prefix()) { gateway.upstream_host() } else { gateway }
        })
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::new().max_channels(self.max_channels).max_message(self.max_message)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits::new().max_links(self.max_links).link_memory(self.link_memory).total_memory(self.total_memory)
    }
}

/// Parses a URL path without characters that routes would read as a pattern.
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
    if !folder.is_dir() {
        return Err("there is no such folder".into());
    }
    // Listing a folder and opening its files need different permissions; check both.
    let listed = std::fs::read_dir(&folder).and_then(|_| std::fs::metadata(folder.join(".")));
    listed.map(|_| folder).map_err(|error| format!("the folder cannot be read: {error}"))
}

/// Parses an address with a port. `localhost` is the IPv4 loopback address, which all clients try.
fn address(written: &str) -> Result<SocketAddr, String> {
    let written = match written.strip_prefix("localhost:") {
        Some(port) => &format!("127.0.0.1:{port}"),
        None => written,
    };
    written.parse().map_err(|_| {
        "expected ADDRESS:PORT, such as 127.0.0.1:8080 for this machine only or 0.0.0.0:8080 for all networks".into()
    })
}

/// Parses a number other than 0; with 0, a limit would refuse everybody.
fn some(number: &str) -> Result<usize, String> {
    match number.parse::<usize>() {
        Ok(0) => Err("with 0 the server would refuse everybody: expected 1 or more".into()),
        number => number.map_err(|error| error.to_string()),
    }
}

fn gateway(option: &str) -> Result<Gateway, String> {
    let (prefix, upstream) = option.split_once('=').ok_or("expected PREFIX=ws://HOST:PORT/PATH")?;
    Gateway::new(&path(prefix)?, upstream).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a command line; returns `Err` if it is invalid.
    fn read(arguments: &str) -> Result<Options, String> {
        let arguments = std::iter::once("manysocket-server").chain(arguments.split_whitespace());
        let options = Options::try_parse_from(arguments).map_err(|error| error.to_string())?;
        options.check().map(|()| options)
    }

    #[test]
    fn invalid_options_are_refused_with_a_reason() {
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
            ("--inherit-header a:b", "invalid HTTP header name"),
            ("--listen 8080", "127.0.0.1:8080"),
            ("--listen :8080", "0.0.0.0:8080"),
            ("--listen example.com:80", "expected ADDRESS:PORT"),
            ("--listen localhost", "expected ADDRESS:PORT"),
            ("--listen 127.0.0.1:99999", "expected ADDRESS:PORT"),
            ("--metrics 9090", "expected ADDRESS:PORT"),
            ("--max-links 0", "refuse everybody"),
            ("--link-memory 0", "refuse everybody"),
            ("--total-memory 0", "refuse everybody"),
            ("--max-channels 0", "not in 1.."),
            ("--max-message 0", "not in 1.."),
            ("--trust-forwarded example.com", "10.0.0.0/8"),
            ("--trust-forwarded 10.0.0.0/33", "10.0.0.0/8"),
            ("--static-fallback index.html", "--static"),
            ("--metrics-host a.example", "--metrics"),
            ("--upstream-host /a", "--upstream"),
            ("--upstream /a=ws://h --upstream-host /b", "no --upstream is"),
        ] {
            let error = read(arguments).err().unwrap_or_else(|| panic!("taken: {arguments}"));
            assert!(error.contains(reason), "{arguments}: {error}");
        }
        assert!(read("--upstream /a=ws://h --upstream /a/b=ws://h --upstream /=ws://h").is_ok());
        assert!(read("--upstream /a=ws://h --upstream-host /a/").is_ok());
        assert!(
            read("--trust-forwarded 10.0.0.0/8 --trust-forwarded private --allow-origin tauri://localhost")
                .is_ok()
        );
        for (written, expected) in
            [("localhost:8080", "127.0.0.1:8080"), ("[::]:0", "[::]:0"), ("0.0.0.0:80", "0.0.0.0:80")]
        {
            let options = read(&format!("--listen {written}")).expect(written);
            assert_eq!(options.listen.to_string(), expected);
        }
    }
}
