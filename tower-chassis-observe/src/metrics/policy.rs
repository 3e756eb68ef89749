//! What the layers of this module measure, while they run.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tower_chassis_core::{
    Live,
    live::{Invalid, Validate},
};

use crate::tally::Tally;

/// The settings of a metrics layer, as they are written in a configuration.
///
/// Plain values; [`MetricsPolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct MetricsConfig {
    /// Whether durations, and with them calls, are recorded. Default true.
    pub durations: bool,
    /// Whether there is a gauge of the calls that are active. Default true.
    pub active: bool,
    /// Whether the sizes of the bodies of HTTP are recorded. Default true.
    pub sizes: bool,
    /// Whether a call of gRPC is measured as one: `rpc.server.call.duration` and `rpc.client.call.duration` in place of the
    /// durations of HTTP. Default true.
    pub rpc: bool,
    /// How many servers of a client, methods of gRPC, services and operations of a service have series of their
    /// own, 1 to 100,000; those that come later share `_OTHER`. Default 256. A recorder forgets nothing, so a smaller
    /// number takes none away. Of a server the routes are the bound.
    pub names: u32,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            durations: true,
            active: true,
            sizes: true,
            rpc: true,
            names: 256,
        }
    }
}

/// Settings of a metrics layer that have been checked.
///
/// ```
/// use tower_chassis_observe::metrics::MetricsPolicy;
///
/// let quiet = MetricsPolicy::default().with(|config| config.active = false)?;
/// let fault = quiet.with(|config| config.names = 0).unwrap_err();
/// assert_eq!(fault.to_string(), "names must be from 1 to 100000");
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MetricsPolicy(MetricsConfig);

impl MetricsPolicy {
    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &MetricsConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut MetricsConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }
}

impl TryFrom<MetricsConfig> for MetricsPolicy {
    type Error = Invalid;
    fn try_from(config: MetricsConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl Validate for MetricsPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        if !(1..=100_000).contains(&self.0.names) {
            return Err(Invalid::new("names", "must be from 1 to 100000"));
        }
        Ok(())
    }
}

const DURATIONS: u64 = 1;
const ACTIVE: u64 = 2;
const SIZES: u64 = 4;
const RPC: u64 = 8;
const NAMES_SHIFT: u32 = 4;

const BEGAN: usize = 0;
const ENDED: usize = 1;

/// The settings where calls read them, in one word, and what the handle reads.
#[derive(Debug)]
pub(super) struct Control {
    live: Live<MetricsPolicy>,
    word: AtomicU64,
    tally: Tally<2>,
}

/// What is measured of a call, decided when it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured(u64);

impl Measured {
    pub(super) const fn durations(self) -> bool {
        self.0 & DURATIONS != 0
    }

    pub(super) const fn active(self) -> bool {
        self.0 & ACTIVE != 0
    }

    pub(super) const fn sizes(self) -> bool {
        self.0 & SIZES != 0
    }

    /// Whether calls of gRPC are apart.
    pub(super) const fn rpc(self) -> bool {
        self.0 & RPC != 0 && self.durations()
    }

    pub(super) const fn names(self) -> usize {
        (self.0 >> NAMES_SHIFT) as usize
    }
}

impl Control {
    pub(super) fn new(live: Live<MetricsPolicy>) -> Arc<Self> {
        let control = Arc::new(Self {
            live,
            word: AtomicU64::new(0),
            tally: Tally::default(),
        });
        control.live.bind(&control, |control, policy| {
            let config = policy.config();
            let durations = if config.durations { DURATIONS } else { 0 };
            let active = if config.active { ACTIVE } else { 0 };
            let sizes = if config.sizes { SIZES } else { 0 };
            let rpc = if config.rpc { RPC } else { 0 };
            let names = u64::from(config.names) << NAMES_SHIFT;
            let word = durations | active | sizes | rpc | names;
            control.word.store(word, Relaxed);
        });
        control
    }

    /// The same settings, and nothing counted.
    pub(super) fn fresh(&self) -> Arc<Self> {
        Self::new(self.live.clone())
    }

    /// A call begins: what of it is measured, if anything is.
    pub(super) fn begin(&self) -> Option<Measured> {
        self.begin_of(DURATIONS | ACTIVE | SIZES)
    }

    /// The same, of a call that has no body of HTTP.
    pub(super) fn begin_bare(&self) -> Option<Measured> {
        self.begin_of(DURATIONS | ACTIVE)
    }

    fn begin_of(&self, any: u64) -> Option<Measured> {
        let measured = Measured(self.word.load(Relaxed));
        if measured.0 & any == 0 {
            return None;
        }
        self.tally.count(BEGAN);
        Some(measured)
    }

    /// A call that has begun is over.
    pub(super) fn end(&self) {
        self.tally.count(ENDED);
    }
}

/// A view of a metrics layer and all of its services. Clones are views of the same one.
#[derive(Clone)]
pub struct MetricsHandle(pub(super) Arc<Control>);

impl MetricsHandle {
    /// How many calls it has measured, those in flight among them.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.tally.sum(BEGAN)
    }

    /// How many calls are in flight. Those that begin or end meanwhile may be counted or not.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.0.tally.between(BEGAN, [ENDED])
    }

    /// The settings, shared with every layer that was made from the same [`Live`]. A change reaches calls that
    /// begin after it.
    #[must_use]
    pub fn config(&self) -> &Live<MetricsPolicy> {
        &self.0.live
    }

    /// Changes settings: `handle.update(|config| config.durations = false)`.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut MetricsConfig)) -> Result<(), Invalid> {
        self.0.live.update(|policy| change(&mut policy.0))
    }
}

impl fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsHandle")
            .field("policy", &self.0.live)
            .field("in_flight", &self.in_flight())
            .finish()
    }
}
