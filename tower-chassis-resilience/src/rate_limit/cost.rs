//! What a call costs.

use std::{fmt, sync::Arc};

use crate::keyed::{By, KeyOf, One, key::sealed::Sealed};

/// Finds what a call costs: one, or what a [closure](super::RateLimitLayer::cost) says.
pub trait CostOf<Req>: Sealed {
    /// The calls that this one counts for.
    fn cost_of(&self, _: &Req) -> u32 {
        1
    }
}

impl<Req> CostOf<Req> for One {}

impl<Req, F, K> CostOf<Req> for By<F, K> {}

/// A key, and a closure that says what a call costs.
pub struct Priced<F, C> {
    pub(super) key: Arc<F>,
    pub(super) cost: C,
}

impl<F, C> Sealed for Priced<F, C> {}

impl<Req, K, F: KeyOf<Req, K>, C> KeyOf<Req, K> for Priced<F, C> {
    fn key_of(&self, request: &Req) -> Option<K> {
        self.key.key_of(request)
    }
}

impl<Req, F, C: Fn(&Req) -> u32> CostOf<Req> for Priced<F, C> {
    fn cost_of(&self, request: &Req) -> u32 {
        (self.cost)(request)
    }
}

impl<F, C> fmt::Debug for Priced<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Priced").finish_non_exhaustive()
    }
}
