//! What a layer, its services and its handles share.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tower_chassis_core::{
    Events, Kind, Live, clock,
    events::Event,
    striped::{here, stripes},
};
use twox_hash::XxHash64;

use super::{
    Pressure, Priority, PriorityClass, ShedPolicy,
    priority::Level,
    seen::Seen,
    threshold::{Curve, LEVELS, ONE, PER_CLASS, Threshold},
    unready::Unready,
};

/// A layered service: what is the layer's, and what its clones know of their inner ones.
#[derive(Debug)]
pub(super) struct Site<P> {
    pub(super) state: Arc<State>,
    pub(super) priority: Arc<P>,
    pub(super) unready: Unready,
}

/// What is settled before the first call.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) name: Arc<str>,
    pub(super) events: Events,
    pub(super) seed: Option<u64>,
    pub(super) watched: Vec<Arc<dyn Pressure>>,
}

/// The state of a layer.
pub(super) struct State {
    made: Instant,
    pub(super) live: Live<ShedPolicy>,
    pub(super) setup: Setup,
    /// Calls below are refused.
    threshold: AtomicU32,
    /// The bits of the pressure from which only the highest class passes, at once.
    full: AtomicU64,
    /// When it is to be found anew, in nanoseconds since it was made.
    next: AtomicU64,
    /// In nanoseconds.
    interval: AtomicU64,
    /// In nanoseconds.
    max_unready: AtomicU64,
    disabled: AtomicBool,
    /// What makes another level of a user.
    salt: AtomicU64,
    /// The bits of the pressure that was set by hand.
    by_hand: AtomicU64,
    /// Counts the levels that were drawn, where they must repeat.
    drawn: Option<AtomicU64>,
    seen: Seen,
    refused: Refused,
    control: Mutex<Control>,
}

/// Away from what every call reads.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Refused {
    classes: [AtomicU64; 5],
    unready: AtomicU64,
}

#[derive(Debug)]
struct Control {
    threshold: Threshold,
    /// The threshold that it says.
    found: u32,
    curve: Curve,
    rotate: Duration,
    /// A threshold, and until when.
    forced: Option<(u32, u64)>,
    /// Calls that came, by class.
    came: [u64; 5],
}

impl Control {
    /// The one that was forced, as long as it is in force.
    fn forced(&mut self, now: u64) -> Option<u32> {
        self.forced = self.forced.filter(|(_, until)| now < *until);
        self.forced.map(|(threshold, _)| threshold)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl State {
    pub(super) fn new(live: Live<ShedPolicy>, setup: Setup) -> Arc<Self> {
        let state = Arc::new(Self {
            made: clock::now(),
            threshold: AtomicU32::new(0),
            full: AtomicU64::new(f64::INFINITY.to_bits()),
            next: AtomicU64::new(0),
            interval: AtomicU64::new(0),
            max_unready: AtomicU64::new(0),
            disabled: AtomicBool::new(false),
            salt: AtomicU64::new(0),
            by_hand: AtomicU64::new(0.0_f64.to_bits()),
            drawn: setup.seed.map(AtomicU64::new),
            seen: Seen::new(stripes()),
            refused: Refused::default(),
            control: Mutex::new(Control {
                threshold: Threshold::new(),
                found: 0,
                curve: Curve {
                    start: 0.0,
                    full: 1.0,
                    highest: 1.0,
                    reaction: 1.0,
                },
                rotate: Duration::ZERO,
                forced: None,
                came: [0; 5],
            }),
            live,
            setup,
        });
        state.live.bind(&state, |state, policy| state.apply(policy));
        let name = Arc::clone(&state.setup.name);
        let events = &state.setup.events;
        events.gauge("chassis_shed_threshold", name, &state, |state: &Self| {
            state.level()
        });
        state
    }

    /// The same settings with a state of its own.
    pub(super) fn fresh_with(&self, change: impl FnOnce(&mut Setup)) -> Arc<Self> {
        let mut setup = self.setup.clone();
        change(&mut setup);
        Self::new(self.live.clone(), setup)
    }

    fn apply(&self, policy: &ShedPolicy) {
        let config = policy.config();
        self.interval.store(nanos(config.interval), Relaxed);
        self.max_unready.store(nanos(config.max_unready), Relaxed);
        let mut control = self.lock();
        control.curve = Curve {
            start: config.start,
            full: config.full,
            highest: config.highest,
            reaction: config.reaction.as_nanos() as f64,
        };
        control.rotate = config.rotate;
        self.salt.store(self.salt_now(config.rotate), Relaxed);
        // The next call finds the threshold by these.
        self.next.store(0, Relaxed);
    }

    pub(super) fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.made))
    }

    /// How long the inner service may be unready; none if for ever.
    pub(super) fn max_unready(&self) -> Option<u64> {
        let enabled = !self.disabled.load(Relaxed);
        enabled.then(|| self.max_unready.load(Relaxed))
    }

    /// Whether a call of this priority passes now.
    #[inline]
    pub(super) fn admits(&self, priority: Priority, now: Instant) -> bool {
        let place = self.place(priority);
        self.seen.add(here(), (place / ONE) as usize);
        let now = self.nanos(now);
        if now >= self.next.load(Relaxed) {
            self.calibrate(now);
        }
        place >= self.threshold.load(Relaxed)
            && (priority.class() == PriorityClass::VeryHigh || !self.is_full())
    }

    /// Whether what is left of the queues that are watched is for the highest class. The threshold follows what it has
    /// seen: before it does, in a burst or when a limit falls, all classes would come to the queue alike.
    #[inline]
    fn is_full(&self) -> bool {
        let full = f64::from_bits(self.full.load(Relaxed));
        let watched = &self.setup.watched;
        watched.iter().any(|watched| watched.now() >= full)
    }

    /// Where a call is among all levels.
    #[inline]
    fn place(&self, priority: Priority) -> u32 {
        let spread = |chance: u32| {
            let all = PER_CLASS as u64 * u64::from(ONE);
            ((u64::from(chance) * all) >> 32) as u32
        };
        let within = match priority.level {
            Level::Drawn => spread(self.draw()),
            Level::User(hash) => spread((mix(hash ^ self.salt.load(Relaxed)) >> 32) as u32),
            // Within a level each draws, so that calls of one level are refused in part, and not all or none.
            Level::Exact(level) => u32::from(level) * ONE + (self.draw() >> 16),
        };
        (priority.class().index() * PER_CLASS) as u32 * ONE + within
    }

    fn draw(&self) -> u32 {
        match &self.drawn {
            None => fastrand::u32(..),
            Some(drawn) => (mix(drawn.fetch_add(GOLDEN, Relaxed)) >> 32) as u32,
        }
    }

    /// Finds the threshold anew, if it is time for it: one of those who come then.
    #[cold]
    fn calibrate(&self, now: u64) {
        let next = self.next.load(Acquire);
        let later = now.saturating_add(self.interval.load(Relaxed));
        let due = now >= next;
        if !due
            || self
                .next
                .compare_exchange(next, later, AcqRel, Relaxed)
                .is_err()
        {
            return;
        }
        // The user's code: not under the lock, and before anything changes.
        let pressure = self.read_pressure();
        let mut control = self.lock();
        let control = &mut *control;
        let came = self.seen.take();
        for (class, came) in control.came.iter_mut().zip(came.chunks(PER_CLASS)) {
            *class += came.iter().map(|&came| u64::from(came)).sum::<u64>();
        }
        let curve = &control.curve;
        control.found = control.threshold.calibrate(now, pressure, &came, curve);
        self.salt.store(self.salt_now(control.rotate), Relaxed);
        self.publish(control, now);
    }

    /// The highest of all.
    fn read_pressure(&self) -> f64 {
        let by_hand = f64::from_bits(self.by_hand.load(Relaxed));
        let watched = self.setup.watched.iter();
        let watched = watched.map(|watched| watched.pressure());
        watched.fold(by_hand, f64::max)
    }

    /// Puts what is found or forced into force.
    fn publish(&self, control: &mut Control, now: u64) {
        let (threshold, full) = match control.forced(now) {
            _ if self.disabled.load(Relaxed) => (0, f64::INFINITY),
            Some(forced) => (forced, f64::INFINITY),
            None => (control.found, control.curve.full),
        };
        if let Some((_, until)) = control.forced {
            self.next.fetch_min(until, Relaxed);
        }
        self.threshold.store(threshold, Relaxed);
        self.full.store(full.to_bits(), Relaxed);
    }

    fn salt_now(&self, rotate: Duration) -> u64 {
        let seed = self.setup.seed.unwrap_or(0);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let turn = since
            .unwrap_or_default()
            .as_secs()
            .checked_div(rotate.as_secs());
        XxHash64::oneshot(seed, &turn.unwrap_or(0).to_le_bytes())
    }

    /// A call of this class is refused; without one, because the inner service is not ready.
    #[cold]
    pub(super) fn refuse(&self, class: Option<PriorityClass>) {
        let count = match class {
            Some(class) => &self.refused.classes[class.index()],
            None => &self.refused.unready,
        };
        count.fetch_add(1, Relaxed);
        let name = &self.setup.name;
        let events = &self.setup.events;
        events.emit(|| Event::refused_by("shed", Arc::clone(name), Kind::Overloaded));
    }

    // For handles.

    /// The threshold now, in levels.
    pub(super) fn level(&self) -> f64 {
        self.calibrate(self.nanos(Instant::now()));
        f64::from(self.threshold.load(Relaxed)) / f64::from(ONE)
    }

    pub(super) fn pressure(&self) -> f64 {
        self.calibrate(self.nanos(Instant::now()));
        self.lock().threshold.pressure()
    }

    pub(super) fn set_pressure(&self, pressure: f64) {
        self.by_hand.store(pressure.to_bits(), Relaxed);
    }

    pub(super) fn seen(&self, class: PriorityClass) -> u64 {
        let control = self.lock();
        let from = class.index() * PER_CLASS;
        control.came[class.index()] + self.seen.count(from..from + PER_CLASS)
    }

    pub(super) fn refused(&self, class: PriorityClass) -> u64 {
        self.refused.classes[class.index()].load(Relaxed)
    }

    pub(super) fn refused_unready(&self) -> u64 {
        self.refused.unready.load(Relaxed)
    }

    pub(super) fn force(&self, forced: Option<(u16, Duration)>) {
        let now = self.nanos(Instant::now());
        let mut control = self.lock();
        control.forced = forced.map(|(level, time)| {
            let level = u32::from(level).min(LEVELS as u32);
            (level * ONE, now.saturating_add(nanos(time)))
        });
        self.publish(&mut control, now);
    }

    pub(super) fn forced(&self) -> Option<u16> {
        let now = self.nanos(Instant::now());
        let forced = self.lock().forced(now)?;
        u16::try_from(forced / ONE).ok()
    }

    pub(super) fn disable(&self, disabled: bool) {
        let now = self.nanos(Instant::now());
        let mut control = self.lock();
        self.disabled.store(disabled, Relaxed);
        self.publish(&mut control, now);
    }

    pub(super) fn is_disabled(&self) -> bool {
        self.disabled.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
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

/// 2^64 over the golden ratio: the steps of a counter that is mixed.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads what differs in few bits over all: the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
