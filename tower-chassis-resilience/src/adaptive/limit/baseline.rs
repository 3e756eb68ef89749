//! How fast the service is when nothing waits in it: the lowest tenth of what was seen in ten minutes.

use std::collections::VecDeque;

use super::{MILLIS, Nanos};

/// Of each 1.2 seconds one window is kept, any one, for ten minutes.
const SLOT: Nanos = 1_200 * MILLIS;
const SLOTS: u64 = 500;

/// Latencies: the median, and the one that a tenth of the calls exceeds, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in super::super) struct Latency {
    pub(in super::super) p50: f64,
    pub(in super::super) p90: f64,
}

impl Latency {
    /// How many times `other` these are.
    pub(super) fn over(self, other: Self) -> Self {
        Self {
            p50: self.p50 / other.p50.max(1.0),
            p90: self.p90 / other.p90.max(1.0),
        }
    }

    pub(super) fn max(self) -> f64 {
        self.p50.max(self.p90)
    }
}

#[derive(Debug)]
struct Slot {
    number: u64,
    seen: u32,
    p50: f32,
    p90: f32,
    /// The most calls in flight in any of its windows.
    peak: u32,
}

/// A sample of windows, at most [`SLOTS`] of them, however many there are.
#[derive(Debug)]
pub(super) struct Baseline {
    slots: VecDeque<Slot>,
    scratch: Vec<f32>,
    rng: fastrand::Rng,
    lowest: Option<Latency>,
}

impl Baseline {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            slots: VecDeque::new(),
            scratch: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
            lowest: None,
        }
    }

    pub(super) fn add(&mut self, seen: Latency, peak: u32, now: Nanos) {
        let number = now / SLOT;
        while self.slots.front().is_some_and(|slot| slot.number + SLOTS <= number) {
            self.slots.pop_front();
        }
        let (p50, p90) = (seen.p50 as f32, seen.p90 as f32);
        match self.slots.back_mut() {
            Some(slot) if slot.number >= number => {
                slot.seen += 1;
                slot.peak = slot.peak.max(peak);
                if self.rng.u32(0..slot.seen) == 0 || !slot.p50.is_finite() {
                    (slot.p50, slot.p90) = (p50, p90);
                }
            }
            _ => self.slots.push_back(Slot {
                number,
                seen: 1,
                p50,
                p90,
                peak,
            }),
        }
        self.lowest = Some(Latency {
            p50: self.decile(|slot| slot.p50),
            p90: self.decile(|slot| slot.p90),
        });
    }

    /// The latencies that were seen are no measure any more; what was in flight was in flight.
    pub(super) fn forget(&mut self) {
        for slot in &mut self.slots {
            (slot.p50, slot.p90) = (f32::INFINITY, f32::INFINITY);
        }
        self.lowest = None;
    }

    /// The latencies that nine tenths of the windows exceed.
    pub(super) const fn lowest(&self) -> Option<Latency> {
        self.lowest
    }

    /// The most calls in flight that were seen.
    pub(super) fn peak(&self) -> u32 {
        self.slots.iter().map(|slot| slot.peak).max().unwrap_or(0)
    }

    fn decile(&mut self, of: impl Fn(&Slot) -> f32) -> f64 {
        self.scratch.clear();
        self.scratch.extend(self.slots.iter().map(of).filter(|value| value.is_finite()));
        let at = self.scratch.len() / 10;
        let (_, decile, _) = self.scratch.select_nth_unstable_by(at, f32::total_cmp);
        f64::from(*decile)
    }
}
