//! Programs that tests of the server run beside it: proxies, the nats-server that several servers meet on, and what moves
//! their clock.

use super::debian;
use crate::workspace;

/// Installs them where that is possible. Without one there is less to test, which a line says.
pub(crate) fn servers() {
    for (program, purpose) in [
        ("faketime", "what moves the clock of servers in tests"),
        ("haproxy", "a proxy that tests put before the server"),
        ("nats-server", "where several servers meet in tests"),
        ("nginx", "a proxy that tests put before the server"),
    ] {
        if workspace::on_path(program).is_some() {
            continue;
        }
        if let Err(error) = debian::install(&[program], purpose) {
            println!("{program} is missing, its tests are skipped: {error:#}");
        }
    }
}
