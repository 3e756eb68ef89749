use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tower_chassis_core::{Carrier, Live};

use super::{
    LeastRequest, Maglev, PeakEwma, Random, Rendezvous, Ring, RoundRobin, SmoothRoundRobin,
    WeightedRandom, WeightedResponse, maglev::MaglevTable, ring::RingTable, smooth::Cycle,
};
use crate::balance::{Algorithm, BalancePolicy, Candidates, Members, Pick, Rng};

/// The picker whose algorithm is a live setting. A change keeps what is known of the endpoints.
///
/// It takes effect when the [`Worker`](crate::balance::Worker) has made the table of the new algorithm.
#[derive(Debug)]
pub struct Picker {
    setting: Arc<Setting>,
    /// The version of the setting that the last table was made of.
    made: AtomicU64,
    /// Whose turn it is, for all algorithms that go in turn.
    turns: RoundRobin,
}

#[derive(Debug)]
struct Setting {
    algorithm: ArcSwap<Algorithm>,
    kind: ArcSwap<Kind>,
    /// Whether requests are hashed at all.
    hashes: AtomicBool,
    version: AtomicU64,
    changed: watch::Sender<()>,
}

/// An algorithm with its parameters.
#[derive(Clone, Debug)]
enum Kind {
    PeakEwma,
    RoundRobin,
    SmoothRoundRobin,
    Random,
    WeightedRandom,
    LeastRequest(LeastRequest),
    Ring(Ring),
    Maglev(Maglev),
    Rendezvous(Rendezvous),
    WeightedResponse,
}

/// What a [`Picker`] made of a set: the algorithm, and its table.
#[derive(Debug)]
pub struct PickerTable(Table);

#[derive(Debug)]
enum Table {
    PeakEwma,
    RoundRobin,
    SmoothRoundRobin(Cycle),
    Random,
    WeightedRandom,
    LeastRequest(LeastRequest),
    Ring(Ring, RingTable),
    Maglev(MaglevTable),
    Rendezvous,
    WeightedResponse,
}

impl Kind {
    fn new(algorithm: &Algorithm) -> Self {
        match algorithm {
            Algorithm::PeakEwma => Self::PeakEwma,
            Algorithm::RoundRobin => Self::RoundRobin,
            Algorithm::SmoothRoundRobin => Self::SmoothRoundRobin,
            Algorithm::Random => Self::Random,
            Algorithm::WeightedRandom => Self::WeightedRandom,
            Algorithm::WeightedResponse => Self::WeightedResponse,
            Algorithm::LeastRequest(config) => {
                Self::LeastRequest(LeastRequest::new().choices(config.choices))
            }
            Algorithm::Ring(config) => {
                let ring = Ring::new().points(config.points);
                Self::Ring(bounded(ring, config.bounded).hash_on(config.hash_on.clone()))
            }
            Algorithm::Ketama(config) => {
                Self::Ring(bounded(Ring::ketama(), config.bounded).hash_on(config.hash_on.clone()))
            }
            Algorithm::Maglev(config) => Self::Maglev(
                Maglev::new()
                    .size(config.size)
                    .hash_on(config.hash_on.clone()),
            ),
            Algorithm::Rendezvous(config) => {
                Self::Rendezvous(Rendezvous::new().hash_on(config.hash_on.clone()))
            }
        }
    }

    const fn hashes(&self) -> bool {
        matches!(self, Self::Ring(_) | Self::Maglev(_) | Self::Rendezvous(_))
    }
}

fn bounded(ring: Ring, bound: Option<f64>) -> Ring {
    match bound {
        Some(factor) => ring.bounded(factor),
        None => ring,
    }
}

impl Picker {
    /// Picks as `policy` says.
    pub fn new(policy: impl Into<Live<BalancePolicy>>) -> Self {
        let setting = Arc::new(Setting {
            algorithm: ArcSwap::default(),
            kind: ArcSwap::from_pointee(Kind::PeakEwma),
            hashes: AtomicBool::new(false),
            version: AtomicU64::new(1),
            changed: watch::Sender::default(),
        });
        policy.into().bind(&setting, |setting, policy| {
            setting.set(&policy.config().algorithm);
        });
        Self {
            setting,
            made: AtomicU64::new(0),
            turns: RoundRobin::new(),
        }
    }
}

impl Setting {
    fn set(&self, algorithm: &Algorithm) {
        if **self.algorithm.load() == *algorithm {
            return;
        }
        let kind = Kind::new(algorithm);
        self.hashes.store(kind.hashes(), Ordering::Relaxed);
        self.kind.store(Arc::new(kind));
        self.algorithm.store(Arc::new(algorithm.clone()));
        // After the algorithm, so that who reads this version makes a table of it or of a later one.
        self.version.fetch_add(1, Ordering::Release);
        self.changed.send_replace(());
    }
}

impl Default for Picker {
    fn default() -> Self {
        Self::new(BalancePolicy::default())
    }
}

impl Pick for Picker {
    type Table = PickerTable;

    fn table(&self, members: &Members<'_>) -> PickerTable {
        let version = self.setting.version.load(Ordering::Acquire);
        let table = match &**self.setting.kind.load() {
            Kind::PeakEwma => Table::PeakEwma,
            Kind::RoundRobin => Table::RoundRobin,
            Kind::SmoothRoundRobin => Table::SmoothRoundRobin(Cycle::of(members)),
            Kind::Random => Table::Random,
            Kind::WeightedRandom => Table::WeightedRandom,
            Kind::LeastRequest(least) => Table::LeastRequest(*least),
            Kind::Ring(ring) => Table::Ring(ring.clone(), ring.make(members)),
            Kind::Maglev(maglev) => Table::Maglev(maglev.make(members)),
            Kind::Rendezvous(_) => Table::Rendezvous,
            Kind::WeightedResponse => Table::WeightedResponse,
        };
        self.made.store(version, Ordering::Relaxed);
        PickerTable(table)
    }

    fn pick(&self, candidates: &Candidates<'_, PickerTable>, rng: &mut Rng) -> Option<usize> {
        match &candidates.table().0 {
            Table::PeakEwma => PeakEwma::pick_in(candidates, rng),
            Table::RoundRobin => self.turns.pick_in(candidates, rng),
            Table::SmoothRoundRobin(cycle) => {
                SmoothRoundRobin::pick_in(&self.turns, candidates, cycle, rng)
            }
            Table::Random => Random::pick_in(candidates, rng),
            Table::WeightedRandom => WeightedRandom::pick_in(candidates, rng),
            Table::LeastRequest(least) => least.pick_in(candidates, rng),
            Table::Ring(ring, table) => ring.pick_in(candidates, table, rng),
            Table::Maglev(table) => Maglev::pick_in(candidates, table, rng),
            Table::Rendezvous => Rendezvous::pick_in(candidates, rng),
            Table::WeightedResponse => WeightedResponse::pick_in(&self.turns, candidates, rng),
        }
    }

    fn hash(&self, call: &dyn Carrier) -> Option<u64> {
        if !self.setting.hashes.load(Ordering::Relaxed) {
            return None;
        }
        match &**self.setting.kind.load() {
            Kind::Ring(ring) => ring.request_hash(call),
            Kind::Maglev(maglev) => maglev.request_hash(call),
            Kind::Rendezvous(rendezvous) => rendezvous.request_hash(call),
            _ => None,
        }
    }

    fn changes(&self) -> Option<watch::Receiver<()>> {
        let mut changes = self.setting.changed.subscribe();
        // A change between the first table and now must not be missed.
        if self.made.load(Ordering::Relaxed) != self.setting.version.load(Ordering::Acquire) {
            changes.mark_changed();
        }
        Some(changes)
    }
}
