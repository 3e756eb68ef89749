use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_chassis_core::{Live, clock, live::Invalid, striped::here};

use super::{BulkheadConfig, BulkheadPolicy, shared::Shared};

/// Reads and reconfigures a bulkhead that is in use. Clones act on the same one.
#[derive(Clone)]
pub struct BulkheadHandle(pub(super) Arc<Shared>);

impl BulkheadHandle {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// How many calls hold a permit.
    ///
    /// Exact with a limit below four per core. Above, calls that begin or end at this instant may
    /// count twice or not at all. Takes the queue's lock.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.0.permits.in_use()
    }

    /// How many calls wait for a permit. One load.
    #[must_use]
    pub fn queued(&self) -> u32 {
        self.0.permits.queued()
    }

    /// How long the first of those who wait has; `None` if none waits. Takes the queue's lock.
    #[must_use]
    pub fn waiting_for(&self) -> Option<Duration> {
        let since = self.0.permits.oldest()?;
        Some(Instant::now().saturating_duration_since(since))
    }

    /// The limit in force. One load.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.0.permits.limit()
    }

    /// Refuses every call from now on, also those that wait; calls in flight go on. Until it is
    /// [opened](Self::open), whatever settings come. Calls that pass cost no more for it.
    pub fn shut(&self) {
        self.0.permits.shut(here());
    }

    /// Ends [`shut`](Self::shut).
    pub fn open(&self) {
        self.0.permits.open(here(), clock::now);
    }

    /// Whether it was [shut](Self::shut). Takes the queue's lock.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.0.permits.is_shut()
    }

    /// The settings, shared with every layer that was made from the same [`Live`].
    #[must_use]
    pub fn config(&self) -> &Live<BulkheadPolicy> {
        &self.0.common.live
    }

    /// Changes settings: `handle.update(|config| config.limit = 50)`.
    ///
    /// A higher limit lets calls that wait begin at once. Under a lower one, calls in flight go on, and
    /// none begins until there are fewer than that. Who waits keeps its place and its time.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut BulkheadConfig)) -> Result<(), Invalid> {
        let live = &self.0.common.live;
        live.update(|policy| change(policy.config_mut()))
    }
}

impl fmt::Debug for BulkheadHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadHandle")
            .field("name", &self.name())
            .field("in_flight", &self.in_flight())
            .field("queued", &self.queued())
            .field("limit", &self.limit())
            .finish()
    }
}
