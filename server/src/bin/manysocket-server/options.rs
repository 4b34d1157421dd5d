//! What the command line of the binary says.

use std::net::SocketAddr;
use std::path::PathBuf;

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
    /// networks; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
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

    /// Folder whose files are served; no link leads out of it, and hidden files are not served, except below `.well-known`.
    #[arg(long = "static", value_name = "DIR", value_parser = folder)]
    pub(crate) files: Option<PathBuf>,

    /// File of that folder that is served in place of a page that is not there, for routes that a page's own script
    /// knows: `index.html`.
    #[arg(long, value_name = "FILE", requires = "files")]
    pub(crate) static_fallback: Option<String>,

    /// Upstream WebSocket server (ws: or wss:) for a path and all below it; may be given several times, the longest
    /// prefix wins. With one, there are no demo endpoints.
    #[arg(long, value_name = "PREFIX=ws://HOST:PORT/PATH", value_parser = gateway)]
    pub(crate) upstream: Vec<Gateway>,

    /// Prefix whose upstream gets its own host in the header `Host`, in place of the page's; may be given several times.
    #[arg(long, value_name = "PREFIX", value_parser = path, requires = "upstream")]
    pub(crate) upstream_host: Vec<String>,

    /// Proxies whose forwarding headers are believed (`X-Forwarded-Proto`, `-Host`, `-For`, `-Prefix`, `Forwarded`): an
    /// address, a range (`10.0.0.0/8`), `loopback`, or `private` for all private networks; may be given several times.
    #[arg(long, value_name = "CIDR")]
    pub(crate) trust_forwarded: Vec<Proxies>,

    /// Origin whose pages may connect, besides the server's own: `https://example.com`, `https://*.example.com` for
    /// all below that name, `tauri://localhost` and the like for applications, `*` for everybody; may be given several times.
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
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) metrics: Option<SocketAddr>,

    /// Name by which monitoring reaches `/metrics`, besides addresses and names that the internet does not have; may be
    /// given several times.
    #[arg(long, value_name = "NAME", requires = "metrics")]
    pub(crate) metrics_host: Vec<String>,

    /// Seconds that sockets have to close when the server is told to stop; what is open then is cut.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) drain: u32,

    /// Links at once; further ones are refused.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_links, value_parser = some)]
    pub(crate) max_links: usize,

    /// Channels of a link at once; further ones are refused.
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_channels,
        value_parser = value_parser!(u32).range(1..))]
    pub(crate) max_channels: u32,

    /// The largest message, in bytes (text: in UTF-16 code units).
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().max_message,
        value_parser = value_parser!(u32).range(1..))]
    pub(crate) max_message: u32,

    /// What a link may have the server hold for it, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().link_memory, value_parser = some)]
    pub(crate) link_memory: usize,

    /// What all links together may have the server hold for them, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().total_memory, value_parser = some)]
    pub(crate) total_memory: usize,
}

/// What the program does in place of serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Looks after the documents that --data keeps.
    #[command(subcommand)]
    Store(Action),
}

/// What is done with a store. PATH is the folder that --data names, or the file itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Reads all documents and names those that are damaged; no server may have the store open.
    Check { path: PathBuf },

    /// Writes all documents to standard output, a line of JSON each; a server may have the store open.
    Export { path: PathBuf },

    /// Writes all documents to a file, which is complete or not there; a server may have the store open.
    Backup {
        path: PathBuf,
        /// The file; one of that name is replaced.
        file: PathBuf,
    },

    /// Reads the lines of an export or a backup into the store, all of them or none; no server may have it open.
    Import {
        path: PathBuf,
        /// The file with the lines; without it, standard input.
        file: Option<PathBuf>,
        /// Imports into a store that has documents, and replaces those of the same names.
        #[arg(long)]
        overwrite: bool,
    },
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

    /// The upstreams, with what other options say of them.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = Gateway> {
        self.upstream.iter().cloned().map(|gateway| {
            let gateway = gateway.max_message_size(self.max_message as usize);
            let mut hosts = self.upstream_host.iter().map(|prefix| prefix.trim_end_matches('/'));
            if hosts.any(|prefix| prefix == gateway.prefix()) { gateway.upstream_host() } else { gateway }
        })
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
    if !folder.is_dir() {
        return Err("there is no such folder".into());
    }
    // To list it is one right, to open what is in it another.
    let listed = std::fs::read_dir(&folder).and_then(|_| std::fs::metadata(folder.join(".")));
    listed.map(|_| folder).map_err(|error| format!("the folder cannot be read: {error}"))
}

/// An address with a port. `localhost` is that of IPv4, which all clients try.
fn address(written: &str) -> Result<SocketAddr, String> {
    let written = match written.strip_prefix("localhost:") {
        Some(port) => &format!("127.0.0.1:{port}"),
        None => written,
    };
    written.parse().map_err(|_| {
        "expected ADDRESS:PORT, such as 127.0.0.1:8080 for this machine only or 0.0.0.0:8080 for all networks".into()
    })
}

/// A number that is not 0, with which a limit would refuse everybody.
fn some(number: &str) -> Result<usize, String> {
    match number.parse::<usize>() {
        Ok(0) => Err("with 0 the server would refuse everybody: expected 1 or more".into()),
        number => number.map_err(|error| error.to_string()),
    }
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
