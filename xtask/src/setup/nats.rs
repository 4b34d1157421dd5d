//! The nats-server that tests of several servers meet on.

use super::debian;
use crate::workspace;

/// Installs nats-server where that is possible. Without it there is less to test, which one line says.
pub(crate) fn nats() {
    if workspace::on_path("nats-server").is_some() {
        return;
    }
    if let Err(error) = debian::install(&["nats-server"], "where several servers meet in tests") {
        println!("nats-server is missing, its tests are skipped: {error:#}");
    }
}
