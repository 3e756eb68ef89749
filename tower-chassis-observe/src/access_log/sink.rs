//! Where lines go.

use std::io::{self, Write as _};

use super::Level;

/// What a sink says of a line: nothing, or `false` if it has no room for it.
/// [`AccessLogHandle::dropped`](super::AccessLogHandle::dropped) counts those.
pub trait Taken {
    /// Whether it took the line.
    fn taken(self) -> bool;
}

impl Taken for () {
    fn taken(self) -> bool {
        true
    }
}

impl Taken for bool {
    fn taken(self) -> bool {
        self
    }
}

/// To standard output: one write per line, under its lock. A closed output is not an error of the call, the line
/// is dropped.
pub fn stdout() -> impl Fn(&str) -> bool + Send + Sync + 'static {
    |line| io::stdout().lock().write_all(line.as_bytes()).is_ok()
}

/// To `tracing`, as the message of an event of target `tower_chassis::access` and the level of the line. For
/// [`AccessLogLayer::leveled`](super::AccessLogLayer::leveled).
pub fn tracing() -> impl Fn(&str, Level) + Send + Sync + 'static {
    macro_rules! event {
        ($level:ident, $line:ident) => {
            ::tracing::$level!(target: "tower_chassis::access", "{}", $line.trim_end())
        };
    }
    |line, level| match level {
        Level::Debug => event!(debug, line),
        Level::Info => event!(info, line),
        Level::Warn => event!(warn, line),
        Level::Error => event!(error, line),
    }
}
