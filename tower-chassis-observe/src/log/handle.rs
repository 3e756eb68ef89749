//! Changes the level, and waits for lines.

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tower_chassis_core::{Live, live::Invalid};
use tracing_subscriber::EnvFilter;

use super::LogPolicy;
use crate::output::OutputHandle;

/// So long the drop of a handle waits for lines.
const LAST_WAIT: Duration = Duration::from_secs(1);

pub(super) struct State {
    /// The environment has said what is logged: settings do not change it.
    pub(super) fixed: AtomicBool,
    pub(super) reload: Box<dyn Fn(EnvFilter) + Send + Sync>,
}

impl State {
    pub(super) fn apply(&self, policy: &LogPolicy) {
        if let (false, Some(filter)) = (self.fixed.load(Relaxed), policy.filter()) {
            (self.reload)(filter);
        }
    }
}

/// Changes what is logged, and waits for lines. To be kept to the end of `main`: dropped, it waits for what is not yet
/// written, a second at the most.
#[must_use = "dropped at once, it does not wait for the last lines of the program"]
pub struct LogHandle {
    pub(super) state: Arc<State>,
    pub(super) live: Live<LogPolicy>,
    pub(super) output: OutputHandle,
}

impl LogHandle {
    /// Changes what is logged: `info,my_app::db=debug`. From then on settings do so too, whatever `RUST_LOG` said.
    ///
    /// # Errors
    /// It is no level; the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), Invalid> {
        let policy = LogPolicy::new(level)?;
        self.state.fixed.store(false, Relaxed);
        self.live.set(policy)
    }

    /// What settings and [`set_level`](Self::set_level) said last.
    #[must_use]
    pub fn level(&self) -> String {
        self.live.load().level().to_owned()
    }

    /// Whether `RUST_LOG` says what is logged, and not [`level`](Self::level).
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.state.fixed.load(Relaxed)
    }

    /// What is logged, shared with every log that was made from the same [`Live`].
    #[must_use]
    pub const fn config(&self) -> &Live<LogPolicy> {
        &self.live
    }

    /// Counts lines.
    #[must_use]
    pub const fn output(&self) -> &OutputHandle {
        &self.output
    }

    /// How many lines there was no room for.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.output.lost()
    }

    /// As [`OutputHandle::flush`].
    #[must_use = "futures do nothing unless polled"]
    pub fn flush(&self, timeout: Duration) -> impl Future<Output = bool> + Send + 'static {
        self.output.flush(timeout)
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        self.output.flush_blocking(LAST_WAIT);
    }
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHandle")
            .field("level", &self.level())
            .field("fixed", &self.is_fixed())
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

/// Why a log could not be set up.
#[derive(Debug)]
pub struct LogError(pub(super) Why);

#[derive(Debug)]
pub(super) enum Why {
    Setting(Invalid),
    File(io::Error),
    Set,
}

impl LogError {
    /// A setting is out of its range.
    #[must_use]
    pub const fn is_setting(&self) -> bool {
        matches!(self.0, Why::Setting(_))
    }

    /// The file cannot be opened.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        matches!(self.0, Why::File(_))
    }

    /// The process has a subscriber already.
    #[must_use]
    pub const fn is_already_set(&self) -> bool {
        matches!(self.0, Why::Set)
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Why::Setting(invalid) => write!(f, "log: {invalid}"),
            Why::File(_) => f.write_str("the file of the log cannot be opened"),
            Why::Set => f.write_str("the process has a subscriber of `tracing` already"),
        }
    }
}

impl Error for LogError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Why::File(error) => Some(error),
            Why::Setting(_) | Why::Set => None,
        }
    }
}

impl From<Invalid> for LogError {
    fn from(invalid: Invalid) -> Self {
        Self(Why::Setting(invalid))
    }
}
