//! Prints rows of the table of docs/security.md: the memory that the server holds in an attack, and a neighbour's latency,
//! beside harmless traffic of the same size. `cargo xtask bench attacks` asks for them, and runs everything on one processor;
//! the server is moved to another.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::common::binary::Binary;
use crate::common::{Link, Server, get};
use crate::harmless;
use crate::wire::ECHO;

/// The echoes that a row's percentiles want at least: 20 of them are above the 99th.
const ECHOES: usize = 2_000;

/// The runs that a row may take to have them, each with a fresh server. Most attacks last for some 100 ms.
const RUNS: usize = 12;

/// The time of all runs after which no further one begins.
const ENOUGH: Duration = Duration::from_secs(10);

/// How often the neighbour says something.
const EVERY: Duration = Duration::from_millis(2);

/// How often the server's own count is read.
const READ: Duration = Duration::from_millis(20);

/// The processor of the server. The attacker and the neighbour stay on the one on which they were started.
const PROCESSOR: &str = "0";

/// The niceness of the attacker and of harmless traffic: the neighbour, on the same processor, shall not wait for their own work.
const NICE: &str = "19";

pub(crate) fn is_wanted() -> bool {
    std::env::var_os("MANYSOCKET_TABLE").is_some()
}

/// A server that a run has for its own.
struct Target {
    binary: Binary,
    metrics: SocketAddr,
}

impl Target {
    async fn start(arguments: &[&str]) -> Self {
        let mut binary = Binary::start(&[&["--metrics", "127.0.0.1:0"], arguments].concat(), &[]).await;
        let line = binary.logged("metrics on http://").await;
        let (_, address) = line.split_once("http://").expect("a URL");
        let metrics = address.trim_end_matches("/metrics").parse().expect("an address");
        run("taskset", &["-a", "-p", "-c", PROCESSOR, &binary.id().to_string()]);
        Self { binary, metrics }
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect("a program of util-linux");
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// The measurements of runs.
#[derive(Default)]
struct Seen {
    /// The times of the neighbour's echoes.
    times: Vec<Duration>,
    /// The most that the server counted, in bytes.
    counted: f64,
    /// The most that its process held above its memory before, in KiB.
    held: usize,
}

impl Seen {
    fn milliseconds(&self, percentile: usize) -> f64 {
        self.times[(self.times.len() * percentile / 100).min(self.times.len() - 1)].as_secs_f64() * 1e3
    }

    fn latency(&self) -> String {
        let [p50, p99, longest] = [50, 99, 100].map(|percentile| self.milliseconds(percentile));
        format!("{p50:.2} / {p99:.2} / {longest:.1}")
    }
}

/// The task of the watching thread during a run.
struct Job {
    address: SocketAddr,
    metrics: SocketAddr,
    begun: oneshot::Sender<()>,
    stop: Arc<AtomicBool>,
    done: oneshot::Sender<Seen>,
}

/// Starts the thread of the neighbour and of the reader of the server's count. It has the priority that the caller has by now.
fn watcher() -> mpsc::Sender<Job> {
    let (jobs, waiting) = mpsc::channel::<Job>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        for job in waiting {
            let seen = runtime.block_on(async {
                let (times, counted) =
                    tokio::join!(neighbour(job.address, job.begun, &job.stop), count(job.metrics, &job.stop));
                Seen { times, counted, held: 0 }
            });
            let _ = job.done.send(seen);
        }
    });
    jobs
}

async fn neighbour(address: SocketAddr, begun: oneshot::Sender<()>, stop: &AtomicBool) -> Vec<Duration> {
    const WORDS: &str = "are you there";
    let mut link = Link::dial(&Server::at(address)).await;
    let channel = link.open(ECHO).await;
    let mut begun = Some(begun);
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) || times.is_empty() {
        let at = Instant::now();
        link.assert_echo(channel, WORDS).await;
        link.endpoint.consumed(channel, 1, WORDS.len() as u32);
        match begun.take() {
            // The first has found cold caches.
            Some(begun) => drop(begun.send(())),
            None => times.push(at.elapsed()),
        }
        tokio::time::sleep(EVERY).await;
    }
    times
}

/// The most bytes that the server's figures count, of all kinds together.
async fn count(metrics: SocketAddr, stop: &AtomicBool) -> f64 {
    let mut most = 0.0_f64;
    while !stop.load(Ordering::Relaxed) {
        let figures = get(metrics, "/metrics").await;
        let values = figures.lines().filter_map(|line| line.rsplit_once(' '));
        let bytes = values.filter(|(name, _)| !name.starts_with('#') && name.contains("memory_bytes"));
        most = most.max(bytes.filter_map(|(_, value)| value.parse::<f64>().ok()).sum());
        tokio::time::sleep(READ).await;
    }
    most
}

/// Runs something against fresh servers until the neighbour has said enough.
async fn measure(
    jobs: &mpsc::Sender<Job>,
    targets: &mut Vec<Target>,
    attack: impl AsyncFn(&mut Binary),
) -> Seen {
    let (mut all, begun) = (Seen::default(), Instant::now());
    for _ in 0..RUNS {
        let mut target = targets.pop().expect("a server for each run");
        let (started, has_started) = oneshot::channel();
        let (done, is_done) = oneshot::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (address, metrics) = (target.binary.server.address, target.metrics);
        let job = Job { address, metrics, begun: started, stop: Arc::clone(&stop), done };
        jobs.send(job).expect("a thread that watches");
        has_started.await.expect("a neighbour that is served");
        let had = target.binary.memory("VmRSS");
        attack(&mut target.binary).await;
        stop.store(true, Ordering::Relaxed);
        let seen = is_done.await.expect("a neighbour that is served to the end");
        all.times.extend(seen.times);
        all.counted = all.counted.max(seen.counted);
        all.held = all.held.max(target.binary.memory("VmHWM").saturating_sub(had));
        if all.times.len() >= ECHOES || begun.elapsed() >= ENOUGH {
            break;
        }
    }
    all.times.sort_unstable();
    all
}

/// Measures an attack and prints its row.
pub(crate) async fn row(name: &str, arguments: &[&str], attack: impl AsyncFn(&mut Binary)) {
    let jobs = watcher();
    // Before this thread is slowed down, and they with it.
    let mut targets = Vec::new();
    for _ in 0..2 * RUNS {
        targets.push(Target::start(arguments).await);
    }
    let thread = std::fs::read_link("/proc/thread-self").expect("Linux");
    let thread = thread.file_name().and_then(|name| name.to_str()).expect("a number").to_owned();
    run("renice", &["-n", NICE, "-p", &thread]);

    let attacked = measure(&jobs, &mut targets, attack).await;
    let harmless = match harmless::like(name) {
        Some(load) => {
            targets.truncate(RUNS);
            Some(measure(&jobs, &mut targets, async |binary| load.run(&binary.server).await).await)
        }
        None => None,
    };
    let (beside, factor) = match &harmless {
        Some(harmless) => {
            let factor = attacked.milliseconds(99) / harmless.milliseconds(99);
            let mark = if factor > 2.0 { "**" } else { "" };
            (harmless.latency(), format!("{mark}{factor:.1} ×{mark}"))
        }
        None => ("–".into(), "–".into()),
    };
    const MIB: f64 = 1024.0 * 1024.0;
    eprintln!(
        "| {name} | {:.1} | {:.1} | {} | {beside} | {factor} |",
        attacked.counted / MIB,
        attacked.held as f64 * 1024.0 / MIB,
        attacked.latency(),
    );
}
