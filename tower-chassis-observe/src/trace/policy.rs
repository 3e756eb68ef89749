//! Which traces are recorded, while it runs.

use std::{
    fmt,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
};

use tower_chassis_core::{
    live::{Invalid, Live, Validate},
    trace::TraceId,
};

use super::sampling::Sampling;
use crate::tally::Tally;

/// The settings of a trace layer, as they are written in a configuration.
///
/// Plain values; [`TracePolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct TraceConfig {
    /// Off, the layer is not there: no span, no header read or written. What a request came with stays in it.
    /// Default true.
    pub enabled: bool,
    /// Which traces have spans: [`Sampling::ratio`], 0 to 1; without it [`Sampling::all`], the default.
    pub ratio: Option<f64>,
    /// Whether a server believes what its callers say of the trace. Where anybody may call, they could have every call of
    /// theirs recorded, or none, put it into the trace of another, and hand on baggage: without trust a trace begins here,
    /// and the headers that say otherwise are taken away. Default true, for services behind others. No word to a client's
    /// layer.
    pub trust: bool,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            ratio: None,
            trust: true,
        }
    }
}

/// Settings of a trace layer that have been checked.
///
/// ```
/// use tower_chassis_observe::trace::TracePolicy;
///
/// let policy = TracePolicy::default().with(|config| config.ratio = Some(0.01))?;
/// let fault = policy.with(|config| config.ratio = Some(-1.0)).unwrap_err();
/// assert_eq!(fault.to_string(), "ratio must be from 0 to 1");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TracePolicy(TraceConfig);

impl TracePolicy {
    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &TraceConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut TraceConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }
}

impl TryFrom<TraceConfig> for TracePolicy {
    type Error = Invalid;
    fn try_from(config: TraceConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<Sampling> for TracePolicy {
    fn from(sampling: Sampling) -> Self {
        Self(TraceConfig {
            ratio: sampling.of_new(),
            ..TraceConfig::default()
        })
    }
}

impl Validate for TracePolicy {
    fn validate(&self) -> Result<(), Invalid> {
        match self.0.ratio {
            Some(ratio) if !(0.0..=1.0).contains(&ratio) => {
                Err(Invalid::new("ratio", "must be from 0 to 1"))
            }
            _ => Ok(()),
        }
    }
}

const OFF: u8 = 0;
/// Spans for sampled traces only.
const SAMPLED: u8 = 1;
const EVERY: u8 = 2;

const CALLS: usize = 0;
const BEGAN: usize = 1;
const ENDED: usize = 2;
const LOST: usize = 3;

/// The settings where calls read them, and what the handle reads.
#[derive(Debug)]
pub(super) struct Shared {
    live: Live<TracePolicy>,
    spans: AtomicU8,
    trusts: AtomicBool,
    /// Trace ids whose low half is below it are sampled.
    below: AtomicU64,
    tally: Tally<4>,
    warned: Once,
}

impl Shared {
    pub(super) fn new(live: Live<TracePolicy>) -> Arc<Self> {
        let shared = Arc::new(Self {
            live,
            spans: AtomicU8::new(EVERY),
            trusts: AtomicBool::new(true),
            below: AtomicU64::new(u64::MAX),
            tally: Tally::default(),
            warned: Once::new(),
        });
        shared.live.bind(&shared, |shared, policy| {
            let TraceConfig {
                enabled,
                ratio,
                trust,
            } = policy.config();
            shared.trusts.store(*trust, Relaxed);
            // A float that is too large saturates.
            let below = ratio.map_or(u64::MAX, |ratio| (ratio * u64::MAX as f64) as u64);
            shared.below.store(below, Relaxed);
            let spans = match (enabled, ratio) {
                (false, _) => OFF,
                (true, Some(_)) => SAMPLED,
                (true, None) => EVERY,
            };
            shared.spans.store(spans, Relaxed);
        });
        shared
    }

    /// The same settings, and nothing counted.
    pub(super) fn fresh(&self) -> Arc<Self> {
        Self::new(self.live.clone())
    }

    /// Whether there are traces at all. Counts the call.
    pub(super) fn begin(&self) -> bool {
        let on = self.spans.load(Relaxed) != OFF;
        if on {
            self.tally.count(CALLS);
        }
        on
    }

    /// Whether callers are believed.
    pub(super) fn trusts(&self) -> bool {
        self.trusts.load(Relaxed)
    }

    pub(super) fn begin_span(&self) {
        self.tally.count(BEGAN);
    }

    pub(super) fn end_span(&self) {
        self.tally.count(ENDED);
    }

    /// Whether calls have a span also where their trace is not sampled.
    pub(super) fn every(&self) -> bool {
        self.spans.load(Relaxed) == EVERY
    }

    /// Whether a trace that begins here is sampled, by the low half of its id: as OpenTelemetry's own samplers decide, so
    /// that services that ask agree.
    pub(super) fn samples(&self, trace: TraceId) -> bool {
        let below = self.below.load(Relaxed);
        below == u64::MAX || (u128::from_be_bytes(trace.to_bytes()) as u64) < below
    }

    /// A span was to be recorded, and nobody took it.
    #[cold]
    pub(super) fn lost(&self) {
        self.tally.count(LOST);
        self.warned.call_once(|| {
            tracing::warn!(
                target: "tower_chassis::trace",
                "spans of sampled traces are lost: the layer has no span sink (`.sink(…)`), and no subscriber listens to \
                 the target `tower_chassis::trace` at level INFO"
            );
        });
    }
}

/// A view of a trace layer and all of its services. Clones are views of the same one.
#[derive(Clone)]
pub struct TraceHandle(pub(super) Arc<Shared>);

impl TraceHandle {
    /// How many calls it has put into a trace.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.tally.sum(CALLS)
    }

    /// How many of them have, or had, a span that somebody listens to or that goes to a sink.
    #[must_use]
    pub fn spans(&self) -> u64 {
        self.0.tally.sum(BEGAN)
    }

    /// How many calls with a span are in flight. Those that begin or end meanwhile may be counted or not.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.0.tally.between(BEGAN, [ENDED])
    }

    /// How many calls of sampled traces had no span, because nobody takes it. Only counted where spans are
    /// [expected to be exported](super::TraceLayer::expects_export).
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.tally.sum(LOST)
    }

    /// The settings, shared with every layer that was made from the same [`Live`]. A change reaches calls that
    /// begin after it.
    #[must_use]
    pub fn config(&self) -> &Live<TracePolicy> {
        &self.0.live
    }

    /// Changes settings: `handle.update(|config| config.ratio = Some(0.1))`.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut TraceConfig)) -> Result<(), Invalid> {
        self.0.live.update(|policy| change(&mut policy.0))
    }
}

impl fmt::Debug for TraceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceHandle")
            .field("policy", &self.0.live)
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use tower_chassis_core::trace::TraceContext;

    use super::*;

    #[test]
    fn a_ratio_is_live() {
        let live = Live::new(TracePolicy::default());
        let shared = Shared::new(live.clone());
        // Ids that differ in their low half, evenly.
        let trace = |n: u64| {
            let id = u128::from(n.wrapping_mul(u64::MAX / 1000)) | 7 << 64;
            TraceContext::new(id.to_be_bytes(), [1; 8], true)
                .unwrap()
                .trace_id()
        };
        let sampled = || (0..1000).filter(|n| shared.samples(trace(*n))).count();
        let set = |sampling| live.set(TracePolicy::from(sampling));
        assert_eq!(sampled(), 1000);
        assert!(shared.every());
        set(Sampling::ratio(0.0)).unwrap();
        assert_eq!(sampled(), 0);
        assert!(!shared.every());
        set(Sampling::ratio(0.5)).unwrap();
        assert!((499..=501).contains(&sampled()));
        // It decides by the id, so asking again changes nothing, and a larger ratio takes the same ones and more.
        let half: Vec<_> = (0..1000).filter(|n| shared.samples(trace(*n))).collect();
        set(Sampling::ratio(0.6)).unwrap();
        assert!(half.iter().all(|n| shared.samples(trace(*n))));
        set(Sampling::ratio(1.0)).unwrap();
        assert_eq!(sampled(), 1000);
        for wrong in [-0.1, 1.1, f64::NAN] {
            assert!(set(Sampling::ratio(wrong)).is_err());
        }
        live.update(|policy| policy.0.enabled = false).unwrap();
        assert!(!shared.begin());
        assert_eq!(TraceHandle(shared).calls(), 0);
    }
}
