use std::{fmt, sync::Arc};

use tower_chassis_core::{Live, live::Invalid};

use super::{
    MirrorConfig, MirrorPolicy,
    shared::{Outcome, Owner},
};

/// Reads, pauses and reconfigures a mirror that is in use. Clones act on the same one.
///
/// It keeps the mirror alive: copies that are under way go on as long as a handle is there.
#[derive(Clone)]
pub struct MirrorHandle(pub(super) Arc<Owner>);

impl MirrorHandle {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.core.setup.name
    }

    /// How many copies are made or under way. One load.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.0.core.in_flight()
    }

    /// How many copies were sent off.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.0.core.sent()
    }

    /// How many calls were chosen and had no copy, because too many were under way or there was no runtime.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.core.count_of(Outcome::Dropped)
    }

    /// How many calls were chosen and had no copy, because their body was too long or was not read to its end.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.0.core.count_of(Outcome::Skipped)
    }

    /// How many copies failed: by an answer or an error, by taking too long, by a panic.
    #[must_use]
    pub fn failed(&self) -> u64 {
        [Outcome::Failed, Outcome::Timeout, Outcome::Panicked]
            .map(|outcome| self.0.core.count_of(outcome))
            .iter()
            .sum()
    }

    /// What became of all copies that are over: the words of `chassis_mirrored_total`, and how many.
    #[must_use]
    pub fn outcomes(&self) -> Vec<(&'static str, u64)> {
        Outcome::ALL
            .map(|outcome| (outcome.as_str(), self.0.core.count_of(outcome)))
            .to_vec()
    }

    /// Makes no copies until [`resume`](Self::resume). Those under way go on.
    pub fn pause(&self) {
        self.0.core.pause();
    }

    /// Takes [`pause`](Self::pause) back.
    pub fn resume(&self) {
        self.0.core.resume();
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.0.core.is_paused()
    }

    /// Drops the copies that are under way and makes none any more.
    pub fn shut_down(&self) {
        self.0.core.shut_down();
    }

    /// The settings, shared with every layer that was made from the same [`Live`].
    #[must_use]
    pub fn config(&self) -> &Live<MirrorPolicy> {
        &self.0.core.live
    }

    /// Changes settings: `handle.update(|config| config.ppm = 10_000)`. Copies under way keep theirs.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut MirrorConfig)) -> Result<(), Invalid> {
        let live = &self.0.core.live;
        live.update(|policy| change(policy.config_mut()))
    }
}

impl fmt::Debug for MirrorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorHandle")
            .field("name", &self.name())
            .field("in_flight", &self.in_flight())
            .field("sent", &self.sent())
            .field("outcomes", &self.outcomes())
            .finish()
    }
}
