use std::{fmt, sync::Arc};

use tokio::time::Instant;
use tower_chassis_core::{Live, live::Invalid};

use super::{BreakerConfig, BreakerPolicy, Snapshot, State, layer::Shared};

/// Reads, resets and reconfigures a breaker that is in use. Clones act on the same one.
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

    /// Closes it and forgets its counts and how often it opened. Calls in flight do not count any
    /// more.
    pub fn reset(&self) {
        self.0.report(self.0.circuit.reset(Instant::now()));
    }

    /// The settings, shared with every layer that was made from the same [`Live`].
    #[must_use]
    pub fn config(&self) -> &Live<BreakerPolicy> {
        &self.0.live
    }

    /// Changes settings: `handle.update(|config| config.failure_rate = 0.3)`.
    ///
    /// The state stays; another `window` begins with empty counts, and an open time that runs is
    /// not changed.
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
