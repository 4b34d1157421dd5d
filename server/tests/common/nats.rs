//! A real nats-server, and the places where topics, functions and documents can be: in one process, or on NATS.

use std::net::SocketAddr;

use manysocket_server::Nats;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::program::{free_address, is_installed, start};
use super::{KINDS, Kind};

pub(crate) struct NatsServer {
    address: SocketAddr,
    /// The folder that it keeps over a restart.
    folder: TempDir,
    arguments: Vec<String>,
    process: Child,
}

impl NatsServer {
    /// Starts it on a free port; `None` where there is none installed, which is said.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// The same with more arguments, for example `--user`.
    pub(crate) async fn start_with(arguments: &[&str]) -> Option<Self> {
        if !is_installed("nats-server").await {
            return None;
        }
        let address = free_address();
        let folder = tempfile::tempdir().expect("a folder");
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        let process = spawn(address, &folder, &arguments).await;
        Some(Self { address, folder, arguments, process })
    }

    /// Where it is, with credentials.
    pub(crate) fn url_with(&self, credentials: &str) -> String {
        format!("nats://{credentials}@{}", self.address)
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Opens another connection, as each process has its own.
    pub(crate) async fn connect(&self) -> Nats {
        Nats::connect(&self.url()).await.expect("it answers")
    }

    /// Kills it without warning.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.expect("it lives");
    }

    /// Starts it again, on the same port with the same folder.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(self.address, &self.folder, &self.arguments).await;
    }

    /// Starts it again, on the same port with nothing in its folder.
    pub(crate) async fn restart_empty(&mut self) {
        self.folder = tempfile::tempdir().expect("a folder");
        self.restart().await;
    }

    /// Starts it with the same folder where nobody looks for it; how it is now found.
    pub(crate) async fn restart_elsewhere(&mut self) -> String {
        let address = free_address();
        self.process = spawn(address, &self.folder, &self.arguments).await;
        format!("nats://{address}")
    }
}

async fn spawn(address: SocketAddr, folder: &TempDir, arguments: &[String]) -> Child {
    let mut command = Command::new("nats-server");
    command.args(["--addr", "127.0.0.1", "--port", &address.port().to_string(), "-js", "-sd"]);
    start(command.arg(folder.path()).args(arguments), address).await
}

/// Where topics, functions and documents are.
pub(crate) struct Backend {
    pub(crate) nats: Option<Nats>,
    _server: Option<NatsServer>,
}

impl Backend {
    /// In one process.
    pub(crate) fn here() -> Self {
        Self { nats: None, _server: None }
    }
}

/// Each place, NATS with its own server.
pub(crate) async fn backends() -> Vec<Backend> {
    let mut backends = vec![Backend::here()];
    if let Some(server) = NatsServer::start().await {
        backends.push(Backend { nats: Some(server.connect().await), _server: Some(server) });
    }
    backends
}

/// Every backend with every kind of socket.
pub(crate) fn cases(backends: &[Backend]) -> impl Iterator<Item = (&Backend, Kind)> {
    backends.iter().flat_map(|backend| KINDS.map(|kind| (backend, kind)))
}
