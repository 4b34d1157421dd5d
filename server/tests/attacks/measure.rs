//! What an attack costs the server, and what a well-behaved page beside it feels of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::binary::Binary;
use crate::common::{Link, Server};
use crate::wire::ECHO;

/// Slower than this no well-behaved neighbour's echo may get, at the 99th percentile. It is far above what is
/// measured: attacker, server and neighbour may share two cores with other tests, and the build is not optimised.
const P99: Duration = Duration::from_millis(500);

/// What the neighbour says.
const WORDS: &str = "are you there";

/// A page that exchanges messages on a link of its own, in a thread of its own, until it is stopped.
struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Neighbour {
    fn watch(server: &Server) -> Self {
        let (address, stop) = (server.address, Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let mut link = Link::dial(&Server::at(address)).await;
                let channel = link.open(ECHO).await;
                let mut times = Vec::new();
                while !stopped.load(Ordering::Relaxed) || times.len() < 100 {
                    let begun = Instant::now();
                    link.assert_echo(channel, WORDS).await;
                    link.endpoint.consumed(channel, 1, WORDS.len() as u32);
                    times.push(begun.elapsed());
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                times
            })
        });
        Self { stop, thread }
    }

    /// Its 99th percentile.
    async fn p99(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await.expect("a thread");
        let mut times = joined.expect("a neighbour that was served");
        times.sort_unstable();
        times[times.len() * 99 / 100]
    }
}

/// Runs an attack, and holds the server to its promises: the neighbours' latency before, during and after, and the
/// most memory, in MiB, above what it had before. Prints a line for the table of docs/security.md.
pub(crate) async fn survive(
    name: &str,
    arguments: &[&str],
    memory: usize,
    attack: impl AsyncFnOnce(&mut Binary),
) {
    let mut binary = Binary::start(arguments, &[]).await;
    let before = Neighbour::watch(&binary.server).p99().await;
    let had = binary.memory("VmRSS");
    let neighbour = Neighbour::watch(&binary.server);
    let (begun, cpu) = (Instant::now(), binary.cpu());
    attack(&mut binary).await;
    let (took, cpu) = (begun.elapsed(), binary.cpu() - cpu);
    let during = neighbour.p99().await;
    let after = Neighbour::watch(&binary.server).p99().await;
    let most = (binary.memory("VmHWM") - had) / 1024;
    eprintln!(
        "| {name} | {:.1} s | {:.1} / {:.1} / {:.1} ms | {most} MiB | {:.2} s |",
        took.as_secs_f64(),
        before.as_secs_f64() * 1e3,
        during.as_secs_f64() * 1e3,
        after.as_secs_f64() * 1e3,
        cpu.as_secs_f64(),
    );
    assert!(during < P99 && after < P99, "{name}: a neighbour waited {during:?}, and {after:?} afterwards");
    assert!(most <= memory, "{name}: {most} MiB");
}
