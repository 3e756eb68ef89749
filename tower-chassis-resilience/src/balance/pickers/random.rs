use crate::balance::{Candidates, Members, Pick, Rng};

/// Any, each as likely as the others, whatever its weight (but 0).
#[derive(Clone, Copy, Debug, Default)]
pub struct Random(());

impl Random {
    /// A picker by chance.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }

    pub(super) fn pick_in<T>(candidates: &Candidates<'_, T>, rng: &mut Rng) -> Option<usize> {
        candidates.draw_evenly(rng)
    }
}

impl Pick for Random {
    type Table = ();

    fn table(&self, _: &Members<'_>) {}

    fn pick(&self, candidates: &Candidates<'_>, rng: &mut Rng) -> Option<usize> {
        Self::pick_in(candidates, rng)
    }
}

/// Any, as likely as its weight says, in constant time (Walker's alias method).
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedRandom(());

impl WeightedRandom {
    /// A picker by chance and weight.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }

    pub(super) fn pick_in<T>(candidates: &Candidates<'_, T>, rng: &mut Rng) -> Option<usize> {
        candidates.draw(rng)
    }
}

impl Pick for WeightedRandom {
    type Table = ();

    fn table(&self, _: &Members<'_>) {}

    fn pick(&self, candidates: &Candidates<'_>, rng: &mut Rng) -> Option<usize> {
        Self::pick_in(candidates, rng)
    }
}
