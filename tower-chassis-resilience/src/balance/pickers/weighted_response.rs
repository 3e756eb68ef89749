use super::RoundRobin;
use crate::balance::{Candidates, Members, Pick, Rng};

/// Seven of ten calls to the fastest endpoint, the others in turn: go-chassis's `WeightedResponse`.
///
/// Other than there, an endpoint that fails is not a fast one, one that went away is forgotten, and each answer
/// counts at once.
#[derive(Debug, Default)]
pub struct WeightedResponse(RoundRobin);

/// Up to so many endpoints are all compared, and so many of more.
const COMPARED: usize = 32;

impl WeightedResponse {
    /// A picker by latency.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn pick_in<T>(
        turns: &RoundRobin,
        candidates: &Candidates<'_, T>,
        rng: &mut Rng,
    ) -> Option<usize> {
        let fastest = (rng.below(10) < 7)
            .then(|| Self::fastest(candidates, rng))
            .flatten();
        fastest.or_else(|| turns.pick_in(candidates, rng))
    }

    fn fastest<T>(candidates: &Candidates<'_, T>, rng: &mut Rng) -> Option<usize> {
        let count = candidates.len();
        let mut best: Option<(usize, f32)> = None;
        for index in 0..count.min(COMPARED) {
            let index = if count > COMPARED {
                rng.below(count)
            } else {
                index
            };
            let micros = candidates
                .load(index)
                .and_then(|load| load.micros(candidates.now()));
            if let Some(micros) = micros
                && best.is_none_or(|(_, least)| micros < least)
                && candidates.is_candidate(index)
            {
                best = Some((index, micros));
            }
        }
        best.map(|(index, _)| index)
    }
}

impl Pick for WeightedResponse {
    type Table = ();

    fn table(&self, _: &Members<'_>) {}

    fn pick(&self, candidates: &Candidates<'_>, rng: &mut Rng) -> Option<usize> {
        Self::pick_in(&self.0, candidates, rng)
    }

    fn score(&self, candidates: &Candidates<'_>, index: usize) -> Option<f64> {
        let micros = candidates.load(index)?.micros(candidates.now())?;
        Some(f64::from(micros))
    }
}
