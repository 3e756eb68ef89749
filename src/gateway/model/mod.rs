//! The model of the gateway's file. Plain values; `plan.rs` checks them and names every fault.

mod observe;

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use tower_chassis_core::{config::duration, server::ServerConfig};
use tower_chassis_observe::{otlp::OtlpConfig, trace::TraceConfig};
use tower_chassis_resilience::{
    balance::Algorithm, breaker::BreakerConfig, rate_limit::RateLimitConfig, retry::RetryConfig,
};

pub use self::observe::{AccessModel, AdminModel, LogModel, ProfilerModel, QueryModel, ReadyModel};

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Model {
    /// The gateway's listeners.
    pub gateway: GatewayModel,
    /// The admin listener.
    pub admin: AdminModel,
    /// What is logged.
    pub log: LogModel,
    /// Which traces are recorded.
    pub trace: TraceConfig,
    /// Where spans and metrics are sent. Default: nowhere. What OpenTelemetry's variables (`OTEL_…`) say wins. Read at the
    /// start only.
    pub otlp: Option<OtlpConfig>,
    /// Limits of the gateway's listeners.
    pub server: ServerConfig,
    /// The services, by name.
    pub services: BTreeMap<String, ServiceModel>,
    /// The routes; the order does not matter, the more specific path wins.
    pub routes: Vec<RouteModel>,
}

/// The gateway's listeners.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GatewayModel {
    /// `host:port` or `unix:/path`, one or a list. Default 127.0.0.1:8080. Read at the start only.
    #[serde(deserialize_with = "one_or_many")]
    pub listen: Vec<String>,
}

impl Default for GatewayModel {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:8080".into()],
        }
    }
}

/// A service: its endpoints, and how it is called.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServiceModel {
    /// Where it runs.
    pub endpoints: Vec<EndpointModel>,
    /// How an endpoint is chosen.
    pub balance: Algorithm,
    /// Which `Host` an endpoint sees.
    pub host: HostModel,
    /// For a connection to be made: 1 s.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// One breaker for each endpoint.
    pub breaker: BreakerConfig,
    /// Further attempts.
    pub retry: RetryConfig,
    /// How long an answer may take.
    pub timeout: TimeoutModel,
    /// Which part of the service serves a call: the first rule that matches.
    pub traffic: Vec<RuleModel>,
    /// Whether the gateway is ready where no endpoint of the service can be called. Default: yes.
    pub ready: ReadyModel,
}

impl Default for ServiceModel {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            balance: Algorithm::default(),
            host: HostModel::Keep,
            connect_timeout: Duration::from_secs(1),
            breaker: BreakerConfig::default(),
            retry: RetryConfig::default(),
            timeout: TimeoutModel::default(),
            traffic: Vec::new(),
            ready: ReadyModel::Always,
        }
    }
}

/// Which `Host` an endpoint sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HostModel {
    /// What the client asked for.
    Keep,
    /// The endpoint's own authority.
    Endpoint,
}

/// An endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EndpointModel {
    /// `http://host:port`.
    pub address: String,
    /// Its identity; default: the address.
    #[serde(default)]
    pub id: Option<String>,
    /// Its share of the traffic, relative to the others: 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// Tags, by which traffic rules choose.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

const fn one() -> u32 {
    1
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TimeoutModel {
    /// Each attempt, until the head of its answer: 5 s.
    #[serde(with = "duration")]
    pub per_try: Duration,
    /// All attempts and the waits between them, until the head of the answer: 15 s.
    #[serde(with = "duration")]
    pub total: Duration,
}

impl Default for TimeoutModel {
    fn default() -> Self {
        Self {
            per_try: Duration::from_secs(5),
            total: Duration::from_secs(15),
        }
    }
}

/// A traffic rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RuleModel {
    /// Its name, in logs.
    #[serde(default)]
    pub name: String,
    /// All of these must hold; nothing: every request.
    #[serde(default, rename = "match")]
    pub matches: MatchModel,
    /// Where such requests go, by weight.
    pub to: Vec<DestinationModel>,
    /// When no endpoint of the chosen part can serve.
    #[serde(default)]
    pub on_empty: OnEmptyModel,
}

/// What a rule asks of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MatchModel {
    /// Headers and the exact values that they must have.
    pub headers: BTreeMap<String, String>,
    /// Headers and the expressions that must match their whole values.
    pub headers_regex: BTreeMap<String, String>,
    /// One of these methods.
    pub methods: Vec<String>,
    /// The start of the path.
    pub path_prefix: Option<String>,
}

/// A part of the service, by tags.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DestinationModel {
    /// An endpoint has all of these.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Its share, relative to the others of the rule: 1.
    #[serde(default = "one")]
    pub weight: u32,
}

/// When no endpoint of the chosen part can serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnEmptyModel {
    /// The whole service serves.
    #[default]
    Any,
    /// 503.
    Refuse,
}

/// A route: which requests go to which service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RouteModel {
    /// Its name: the state of its rate limit is kept by it. Default: the path.
    #[serde(default)]
    pub name: Option<String>,
    /// Static text, `{param}`, `{param:regex}`, `/*` at the end.
    pub path: String,
    /// Only these methods; nothing: all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The service.
    pub service: String,
    /// So many requests per client address.
    #[serde(default)]
    pub rate_limit: Option<RateLimitConfig>,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMany;
    impl<'de> Visitor<'de> for OneOrMany {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address or a list of addresses")
        }
        fn visit_str<E>(self, one: &str) -> Result<Vec<String>, E> {
            Ok(vec![one.to_owned()])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut many: A) -> Result<Vec<String>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = many.next_element()? {
                all.push(one);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(OneOrMany)
}
