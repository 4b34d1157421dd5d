//! Installs programs that tests of the server run beside it: proxies, nats-server, and tools that make networks and move
//! clocks.

use super::debian;
use crate::workspace;

/// Installs them where possible. For a missing one it prints a line, and its tests are skipped.
pub(crate) fn servers() {
    for (program, package, purpose) in [
        ("faketime", "faketime", "the library that moves the clock of servers in tests"),
        ("haproxy", "haproxy", "a proxy that tests put before the server"),
        ("ip", "iproute2", "networks that tests cut"),
        ("nats-server", "nats-server", "where several servers meet in tests"),
        ("nginx", "nginx", "a proxy that tests put before the server"),
    ] {
        if workspace::on_path(program).is_some() {
            continue;
        }
        if let Err(error) = debian::install(&[package], purpose) {
            println!("{program} is missing, its tests are skipped: {error:#}");
        }
    }
}
