use crate::balance::{Candidates, Members, Pick, Rng};

/// The better of two drawn endpoints, by latency times calls in flight. The default.
///
/// An endpoint that nobody measured gets one call at a time until its first answer; it competes with the
/// median latency of its peers. Of two that are about equal (1/8) the first drawn is taken, so that small
/// differences of latency neither herd calls nor bend weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeakEwma(());

/// By how much the second must be better than the first.
const CLEARLY: f32 = 1.125;
/// Worse than any latency: an endpoint whose first answer is awaited.
const UNKNOWN: f32 = 1e15;

impl PeakEwma {
    /// A picker by latency and calls in flight.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }

    pub(in crate::balance) fn cost<T>(candidates: &Candidates<'_, T>, index: usize) -> f32 {
        let Some(load) = candidates.load(index) else {
            return f32::INFINITY;
        };
        let pending = load.pending() as f32;
        let latency = match load.micros(candidates.now()) {
            // An average that faded to nothing must still weigh the calls in flight.
            Some(micros) => micros.max(1.0),
            None if load.is_asked(candidates.now()) => UNKNOWN,
            None => candidates.typical(),
        };
        latency * (1.0 + pending / candidates.share(index))
    }

    pub(in crate::balance) fn pick_in<T>(
        candidates: &Candidates<'_, T>,
        rng: &mut Rng,
    ) -> Option<usize> {
        let (first, second) = candidates.draw_two(rng)?;
        let Some(second) = second else {
            return Some(first);
        };
        // Whoever has not been asked for a while is asked, one call at a time.
        let stale = |index| {
            candidates
                .load(index)
                .is_some_and(|load| load.is_stale(candidates.now()))
        };
        let second_is_better = match (stale(first), stale(second)) {
            (true, false) => false,
            (false, true) => true,
            _ => Self::cost(candidates, second) * CLEARLY < Self::cost(candidates, first),
        };
        Some(if second_is_better { second } else { first })
    }
}

impl Pick for PeakEwma {
    type Table = ();

    fn table(&self, _: &Members<'_>) {}

    fn pick(&self, candidates: &Candidates<'_>, rng: &mut Rng) -> Option<usize> {
        Self::pick_in(candidates, rng)
    }

    fn score(&self, candidates: &Candidates<'_>, index: usize) -> Option<f64> {
        Some(f64::from(Self::cost(candidates, index)))
    }
}
