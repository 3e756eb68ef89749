use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;
use tower_chassis_core::{Class, Verdict};

/// The time in which an old latency fades to 1/e.
const FADE_MS: f32 = 10_000.0;
/// What a call that failed counts as, at least, unless the endpoint said how long to stay away.
const PENALTY: Duration = Duration::from_secs(1);
/// An average that is older says what was. The endpoint is asked again, and the answer takes its place.
const STALE_MS: u32 = 1_000;
/// The longest that an endpoint's own word counts.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is known of an endpoint: its latency, the calls in flight, its counts. Lock-free, one cache line.
///
/// The latency is a peak-sensitive moving average: a slower answer counts at once, a faster one little by
/// little, and an old average fades while nobody calls. One that is older than a second gives way to the next
/// answer, whatever it is. A call that failed counts as at least one second, or
/// as long as the endpoint asked to be left alone (up to a minute), so that a fast failure does not attract.
#[derive(Debug)]
#[repr(align(64))]
pub struct Load {
    /// Microseconds as `f32` bits, and the millisecond since `epoch` in which they were written. 0: unmeasured.
    latency: AtomicU64,
    pending: AtomicU32,
    /// The millisecond in which it was last chosen, plus one; 0: never, or forgotten.
    asked: AtomicU32,
    /// Failures in a row, as the picker sees them.
    failing: AtomicU32,
    attempts: AtomicU64,
    failures: AtomicU64,
    epoch: Instant,
}

impl Load {
    /// Nothing is known; time counts from `epoch`.
    #[must_use]
    pub const fn new(epoch: Instant) -> Self {
        Self {
            latency: AtomicU64::new(0),
            pending: AtomicU32::new(0),
            asked: AtomicU32::new(0),
            failing: AtomicU32::new(0),
            attempts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            epoch,
        }
    }

    /// The latency as it counts at `now`; `None` before the first call ended.
    #[must_use]
    pub fn latency(&self, now: Instant) -> Option<Duration> {
        self.micros(now)
            .map(|micros| Duration::from_micros(micros.round() as u64))
    }

    /// Calls that chose the endpoint and are not over.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.pending.load(Relaxed)
    }

    /// Calls that were handed to the endpoint's service.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Relaxed)
    }

    /// Calls that the endpoint failed: an error, no answer in time, no connection.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// The latency in microseconds as it counts at `now`.
    pub(super) fn micros(&self, now: Instant) -> Option<f32> {
        let (micros, written) = unpack(self.latency.load(Relaxed))?;
        Some(micros * fade(age(self.tick(now), written)))
    }

    pub(super) fn enter(&self, now: Instant) {
        self.pending.fetch_add(1, Relaxed);
        self.asked.store(self.tick(now).wrapping_add(1), Relaxed);
    }

    pub(super) fn leave(&self) {
        self.pending.fetch_sub(1, Relaxed);
    }

    /// Whether it was chosen a moment ago, so that its answer may be on its way.
    pub(super) fn is_asked(&self, now: Instant) -> bool {
        let asked = self.asked.load(Relaxed);
        asked != 0 && age(self.tick(now), asked.wrapping_sub(1)) <= STALE_MS
    }

    /// Whether what is known says what was, and nobody is finding out. Without that, an endpoint that failed
    /// once among fast ones would be avoided for more than a minute, well or not.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        unpack(self.latency.load(Relaxed))
            .is_some_and(|(micros, written)| age(self.tick(now), written) > self.lasts(micros))
            && !self.is_asked(now)
    }

    /// For how many milliseconds an average counts. A slow endpoint is asked again seldom, so that it costs
    /// little; one that fails is asked after 1, 2, 4, 8 seconds, or when it said.
    fn lasts(&self, micros: f32) -> u32 {
        let millis = micros / 1e3;
        let millis = match self.failing.load(Relaxed) {
            0 => millis * 10.0,
            failing => millis.max((STALE_MS << (failing - 1).min(3)) as f32),
        };
        STALE_MS.max(millis as u32)
    }

    /// Its latency is of a time that is over: it is unmeasured again.
    pub(super) fn forget(&self) {
        for word in [&self.asked, &self.failing] {
            if word.load(Relaxed) != 0 {
                word.store(0, Relaxed);
            }
        }
        if self.latency.load(Relaxed) != 0 {
            self.latency.store(0, Relaxed);
        }
    }

    pub(super) fn count_attempt(&self) {
        self.attempts.fetch_add(1, Relaxed);
    }

    pub(super) fn count_failure(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// A call that took `took` was judged `verdict`.
    pub(super) fn record(&self, took: Duration, verdict: Verdict, now: Instant) {
        let shortest = match verdict.class() {
            Class::Cancelled => return self.record_cut(took, now),
            Class::Success | Class::ClientFault => Duration::ZERO,
            // What it asks for can only be longer: one that says "at once" has failed all the same.
            _ => verdict
                .retry_after()
                .map_or(PENALTY, |wait| wait.clamp(PENALTY, LONGEST_WAIT)),
        };
        let failing = self.failing.load(Relaxed);
        self.observe(took.max(shortest), now, false);
        if !shortest.is_zero() {
            self.failing.store(failing.saturating_add(1), Relaxed);
        } else if failing != 0 {
            self.failing.store(0, Relaxed);
        }
    }

    /// A call was given up after `took`: its answer would have taken longer, so it can only raise.
    pub(super) fn record_cut(&self, took: Duration, now: Instant) {
        self.observe(took, now, true);
    }

    fn observe(&self, took: Duration, now: Instant, raises_only: bool) {
        let took = (took.as_secs_f32() * 1e6).max(1.0);
        let tick = self.tick(now);
        let mut old = self.latency.load(Relaxed);
        loop {
            let micros = match unpack(old) {
                None => took,
                Some((micros, written)) => {
                    let age = age(tick, written);
                    let keep = fade(age);
                    let faded = micros * keep;
                    if took > faded || (age > self.lasts(micros) && !raises_only) {
                        took
                    } else if raises_only || age == 0 {
                        // Within a millisecond a step would be lost in the precision of the average, and
                        // writing every sample would make the cell a point of contention.
                        return;
                    } else {
                        faded + took * (1.0 - keep)
                    }
                }
            };
            let new = u64::from(micros.to_bits()) << 32 | u64::from(tick);
            match self
                .latency
                .compare_exchange_weak(old, new, Relaxed, Relaxed)
            {
                Ok(_) => return,
                Err(seen) => old = seen,
            }
        }
    }

    /// Milliseconds since the epoch; they wrap after 49 days.
    fn tick(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_millis() as u32
    }
}

const fn unpack(cell: u64) -> Option<(f32, u32)> {
    match cell {
        0 => None,
        cell => Some((f32::from_bits((cell >> 32) as u32), cell as u32)),
    }
}

/// Milliseconds from `written` to `tick`; 0 where another thread wrote with a later clock.
const fn age(tick: u32, written: u32) -> u32 {
    let age = tick.wrapping_sub(written);
    if age > u32::MAX / 2 { 0 } else { age }
}

/// `e^(-ms / FADE_MS)`, exact at 0: a power of two by its exponent, the rest by a cubic (error below 0.03 %).
fn fade(ms: u32) -> f32 {
    let halvings = ms as f32 * (std::f32::consts::LOG2_E / FADE_MS);
    if halvings >= 126.0 {
        return 0.0;
    }
    let whole = halvings as u32;
    let rest = halvings - whole as f32;
    let part = 1.0 + rest * (-std::f32::consts::LN_2 + rest * (0.236_30 - rest * 0.043_15));
    part * f32::from_bits((127 - whole) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn one_cache_line() {
        assert_eq!(size_of::<Load>(), 64);
    }

    #[test]
    fn fading_is_exponential() {
        assert_eq!(fade(0), 1.0);
        for ms in [1, 10, 999, 5_000, 6_931, 6_932, 10_000, 100_000, 800_000] {
            let exact = (f64::from(ms) / -10_000.0).exp();
            assert!(
                (f64::from(fade(ms)) / exact - 1.0).abs() < 4e-4,
                "{ms}: {} {exact}",
                fade(ms)
            );
        }
        assert_eq!(fade(u32::MAX), 0.0);
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let start = Instant::now();
        let load = Load::new(start);
        assert_eq!(load.latency(start), None);
        load.record(10 * MS, Verdict::SUCCESS, start);
        load.record(MS, Verdict::SUCCESS, start);
        assert_eq!(
            load.latency(start),
            Some(10 * MS),
            "within a millisecond only peaks count"
        );
        load.record(100 * MS, Verdict::SUCCESS, start);
        assert_eq!(load.latency(start), Some(100 * MS));
        let later = start + Duration::from_secs(10);
        let faded = load.latency(later).unwrap().as_secs_f64();
        assert!((0.036..0.038).contains(&faded), "{faded}");
    }

    #[test]
    fn an_average_moves_slowly_while_it_counts_and_gives_way_when_it_is_old() {
        let start = Instant::now();
        let sample = |first: Duration, after: u64| {
            let load = Load::new(start);
            load.record(first, Verdict::SUCCESS, start);
            let later = start + Duration::from_millis(after);
            load.record(MS, Verdict::SUCCESS, later);
            load.latency(later).unwrap().as_secs_f64()
        };
        assert!((0.045..0.046).contains(&sample(50 * MS, 1_000)));
        assert_eq!(sample(50 * MS, 1_001), 0.001);
        assert!(sample(500 * MS, 4_999) > 0.25, "a slow one is asked seldom");
        assert_eq!(sample(500 * MS, 5_001), 0.001);
    }

    #[test]
    fn who_fails_is_asked_again_after_growing_times() {
        let (mut now, load) = (Instant::now(), Load::new(Instant::now()));
        let second = Duration::from_secs(1);
        for wait in [1, 2, 4, 8, 8] {
            load.record(MS, Verdict::FAILURE, now);
            assert!(!load.is_stale(now + second * wait), "{wait}");
            now += second * wait + 2 * MS;
            assert!(load.is_stale(now), "{wait}");
        }
        load.enter(now);
        assert!(!load.is_stale(now + second), "one call at a time");
        assert!(load.is_stale(now + 2 * second), "whatever became of it");
        load.record(MS, Verdict::SUCCESS, now);
        load.record(
            MS,
            Verdict::FAILURE.with_retry_after(7 * second),
            now + 2 * second,
        );
        assert!(
            !load.is_stale(now + 9 * second),
            "left alone for as long as it asked"
        );
        assert!(load.is_stale(now + 9 * second + 2 * MS));
        load.forget();
        assert!(!load.is_stale(now + 99 * second) && !load.is_asked(now));
    }

    #[test]
    fn who_leaves_early_makes_no_endpoint_look_fast() {
        let (now, load) = (Instant::now(), Load::new(Instant::now()));
        load.record(10 * MS, Verdict::SUCCESS, now);
        load.record(MS, Verdict::CANCELLED, now + 5 * MS);
        assert!(load.latency(now + 5 * MS).unwrap() > 9 * MS);
    }

    #[test]
    fn a_fast_failure_is_slow() {
        let now = Instant::now();
        let sample = |verdict: Verdict| {
            let load = Load::new(now);
            load.record(MS, verdict, now);
            load.latency(now).unwrap()
        };
        assert_eq!(sample(Verdict::SUCCESS), MS);
        assert_eq!(sample(Verdict::new(Class::ClientFault)), MS);
        for class in [
            Class::Failure,
            Class::Timeout,
            Class::Unreachable,
            Class::RateLimited,
            Class::Refused,
        ] {
            assert_eq!(sample(Verdict::new(class)), PENALTY, "{class:?}");
        }
        let asked = |secs| Verdict::FAILURE.with_retry_after(Duration::from_secs(secs));
        assert_eq!(sample(asked(7)), Duration::from_secs(7));
        assert_eq!(sample(asked(3_600)), LONGEST_WAIT);
        // Asked to come back at once: it failed all the same.
        assert_eq!(sample(asked(0)), PENALTY);
    }

    #[test]
    fn a_call_given_up_can_only_raise() {
        let now = Instant::now();
        let load = Load::new(now);
        load.record(10 * MS, Verdict::SUCCESS, now);
        let later = now + Duration::from_secs(5);
        let faded = load.latency(later);
        load.record_cut(MS, later);
        assert_eq!(load.latency(later), faded);
        load.record_cut(50 * MS, later);
        assert_eq!(load.latency(later), Some(50 * MS));
    }

    #[test]
    fn the_clock_of_another_thread_may_be_behind() {
        let start = Instant::now();
        let load = Load::new(start);
        load.record(10 * MS, Verdict::SUCCESS, start + 5 * MS);
        assert_eq!(load.latency(start), Some(10 * MS));
        load.record(MS, Verdict::SUCCESS, start);
        assert_eq!(load.latency(start + 5 * MS), Some(10 * MS));
    }
}
