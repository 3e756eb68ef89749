//! What the application logs with `tracing`: text or JSON, to any [`Output`], without anybody waiting for it.
//!
//! # Example
//! ```
//! use tower_chassis_observe::log::{self, LogConfig, LogFormat};
//!
//! // To be kept: at the end of `main` it waits for the last lines.
//! let log = log::init(LogConfig { format: LogFormat::Json, ..LogConfig::default() })?;
//! tracing::info!(order = 7, "paid");
//!
//! // While it runs.
//! log.set_level("info,my_app::db=debug")?;
//! assert!(log.set_level("inof").is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Log`] takes a writer of one's own, and makes a [layer](Log::layer) for a subscriber of one's own:
//!
//! ```
//! use std::time::Duration;
//!
//! use tower_chassis_observe::{
//!     log::{Log, LogConfig},
//!     output::{Bound, Output},
//! };
//! use tracing_subscriber::layer::SubscriberExt;
//!
//! let output = Output::new(std::io::sink(), Bound::default());
//! let (layer, log) = Log::new(LogConfig::default()).output(output).layer()?;
//! let subscriber = tracing_subscriber::registry().with(layer);
//! tracing::subscriber::with_default(subscriber, || tracing::info!("a line"));
//! assert!(log.output().flush_blocking(Duration::from_secs(1)));
//! assert_eq!(log.output().written(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The line
//! In text `2026-11-21T23:21:55.123Z  INFO my_app::shop: paid order=7`, in JSON an object of `timestamp`, `level`,
//! `target`, `message` and the fields. Behind them what is known of the call that is being polled:
//!
//! | | |
//! |---|---|
//! | `trace_id`, `span_id` | under a layer of [`trace`](crate::trace) |
//! | `request_id` | of the same |
//! | `spans` | names and fields of the spans around, from the outside in; only on demand |
//!
//! Numbers and booleans are such in JSON; what JSON cannot hold (128 bits, infinity) is a string. A field that is
//! named as one of the above is written as `field.trace_id`. A value is cut off after 64 KiB. What is logged cannot
//! break a line, begin another or reach a terminal: control characters, and those that turn the direction of text, are
//! escaped. A `Debug` that panics is written as `<panicked>`.
//!
//! # Configuration
//! [`LogConfig`]; `level` is live:
//!
//! | field | default | |
//! |---|---|---|
//! | `level` | `info` | a level, and levels of targets: `info,my_app::db=debug` |
//! | `format` | `text` | or `json` |
//! | `output` | `stderr` | or `stdout`, `file` |
//! | `file` | | where and when it [rolls](crate::output#configuration) |
//! | `color` | `auto` | or `always`, `never` |
//! | `spans` | false | whether lines have the spans around |
//!
//! `RUST_LOG`, where it is set, wins over `level`, until [`LogHandle::set_level`] is called. A configuration that is
//! loaded again changes the level by the [`Live`] that [`Log::policy`] was given.
//!
//! # What does not get here
//! Records of the `log` crate: a program that wants them takes `tracing-log` beside it.
//!
//! # Events and metrics
//! None of its own; [`LogHandle::output`] counts lines, see [`output`](crate::output#events-and-metrics).
//!
//! # Cancellation
//! Nothing waits, so there is nothing to cancel; see [`output`](crate::output#cancellation).
//!
//! # Cost
//! No allocation for a line: it is written into a buffer of the thread, and copied into the queue. Spans cost nothing
//! unless `spans` is on.

mod config;
mod fields;
mod handle;
mod layer;

use std::{
    env, fmt,
    sync::{Arc, atomic::AtomicBool},
    time::SystemTime,
};

use tower_chassis_core::{Live, live::Validate};
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::SubscriberExt,
    registry::{LookupSpan, Registry},
    reload,
};

pub use self::{
    config::{Color, LogConfig, LogFormat, LogOutput, LogPolicy},
    handle::{LogError, LogHandle},
};
use self::{
    handle::{State, Why},
    layer::Lines,
};
use crate::output::{Bound, Output, RollingPolicy};

/// Sets up the log of this process.
///
/// # Errors
/// A setting is out of its range, the file cannot be opened, or there is a subscriber already.
pub fn init(config: LogConfig) -> Result<LogHandle, LogError> {
    Log::new(config).init()
}

/// The log of an application, before it is set up. See the [module](self).
#[must_use]
pub struct Log {
    config: LogConfig,
    live: Option<Live<LogPolicy>>,
    output: Option<Output>,
    environment: Option<String>,
    clock: fn() -> SystemTime,
}

impl Log {
    /// As `config` says.
    pub fn new(config: LogConfig) -> Self {
        Self {
            config,
            live: None,
            output: None,
            environment: env::var(EnvFilter::DEFAULT_ENV).ok(),
            clock: SystemTime::now,
        }
    }

    /// What is logged, instead of what `level` says: a [`Live`] one can be changed from outside.
    pub fn policy(self, policy: impl Into<Live<LogPolicy>>) -> Self {
        let live = Some(policy.into());
        Self { live, ..self }
    }

    /// Writes there, instead of where `output` says.
    pub fn output(self, output: Output) -> Self {
        let output = Some(output);
        Self { output, ..self }
    }

    /// What wins over the settings, instead of what `RUST_LOG` says.
    pub fn environment(self, filter: Option<String>) -> Self {
        Self {
            environment: filter,
            ..self
        }
    }

    /// Another clock, for tests.
    pub fn clock(self, clock: fn() -> SystemTime) -> Self {
        Self { clock, ..self }
    }

    /// Sets it up as the log of this process.
    ///
    /// # Errors
    /// A setting is out of its range, the file cannot be opened, or there is a subscriber already.
    pub fn init(self) -> Result<LogHandle, LogError> {
        let (layer, handle) = self.layer::<Registry>()?;
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
            .map_err(|_| LogError(Why::Set))?;
        Ok(handle)
    }

    /// A layer for a subscriber of one's own. Its level is its own too: other layers get what theirs let pass.
    ///
    /// # Errors
    /// A setting is out of its range, or the file cannot be opened.
    pub fn layer<S>(self) -> Result<(impl Layer<S> + Send + Sync + use<S>, LogHandle), LogError>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let LogConfig {
            level,
            format,
            output,
            file,
            color,
            spans,
        } = self.config;
        let live = match self.live {
            Some(live) => live,
            None => Live::new(LogPolicy::new(level)?),
        };
        live.load().validate()?;
        let output = match (self.output, output) {
            (Some(output), _) => output,
            (None, LogOutput::Stderr) => Output::stderr(),
            (None, LogOutput::Stdout) => Output::stdout(),
            (None, LogOutput::File) => {
                Output::file(RollingPolicy::try_from(file)?, Bound::default())
                    .map_err(|error| LogError(Why::File(error)))?
            }
        };
        // What cannot be read is no reason not to begin; it is said, and the settings hold.
        let fixed = self
            .environment
            .filter(|filter| !filter.trim().is_empty())
            .and_then(|filter| match EnvFilter::try_new(&filter) {
                Ok(filter) => Some(filter),
                Err(error) => {
                    output.line(&format!("RUST_LOG cannot be read: {error}"));
                    None
                }
            });
        let is_fixed = fixed.is_some();
        let filter = fixed.or_else(|| live.load().filter()).unwrap_or_default();
        let (filter, reload) = reload::Layer::new(filter);
        let state = Arc::new(State {
            fixed: AtomicBool::new(is_fixed),
            // It fails when the subscriber is gone.
            reload: Box::new(move |filter| drop(reload.reload(filter))),
        });
        live.bind(&state, State::apply);
        let handle = LogHandle {
            state: Arc::clone(&state),
            live,
            output: output.handle(),
        };
        let lines = Lines {
            format,
            colors: match color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => output.is_terminal() && wants_color(),
            },
            spans,
            clock: self.clock,
            output,
            _state: state,
        };
        Ok((lines.with_filter(filter), handle))
    }
}

fn wants_color() -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("config", &self.config)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

/// A writer for layers of `tracing-subscriber`: every event is a line.
impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Output {
    type Writer = OutputWriter<'a>;
    fn make_writer(&'a self) -> OutputWriter<'a> {
        OutputWriter(self)
    }
}

/// Takes each buffer as a line, and is never full: what is lost is counted.
#[derive(Debug)]
pub struct OutputWriter<'a>(&'a Output);

impl std::io::Write for OutputWriter<'_> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if !line.is_empty() {
            self.0.bytes(line);
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
