use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use tower_chassis_core::{Live, live::Invalid};

use super::{
    Force, RateLimitConfig, RateLimitPolicy, rule::Standing, shared::Shared, store::Store,
};

/// What a handle does with what the layer shares, of which it does not know the type.
pub(super) trait Control<K>: Send + Sync {
    fn keys(&self) -> usize;
    fn standing(&self, key: Option<K>) -> Standing;
    fn reset(&self);
    fn reset_key(&self, key: K);
    fn force(&self, force: Option<Force>, span: Option<Duration>);
    fn forced(&self) -> Option<Force>;
}

impl<F: Send + Sync, K: Hash + Eq + Send> Control<K> for Shared<F, K> {
    fn keys(&self) -> usize {
        self.keys.as_ref().map_or(0, Store::len)
    }
    fn standing(&self, key: Option<K>) -> Standing {
        Self::standing(self, key)
    }
    fn reset(&self) {
        Self::reset(self);
    }
    fn reset_key(&self, key: K) {
        Self::reset_key(self, key);
    }
    fn force(&self, force: Option<Force>, span: Option<Duration>) {
        Self::force(self, force, span);
    }
    fn forced(&self) -> Option<Force> {
        Self::forced(self)
    }
}

/// Reads, overrides and reconfigures a rate limit that is in use. Clones act on the same one.
pub struct RateLimitHandle<K = ()> {
    pub(super) live: Live<RateLimitPolicy>,
    pub(super) control: Arc<dyn Control<K>>,
}

impl<K> RateLimitHandle<K> {
    /// How many keys have a bucket of their own now. Takes each shard's lock in turn.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.control.keys()
    }

    /// How many calls are left now: of all, or of those that have no key. Calls that threads took in advance are
    /// not left (see [cost](super#cost)).
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.control.standing(None).remaining
    }

    /// How many calls are left now for a key; for one that is not known, as many as for a new one.
    #[must_use]
    pub fn remaining_for(&self, key: K) -> u32 {
        self.control.standing(Some(key)).remaining
    }

    /// Fills all buckets up.
    pub fn reset(&self) {
        self.control.reset();
    }

    /// Fills a key's bucket up. One that has none of its own, because there was no room, stays limited with the others.
    pub fn reset_key(&self, key: K) {
        self.control.reset_key(key);
    }

    /// Allows or refuses every call, for a time or (`None`) until it is [released](Self::release). Buckets stay as
    /// they are, and fill up meanwhile. A refusal says when the time is over, if that is known.
    pub fn force(&self, force: Force, span: Option<Duration>) {
        self.control.force(Some(force), span);
    }

    /// Ends what was forced.
    pub fn release(&self) {
        self.control.force(None, None);
    }

    /// What is forced now.
    #[must_use]
    pub fn forced(&self) -> Option<Force> {
        self.control.forced()
    }

    /// The settings, shared with every layer that was made from the same [`Live`].
    #[must_use]
    pub const fn config(&self) -> &Live<RateLimitPolicy> {
        &self.live
    }

    /// Changes settings: `handle.update(|config| config.rate = 50.0)`.
    ///
    /// Each bucket keeps the share that is left of it. Takes time in proportion to the keys, some
    /// nanoseconds each, on the caller's thread.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut RateLimitConfig)) -> Result<(), Invalid> {
        self.live.update(|policy| change(policy.config_mut()))
    }
}

impl<K> Clone for RateLimitHandle<K> {
    fn clone(&self) -> Self {
        Self {
            live: self.live.clone(),
            control: Arc::clone(&self.control),
        }
    }
}

impl<K> fmt::Debug for RateLimitHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitHandle")
            .field("policy", &self.live)
            .field("keys", &self.keys())
            .field("forced", &self.forced())
            .finish()
    }
}
