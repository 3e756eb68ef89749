//! Outlier detection: endpoints that do worse than the others are passed over for a while.

mod config;
mod detector;
mod look;
mod record;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{sync::Notify, time::Instant};
use tower_chassis_core::{Class, Verdict};

pub use self::config::{OutlierConfig, OutlierPolicy};
use self::{
    detector::{Detector, To, Turn},
    record::{Outcome, Thresholds},
};
pub(super) use self::{look::Look, record::Record};
use super::snapshot::State;

const WELL: u64 = 0;
const EJECTED: u64 = 1;
/// It came back, and nobody knows whether it is well.
const PROBED: u64 = 2;
/// It answered well; the time since when stands above.
const SLOW: u64 = 3;
const KIND: u64 = 3;

/// How an endpoint stands with outlier detection: a word that calls read.
#[derive(Debug, Default)]
pub(super) struct Standing(AtomicU64);

impl Standing {
    fn set(&self, kind: u64) {
        self.0.store(kind, Relaxed);
    }

    fn is(&self, kind: u64) -> bool {
        self.0.load(Relaxed) & KIND == kind
    }
}

/// Outlier detection of a balancer: what all its endpoints share. Calls read it, and the worker turns it.
#[derive(Debug)]
pub(super) struct Outlier {
    /// Calls are counted.
    on: AtomicBool,
    rows: [AtomicU32; 3],
    split: AtomicBool,
    /// How long shares grow, in milliseconds.
    slow_start: AtomicU32,
    /// How many endpoints do not stand well.
    turned: AtomicUsize,
    epoch: Instant,
    /// Wakes the worker.
    pub(super) bell: Notify,
    policy: ArcSwapOption<OutlierPolicy>,
    detector: Mutex<Detector>,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            on: AtomicBool::new(false),
            rows: Default::default(),
            split: AtomicBool::new(false),
            slow_start: AtomicU32::new(millis(OutlierConfig::default().slow_start)),
            turned: AtomicUsize::new(0),
            epoch: Instant::now(),
            bell: Notify::new(),
            policy: ArcSwapOption::empty(),
            detector: Mutex::new(Detector::new(fastrand::u64(..))),
        }
    }
}

/// An endpoint that turned, to be reported.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) id: Arc<str>,
    pub(super) to: &'static str,
    pub(super) reason: &'static str,
    pub(super) lasts: Option<Duration>,
}

impl Outlier {
    /// Other settings.
    pub(super) fn apply(&self, policy: &OutlierPolicy) {
        let config = policy.config();
        let rows = [
            config.consecutive_failures,
            config.consecutive_gateway,
            config.consecutive_local,
        ];
        for (row, length) in self.rows.iter().zip(rows) {
            row.store(length, Relaxed);
        }
        self.split.store(config.split_local, Relaxed);
        self.slow_start.store(millis(config.slow_start), Relaxed);
        self.on.store(config.enabled, Relaxed);
        self.policy.store(Some(Arc::new(policy.clone())));
        self.bell.notify_one();
    }

    /// The same dice in each test.
    pub(super) fn seed(&self, seed: u64) {
        *self.detector() = Detector::new(seed);
    }

    /// No user code under it.
    fn detector(&self) -> MutexGuard<'_, Detector> {
        self.detector.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn thresholds(&self) -> Thresholds {
        Thresholds {
            rows: [0, 1, 2].map(|row: usize| self.rows[row].load(Relaxed)),
            split: self.split.load(Relaxed),
        }
    }

    fn tick(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }

    /// The latency of a good answer.
    pub(super) fn sample(&self, state: &State, verdict: Verdict, took: Duration) {
        if self.on.load(Relaxed) && verdict.is_success() {
            let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
            state.record.sample(micros, state.load.pending());
        }
    }

    /// A call that is over.
    pub(super) fn count(&self, state: &State, verdict: Verdict, now: Instant) {
        if verdict.is_success() && state.standing.is(PROBED) {
            let slow = self.tick(now) << 2 | SLOW;
            let _ = state
                .standing
                .0
                .compare_exchange(PROBED, slow, Relaxed, Relaxed);
        }
        if !self.on.load(Relaxed) {
            return;
        }
        let Some(outcome) = outcome(verdict) else {
            return;
        };
        if state.record.count(outcome, &self.thresholds()) && !state.standing.is(EJECTED) {
            self.bell.notify_one();
        }
    }

    /// For how long an endpoint is out, and how often it was.
    pub(super) fn status(&self, key: u64, now: Instant) -> (Option<Duration>, u32) {
        self.detector().status(key, now)
    }

    /// What the worker does when it is woken. The reports, whether anybody's standing changed, and when to come again.
    pub(super) fn round<'a, I>(
        &self,
        states: I,
        now: Instant,
    ) -> (Vec<Report>, bool, Option<Instant>)
    where
        I: Iterator<Item = &'a State> + Clone,
    {
        let policy = self.policy.load_full();
        let policy = policy.as_deref().filter(|policy| policy.config().enabled);
        let mut detector = self.detector();
        if policy.is_none() && detector.is_idle() {
            return (Vec::new(), false, None);
        }
        let mut turns = Vec::new();
        if !detector.is_idle() {
            let there: HashSet<u64> = states.clone().map(|s| s.key).collect();
            detector.retain(|key| there.contains(&key));
        }
        detector.readmit_due(now, &mut turns);
        if !policy.is_some_and(OutlierPolicy::acts) {
            detector.switch_off(&mut turns);
        }
        if let Some(policy) = policy {
            let (hosts, thresholds) = (states.clone().count(), self.thresholds());
            for state in states.clone() {
                let rows = state.record.take_rows(&thresholds);
                if rows.contains(&true) {
                    detector.rows((state.key, rows), hosts, policy, now, &mut turns);
                }
            }
            if detector.ticks(policy, now) {
                let all: Vec<_> = states
                    .clone()
                    .map(|state| (state.key, state.record.take()))
                    .collect();
                detector.interval(&all, policy, now, &mut turns);
            }
        }
        let changed = self.put(&detector, states, &turns, now);
        let next = detector.next(policy);
        drop(detector);
        (changed.0, changed.1, next)
    }

    /// Ejects an endpoint because somebody says so.
    pub(super) fn force(&self, state: &State, lasts: Duration, now: Instant) -> Report {
        let mut detector = self.detector();
        let turn = detector.force(state.key, lasts, now);
        if state.standing.0.swap(EJECTED, Relaxed) == WELL {
            self.turned.fetch_add(1, Relaxed);
        }
        drop(detector);
        self.bell.notify_one();
        Report::new(&turn, state)
    }

    /// Readmits one because somebody says so.
    pub(super) fn pardon(&self, state: &State) -> Option<Report> {
        let turn = self.detector().pardon(state.key)?;
        readmit(state);
        self.bell.notify_one();
        Some(Report::new(&turn, state))
    }

    /// Tells the endpoints how they stand.
    fn put<'a, I>(
        &self,
        detector: &Detector,
        states: I,
        turns: &[Turn],
        now: Instant,
    ) -> (Vec<Report>, bool)
    where
        I: Iterator<Item = &'a State> + Clone,
    {
        let mut reports = Vec::new();
        let (mut turned, mut changed) = (0, false);
        for state in states {
            for turn in turns.iter().filter(|turn| turn.key == state.key) {
                reports.push(Report::new(turn, state));
            }
            match (detector.is_ejected(state.key), state.standing.is(EJECTED)) {
                (true, false) => {
                    state.standing.set(EJECTED);
                    changed = true;
                }
                (false, true) => {
                    readmit(state);
                    changed = true;
                }
                _ => self.end_slow_start(state, now),
            }
            turned += usize::from(!state.standing.is(WELL));
        }
        self.turned.store(turned, Relaxed);
        (reports, changed)
    }

    fn end_slow_start(&self, state: &State, now: Instant) {
        let word = state.standing.0.load(Relaxed);
        let millis = u64::from(self.slow_start.load(Relaxed));
        if word & KIND == SLOW && self.tick(now).saturating_sub(word >> 2) >= millis {
            let _ = state
                .standing
                .0
                .compare_exchange(word, WELL, Relaxed, Relaxed);
        }
    }
}

/// It comes back: what it was like counts no more.
fn readmit(state: &State) {
    state.record.clear_rows();
    state.load.forget();
    state.standing.set(PROBED);
}

fn outcome(verdict: Verdict) -> Option<Outcome> {
    let answered = verdict.http_status().is_some() || verdict.grpc_code().is_some();
    let late = matches!(verdict.class(), Class::Timeout | Class::Unreachable);
    match verdict.class() {
        Class::Success | Class::ClientFault => Some(Outcome::Good),
        Class::RateLimited => Some(Outcome::Limited),
        Class::Failure | Class::Timeout | Class::Unreachable => Some(Outcome::Failure {
            gateway: late
                || matches!(verdict.http_status(), Some(502..=504))
                || verdict.grpc_code() == Some(14),
            local: late && !answered,
        }),
        // The call came to no end, or not to the endpoint: cancelled, refused.
        _ => None,
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

impl Report {
    fn new(turn: &Turn, state: &State) -> Self {
        Self {
            id: Arc::clone(&state.id),
            to: To::as_str(turn.to),
            reason: turn.reason,
            lasts: turn.lasts,
        }
    }
}

#[cfg(test)]
mod tests;
