//! Events as lines of `tracing`.

use super::{Event, Events};

const TARGET: &str = "tower_chassis::events";

/// Logs what is reported to `events`, from now on, under the target `tower_chassis::events`. The only place
/// where the layers of this project log what they do: events that nobody logs are silent.
///
/// | event | level |
/// |---|---|
/// | a breaker opened, or is forced to do something | warn |
/// | another transition of a breaker, one that it would have made, an ejection, a readmission, new endpoints, a configuration applied, a fault injected | info |
/// | a retry, a hedge, an exhausted budget, a refusal, a fallback, a call that joined another, an adaptive limit, a copy mirrored, a configuration refused | debug |
/// | what a cache did with a call | trace |
///
/// Who applies a configuration gets its faults and says them; this line only counts them.
pub fn log(events: &Events) {
    events.listen(line);
}

fn line(event: &Event) {
    match event {
        Event::Breaker {
            name,
            to: to @ "open",
            reason,
            open_for,
        } => {
            tracing::warn!(target: TARGET, name = &**name, to, reason, ?open_for, "breaker opened");
        }
        Event::Breaker {
            name, to, reason, ..
        } => {
            tracing::info!(target: TARGET, name = &**name, to, reason, "breaker changed its state");
        }
        Event::Ejected {
            name,
            reason,
            shut_for,
        } => {
            tracing::info!(target: TARGET, name = &**name, reason, ?shut_for, "endpoint ejected");
        }
        Event::Retry { attempt, backoff } => {
            tracing::debug!(target: TARGET, attempt, ?backoff, "retry");
        }
        Event::BudgetExhausted => tracing::debug!(target: TARGET, "retry budget exhausted"),
        Event::Refused { layer, name, kind } => {
            let (name, kind) = (name.as_deref(), kind.as_str());
            tracing::debug!(target: TARGET, layer, name, kind, "call refused");
        }
        Event::ConfigApplied { version } => {
            tracing::info!(target: TARGET, version, "configuration applied");
        }
        Event::ConfigRefused { faults } => {
            tracing::debug!(target: TARGET, faults, "configuration refused");
        }
        Event::Endpoints { service, count } => {
            tracing::info!(target: TARGET, service = &**service, count, "endpoints changed");
        }
        Event::BreakerWouldOpen {
            name,
            reason,
            open_for,
        } => {
            tracing::info!(target: TARGET, name = &**name, reason, ?open_for, "breaker would have opened");
        }
        Event::BreakerForced {
            name,
            mode: mode @ "auto",
            ..
        } => {
            tracing::info!(target: TARGET, name = &**name, mode, "breaker decides by itself");
        }
        Event::BreakerForced { name, mode, lasts } => {
            tracing::warn!(target: TARGET, name = &**name, mode, ?lasts, "breaker is forced");
        }

        Event::Limit {
            name,
            limit,
            reason,
        } => {
            tracing::debug!(target: TARGET, name = &**name, limit, reason, "limit changed");
        }

        Event::Fallback { name, failed } => {
            tracing::debug!(target: TARGET, name = &**name, ?failed, "answered by a fallback");
        }
        Event::Coalesced { name } => {
            tracing::debug!(target: TARGET, name = &**name, "joined a call in flight");
        }
        Event::Cache { name, result } => {
            tracing::trace!(target: TARGET, name = &**name, result, "cache");
        }
        Event::CacheEvicted { name, count } => {
            tracing::trace!(target: TARGET, name = &**name, count, "cache made room");
        }
        Event::FaultInjected { rule, fault } => {
            tracing::info!(target: TARGET, rule = &**rule, fault, "fault injected");
        }
        Event::Mirrored { outcome } => tracing::debug!(target: TARGET, outcome, "call mirrored"),
        Event::Hedged {
            name,
            attempt,
            after,
            outcome,
        } => {
            tracing::debug!(target: TARGET, name = &**name, attempt, ?after, outcome, "hedge");
        }
        Event::EndpointTurned {
            service,
            endpoint,
            to,
            reason,
            lasts,
        } => {
            let (service, endpoint) = (&**service, &**endpoint);
            tracing::info!(target: TARGET, service, endpoint, to, reason, ?lasts, "endpoint turned");
        }
    }
}
