use tower_chassis_core::Carrier;
use twox_hash::XxHash64;

use super::hash_on::{HashOn, Source, xxh};
use crate::balance::{Candidates, Members, Pick, Rng};

/// The endpoint that wins for the hash of the request (highest random weight, Thaler and Ravishankar; weights as
/// Schindelhauer and Schomaker). Nothing is prepared, and weights hold exactly; each pick looks at all endpoints.
///
/// A request that has nothing to hash goes to any endpoint, by weight. Where the winner may not be called the second
/// takes its requests, and the requests of others stay.
#[derive(Clone, Debug, Default)]
pub struct Rendezvous {
    source: Source,
}

impl Rendezvous {
    /// By the address of the client.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// By these parts of a request.
    #[must_use]
    pub fn hash_on(mut self, parts: impl IntoIterator<Item = HashOn>) -> Self {
        self.source = Source::on(parts);
        self
    }

    /// By a hash of one's own.
    #[must_use]
    pub fn by(
        mut self,
        hash: impl Fn(&dyn Carrier) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        self.source = Source::By(std::sync::Arc::new(hash));
        self
    }

    pub(super) fn request_hash(&self, call: &dyn Carrier) -> Option<u64> {
        self.source.hash(call, xxh)
    }

    /// The winner among the candidates that fit.
    pub(super) fn best<T>(
        candidates: &Candidates<'_, T>,
        hash: u64,
        fits: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for index in 0..candidates.len() {
            let score = Self::score_of(candidates, index, hash);
            if best.is_none_or(|(_, most)| score > most)
                && candidates.is_candidate(index)
                && fits(index)
            {
                best = Some((index, score));
            }
        }
        best.map(|(index, _)| index)
    }

    fn score_of<T>(candidates: &Candidates<'_, T>, index: usize, hash: u64) -> f64 {
        let Some(endpoint) = candidates.endpoint(index) else {
            return 0.0;
        };
        let drawn = XxHash64::oneshot(endpoint.key(), &hash.to_le_bytes());
        let unit = ((drawn >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -f64::from(candidates.weight(index)) / unit.ln()
    }

    pub(super) fn pick_in<T>(candidates: &Candidates<'_, T>, rng: &mut Rng) -> Option<usize> {
        match candidates.hash() {
            Some(hash) => Self::best(candidates, hash, |_| true),
            None => candidates.draw(rng),
        }
    }
}

impl Pick for Rendezvous {
    type Table = ();

    fn table(&self, _: &Members<'_>) {}

    fn pick(&self, candidates: &Candidates<'_>, rng: &mut Rng) -> Option<usize> {
        Self::pick_in(candidates, rng)
    }

    fn hash(&self, call: &dyn Carrier) -> Option<u64> {
        self.request_hash(call)
    }

    fn score(&self, candidates: &Candidates<'_>, index: usize) -> Option<f64> {
        let hash = candidates.hash()?;
        Some(-Self::score_of(candidates, index, hash))
    }
}
