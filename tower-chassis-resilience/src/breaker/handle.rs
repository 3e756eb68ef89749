use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_chassis_core::{Live, live::Invalid};

use super::{BreakerConfig, BreakerPolicy, Mode, Snapshot, State, layer::Shared};

/// Reads, forces, resets and reconfigures a breaker that is in use. Clones act on the same one.
#[derive(Clone)]
pub struct BreakerHandle(pub(super) Arc<Shared>);

impl BreakerHandle {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// What it does with calls. One load.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.circuit.state()
    }

    /// Its state, counts and open time, as they are together at this instant.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.0.circuit.snapshot(Instant::now())
    }

    /// How many probes of a half-open circuit are under way.
    #[must_use]
    pub fn probes(&self) -> usize {
        self.snapshot().probes
    }

    /// Says over its rules what it does with calls, for so long, or until it is said otherwise (`None`).
    ///
    /// No change of settings ends it. What was counted stays where calls are counted still. Out of
    /// [`ForcedOpen`](Mode::ForcedOpen) it goes half-open, out of [`Disabled`](Mode::Disabled) closed; the other modes
    /// close it when they begin. An end is seen when it matters: by the first call, or by the first failure that would
    /// open it.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_chassis_resilience::breaker::{BreakerLayer, BreakerPolicy, Mode, State};
    ///
    /// let breaker = BreakerLayer::new(BreakerPolicy::default()).handle();
    /// breaker.force(Mode::ForcedOpen, Some(Duration::from_secs(600)));
    /// assert_eq!((breaker.state(), breaker.mode()), (State::Open, Mode::ForcedOpen));
    ///
    /// breaker.force(Mode::Auto, None);
    /// assert_eq!(breaker.mode(), Mode::Auto);
    /// ```
    pub fn force(&self, mode: Mode, lasts: Option<Duration>) {
        self.0.force(mode, lasts, false);
    }

    /// What is forced now.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.0.circuit.mode(Instant::now()).0
    }

    /// Closes it and forgets its counts, how often it opened, and what was forced. Calls in flight do not count any
    /// more.
    pub fn reset(&self) {
        self.0.reset();
    }

    /// The settings, shared with every layer that was made from the same [`Live`].
    #[must_use]
    pub fn config(&self) -> &Live<BreakerPolicy> {
        &self.0.live
    }

    /// Changes settings: `handle.update(|config| config.failure_rate = 0.3)`.
    ///
    /// The state and what was forced stay; another length or type of the window begins with empty counts, and an
    /// open time that runs is not changed.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut BreakerConfig)) -> Result<(), Invalid> {
        self.0.live.update(|policy| change(policy.config_mut()))
    }
}

impl fmt::Debug for BreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BreakerHandle")
            .field(self.0.name())
            .field(&self.state())
            .finish()
    }
}
