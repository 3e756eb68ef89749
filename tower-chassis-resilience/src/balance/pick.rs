use tokio::sync::watch;
use tokio::time::Instant;
use tower_chassis_core::{
    Carrier, Endpoint, Invocation,
    invocation::{OnEmpty, Subset},
};

use super::{Load, outlier::Look, snapshot::Plan};

/// Chooses an endpoint. Plain, shared by all calls, asked by `&self`: lock-free state only.
///
/// ```
/// use tower_chassis_resilience::balance::{Candidates, Members, Pick, Rng};
///
/// /// The first that may be called.
/// struct First;
///
/// impl Pick for First {
///     type Table = ();
///
///     fn table(&self, _: &Members<'_>) {}
///
///     fn pick(&self, candidates: &Candidates<'_>, _: &mut Rng) -> Option<usize> {
///         (0..candidates.len()).find(|index| candidates.is_candidate(*index))
///     }
/// }
/// ```
pub trait Pick: Send + Sync + 'static {
    /// What is made once for a set of endpoints, away from calls: a ring, a cycle. `()` for nothing.
    type Table: Send + Sync + 'static;

    /// Makes the table of a set. Called by the worker when the set changed, or the picker [did](Self::changes).
    fn table(&self, members: &Members<'_>) -> Self::Table;

    /// The index of a [candidate](Candidates::is_candidate), or nothing if there is none.
    fn pick(&self, candidates: &Candidates<'_, Self::Table>, rng: &mut Rng) -> Option<usize>;

    /// A hash of what the picker goes by in a request, to be found at [`Candidates::hash`]. A call that waits is asked
    /// again. Default: none.
    fn hash(&self, call: &dyn Carrier) -> Option<u64> {
        let _ = call;
        None
    }

    /// How the picker sees a candidate, the lowest first, for people who ask why. Default: it cannot tell.
    fn score(&self, candidates: &Candidates<'_, Self::Table>, index: usize) -> Option<f64> {
        let _ = (candidates, index);
        None
    }

    /// Says when tables must be made anew although the endpoints are the same. Default: never.
    fn changes(&self) -> Option<watch::Receiver<()>> {
        None
    }
}

/// The endpoints of a set, by index, for the table of a picker.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a>(&'a Plan);

impl<'a> Members<'a> {
    pub(super) const fn new(plan: &'a Plan) -> Self {
        Self(plan)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.entries.is_empty()
    }

    /// The endpoint at an index.
    #[must_use]
    pub fn endpoint(&self, index: usize) -> Option<&'a Endpoint> {
        self.0.endpoints.get(index)
    }

    /// The weight at an index, as it counts: 0 for who only takes what others cannot, and 1 for all where all have 0.
    #[must_use]
    pub fn weight(&self, index: usize) -> u32 {
        self.0.entries.get(index).map_or(0, |entry| entry.weight)
    }
}

/// The endpoints of a set, by index, and which of them may take this call.
#[derive(Debug)]
pub struct Candidates<'a, T = ()> {
    plan: &'a Plan,
    table: &'a T,
    hash: Option<u64>,
    subset: Option<&'a Subset>,
    /// The call, where the endpoints that it tried are to be left out.
    untried: Option<&'a Invocation>,
    /// Endpoints that the call waits for already.
    awaited: &'a [u64],
    weightless: bool,
    /// How outliers are passed over, where there are any and another can serve.
    look: Option<Look<'a>>,
    now: Instant,
}

/// How often two endpoints are drawn before all of them are looked at.
const DRAWS: usize = 4;

impl<T> Candidates<'_, T> {
    /// How many endpoints the set has, candidates or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.plan.entries.len()
    }

    /// Whether the set has no endpoint.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plan.entries.is_empty()
    }

    /// The table that the picker made of this set.
    #[must_use]
    pub const fn table(&self) -> &T {
        self.table
    }

    /// The hash of the request, if the picker makes one and the request has what it is made of.
    #[must_use]
    pub const fn hash(&self) -> Option<u64> {
        self.hash
    }

    /// The endpoint at an index, candidate or not.
    #[must_use]
    pub fn endpoint(&self, index: usize) -> Option<&Endpoint> {
        self.plan.endpoints.get(index)
    }

    /// When the call picks.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Whether the endpoint may take the call: in its subset, its gate open, not tried yet.
    #[must_use]
    pub fn is_candidate(&self, index: usize) -> bool {
        let Some(entry) = self.plan.entries.get(index) else {
            return false;
        };
        let key = entry.state.key;
        if !entry.gate.is_open(self.now) {
            // It is shut for what it was. When it opens, its penalties would keep calls away for another
            // minute, and nobody would learn that it is well again.
            entry.state.load.forget();
            return false;
        }
        (entry.weight == 0) == self.weightless
            && self.look.is_none_or(|look| look.takes(&entry.state))
            && !self.awaited.contains(&key)
            && !self.untried.is_some_and(|call| call.has_tried(key))
            && self.subset.is_none_or(|subset| {
                self.plan
                    .endpoints
                    .get(index)
                    .is_some_and(|e| subset.contains(e))
            })
    }

    /// Whether any may take the call.
    fn has_any(&self) -> bool {
        (0..self.len()).any(|index| self.is_candidate(index))
    }

    /// What is known of the endpoint.
    #[must_use]
    pub fn load(&self, index: usize) -> Option<&Load> {
        self.plan.entries.get(index).map(|entry| &entry.state.load)
    }

    /// The share of the traffic that the endpoint is to have, 1 on average.
    #[must_use]
    pub fn share(&self, index: usize) -> f32 {
        self.plan
            .entries
            .get(index)
            .map_or(1.0, |entry| entry.share)
    }

    /// The median latency of the peers when the set was built, in microseconds; 0 if none was measured.
    pub(super) fn typical(&self) -> f32 {
        self.plan.typical
    }

    /// One or two different candidates, drawn at random in proportion to their weights.
    #[must_use]
    pub fn draw_two(&self, rng: &mut Rng) -> Option<(usize, Option<usize>)> {
        let count = self.len();
        if count == 1 {
            return self.is_candidate(0).then_some((0, None));
        }
        for _ in 0..DRAWS {
            // By weight with replacement: without it, two endpoints of 100:1 would always both be drawn.
            let (first, second) = match &self.plan.alias {
                Some(alias) => (alias.draw(rng), alias.draw(rng)),
                None => rng.two_below(count),
            };
            if self.is_candidate(first) && (first == second || self.is_candidate(second)) {
                return Some((first, (first != second).then_some(second)));
            }
        }
        let first = self.draw_one(None, rng)?;
        let without = self.plan.alias.is_none().then_some(first);
        Some((
            first,
            self.draw_one(without, rng)
                .filter(|second| *second != first),
        ))
    }

    /// The weight of an endpoint, at least 1.
    #[must_use]
    pub fn weight(&self, index: usize) -> u32 {
        let entry = self.plan.entries.get(index);
        entry.map_or(1, |entry| entry.weight.max(1))
    }

    /// A candidate, drawn at random in proportion to the weights.
    #[must_use]
    pub fn draw(&self, rng: &mut Rng) -> Option<usize> {
        let drawn = (0..DRAWS).map(|_| self.draw_any(rng));
        let drawn = { drawn }.find(|index| self.is_candidate(*index));
        drawn.or_else(|| self.draw_one(None, rng))
    }

    /// A candidate, each as likely as the others.
    #[must_use]
    pub fn draw_evenly(&self, rng: &mut Rng) -> Option<usize> {
        for _ in 0..DRAWS {
            let index = rng.below(self.len());
            if self.is_candidate(index) {
                return Some(index);
            }
        }
        let all = || (0..self.len()).filter(|index| self.is_candidate(*index));
        let count = all().count();
        // One may have opened its gate since they were counted, or be gone.
        all().nth(rng.below(count)).or_else(|| all().next())
    }

    /// An endpoint at random in proportion to the weights, candidate or not.
    pub(super) fn draw_any(&self, rng: &mut Rng) -> usize {
        match &self.plan.alias {
            Some(alias) => alias.draw(rng),
            None => rng.below(self.len()),
        }
    }

    /// Whether it is the turn of an endpoint in a round of all.
    pub(super) fn has_turn(&self, index: usize, round: u32) -> bool {
        self.plan.has_turn(index, round)
    }

    /// A candidate other than `without`, by looking at all of them.
    pub(super) fn draw_one(&self, without: Option<usize>, rng: &mut Rng) -> Option<usize> {
        let mass = |index: &usize| {
            self.plan
                .entries
                .get(*index)
                .map_or(1, |entry| usize::max(entry.weight as usize, 1))
        };
        let all =
            || (0..self.len()).filter(|index| Some(*index) != without && self.is_candidate(*index));
        let mut left = rng.below(all().map(|index| mass(&index)).sum());
        let mut last = None;
        for index in all() {
            last = Some(index);
            match left.checked_sub(mass(&index)) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        last
    }
}

/// The randomness of a pick: cheap, not for secrets.
#[derive(Debug)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// Seeded by the thread's generator.
    pub(super) fn new() -> Self {
        Self(fastrand::Rng::with_seed(fastrand::u64(..)))
    }

    /// The same numbers for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end.max(1))
    }

    pub(super) fn word(&mut self) -> u32 {
        self.0.u32(..)
    }

    /// Two different numbers below `end`, which is at least 2.
    fn two_below(&mut self, end: usize) -> (usize, usize) {
        let first = self.below(end);
        let second = self.below(end.saturating_sub(1));
        (first, second + usize::from(second >= first))
    }
}

impl Plan {
    /// An endpoint for a call of `invocation` that does not wait for it already.
    ///
    /// Asks first for those that have weight and were not tried; then for tried ones; then, if the call does
    /// not wait for another, for those without weight.
    pub(super) fn choose<P: Pick>(
        &self,
        (picker, table): (&P, &P::Table),
        hash: Option<u64>,
        invocation: Option<&Invocation>,
        awaited: &[u64],
        now: Instant,
        rng: &mut Rng,
    ) -> Option<usize> {
        let subset = invocation.and_then(Invocation::subset);
        let retried = invocation.filter(|call| call.attempt() > 1);
        let look = self.outlier.look(now, rng);
        let mut of = |look| {
            let mut among = |subset| {
                let mut pick = |untried, weightless| {
                    let candidates = Candidates {
                        plan: self,
                        table,
                        hash,
                        subset,
                        untried,
                        awaited,
                        weightless,
                        look,
                        now,
                    };
                    // Else a picker that goes in turn would spend turns in vain, and some would never have theirs.
                    if untried.is_some() && !candidates.has_any() {
                        return None;
                    }
                    picker.pick(&candidates, rng)
                };
                pick(retried, false)
                    .or_else(|| retried.and_then(|_| pick(None, false)))
                    .or_else(|| {
                        let drained = self.has_weightless && awaited.is_empty();
                        drained
                            .then(|| pick(retried, true).or_else(|| pick(None, true)))
                            .flatten()
                    })
            };
            let Some(subset) = subset else {
                return among(None);
            };
            among(Some(subset)).or_else(|| {
                // Who waits for an endpoint of its subset goes on waiting for it.
                let waits = awaited.iter().any(|key| {
                    self.endpoints
                        .iter()
                        .any(|e| e.key() == *key && subset.contains(e))
                });
                (subset.on_empty() == OnEmpty::Any && !waits)
                    .then(|| among(None))
                    .flatten()
            })
        };
        // Who comes back serves more than its share where nobody else can, and an outlier serves where not even
        // such a one can. None of them is awaited beside another.
        of(look).or_else(|| {
            let look = look.filter(|_| awaited.is_empty())?;
            of(Some(look.wholly())).or_else(|| of(None))
        })
    }
}
