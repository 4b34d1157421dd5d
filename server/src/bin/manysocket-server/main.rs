//! `manysocket-server`: a multiplexer, static files and demo endpoints.

mod demo;
mod files;
mod logging;
mod options;
mod running_store;
mod store;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::routing::any;
use demo::Data;
use files::Files;
use manysocket_server::state::Store;
use manysocket_server::topic::TopicStore;
use manysocket_server::{Multiplexer, Nats, Site, Stats, Tls, metrics_router, serve};
use options::{Command, Options};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tower_http::set_header::SetResponseHeaderLayer;
use tracing::{error, info, warn};

/// The key-value bucket of the documents on NATS.
const BUCKET: &str = "manysocket";

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::read();
    let _logs = logging::start();
    if let Some(Command::Store(action)) = &options.command {
        return store::run(action);
    }
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manysocket-server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until SIGTERM or SIGINT.
async fn run(options: Options) -> io::Result<()> {
    let shutdown = CancellationToken::new();
    let mut multiplexer = Multiplexer::new(&options.multiplexer)
        .settings(options.settings())
        .limits(options.limits())
        .shutdown(shutdown.clone())
        .drain(Duration::from_secs(options.drain.into()))
        .resume_timeout(Duration::from_secs(options.resume.into()))
        .trust_forwarded(options.trust_forwarded.iter().cloned())
        .inherit_headers(options.inherit_header.iter().cloned());
    if let Some(scope) = &options.scope {
        multiplexer = multiplexer.scope(scope);
    }
    for origin in &options.allow_origin {
        multiplexer = multiplexer.allow_origin(origin.clone());
    }
    let stats = multiplexer.stats();
    let nats = match &options.nats {
        Some(url) => Some(Nats::connect(url).await?),
        None => None,
    };
    // With upstreams there are no demo endpoints and no data.
    let data = match options.upstream.is_empty() {
        true => Some(open_data(&options, nats).await?),
        false => None,
    };
    let app = multiplexer.serve(app(&options, &stats, data.as_ref())?);

    let listener = bind(options.listen).await?;
    if let Some(address) = options.metrics {
        let listener = bind(address).await?;
        info!("metrics on http://{}/metrics", listener.local_addr()?);
        // Monitoring runs until the program ends, so that it reports draining, too.
        let metrics = metrics_router(stats.clone(), shutdown.clone(), options.metrics_host.iter().cloned());
        tokio::spawn(serve(listener, metrics).into_future());
    }
    let tls = match (&options.tls_cert, &options.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::open(certificate, key)?),
        _ => None,
    };
    tokio::spawn(reload_on_signal(tls.clone())?);
    let scheme = if tls.is_some() { "https" } else { "http" };
    println!("listening on {scheme}://{}", listener.local_addr()?);
    io::stdout().flush()?;

    tokio::spawn(cancel_on_signal(shutdown.clone())?);
    let mut server = serve(listener, app);
    if let Some(tls) = tls {
        server = server.tls(tls);
    }
    let signal = async move {
        shutdown.cancelled().await;
        info!(links = stats.links(), "shutting down");
    };
    server.with_graceful_shutdown(signal).await?;
    if let Some(Data { documents, topics, nats }) = data {
        documents.close().await;
        if let Some(topics) = topics {
            topics.close().await;
        }
        if let Some(nats) = nats {
            nats.close().await;
        }
    }
    Ok(())
}

/// Builds the application: the files, and either the upstreams or the demo.
fn app(options: &Options, stats: &Stats, data: Option<&Data>) -> io::Result<Router> {
    let has_gateway_at_root = options.upstream.iter().any(|gateway| gateway.prefix().is_empty());
    let mut site = options.gateways().fold(Site::new(), Site::gateway);
    if let Some(data) = data {
        site = demo::site(demo::Counts::new(stats.clone()), data);
    }
    let folder = options.files.as_deref();
    let files = folder.map(|folder| Files::open(folder, options.static_fallback.as_deref())).transpose()?;
    let mut app = match files.clone() {
        None => router(site)?,
        Some(files) => {
            let file = any(async move |request| files.answer(request).await);
            if !has_gateway_at_root {
                // The root serves the page rather than the index.
                site = site.route("/", file.clone());
            }
            router(site)?.fallback_service(file)
        }
    };
    if let Some(data) = data {
        app = app.merge(demo::games(files, data));
    }
    // Browsers must not guess a response's type: it is the declared one.
    let nosniff = HeaderValue::from_static("nosniff");
    Ok(app.layer(SetResponseHeaderLayer::if_not_present(header::X_CONTENT_TYPE_OPTIONS, nosniff)))
}

fn router(site: Site) -> io::Result<Router> {
    site.try_into_router().map_err(io::Error::other)
}

/// Opens the stores of documents and messages: NATS, or the files of the `--data` folder, or memory.
async fn open_data(options: &Options, nats: Option<Nats>) -> io::Result<Data> {
    if let Some(nats) = nats {
        let topics = TopicStore::nats(&nats, BUCKET).await?;
        let documents = Store::nats(&nats, BUCKET).await?;
        return Ok(Data { documents, topics: Some(topics), nats: Some(nats) });
    }
    let Some(folder) = &options.data else {
        warn!("documents and messages are kept in memory only; --data DIR keeps them on disk");
        return Ok(Data { documents: Store::in_memory()?, topics: None, nats: None });
    };
    std::fs::create_dir_all(folder).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot make the folder {}: {error}", folder.display()))
    })?;
    let documents = Store::open(store::file_in(folder))?;
    running_store::answer(&documents, folder);
    let topics = TopicStore::open(folder.join("topics.redb"))?;
    Ok(Data { documents, topics: Some(topics), nats: None })
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
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

/// Reloads certificate and key at each SIGHUP. Without TLS there is nothing to reload; the handler then only logs the
/// signal, which would end the program otherwise.
fn reload_on_signal(tls: Option<Tls>) -> io::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            match tls.as_ref().map(Tls::reload) {
                None => info!("SIGHUP: nothing to reload without --tls-cert"),
                Some(Ok(())) => info!("the certificate has been read again"),
                Some(Err(error)) => error!("the certificate has not been replaced: {error}"),
            }
        }
    })
}
