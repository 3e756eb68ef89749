//! The names of all metrics, and their help texts.

use metrics::{KeyName, Recorder, SharedString, Unit};

use super::RecorderHandle;
use crate::{process, runtime};

/// The names, as they are given to the recorder.
pub(crate) mod names {
    pub(crate) const SERVER_DURATION: &str = "http.server.request.duration";
    pub(crate) const SERVER_ACTIVE: &str = "http.server.active_requests";
    pub(crate) const SERVER_REQUEST_SIZE: &str = "http.server.request.body.size";
    pub(crate) const SERVER_RESPONSE_SIZE: &str = "http.server.response.body.size";
    pub(crate) const CLIENT_REQUEST_SIZE: &str = "http.client.request.body.size";
    pub(crate) const CLIENT_RESPONSE_SIZE: &str = "http.client.response.body.size";
    pub(crate) const RPC_SERVER_DURATION: &str = "rpc.server.call.duration";
    pub(crate) const RPC_CLIENT_DURATION: &str = "rpc.client.call.duration";
    pub(crate) const CLIENT_DURATION: &str = "http.client.request.duration";
    pub(crate) const CLIENT_ACTIVE: &str = "http.client.active_requests";
    pub(crate) const CALL_DURATION: &str = "chassis_call_duration_seconds";
    pub(crate) const CALLS_ACTIVE: &str = "chassis_calls_active";
    pub(crate) const BREAKER_TRANSITIONS: &str = "chassis_breaker_transitions_total";
    pub(crate) const BREAKER_STATE: &str = "chassis_breaker_state";
    pub(crate) const BREAKER_WOULD_OPEN: &str = "chassis_breaker_would_open_total";
    pub(crate) const BREAKER_MODE: &str = "chassis_breaker_mode";
    pub(crate) const RETRY_ATTEMPTS: &str = "chassis_retry_attempts_total";
    pub(crate) const RETRY_BUDGET: &str = "chassis_retry_budget_exhausted_total";
    pub(crate) const HEDGES: &str = "chassis_hedges_total";
    pub(crate) const REFUSED: &str = "chassis_refused_total";
    pub(crate) const FALLBACKS: &str = "chassis_fallbacks_total";
    pub(crate) const COALESCED: &str = "chassis_coalesced_total";
    pub(crate) const CACHE_REQUESTS: &str = "chassis_cache_requests_total";
    pub(crate) const CACHE_EVICTIONS: &str = "chassis_cache_evictions_total";
    pub(crate) const ENDPOINTS: &str = "chassis_endpoints";
    pub(crate) const EJECTIONS: &str = "chassis_ejections_total";
    pub(crate) const BALANCE_ENDPOINTS: &str = "chassis_balance_endpoints";
    pub(crate) const ENDPOINT_CHANGES: &str = "chassis_endpoint_changes_total";
    pub(crate) const CONCURRENCY_LIMIT: &str = "chassis_concurrency_limit";
    pub(crate) const CONFIG_VERSION: &str = "chassis_config_version";
    pub(crate) const CONFIG_REFUSED: &str = "chassis_config_refused_total";
    pub(crate) const CONFIG_RELOADED: &str = "chassis_config_last_reload_timestamp_seconds";
    pub(crate) const CONFIG_SUCCESSFUL: &str = "chassis_config_last_reload_successful";
    pub(crate) const SERVER_CONNECTIONS: &str = "chassis_server_connections";
    pub(crate) const CLIENT_CONNECTIONS: &str = "chassis_client_connections";
    pub(crate) const HEALTH: &str = "chassis_health";
    pub(crate) const TELEMETRY_LOST: &str = "chassis_telemetry_lost_total";
    pub(crate) const BULKHEAD_IN_FLIGHT: &str = "chassis_bulkhead_in_flight";
    pub(crate) const BULKHEAD_QUEUED: &str = "chassis_bulkhead_queued";
    pub(crate) const BULKHEAD_LIMIT: &str = "chassis_bulkhead_limit";
    pub(crate) const SHED_THRESHOLD: &str = "chassis_shed_threshold";
    pub(crate) const FAULTS: &str = "chassis_faults_total";
    pub(crate) const MIRRORED: &str = "chassis_mirrored_total";
}

enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Tells a recorder the help texts and units of all metrics of this crate.
///
/// An exporter that derives names from units needs it, before the first rendering.
pub fn describe(recorder: &RecorderHandle) {
    recorder.with(describe_to);
}

/// The same, to a recorder itself.
pub(crate) fn describe_to(recorder: &dyn Recorder) {
    let all = [
        (
            Kind::Histogram,
            names::SERVER_DURATION,
            Some(Unit::Seconds),
            "Time until the head of the response, of requests served.",
        ),
        (
            Kind::Gauge,
            names::SERVER_ACTIVE,
            None,
            "Requests being served, to the end of their body.",
        ),
        (
            Kind::Histogram,
            names::CLIENT_DURATION,
            Some(Unit::Seconds),
            "Time until the head of the response, of requests sent.",
        ),
        (
            Kind::Gauge,
            names::CLIENT_ACTIVE,
            None,
            "Requests sent and not yet over, to the end of their body.",
        ),
        (
            Kind::Histogram,
            names::SERVER_REQUEST_SIZE,
            Some(Unit::Bytes),
            "Size of the bodies of requests served.",
        ),
        (
            Kind::Histogram,
            names::SERVER_RESPONSE_SIZE,
            Some(Unit::Bytes),
            "Size of the bodies of responses to requests served.",
        ),
        (
            Kind::Histogram,
            names::CLIENT_REQUEST_SIZE,
            Some(Unit::Bytes),
            "Size of the bodies of requests sent.",
        ),
        (
            Kind::Histogram,
            names::CLIENT_RESPONSE_SIZE,
            Some(Unit::Bytes),
            "Size of the bodies of responses to requests sent.",
        ),
        (
            Kind::Histogram,
            names::RPC_SERVER_DURATION,
            Some(Unit::Seconds),
            "Time until the end of the response, of gRPC calls served.",
        ),
        (
            Kind::Histogram,
            names::RPC_CLIENT_DURATION,
            Some(Unit::Seconds),
            "Time until the end of the response, of gRPC calls made.",
        ),
        (
            Kind::Histogram,
            names::CALL_DURATION,
            Some(Unit::Seconds),
            "Time until the head of the response, of calls of any protocol.",
        ),
        (
            Kind::Gauge,
            names::CALLS_ACTIVE,
            None,
            "Calls of any protocol that are not yet over.",
        ),
        (
            Kind::Counter,
            names::BREAKER_TRANSITIONS,
            None,
            "Changes of state of circuit breakers.",
        ),
        (
            Kind::Gauge,
            names::BREAKER_STATE,
            None,
            "1 for the state that a circuit breaker is in, 0 for the others.",
        ),
        (
            Kind::Counter,
            names::BREAKER_WOULD_OPEN,
            None,
            "Times that circuit breakers which only observe would have opened.",
        ),
        (
            Kind::Gauge,
            names::BREAKER_MODE,
            None,
            "1 for what a circuit breaker is forced to do, or auto, 0 for the others.",
        ),
        (
            Kind::Counter,
            names::RETRY_ATTEMPTS,
            None,
            "Attempts after the first.",
        ),
        (
            Kind::Counter,
            names::RETRY_BUDGET,
            None,
            "Retries that were wanted and that the budget did not allow.",
        ),
        (
            Kind::Counter,
            names::HEDGES,
            None,
            "Second attempts of calls that were late, by how they ended.",
        ),
        (
            Kind::Counter,
            names::REFUSED,
            None,
            "Calls that a layer refused.",
        ),
        (
            Kind::Counter,
            names::FALLBACKS,
            None,
            "Calls that failed and were answered by a fallback.",
        ),
        (
            Kind::Counter,
            names::COALESCED,
            None,
            "Calls that joined another of the same key that was in flight.",
        ),
        (
            Kind::Counter,
            names::CACHE_REQUESTS,
            None,
            "Calls that came to a cache, by what became of them.",
        ),
        (
            Kind::Counter,
            names::CACHE_EVICTIONS,
            None,
            "Answers that left a cache to make room for others.",
        ),
        (
            Kind::Gauge,
            names::ENDPOINTS,
            None,
            "Endpoints that discovery knows for a service.",
        ),
        (
            Kind::Counter,
            names::ENDPOINT_CHANGES,
            None,
            "Changes of what balancers think of endpoints.",
        ),
        (
            Kind::Gauge,
            names::BALANCE_ENDPOINTS,
            None,
            "Endpoints of a balancer, by whether they may be called.",
        ),
        (
            Kind::Counter,
            names::EJECTIONS,
            None,
            "Endpoints that left the balancer's choice because their circuit breaker opened.",
        ),
        (
            Kind::Gauge,
            names::CONCURRENCY_LIMIT,
            None,
            "Calls that an adaptive limit lets be in flight at once.",
        ),
        (
            Kind::Gauge,
            names::CONFIG_VERSION,
            None,
            "The number of the configuration in force, from 1.",
        ),
        (
            Kind::Counter,
            names::CONFIG_REFUSED,
            None,
            "Configurations that were refused.",
        ),
        (
            Kind::Gauge,
            names::CONFIG_RELOADED,
            None,
            "When a configuration was last put in force, in seconds since 1970.",
        ),
        (
            Kind::Gauge,
            names::CONFIG_SUCCESSFUL,
            None,
            "1 if the last configuration was put in force, 0 if it was refused.",
        ),
        (
            Kind::Gauge,
            names::SERVER_CONNECTIONS,
            None,
            "Open connections of a server.",
        ),
        (
            Kind::Gauge,
            names::CLIENT_CONNECTIONS,
            None,
            "Open connections of a client, idle ones included.",
        ),
        (
            Kind::Gauge,
            names::HEALTH,
            None,
            "How a check of health came out when it last ran: 1 up, 0.5 degraded, 0 down.",
        ),
        (
            Kind::Counter,
            names::TELEMETRY_LOST,
            None,
            "Lines, records, spans and values that were lost before they could be written or sent.",
        ),
        (
            Kind::Gauge,
            names::BULKHEAD_IN_FLIGHT,
            None,
            "Calls that hold a permit of a bulkhead.",
        ),
        (
            Kind::Gauge,
            names::BULKHEAD_QUEUED,
            None,
            "Calls that wait for a permit of a bulkhead.",
        ),
        (
            Kind::Gauge,
            names::BULKHEAD_LIMIT,
            None,
            "Calls that a bulkhead lets run at once.",
        ),
        (
            Kind::Gauge,
            names::SHED_THRESHOLD,
            None,
            "The level, 0 to 500, below which calls are shed.",
        ),
        (
            Kind::Counter,
            names::FAULTS,
            None,
            "Faults that were injected on purpose.",
        ),
        (
            Kind::Counter,
            names::MIRRORED,
            None,
            "Copies of calls for a second service, by what became of them.",
        ),
    ];
    for (kind, name, unit, help) in all {
        let (key, help) = (KeyName::from_const_str(name), SharedString::const_str(help));
        match kind {
            Kind::Counter => recorder.describe_counter(key, unit, help),
            Kind::Gauge => recorder.describe_gauge(key, unit, help),
            Kind::Histogram => recorder.describe_histogram(key, unit, help),
        }
    }
    runtime::describe(recorder);
    process::describe(recorder);
}
