//! Programs of others that run beside the server in tests.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Whether a program is installed; if not, that is said.
pub(crate) async fn is_installed(program: &str) -> bool {
    // Both streams: nginx tells its version on the second.
    let version = Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_installed = version.await.is_ok();
    if !is_installed {
        eprintln!(
            "SKIPPED: there is no {program} here; `apt-get install {program}` or `cargo xtask test` adds it"
        );
    }
    is_installed
}

/// An address on which nobody listens.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// Starts a program, and waits until it listens.
pub(crate) async fn start(command: &mut Command, address: SocketAddr) -> Child {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut process = command.spawn().expect("the program");
    let listens = async {
        while TcpStream::connect(address).await.is_err() {
            let ended = process.try_wait().expect("its status");
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), listens).await.expect("the program listens in time");
    process
}
