//! `manysocket-server`: a multiplexer, static files and demo endpoints.

mod demo;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::http::{HeaderValue, header};
use axum::routing::get_service;
use clap::Parser;
use manysocket_server::state::Store;
use manysocket_server::{Gateway, Limits, Multiplexer, Settings, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_http::services::{ServeDir, ServeFile};
use tower_http::set_header::SetResponseHeaderLayer;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

/// Serves any number of WebSockets over one connection.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Path of the multiplexer.
    #[arg(long, default_value = "/multiplexer", value_parser = absolute_path)]
    multiplexer: String,

    /// Part of the site that virtual sockets reach [default: the multiplexer's folder].
    #[arg(long, value_parser = absolute_path)]
    jail: Option<String>,

    /// Folder whose files are served.
    #[arg(long = "static", value_name = "DIR")]
    files: Option<PathBuf>,

    /// Upstream WebSocket server (ws: or wss:) for a path and all below it; may be given several times, the longest
    /// prefix wins.
    #[arg(long, value_name = "PREFIX=ws://HOST:PORT/PATH", value_parser = gateway)]
    upstream: Vec<Gateway>,

    /// Origin whose pages may connect, besides the server's own; may be given several times.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,

    /// Folder where documents are kept, made if it is not there; without it they are kept in memory, and end with the
    /// server.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Links at once; further ones are refused.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_links)]
    max_links: usize,

    /// Channels of a link at once; further ones are refused.
    #[arg(long, value_name = "N", default_value_t = Settings::default().max_channels)]
    max_channels: u32,

    /// The largest message, in bytes (text: in UTF-16 code units).
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().max_message)]
    max_message: u32,

    /// What a link may have the server hold for it, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().link_memory)]
    link_memory: usize,

    /// What all links together may have the server hold for them, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().total_memory)]
    total_memory: usize,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(io::stderr)
        .init();

    let shutdown = CancellationToken::new();
    let mut multiplexer = Multiplexer::new(&options.multiplexer).shutdown(shutdown.clone());
    if let Some(jail) = &options.jail {
        multiplexer = multiplexer.jail(jail);
    }
    for origin in &options.allow_origin {
        multiplexer = multiplexer.allow_origin(origin);
    }
    let settings = Settings {
        max_channels: options.max_channels,
        max_message: options.max_message,
        ..Settings::default()
    };
    let limits = Limits {
        max_links: options.max_links,
        link_memory: options.link_memory,
        total_memory: options.total_memory,
        ..Limits::default()
    };
    let stats = multiplexer.stats();
    let mut site = demo::site(demo::Counts::new(stats.clone()), &store(options.data.as_deref())?);
    let has_gateway_at_root = options.upstream.iter().any(|gateway| gateway.prefix().is_empty());
    for gateway in options.upstream {
        site = site.gateway(gateway);
    }
    let app = if let Some(folder) = options.files {
        // Files change under a developer's hands, and a cached module beside a new one breaks the page.
        let no_cache =
            SetResponseHeaderLayer::overriding(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let files = ServiceBuilder::new().layer(no_cache).service(ServeDir::new(&folder));
        if !has_gateway_at_root {
            // The page rather than the index.
            site = site.route("/", get_service(files.clone()));
        }
        site.into_router()
            // Every room of the demo is one page, at a path of its own.
            .route_service("/games/{room}/", ServeFile::new(folder.join("games/room.html")))
            .fallback_service(files)
    } else {
        site.into_router()
    };
    let app = app.merge(demo::games());
    let app = multiplexer.settings(settings).limits(limits).serve(app);

    let listener = TcpListener::bind(options.listen).await.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", options.listen))
    })?;
    println!("listening on http://{}", listener.local_addr()?);
    io::stdout().flush()?;

    tokio::spawn(cancel_on_signal(shutdown.clone())?);
    serve(listener, app, shutdown).await;
    info!(links = stats.links(), "shutting down");
    // Links close their channels within a time of their own; other connections that linger are cut.
    while stats.links() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The store in the file `state.redb` of that folder.
fn store(folder: Option<&Path>) -> io::Result<Store> {
    let Some(folder) = folder else {
        warn!("documents are kept in memory only; --data DIR keeps them on disk");
        return Store::in_memory();
    };
    std::fs::create_dir_all(folder).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot make the folder {}: {error}", folder.display()))
    })?;
    Store::open(folder.join("state.redb"))
}

/// Cancels `shutdown` at SIGTERM or SIGINT.
fn cancel_on_signal(shutdown: CancellationToken) -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
    })
}

fn absolute_path(path: &str) -> Result<String, String> {
    if path.starts_with('/') {
        Ok(path.to_owned())
    } else {
        Err(format!("{path:?} does not begin with a slash"))
    }
}

fn gateway(option: &str) -> Result<Gateway, String> {
    let (prefix, upstream) = option.split_once('=').ok_or("expected PREFIX=ws://HOST:PORT/PATH")?;
    Gateway::new(prefix, upstream)
}
