//! Where lines go.

use std::io::{self, Write as _};

/// To standard output: one write per line, under its lock. A closed output is not an error of the call.
pub fn stdout() -> impl Fn(&str) + Send + Sync + 'static {
    |line| {
        let _ = io::stdout().lock().write_all(line.as_bytes());
    }
}

/// To `tracing`, as the message of an event of target `tower_chassis::access` and level `INFO`.
pub fn tracing() -> impl Fn(&str) + Send + Sync + 'static {
    |line| ::tracing::info!(target: "tower_chassis::access", "{}", line.trim_end())
}
