use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use tokio::time::Instant;
use tower_chassis_core::{Live, live::Invalid};

use super::{FaultConfig, FaultPolicy, Guarded, shared::Shared};

/// Reads, stops and reconfigures fault injection that is in use. Clones act on the same one.
#[derive(Clone)]
pub struct FaultHandle(pub(super) Arc<Shared>);

/// A rule, as a handle shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RuleStatus {
    /// Its name; `header` for what trusted peers ask for.
    pub id: Arc<str>,
    /// Whether it is armed now, and if not, why.
    pub guarded: Guarded,
    /// How many calls it did something with, since it has its name.
    pub injected: u64,
}

impl FaultHandle {
    /// Ends all faults at once, and begins none, until [`restore`](Self::restore): calls that wait or hang are made
    /// now, bodies that are slow pass. What has failed has failed.
    pub fn kill(&self) {
        self.0.kill();
    }

    /// Takes [`kill`](Self::kill) back.
    pub fn restore(&self) {
        self.0.restore();
    }

    /// Whether all faults were ended.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.0.is_killed()
    }

    /// Whether any rule may do something with the next call.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.0.armed().is_some() && self.0.compiled().is_armed(Instant::now())
    }

    /// How many calls are under a fault: they wait, or their body is read. One load.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.0.active()
    }

    /// How many calls were left alone because `max_active` were under a fault.
    #[must_use]
    pub fn overflow(&self) -> u64 {
        self.0.overflow.load(Ordering::Relaxed)
    }

    /// The rules, in their order; that of the headers is the last.
    #[must_use]
    pub fn rules(&self) -> Vec<RuleStatus> {
        let (compiled, now) = (self.0.compiled(), Instant::now());
        let by_header = compiled.by_header.iter().map(|(rule, _)| rule);
        let rules = compiled.rules.iter().chain(by_header);
        let status = rules.map(|rule| RuleStatus {
            id: Arc::clone(&rule.id),
            guarded: rule.state(now),
            injected: rule.injected.load(Ordering::Relaxed),
        });
        status.collect()
    }

    /// The settings, shared with every layer that was made from the same [`Live`].
    #[must_use]
    pub fn config(&self) -> &Live<FaultPolicy> {
        &self.0.live
    }

    /// Changes settings: `handle.update(|config| config.rules.clear())`. Calls that are under a fault stay so.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut FaultConfig)) -> Result<(), Invalid> {
        self.0.live.update(|policy| change(policy.config_mut()))
    }
}

impl fmt::Debug for FaultHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultHandle")
            .field("killed", &self.is_killed())
            .field("active", &self.active())
            .field("rules", &self.rules())
            .finish()
    }
}
