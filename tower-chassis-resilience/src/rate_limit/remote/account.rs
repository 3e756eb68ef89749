//! What an instance knows of a key.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use tokio::time::Instant;

use super::super::{
    bucket::Bucket,
    rule::{NEVER, Rule},
    shared::since,
};
use crate::keyed::Forget;

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    Go,
    /// Refused, for so long; `None`: for ever.
    Refuse(Option<u64>),
    /// The store is to be asked.
    Ask,
}

#[derive(Debug)]
pub(super) struct Account {
    epoch: Instant,
    lease: Mutex<Lease>,
    /// This instance's share, while the store is away.
    share: Bucket,
    /// Held by who asks the store.
    pub(super) asking: tokio::sync::Mutex<()>,
    /// What all cost who ask, or wait to.
    wanted: AtomicU32,
}

/// A call that asks the store, or waits to.
#[derive(Debug)]
pub(super) struct Wanting<'a> {
    account: &'a Account,
    cost: u32,
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.account.wanted.fetch_sub(self.cost, Relaxed);
    }
}

#[derive(Default, Debug)]
struct Lease {
    calls: u32,
    until: u64,
    /// The store refused a call of this cost, until this time.
    refused: (u32, u64),
}

impl Account {
    pub(super) fn new(share: Rule, epoch: Instant) -> Self {
        Self {
            epoch,
            lease: Mutex::default(),
            share: Bucket::new(share, 0),
            asking: tokio::sync::Mutex::new(()),
            wanted: AtomicU32::new(0),
        }
    }

    /// A call of this cost is to ask the store, until what comes back is dropped.
    pub(super) fn wants(&self, cost: u32) -> Wanting<'_> {
        let account = self;
        account.wanted.fetch_add(cost, Relaxed);
        Wanting { account, cost }
    }

    /// What all cost who ask the store, or wait to.
    pub(super) fn wanted(&self) -> u32 {
        self.wanted.load(Relaxed)
    }

    /// Decides without the store, if that can be: of an account that is a key's own. Of one that several share nothing is
    /// known of any of them.
    pub(super) fn decide(&self, cost: u32, own: bool, now: u64) -> Decision {
        if cost == 0 {
            return Decision::Go;
        }
        if !own {
            return Decision::Ask;
        }
        let mut lease = self.lease();
        if now < lease.until && cost <= lease.calls {
            lease.calls -= cost;
            return Decision::Go;
        }
        let (refused, until) = lease.refused;
        if now < until && cost >= refused {
            return Decision::Refuse(Some(until - now));
        }
        Decision::Ask
    }

    /// Decides with the share of this instance. Who asks for more than all of it may come again after `pause`, when the
    /// store is asked again.
    pub(super) fn alone(&self, cost: u32, mut now: u64, pause: u64) -> Decision {
        match self.share.take(0, cost, 0, &mut now) {
            Ok(_) => Decision::Go,
            Err(NEVER) => Decision::Refuse(Some(pause)),
            Err(wait) => Decision::Refuse(Some(wait)),
        }
    }

    /// The store granted so many calls, to be charged to this instance's share while the store is away.
    pub(super) fn charge(&self, calls: u32, now: u64) {
        self.share.charge(calls, now);
    }

    /// Of the calls that the store granted one that costs so much is made now, and the others until a time.
    pub(super) fn leased(&self, calls: u32, cost: u32, now: u64, until: u64) {
        let mut lease = self.lease();
        // What was not used in time was not used.
        let kept = if now < lease.until { lease.calls } else { 0 };
        lease.calls = kept.saturating_add(calls.saturating_sub(cost));
        lease.until = until;
        lease.refused = (0, 0);
    }

    /// The store refused a call of this cost.
    pub(super) fn refused(&self, cost: u32, now: u64, wait: u64) {
        self.lease().refused = (cost, now.saturating_add(wait));
    }

    pub(super) fn apply(&self, share: Rule, mut now: u64) {
        {
            let mut lease = self.lease();
            (lease.calls, lease.refused) = (0, (0, 0));
        }
        self.share.apply(share, &mut now);
    }

    fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forget for Account {
    fn is_idle(&self, now: Instant) -> bool {
        let (now, lease) = (since(self.epoch, now), self.lease());
        let open = now >= lease.until || lease.calls == 0;
        open && now >= lease.refused.1 && self.share.standing(now).reset == 0
    }
}
