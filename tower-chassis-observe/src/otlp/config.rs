//! Where telemetry is sent, and how.

use std::{collections::BTreeMap, fmt, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tower_chassis_core::live::{Invalid, Validate};

use super::env;

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The most spans that may wait.
const MOST: u32 = 1_000_000;

/// How messages are sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[non_exhaustive]
pub enum Protocol {
    /// gRPC, on port 4317 by custom.
    #[default]
    #[cfg_attr(feature = "config", serde(rename = "grpc"))]
    Grpc,
    /// Protobuf over HTTP/1.1, on port 4318 by custom.
    #[cfg_attr(feature = "config", serde(rename = "http/protobuf"))]
    HttpProtobuf,
}

impl Protocol {
    /// As OpenTelemetry's variables have it: `grpc`, `http/protobuf`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
        }
    }
}

/// How messages are packed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// By gzip; it needs the feature `compress`.
    Gzip,
}

/// What is different for one signal. What is not said is as for all of them.
#[derive(Clone, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct SignalConfig {
    /// Whether it is not sent at all. Default false.
    pub disabled: bool,
    /// Where to; over HTTP the whole URL, to which nothing is added.
    pub endpoint: Option<String>,
    /// How.
    pub protocol: Option<Protocol>,
    /// These alone, if there is one.
    pub headers: BTreeMap<String, String>,
    /// For a batch, with everything that is tried again.
    #[cfg_attr(feature = "config", serde(with = "optional"))]
    pub timeout: Option<Duration>,
    /// How it is packed.
    pub compression: Option<Compression>,
}

/// Where telemetry is sent, as it is written in a configuration.
///
/// Plain values; [`OtlpPolicy::try_from`] checks them, [`OtlpConfig::read_env`] takes those of OpenTelemetry's environment
/// variables.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct OtlpConfig {
    /// Whether nothing is sent, and nothing kept. Default false.
    pub disabled: bool,
    /// `http://host:port`, `https://host:port` with the feature `otlp-tls`, over HTTP with a path if there is one, to which `/v1/traces` and `/v1/metrics` are added. Default
    /// `http://localhost:4317`, over HTTP `http://localhost:4318`.
    pub endpoint: Option<String>,
    /// gRPC or protobuf over HTTP. Default gRPC.
    pub protocol: Protocol,
    /// Sent with each request: keys, tokens. `Debug` shows their names alone.
    pub headers: BTreeMap<String, String>,
    /// For a batch to be taken, with everything that is tried again, 1 ms to 10 minutes. Default 10 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub timeout: Duration,
    /// How messages are packed. Default not at all.
    pub compression: Compression,
    /// What is different for spans.
    pub traces: SignalConfig,
    /// What is different for metrics.
    pub metrics: SignalConfig,
    /// `service.name`. Default `unknown_service:` and the name of the executable.
    pub service_name: Option<String>,
    /// `service.version`. Default none.
    pub service_version: Option<String>,
    /// More that is said of this process with everything that is sent: `deployment.environment.name`, `k8s.pod.name`.
    pub resource: BTreeMap<String, String>,
    /// How many spans may wait to be sent, 1 to 1,000,000; the next ones are lost. Default 2,048.
    pub queue: u32,
    /// How many spans are sent together, 1 to as many as may wait. Default 512.
    pub batch: u32,
    /// How long a span waits at most for a batch to become full, 1 ms to 24 h. Default 5 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub every: Duration,
    /// How often metrics are sent, 1 ms to 24 h. Default 60 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub metrics_every: Duration,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            disabled: false,
            endpoint: None,
            protocol: Protocol::Grpc,
            headers: BTreeMap::new(),
            timeout: Duration::from_secs(10),
            compression: Compression::None,
            traces: SignalConfig::default(),
            metrics: SignalConfig::default(),
            service_name: None,
            service_version: None,
            resource: BTreeMap::new(),
            queue: 2_048,
            batch: 512,
            every: Duration::from_secs(5),
            metrics_every: MINUTE,
        }
    }
}

impl OtlpConfig {
    /// Takes what OpenTelemetry's environment variables say; the others stay as they are.
    ///
    /// # Errors
    /// The first variable with a value that it cannot have; its value is not in the error, it may be a secret.
    pub fn read_env(self) -> Result<Self, Invalid> {
        self.read_vars(|name| std::env::var(name).ok())
    }

    /// The same, of variables of one's own.
    ///
    /// # Errors
    /// As [`read_env`](Self::read_env).
    pub fn read_vars(self, get: impl Fn(&str) -> Option<String>) -> Result<Self, Invalid> {
        env::read(self, &get)
    }
}

/// The names of the headers: their values are secrets.
struct Names<'a>(&'a BTreeMap<String, String>);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.keys().map(|name| (name, "***")))
            .finish()
    }
}

impl fmt::Debug for SignalConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalConfig")
            .field("disabled", &self.disabled)
            .field("endpoint", &self.endpoint.as_deref().map(without_user))
            .field("protocol", &self.protocol)
            .field("headers", &Names(&self.headers))
            .field("timeout", &self.timeout)
            .field("compression", &self.compression)
            .finish()
    }
}

impl fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpConfig")
            .field("disabled", &self.disabled)
            .field("endpoint", &self.endpoint.as_deref().map(without_user))
            .field("protocol", &self.protocol)
            .field("headers", &Names(&self.headers))
            .field("timeout", &self.timeout)
            .field("compression", &self.compression)
            .field("traces", &self.traces)
            .field("metrics", &self.metrics)
            .field("service_name", &self.service_name)
            .field("service_version", &self.service_version)
            .field("resource", &self.resource)
            .field("queue", &self.queue)
            .field("batch", &self.batch)
            .field("every", &self.every)
            .field("metrics_every", &self.metrics_every)
            .finish()
    }
}

/// None of these may have a user or a query, but a `Debug` shows also what was not checked.
fn without_user(endpoint: &str) -> &str {
    if endpoint.contains(['@', '?']) {
        "***"
    } else {
        endpoint
    }
}

/// Where one signal is sent.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) uri: Uri,
    pub(super) protocol: Protocol,
    /// Each is marked as sensitive, so that `Debug` does not show it.
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) gzip: bool,
}

/// So much is shown of what a collector says.
const SHOWN: usize = 300;

impl Target {
    /// Host and port.
    pub(super) fn authority(&self) -> &str {
        let authority = self.uri.authority();
        authority.map_or("", |authority| authority.as_str())
    }

    /// What a collector says, without what it repeats of the headers, and not all of it.
    pub(super) fn shown(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let words = self
            .headers
            .values()
            .filter_map(|value| value.to_str().ok());
        for word in words.flat_map(str::split_whitespace) {
            // Shorter ones are no secrets, and would take parts out of words.
            if word.len() >= 4 && text.contains(word) {
                text = text.replace(word, "***");
            }
        }
        // Only now: a secret that is cut in two would not be found.
        text.chars().take(SHOWN).collect()
    }
}

/// Where telemetry is sent, checked.
///
/// ```
/// use tower_chassis_observe::otlp::{OtlpConfig, OtlpPolicy};
///
/// let mut config = OtlpConfig::default();
/// config.endpoint = Some("collector:4317".to_owned());
/// let fault = OtlpPolicy::try_from(config).unwrap_err();
/// assert_eq!(fault.to_string(), "endpoint must be http://host:port or https://host:port");
/// ```
#[derive(Clone, Debug)]
pub struct OtlpPolicy {
    config: OtlpConfig,
    pub(super) traces: Option<Target>,
    pub(super) metrics: Option<Target>,
}

impl OtlpPolicy {
    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &OtlpConfig {
        &self.config
    }
}

impl Default for OtlpPolicy {
    fn default() -> Self {
        // The defaults are within their ranges: a test says so.
        Self::try_from(OtlpConfig::default()).unwrap_or_else(|_| Self {
            config: OtlpConfig::default(),
            traces: None,
            metrics: None,
        })
    }
}

impl Validate for OtlpPolicy {}

impl TryFrom<OtlpConfig> for OtlpPolicy {
    type Error = Invalid;

    fn try_from(config: OtlpConfig) -> Result<Self, Invalid> {
        within("timeout", config.timeout, 10 * MINUTE)?;
        within("every", config.every, DAY)?;
        within("metrics_every", config.metrics_every, DAY)?;
        if !(1..=MOST).contains(&config.queue) {
            return Err(Invalid::new("queue", "must be from 1 to 1000000"));
        }
        if config.batch == 0 || config.batch > config.queue {
            return Err(Invalid::new("batch", "must be from 1 to what queue is"));
        }
        // Also what is disabled must be right: it may be switched on by a variable.
        let traces = target(&config, &config.traces, "traces", Path::TRACES)?;
        let metrics = target(&config, &config.metrics, "metrics", Path::METRICS)?;
        let on = |signal: &SignalConfig| !config.disabled && !signal.disabled;
        Ok(Self {
            traces: on(&config.traces).then_some(traces),
            metrics: on(&config.metrics).then_some(metrics),
            config,
        })
    }
}

/// Where a signal goes below an endpoint.
struct Path {
    grpc: &'static str,
    http: &'static str,
}

impl Path {
    const TRACES: Self = Self {
        grpc: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        http: "/v1/traces",
    };
    const METRICS: Self = Self {
        grpc: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        http: "/v1/metrics",
    };
}

fn target(
    config: &OtlpConfig,
    signal: &SignalConfig,
    name: &str,
    path: Path,
) -> Result<Target, Invalid> {
    let at = |field: &str, own: bool| {
        if own {
            format!("{name}.{field}")
        } else {
            field.to_owned()
        }
    };
    let protocol = signal.protocol.unwrap_or(config.protocol);
    let field = at("endpoint", signal.endpoint.is_some());
    let uri = match (&signal.endpoint, protocol) {
        (Some(endpoint), Protocol::HttpProtobuf) => uri(endpoint, "", field)?,
        (own, protocol) => {
            let (default, path) = match protocol {
                Protocol::Grpc => ("http://localhost:4317", path.grpc),
                Protocol::HttpProtobuf => ("http://localhost:4318", path.http),
            };
            let endpoint = own.as_deref().or(config.endpoint.as_deref());
            uri(endpoint.unwrap_or(default), path, field)?
        }
    };
    let own = !signal.headers.is_empty();
    let all = if own {
        &signal.headers
    } else {
        &config.headers
    };
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        let fault = |why| Invalid::new(at(&format!("headers.{name}"), own), why);
        let header =
            HeaderName::try_from(name.as_str()).map_err(|_| fault("is no name of a header"))?;
        let mut value = HeaderValue::try_from(value.as_str())
            .map_err(|_| fault("has a value that no header can have"))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    let timeout = signal.timeout.unwrap_or(config.timeout);
    within(
        &at("timeout", signal.timeout.is_some()),
        timeout,
        10 * MINUTE,
    )?;
    let gzip = signal.compression.unwrap_or(config.compression) == Compression::Gzip;
    if gzip && !cfg!(feature = "compress") {
        return Err(Invalid::new(
            at("compression", signal.compression.is_some()),
            "can be gzip only with the feature `compress`",
        ));
    }
    Ok(Target {
        uri,
        protocol,
        headers,
        timeout,
        gzip,
    })
}

fn uri(endpoint: &str, path: &str, field: String) -> Result<Uri, Invalid> {
    if endpoint.contains('@') {
        // Not echoed: it would be in logs.
        let why = "must not carry a user or a password; use headers";
        return Err(Invalid::new(field, why));
    }
    let fault = || {
        Invalid::new(
            field.clone(),
            "must be http://host:port or https://host:port",
        )
    };
    let uri: Uri = format!("{}{path}", endpoint.trim_end_matches('/'))
        .parse()
        .map_err(|_| fault())?;
    let http = matches!(uri.scheme_str(), Some("http" | "https"));
    if !http || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
        return Err(fault());
    }
    Ok(uri)
}

fn within(field: &str, length: Duration, most: Duration) -> Result<(), Invalid> {
    if (MS..=most).contains(&length) {
        return Ok(());
    }
    let most = if most == DAY { "24h" } else { "10m" };
    Err(Invalid::new(
        field.to_owned(),
        format!("must be from 1ms to {most}"),
    ))
}

/// A duration that need not be there.
#[cfg(feature = "config")]
mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer};

    #[derive(Deserialize)]
    struct Length(#[serde(with = "tower_chassis_core::config::duration")] Duration);

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Length>::deserialize(deserializer)?.map(|length| length.0))
    }
}
