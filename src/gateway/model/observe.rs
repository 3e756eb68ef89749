//! What is logged, and what the admin listener shows.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use tower_chassis_core::config::{Secret, duration};
use tower_chassis_observe::{
    access_log::{Format, Level, Query},
    log::{Color, LogFormat, LogOutput},
    output::RollingConfig,
};

use super::one_or_many;

/// The admin listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AdminModel {
    /// `host:port` or `unix:/path`, one or a list. Default 127.0.0.1:9090. Read at the start only.
    #[serde(deserialize_with = "one_or_many")]
    pub listen: Vec<String>,
    /// Who may have a CPU profile at `/debug/pprof/profile`. Default: nobody. Read at the start only.
    pub profiler: Option<ProfilerModel>,
}

impl Default for AdminModel {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:9090".into()],
            profiler: None,
        }
    }
}

/// Who may have a CPU profile: one of the two has to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ProfilerModel {
    /// Who comes from this machine. Behind a proxy on it that is everybody.
    pub loopback: bool,
    /// Who sends this token as `Authorization: Bearer`: the text, `${file:/path}` or `${env:NAME}`.
    pub token: Option<Secret>,
}

/// Whether the gateway is ready where no endpoint of a service can be called: there is none, or the breakers of all are open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ReadyModel {
    /// It is: other services may be well.
    #[default]
    Always,
    /// It is, and says that it is degraded.
    Degraded,
    /// It is not.
    Required,
}

/// What is logged.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LogModel {
    /// A filter as in `RUST_LOG`, which wins. Default `info`. Request spans are off unless it names them
    /// (`info,tower_chassis::trace=info`) or `spans` is on.
    pub level: String,
    /// How a line of the gateway's own log is written. Default text. Read at the start only, as the ones below are.
    pub format: LogFormat,
    /// Where it goes. Default standard error.
    pub output: LogOutput,
    /// The file, where `output` is that.
    pub file: RollingConfig,
    /// Whether levels have colours, in text.
    pub color: Color,
    /// Whether a line tells the spans that it is in.
    pub spans: bool,
    /// The access log: its format, or all that can be said of it.
    #[serde(deserialize_with = "format_or_all")]
    pub access: AccessModel,
}

impl Default for LogModel {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::default(),
            output: LogOutput::default(),
            file: RollingConfig::default(),
            color: Color::default(),
            spans: false,
            access: AccessModel::default(),
        }
    }
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct AccessModel {
    /// How a line is written. Default text.
    pub format: Format,
    /// What a line of the format `template` looks like.
    pub template: Option<String>,
    /// This share of the calls that succeeded has a line; of all others each has one. Default 1.
    pub successes: f64,
    /// A call that took as long as this always has a line. 0 is off, the default.
    #[serde(with = "duration")]
    pub slow: Duration,
    /// Lines of less than this level are left out. Default `debug`: none is.
    pub level: Level,
    /// Routes whose successes have no line, unless they were slow: `/livez`, `/static/*`.
    pub skip: Vec<String>,
    /// What becomes of the query of a URI. Default: it is left out. Read at the start only, as the ones below are.
    pub query: QueryModel,
    /// Where lines go. Default standard error.
    pub output: LogOutput,
    /// The file, where `output` is that. Its `path` is `log/access.log` by default.
    pub file: RollingConfig,
}

impl Default for AccessModel {
    fn default() -> Self {
        Self {
            format: Format::Text,
            template: None,
            successes: 1.0,
            slow: Duration::ZERO,
            level: Level::Debug,
            skip: Vec::new(),
            query: QueryModel::Hidden,
            output: LogOutput::default(),
            file: RollingConfig::default(),
        }
    }
}

/// What becomes of the query of a URI.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum QueryModel {
    /// It is left out.
    #[default]
    Hidden,
    /// The names are shown.
    Names,
    /// It is shown, but for the values of names that are secret.
    Full,
}

impl From<QueryModel> for Query {
    fn from(query: QueryModel) -> Self {
        match query {
            QueryModel::Hidden => Self::Hidden,
            QueryModel::Names => Self::Names,
            QueryModel::Full => Self::Full,
        }
    }
}

/// `access: json` is short for `access: { format: json }`.
fn format_or_all<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AccessModel, D::Error> {
    struct FormatOrAll;
    impl<'de> Visitor<'de> for FormatOrAll {
        type Value = AccessModel;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a format or a section")
        }
        fn visit_str<E: serde::de::Error>(self, format: &str) -> Result<AccessModel, E> {
            let format = serde::de::value::StrDeserializer::new(format);
            Ok(AccessModel {
                format: Format::deserialize(format)?,
                ..AccessModel::default()
            })
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AccessModel, A::Error> {
            AccessModel::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(FormatOrAll)
}
