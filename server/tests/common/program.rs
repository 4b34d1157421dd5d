//! Programs of others that run beside the server in tests.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::common::PATIENCE;

/// Whether a program is installed; if not, that is said.
pub(crate) async fn is_installed(program: &str) -> bool {
    // Both streams: nginx prints its version on the second.
    let version = Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_installed = version.await.is_ok();
    if !is_installed {
        eprintln!(
            "SKIPPED: there is no {program} here; `apt-get install {program}` or `cargo xtask test` adds it"
        );
    }
    is_installed
}

/// An address on which nobody listens, and which nobody gets by chance before the program listens there.
pub(crate) fn free_address() -> SocketAddr {
    // Below the ports that systems choose for listeners on port 0 and for connections (Linux: from 32,768 on;
    // others: from 49,152): the other tests would get the port, or the wait for the program would connect to itself.
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 10_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Programs of tests that run at the same time begin at places of their own.
    let begin = u16::try_from(std::process::id() % 100).expect("below 100") * 100;
    loop {
        let port = FIRST + (begin + TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().expect("its address");
        }
    }
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
    timeout(PATIENCE, listens).await.expect("the program listens in time");
    process
}
