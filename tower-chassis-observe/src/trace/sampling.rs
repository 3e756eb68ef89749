//! Which traces are recorded.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tower_chassis_core::{
    live::{Invalid, Live, Validate},
    trace::TraceContext,
};

/// Which traces are recorded.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Sampling(Option<f64>);

impl Sampling {
    /// Every call has a span; a new trace is marked as sampled. The default.
    #[must_use]
    pub const fn all() -> Self {
        Self(None)
    }

    /// Of the traces that begin here, this part (0 to 1) is sampled; of the others who began them has decided.
    /// The calls of a trace that is not sampled have no span, only the header.
    #[must_use]
    pub const fn ratio(ratio: f64) -> Self {
        Self(Some(ratio))
    }
}

impl Validate for Sampling {
    fn validate(&self) -> Result<(), Invalid> {
        match self.0 {
            Some(ratio) if !(0.0..=1.0).contains(&ratio) => {
                Err(Invalid::new("ratio", "must be from 0 to 1"))
            }
            _ => Ok(()),
        }
    }
}

/// Where calls read it.
#[derive(Debug)]
pub(super) struct Sampler {
    /// Spans also for traces that are not sampled.
    every: AtomicBool,
    /// Random numbers below it are sampled.
    below: AtomicU64,
}

impl Sampler {
    pub(super) fn bound(sampling: &Live<Sampling>) -> Arc<Self> {
        let sampler = Arc::new(Self {
            every: AtomicBool::new(true),
            below: AtomicU64::new(u64::MAX),
        });
        sampling.bind(&sampler, |sampler, sampling| {
            // A float that is too large or not a number saturates.
            let below = sampling
                .0
                .map_or(u64::MAX, |ratio| (ratio * u64::MAX as f64) as u64);
            sampler.below.store(below, Ordering::Relaxed);
            sampler.every.store(sampling.0.is_none(), Ordering::Relaxed);
        });
        sampler
    }

    /// Whether a call of the trace has a span.
    pub(super) fn wants(&self, context: &TraceContext) -> bool {
        context.is_sampled() || self.every.load(Ordering::Relaxed)
    }

    /// The next span of a trace.
    pub(super) fn child(&self, parent: &TraceContext) -> TraceContext {
        // Never zero, so there always is a child.
        parent.child(span_id()).unwrap_or(*parent)
    }

    /// The first span of a new trace.
    pub(super) fn root(&self) -> Option<TraceContext> {
        let below = self.below.load(Ordering::Relaxed);
        let sampled = below == u64::MAX || fastrand::u64(..) < below;
        TraceContext::new(fastrand::u128(1..).to_be_bytes(), span_id(), sampled)
    }
}

fn span_id() -> [u8; 8] {
    fastrand::u64(1..).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_live() {
        let live = Live::new(Sampling::all());
        let sampler = Sampler::bound(&live);
        let sampled = || {
            (0..1000)
                .filter(|_| sampler.root().unwrap().is_sampled())
                .count()
        };
        assert_eq!(sampled(), 1000);
        let unsampled = TraceContext::new([1; 16], [1; 8], false).unwrap();
        assert!(sampler.wants(&unsampled));
        live.set(Sampling::ratio(0.0)).unwrap();
        assert_eq!(sampled(), 0);
        assert!(!sampler.wants(&unsampled));
        live.set(Sampling::ratio(0.5)).unwrap();
        assert!((300..700).contains(&sampled()));
        for wrong in [-0.1, 1.1, f64::NAN] {
            assert!(live.set(Sampling::ratio(wrong)).is_err());
        }
    }
}
