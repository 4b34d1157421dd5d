//! The log of a server that runs in the test's thread.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::Once;

thread_local! {
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Written;

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITTEN.with_borrow_mut(|written| written.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps the log of this thread from here on.
pub(crate) fn begin() {
    static SUBSCRIBER: Once = Once::new();
    // One for the process: those of single threads come and go, and while one does, others miss lines.
    SUBSCRIBER.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Written).init());
    WRITTEN.take();
}

/// The log since then.
pub(crate) fn text() -> String {
    WRITTEN.with_borrow(|written| String::from_utf8(written.clone()).expect("UTF-8"))
}
