use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tower_chassis_core::{Live, clock, live::Invalid};

use super::{
    config::{HedgeConfig, HedgePolicy},
    latency::NEVER,
    layer::Count,
    state::State,
};
use crate::retry::BudgetSnapshot;

/// A view of a [`HedgeLayer`](super::HedgeLayer) and all of its services. Clones act on the same one.
#[derive(Clone)]
pub struct HedgeHandle {
    pub(super) state: Arc<State>,
    pub(super) keys: Arc<dyn Count>,
}

impl HedgeHandle {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.setup().name
    }

    /// The settings in force. A change reaches calls that begin after it, one of the percentile a quarter of a
    /// second later; what was measured and the tokens of the budget stay.
    #[must_use]
    pub fn config(&self) -> &Live<HedgePolicy> {
        self.state.live()
    }

    /// Changes settings: `handle.update(|config| config.percentile = 0.95)`.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut HedgeConfig)) -> Result<(), Invalid> {
        self.config().update(|policy| change(policy.config_mut()))
    }

    /// How long a call that begins now waits for its answer before a hedge is sent, if it has no key: the fixed
    /// delay, or the percentile as of the last quarter of a second. `None` if that is not known or too long.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        let state = &self.state;
        let measured = || state.measured(&state.one, clock::now());
        let delay = state.fixed().unwrap_or_else(measured);
        (delay != NEVER).then(|| Duration::from_nanos(delay))
    }

    /// How many hedges were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Relaxed)
    }

    /// How many of them had the answer.
    #[must_use]
    pub fn won(&self) -> u64 {
        self.state.won.load(Relaxed)
    }

    /// How many were wanted and not in the budget.
    #[must_use]
    pub fn exhausted(&self) -> u64 {
        self.state.exhausted.load(Relaxed)
    }

    /// What the budget holds now.
    #[must_use]
    pub fn budget(&self) -> BudgetSnapshot {
        self.state.budget.snapshot(clock::now())
    }

    /// Sends no hedges until [`switch_on`](Self::switch_on), whatever the settings say and become. Calls are
    /// measured all the same.
    pub fn switch_off(&self) {
        self.state.switch(false);
    }

    /// Ends [`switch_off`](Self::switch_off).
    pub fn switch_on(&self) {
        self.state.switch(true);
    }

    /// Whether it is not switched off.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.state.is_on()
    }

    /// How many keys have a percentile of their own now. Takes each shard's lock in turn.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.count()
    }
}

impl fmt::Debug for HedgeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeHandle")
            .field("name", &self.name())
            .field("delay", &self.delay())
            .field("sent", &self.sent())
            .field("won", &self.won())
            .finish_non_exhaustive()
    }
}
