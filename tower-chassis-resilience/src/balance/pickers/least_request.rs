use crate::balance::{Candidates, Members, Pick, Rng};

/// Of a few drawn endpoints, the one with the fewest calls in flight for its weight. For calls that take about as long
/// everywhere, or where no clock is wanted in the choice.
///
/// They are drawn by weight, so that an idle service keeps the weights as a busy one does. Of equal ones the first
/// drawn is taken.
#[derive(Clone, Copy, Debug)]
pub struct LeastRequest {
    choices: u32,
}

impl Default for LeastRequest {
    fn default() -> Self {
        Self::new()
    }
}

impl LeastRequest {
    /// The better of two.
    #[must_use]
    pub const fn new() -> Self {
        Self { choices: 2 }
    }

    /// The best of so many: 2 to 10, what is beyond counts as the nearest of these. More spread finer, but many
    /// clients then run to the same idle endpoint.
    #[must_use]
    pub fn choices(mut self, choices: u32) -> Self {
        self.choices = choices.clamp(2, 10);
        self
    }

    fn cost<T>(candidates: &Candidates<'_, T>, index: usize) -> f32 {
        let pending = candidates.load(index).map_or(0, |load| load.pending());
        pending as f32 / candidates.share(index)
    }

    pub(super) fn pick_in<T>(self, candidates: &Candidates<'_, T>, rng: &mut Rng) -> Option<usize> {
        let (first, second) = candidates.draw_two(rng)?;
        let mut best = (first, Self::cost(candidates, first));
        let others = (2..self.choices).map(|_| candidates.draw_any(rng));
        let others = others.filter(|index| candidates.is_candidate(*index));
        for index in second.into_iter().chain(others) {
            let cost = Self::cost(candidates, index);
            if cost < best.1 {
                best = (index, cost);
            }
        }
        Some(best.0)
    }
}

impl Pick for LeastRequest {
    type Table = ();

    fn table(&self, _: &Members<'_>) {}

    fn pick(&self, candidates: &Candidates<'_>, rng: &mut Rng) -> Option<usize> {
        self.pick_in(candidates, rng)
    }

    fn score(&self, candidates: &Candidates<'_>, index: usize) -> Option<f64> {
        Some(f64::from(Self::cost(candidates, index)))
    }
}
