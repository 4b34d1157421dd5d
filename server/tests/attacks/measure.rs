//! Measures the cost of an attack for the server, and the latency of a harmless page beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::binary::{Binary, processor_time};
use crate::common::{Link, Server};
use crate::table;
use crate::wire::ECHO;

/// The most processor time that the server may spend between a neighbour's message and its echo, at the 99th percentile.
///
/// Wall-clock time would say how busy the machine is: its kernel makes the neighbour, too, wait for a processor. The
/// server's own work makes a neighbour wait on an idle machine, and is the same on a busy one. In a build
/// without optimisation the attacks here reach half of this; the faults that it is to find took seconds.
const WORK: Duration = Duration::from_millis(300);

/// The text that the neighbour sends.
const WORDS: &str = "are you there";

/// The time of one echo of the neighbour.
struct Echo {
    /// The server's processor time, in steps of 10 ms.
    work: Duration,
    wall: Duration,
}

/// The neighbour's echoes, at the 99th percentile.
fn p99(echoes: &[Echo], of: impl Fn(&Echo) -> Duration) -> Duration {
    let mut times: Vec<_> = echoes.iter().map(of).collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// A page that exchanges messages on its own link, in its own thread, until it is stopped.
struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Echo>>,
}

impl Neighbour {
    fn watch(binary: &Binary) -> Self {
        let (address, id, stop) = (binary.server.address, binary.id(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let mut link = Link::dial(&Server::at(address)).await;
                let channel = link.open(ECHO).await;
                let mut echoes = Vec::new();
                while !stopped.load(Ordering::Relaxed) || echoes.len() < 100 {
                    let (begun, before) = (Instant::now(), processor_time(id));
                    link.assert_echo(channel, WORDS).await;
                    let wall = begun.elapsed();
                    echoes.push(Echo { work: processor_time(id) - before, wall });
                    link.endpoint.consumed(channel, 1, WORDS.len() as u32);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                echoes
            })
        });
        Self { stop, thread }
    }

    async fn stop(self) -> Vec<Echo> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await.expect("a thread");
        joined.expect("a neighbour that was served")
    }
}

/// Runs an attack, and checks the server's promises: how much the server does for others while a neighbour waits, during
/// the attack and afterwards, and the most memory, in MiB, above that before. Prints a line of figures; or, if the
/// table is wanted, only measures and prints the attack's row.
pub(crate) async fn survive(
    name: &str,
    arguments: &[&str],
    memory: usize,
    attack: impl AsyncFn(&mut Binary),
) {
    if table::is_wanted() {
        return table::row(name, arguments, attack).await;
    }
    let mut binary = Binary::start(arguments, &[]).await;
    let before = Neighbour::watch(&binary).stop().await;
    let had = binary.memory("VmRSS");
    let neighbour = Neighbour::watch(&binary);
    let (begun, cpu) = (Instant::now(), processor_time(binary.id()));
    attack(&mut binary).await;
    let (took, cpu) = (begun.elapsed(), processor_time(binary.id()) - cpu);
    let during = neighbour.stop().await;
    let after = Neighbour::watch(&binary).stop().await;
    let most = (binary.memory("VmHWM") - had) / 1024;
    let walls = [&before, &during, &after].map(|echoes| p99(echoes, |echo| echo.wall).as_secs_f64() * 1e3);
    let [work, later] = [&during, &after].map(|echoes| p99(echoes, |echo| echo.work));
    eprintln!(
        "| {name} | {:.1} s | {:.1} / {:.1} / {:.1} ms | {most} MiB | {:.2} s |",
        took.as_secs_f64(),
        walls[0],
        walls[1],
        walls[2],
        cpu.as_secs_f64(),
    );
    assert!(
        work < WORK && later < WORK,
        "{name}: the server worked {work:?} while a neighbour waited, and {later:?} afterwards"
    );
    assert!(most <= memory, "{name}: {most} MiB");
}
