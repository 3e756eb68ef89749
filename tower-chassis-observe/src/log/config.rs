//! What is logged, how and where.

use tower_chassis_core::live::{Invalid, Validate};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::output::RollingConfig;

/// The log of an application, as it is written in a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct LogConfig {
    /// What is logged: a level, and levels of targets: `info,my_app::db=debug`. Default `info`.
    pub level: String,
    /// How a line is written. Default text.
    pub format: LogFormat,
    /// Where lines go. Default standard error.
    pub output: LogOutput,
    /// The file, where `output` is that.
    pub file: RollingConfig,
    /// Whether levels have colours, in text. Default: on a terminal.
    pub color: Color,
    /// Whether a line has the names and the fields of the spans that it is in. They are formatted for every span that
    /// the level lets pass, logged or not. Default false.
    pub spans: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::default(),
            output: LogOutput::default(),
            file: RollingConfig::default(),
            color: Color::default(),
            spans: false,
        }
    }
}

/// How a line is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

/// Where lines go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum LogOutput {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
    /// A file that rolls.
    File,
}

/// Whether levels have colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What is logged, checked: what of a [`LogConfig`] can be changed while it runs.
///
/// ```
/// use tower_chassis_observe::log::LogPolicy;
///
/// assert!(LogPolicy::new("info,my_app::db=debug").is_ok());
/// let fault = LogPolicy::new("inof").unwrap_err();
/// assert_eq!(fault.to_string(), "level has no level \"inof\"; that of a target is written inof=debug");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogPolicy(String);

impl LogPolicy {
    /// A level, and levels of targets, in the syntax of
    /// [`EnvFilter`](https://docs.rs/tracing-subscriber/latest/tracing_subscriber/filter/struct.EnvFilter.html). A
    /// word that is neither is refused: there it would be a target, and everything else silent.
    ///
    /// # Errors
    /// It is not in that syntax.
    pub fn new(level: impl Into<String>) -> Result<Self, Invalid> {
        let policy = Self(level.into());
        policy.validate()?;
        Ok(policy)
    }

    /// As it was written.
    #[must_use]
    pub fn level(&self) -> &str {
        &self.0
    }

    /// None for what was not checked.
    pub(super) fn filter(&self) -> Option<EnvFilter> {
        EnvFilter::try_new(&self.0).ok()
    }
}

impl Default for LogPolicy {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl Validate for LogPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        for part in self.0.split(',').map(str::trim) {
            let told = part.contains(['=', '[', ']', '{', '}', ':']);
            if part.is_empty() || !told && part.parse::<LevelFilter>().is_err() {
                let why =
                    format!("has no level \"{part}\"; that of a target is written {part}=debug");
                return Err(Invalid::new("level", why));
            }
        }
        EnvFilter::try_new(&self.0)
            .map_err(|error| Invalid::new("level", format!("cannot be read: {error}")))?;
        Ok(())
    }
}
