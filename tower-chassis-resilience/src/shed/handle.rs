use std::{fmt, sync::Arc, time::Duration};

use tower_chassis_core::{Live, live::Invalid};

use super::{PriorityClass, ShedConfig, ShedPolicy, shared::State};

/// Reads, steers and reconfigures load shedding that is in use. Clones act on the same one.
///
/// What it reads is as of now: if the last reading of the pressure is older than the interval, it is read again, and the
/// threshold moves. Reading takes a lock for some microseconds at the most.
#[derive(Clone)]
pub struct ShedHandle(pub(super) Arc<State>);

impl ShedHandle {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.setup.name
    }

    /// Calls of lower levels are refused: 0, none, to 500, all. 100 is all of the lowest class, 250 half of the third.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.0.level()
    }

    /// The pressure that was read last: the highest of what is watched and what was set by hand.
    #[must_use]
    pub fn pressure(&self) -> f64 {
        self.0.pressure()
    }

    /// Sets the pressure by hand: for a signal that comes by itself, or an operator. It stays until it is set again,
    /// and counts where it is higher than what is watched. What is no number counts as 0.
    pub fn set_pressure(&self, pressure: f64) {
        self.0.set_pressure(pressure);
    }

    /// How many calls of a class came, refused or not.
    #[must_use]
    pub fn seen(&self, class: PriorityClass) -> u64 {
        self.0.seen(class)
    }

    /// How many calls of a class were refused by their priority. One load.
    #[must_use]
    pub fn refused(&self, class: PriorityClass) -> u64 {
        self.0.refused(class)
    }

    /// How many calls were refused because the inner service was not ready. One load.
    #[must_use]
    pub fn refused_unready(&self) -> u64 {
        self.0.refused_unready()
    }

    /// Refuses calls of lower levels from now on, whatever the pressure, until it is [released](Self::release): a
    /// number from 0 to 500, or a class, and then all that are below. Also calls of the highest class, above 400.
    pub fn force(&self, threshold: impl Into<u16>) {
        self.force_for(threshold, Duration::MAX);
    }

    /// [Forces](Self::force) the threshold for so long.
    pub fn force_for(&self, threshold: impl Into<u16>, time: Duration) {
        self.0.force(Some((threshold.into(), time)));
    }

    /// Ends [`force`](Self::force): the threshold is by the pressure again.
    pub fn release(&self) {
        self.0.force(None);
    }

    /// The threshold that was [forced](Self::force), as long as it is in force.
    #[must_use]
    pub fn forced(&self) -> Option<u16> {
        self.0.forced()
    }

    /// Refuses nothing from now on, neither by priority nor because the inner service is not ready, which is then
    /// waited for. What is [forced](Self::force) rests. Until it is [enabled](Self::enable).
    pub fn disable(&self) {
        self.0.disable(true);
    }

    /// Ends [`disable`](Self::disable).
    pub fn enable(&self) {
        self.0.disable(false);
    }

    /// Whether it was [disabled](Self::disable).
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.0.is_disabled()
    }

    /// The settings, shared with every layer that was made from the same [`Live`].
    #[must_use]
    pub fn config(&self) -> &Live<ShedPolicy> {
        &self.0.live
    }

    /// Changes settings: `handle.update(|config| config.full = 3.0)`. Who waits for the inner service already waits on;
    /// everything else is by the new ones from the next call on.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut ShedConfig)) -> Result<(), Invalid> {
        self.0.live.update(|policy| change(policy.config_mut()))
    }
}

impl fmt::Debug for ShedHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShedHandle")
            .field("name", &self.name())
            .field("threshold", &self.threshold())
            .field("pressure", &self.pressure())
            .finish_non_exhaustive()
    }
}
