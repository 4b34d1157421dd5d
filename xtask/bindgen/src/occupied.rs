//! Runs the test runner with a server that gives each connection of the browser a thread.
//!
//! The server (tiny_http 0.12, `TaskPool`) starts with some idle threads, and counts a thread as idle until it has woken up.
//! On a busy machine, two connections in a row can therefore be handed to one thread. The second then waits until the first
//! ends, which is never, since browsers keep their connections: the page of a test program with many files loads for ever
//! (8 of 10 runs beside six busy loops). Where no thread is idle, the server starts one for each connection.

use anyhow::{Context, Result};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

/// The variable that gives the runner's server its address.
pub(crate) const ADDRESS: &str = "WASM_BINDGEN_TEST_ADDRESS";

/// The threads that the server starts with (`MIN_THREADS`).
const THREADS: usize = 4;

/// The pause before the server is tried again: the runner writes its bindings first, which takes seconds.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs this program again as the test runner, and keeps the first threads of its server occupied until it ends.
pub(crate) fn run_test_runner(arguments: impl Iterator<Item = OsString>) -> Result<ExitStatus> {
    let address =
        TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).context("no port is free")?;
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let mut runner = Command::new(program)
        .arg("test-runner")
        .args(arguments)
        .env(ADDRESS, address.to_string())
        .spawn()
        .context("cannot start the test runner")?;
    let mut connections = Vec::new();
    while connections.len() < THREADS {
        let Some(connection) = connect(&mut runner, address)? else { break };
        // A connection that is served has a thread, so the next gets another.
        if let Err(error) = request(&connection) {
            // The runner prints why it ended, if it did.
            eprintln!("The server of the test runner does not answer: {error:#}");
            break;
        }
        connections.push(connection);
    }
    runner.wait().context("cannot wait for the test runner")
}

/// Returns a connection to the runner's server, or nothing if the runner has ended: not all of its programs have tests.
fn connect(runner: &mut Child, address: SocketAddr) -> Result<Option<TcpStream>> {
    loop {
        if let Ok(connection) = TcpStream::connect(address) {
            return Ok(Some(connection));
        }
        if runner.try_wait().context("cannot wait for the test runner")?.is_some() {
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

/// Sends a request, and reads the whole answer, so that the connection can stay open.
fn request(mut connection: &TcpStream) -> Result<()> {
    connection.write_all(b"GET /occupied HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut reader = BufReader::new(connection);
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line)? > "\r\n".len() {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        line.clear();
    }
    reader.take(length).read_to_end(&mut Vec::new())?;
    Ok(())
}
