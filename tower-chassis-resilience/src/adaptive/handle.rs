use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_chassis_core::{Live, live::Invalid};

use super::{
    AdaptiveConfig, AdaptivePolicy, Reason,
    limit::{Change, Controller, Nanos},
    shared::Shared,
};

/// The highest limit that can be forced.
const MOST: u32 = 1_000_000;

/// Reads, forces and reconfigures a limit that is in use. Clones act on the same one.
///
/// Everything but [`queued`](Self::queued) and [`limit`](Self::limit) takes a lock for some operations.
#[derive(Clone)]
pub struct AdaptiveHandle(pub(super) Arc<Shared>);

impl AdaptiveHandle {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The limit in force.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.0.permits.limit()
    }

    /// Why it is what it is: the last change.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.meter.with(|control| control.now().reason)
    }

    /// How many calls hold a permit.
    ///
    /// Exact with a limit below four per core. Above, calls that begin or end at this instant may
    /// count twice or not at all.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.0.permits.in_use()
    }

    /// How many calls wait for a permit.
    #[must_use]
    pub fn queued(&self) -> u32 {
        self.0.permits.queued()
    }

    /// How long a call takes while nothing waits in the service, in the mean, as far as the last ten minutes show it;
    /// `None` before the first window.
    #[must_use]
    pub fn baseline(&self) -> Option<Duration> {
        let nanos = self.0.meter.with(|control| control.baseline())?;
        Some(Duration::from_nanos(nanos as Nanos))
    }

    /// The limit that was [forced](Self::force), as long as it is in force.
    #[must_use]
    pub fn forced(&self) -> Option<u32> {
        self.tell(|control, now| control.expire(now));
        self.0.meter.with(|control| Some(control.forced()?.0))
    }

    /// Holds the limit at 1 to 1,000,000, whatever the bounds of the settings, until it is
    /// [released](Self::release). What is learned meanwhile is how fast the service is, and nothing else.
    pub fn force(&self, limit: u32) {
        let forced = (limit.clamp(1, MOST), Nanos::MAX);
        self.tell(|control, _| control.force(Some(forced)));
    }

    /// Forces the limit for so long. It is given free by the first call after that.
    pub fn force_for(&self, limit: u32, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(Nanos::MAX);
        self.tell(|control, now| {
            let forced = (limit.clamp(1, MOST), now.saturating_add(time));
            control.force(Some(forced))
        });
    }

    /// Ends [`force`](Self::force): the limit that was before is in force, and moves again.
    pub fn release(&self) {
        self.tell(|control, _| control.force(None));
    }

    /// The settings, shared with every layer that was made from the same [`Live`].
    #[must_use]
    pub fn config(&self) -> &Live<AdaptivePolicy> {
        &self.0.common.live
    }

    /// Changes settings: `handle.update(|config| config.max = 50)`. The limit moves into its new bounds at once, and
    /// stays where it is within them.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut AdaptiveConfig)) -> Result<(), Invalid> {
        let live = &self.0.common.live;
        live.update(|policy| change(policy.config_mut()))
    }

    fn tell(&self, say: impl FnOnce(&mut Controller, Nanos) -> Option<Change>) {
        let now = self.0.nanos(Instant::now());
        let change = self.0.meter.with(|control| say(control, now));
        if change.is_some() {
            self.0.push();
            self.0.report(change);
        }
    }
}

impl fmt::Debug for AdaptiveHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveHandle")
            .field("name", &self.name())
            .field("limit", &self.limit())
            .field("reason", &self.reason())
            .field("in_flight", &self.in_flight())
            .field("queued", &self.queued())
            .finish()
    }
}
