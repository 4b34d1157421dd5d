//! A real nats-server, and the places where topics and functions can be: in one process, or on NATS.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use manysocket_server::Nats;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

pub(crate) struct NatsServer {
    address: SocketAddr,
    /// What it keeps over a restart.
    folder: TempDir,
    process: Child,
}

impl NatsServer {
    /// Starts it on a free port; `None` where there is none installed, which is said.
    pub(crate) async fn start() -> Option<Self> {
        let is_installed = Command::new("nats-server").arg("--version").stdout(Stdio::null()).status().await;
        if is_installed.is_err() {
            eprintln!(
                "SKIPPED: there is no nats-server here; `apt-get install nats-server` or `cargo xtask test` adds it"
            );
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("its address");
        drop(free);
        let folder = tempfile::tempdir().expect("a folder");
        let process = spawn(address, &folder).await;
        Some(Self { address, folder, process })
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// A connection of its own, as each process has one.
    pub(crate) async fn connect(&self) -> Nats {
        Nats::connect(&self.url()).await.expect("it answers")
    }

    /// Kills it without warning.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.expect("it lives");
    }

    /// Starts it again, on the same port with the same folder.
    pub(crate) async fn restart(&mut self) {
        self.process = spawn(self.address, &self.folder).await;
    }
}

async fn spawn(address: SocketAddr, folder: &TempDir) -> Child {
    let mut process = Command::new("nats-server")
        .args(["--addr", "127.0.0.1", "--port", &address.port().to_string(), "-js", "-sd"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("nats-server");
    let answers = async {
        while TcpStream::connect(address).await.is_err() {
            let ended = process.try_wait().expect("its status");
            assert!(ended.is_none(), "nats-server ended: {ended:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), answers).await.expect("nats-server listens in time");
    process
}

/// Where topics and functions are.
pub(crate) struct Backend {
    pub(crate) nats: Option<Nats>,
    _server: Option<NatsServer>,
}

/// Each place, NATS with a server of its own.
pub(crate) async fn backends() -> Vec<Backend> {
    let mut backends = vec![Backend { nats: None, _server: None }];
    if let Some(server) = NatsServer::start().await {
        backends.push(Backend { nats: Some(server.connect().await), _server: Some(server) });
    }
    backends
}
