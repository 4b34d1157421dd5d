//! Programs that tests of the server run beside it: proxies, the nats-server that several servers meet on, and what makes
//! their networks and moves their clocks.

use super::debian;
use crate::workspace;

/// Installs them where that is possible. Without one there is less to test, which a line says.
pub(crate) fn servers() {
    for (program, package, purpose) in [
        ("faketime", "faketime", "what moves the clock of servers in tests"),
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
