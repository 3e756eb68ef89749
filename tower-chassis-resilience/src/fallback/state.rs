use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
};

use tower_chassis_core::{Events, Live, Verdict, events::Event, live::Invalid};

use super::config::{FallbackConfig, FallbackPolicy, bit};

/// Decides in place of the policy.
pub(super) type When = Arc<dyn Fn(Verdict) -> bool + Send + Sync>;

/// What is settled before the first call.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) name: Arc<str>,
    pub(super) events: Events,
    pub(super) when: Option<When>,
    pub(super) as_success: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            name: Arc::from("fallback"),
            events: Events::none(),
            when: None,
            as_success: false,
        }
    }
}

/// What all services of a layer share, whatever answers.
pub(super) struct State {
    live: Live<FallbackPolicy>,
    bits: AtomicU8,
    fallbacks: AtomicU64,
    failed: AtomicU64,
    pub(super) setup: Setup,
}

impl State {
    pub(super) fn new(live: Live<FallbackPolicy>, setup: Setup) -> Arc<Self> {
        let state = Arc::new(Self {
            live: live.clone(),
            bits: AtomicU8::new(0),
            fallbacks: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            setup,
        });
        live.bind(&state, |state, policy| {
            state.bits.store(policy.bits(), Relaxed);
        });
        state
    }

    pub(super) const fn live(&self) -> &Live<FallbackPolicy> {
        &self.live
    }

    /// Whether another answer is wanted. Asked of what is no success only.
    pub(super) fn wants(&self, verdict: Verdict) -> bool {
        let bits = self.bits.load(Relaxed);
        match &self.setup.when {
            Some(when) => bits != 0 && when(verdict),
            None => bits & bit(verdict) != 0,
        }
    }

    pub(super) fn fell_back(&self, verdict: Verdict) {
        self.fallbacks.fetch_add(1, Relaxed);
        let setup = &self.setup;
        setup
            .events
            .emit(|| Event::fallback(Arc::clone(&setup.name), verdict.class()));
    }

    pub(super) fn failed_too(&self) {
        self.failed.fetch_add(1, Relaxed);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("name", &self.setup.name)
            .field("policy", &self.live)
            .finish_non_exhaustive()
    }
}

/// Reads and reconfigures a fallback that is in use. Clones act on the same one.
#[derive(Clone)]
pub struct FallbackHandle(pub(super) Arc<State>);

impl FallbackHandle {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.setup.name
    }

    /// How many calls were answered in place of the service. One load.
    #[must_use]
    pub fn fallbacks(&self) -> u64 {
        self.0.fallbacks.load(Relaxed)
    }

    /// How many calls failed although another answer was wanted: there was none, or the service that was to give it
    /// failed too. One load.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Relaxed)
    }

    /// The settings, shared with every layer that was made from the same [`Live`].
    #[must_use]
    pub fn config(&self) -> &Live<FallbackPolicy> {
        &self.0.live
    }

    /// Changes settings: `handle.update(|config| config.enabled = false)`.
    ///
    /// # Errors
    /// None today: every setting is valid.
    pub fn update(&self, change: impl FnOnce(&mut FallbackConfig)) -> Result<(), Invalid> {
        self.0.live.update(|policy| {
            let mut config = FallbackConfig::from(policy.clone());
            change(&mut config);
            *policy = config.into();
        })
    }
}

impl fmt::Debug for FallbackHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackHandle")
            .field("name", &self.name())
            .field("fallbacks", &self.fallbacks())
            .field("failed", &self.failed())
            .finish()
    }
}
