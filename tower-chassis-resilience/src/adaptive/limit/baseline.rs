//! How fast the service is when nothing waits in it: the lowest tenth of what was seen in ten minutes.

use std::collections::VecDeque;

use super::{MILLIS, Nanos};

/// Of each 1.2 seconds one window is kept, any one, for ten minutes.
const SLOT: Nanos = 1_200 * MILLIS;
const SLOTS: u64 = 500;

#[derive(Debug)]
struct Slot {
    number: u64,
    seen: u32,
    /// Infinite if it is not known, or forgotten.
    latency: f32,
    /// The most calls in flight in any of its windows.
    peak: u32,
}

/// A sample of windows, at most [`SLOTS`] of them, however many there are.
#[derive(Debug)]
pub(super) struct Baseline {
    slots: VecDeque<Slot>,
    scratch: Vec<f32>,
    rng: fastrand::Rng,
    lowest: Option<f64>,
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

    /// So many calls were in flight.
    pub(super) fn used(&mut self, peak: u32, now: Nanos) {
        let slot = self.slot(now);
        slot.peak = slot.peak.max(peak);
    }

    /// A window with that latency.
    pub(super) fn add(&mut self, latency: f64, now: Nanos) {
        let slot = self.slot(now);
        slot.seen += 1;
        let (seen, empty) = (slot.seen, !slot.latency.is_finite());
        if self.rng.u32(0..seen) == 0 || empty {
            self.slot(now).latency = latency as f32;
        }
        let latencies = self.slots.iter().map(|slot| slot.latency);
        self.scratch.clear();
        self.scratch
            .extend(latencies.filter(|latency| latency.is_finite()));
        let at = self.scratch.len() / 10;
        let (_, lowest, _) = self.scratch.select_nth_unstable_by(at, f32::total_cmp);
        self.lowest = Some(f64::from(*lowest));
    }

    fn slot(&mut self, now: Nanos) -> &mut Slot {
        let number = now / SLOT;
        while let Some(slot) = self.slots.front()
            && slot.number + SLOTS <= number
        {
            self.slots.pop_front();
        }
        if self.slots.back().is_none_or(|slot| slot.number < number) {
            self.slots.push_back(Slot {
                number,
                seen: 0,
                latency: f32::INFINITY,
                peak: 0,
            });
        }
        let last = self.slots.len() - 1;
        &mut self.slots[last]
    }

    /// The latencies that were seen are no measure any more; what was in flight was in flight.
    pub(super) fn forget(&mut self) {
        for slot in &mut self.slots {
            slot.latency = f32::INFINITY;
        }
        self.lowest = None;
    }

    /// The latency that nine tenths of the windows exceed, in nanoseconds.
    pub(super) const fn lowest(&self) -> Option<f64> {
        self.lowest
    }

    /// The most calls in flight that were seen.
    pub(super) fn peak(&self) -> u32 {
        self.slots.iter().map(|slot| slot.peak).max().unwrap_or(0)
    }
}
