//! Writes the binary's log to standard error from a dedicated thread, at a limited rate.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber, error, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// The number of lines that may wait to be written: a few megabytes. If nobody reads standard error, the logger drops
/// further lines and the server goes on.
const WAITING: usize = 16 * 1024;

/// The maximum number of lines per [`SPAN`] from one place in the code. It is enough to see which peers do what. A
/// peer that crosses limits as fast as it can must not fill the disk.
const LINES: u64 = 100;

const SPAN: Duration = Duration::from_secs(1);

/// The interval between reports of dropped lines.
const REPORT: Duration = Duration::from_secs(10);

/// Starts the log. Dropping the guard writes the remaining lines.
pub(crate) fn start() -> WorkerGuard {
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING).finish(io::stderr());
    let unwritten = writer.error_counter();
    let throttle = Throttle::default();
    let left_out = Arc::clone(&throttle.left_out);
    tracing_subscriber::registry()
        .with(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with(throttle)
        .with(tracing_subscriber::fmt::layer().with_ansi(is_colourful()).with_writer(writer))
        .init();
    panic::set_hook(Box::new(tell_of));
    tokio::spawn(report(left_out, unwritten));
    guard
}

/// Returns whether to use colours: standard error is a terminal and `NO_COLOR` is not set (no-color.org).
fn is_colourful() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Logs a panic. The standard library would write it from the panicking thread: if nobody reads standard error, a
/// client that makes handlers panic could block all threads.
fn tell_of(panic: &PanicHookInfo<'_>) {
    let why = panic.payload();
    let why =
        why.downcast_ref::<String>().map(String::as_str).or_else(|| why.downcast_ref::<&str>().copied());
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    error!(place, "a panic: {:?}", why.unwrap_or("with no message"));
}

/// Reports the number of dropped lines, whenever it has grown.
async fn report(left_out: Arc<AtomicU64>, unwritten: ErrorCounter) {
    let mut told = 0;
    loop {
        tokio::time::sleep(REPORT).await;
        let missing = left_out.load(Ordering::Relaxed) + unwritten.dropped_lines() as u64;
        if missing > told {
            warn!("{} lines of the log were left out: there were too many", missing - told);
            told = missing;
        }
    }
}

/// Drops lines if one place in the code writes too many.
#[derive(Debug, Default)]
struct Throttle {
    /// The start of each place's span, and its lines since.
    places: Mutex<HashMap<Identifier, (Instant, u64)>>,
    left_out: Arc<AtomicU64>,
}

impl<S: Subscriber> Layer<S> for Throttle {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if *event.metadata().level() > Level::INFO {
            // A user who enables these levels wants all lines.
            return true;
        }
        let now = Instant::now();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let (begun, lines) = places.entry(event.metadata().callsite()).or_insert((now, 0));
        if now.duration_since(*begun) >= SPAN {
            (*begun, *lines) = (now, 0);
        }
        *lines += 1;
        let is_one_too_many = *lines > LINES;
        if is_one_too_many {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        !is_one_too_many
    }
}
