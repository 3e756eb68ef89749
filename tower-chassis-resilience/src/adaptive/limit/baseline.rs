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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_nine_tenths_exceed() {
        for (windows, lowest) in [
            (1, 1.0),
            (9, 1.0),
            (10, 2.0),
            (11, 2.0),
            (25, 3.0),
            (500, 51.0),
        ] {
            let mut baseline = Baseline::new(7);
            assert_eq!(baseline.lowest(), None);
            for window in (0..windows).rev() {
                let slot = (windows - window) * SLOT;
                baseline.add((window + 1) as f64, slot);
            }
            assert_eq!(baseline.lowest(), Some(lowest), "{windows}");
        }
    }

    #[test]
    fn ten_minutes_count() {
        assert_eq!(SLOT * SLOTS, 600_000_000_000);
        let mut baseline = Baseline::new(7);
        baseline.used(9, 0);
        baseline.used(3, SLOT - 1);
        baseline.add(5.0, SLOT - 1);
        baseline.used(4, 17 * SLOT);
        baseline.add(8.0, SLOTS * SLOT - 1);
        assert_eq!((baseline.peak(), baseline.lowest()), (9, Some(5.0)));
        baseline.add(8.0, SLOTS * SLOT);
        assert_eq!((baseline.peak(), baseline.lowest()), (4, Some(8.0)));
        baseline.used(1, (SLOTS + 17) * SLOT);
        assert_eq!(baseline.peak(), 1);
        assert_eq!(Baseline::new(7).peak(), 0);
    }

    #[test]
    fn of_the_windows_of_a_slot_any_one_is_kept() {
        let mut kept = [0; 4];
        for seed in 0..4_000 {
            let mut baseline = Baseline::new(seed);
            (0..4).for_each(|window| baseline.add(f64::from(window), 5));
            assert_eq!(baseline.slots.len(), 1);
            kept[baseline.lowest().unwrap() as usize] += 1;
        }
        assert!(
            kept.iter().all(|kept| (900..1_100).contains(kept)),
            "{kept:?}"
        );
    }

    #[test]
    fn what_is_forgotten_is_replaced_at_once() {
        for seed in 0..20 {
            let mut baseline = Baseline::new(seed);
            baseline.used(6, 0);
            (0..50).for_each(|slot| baseline.add(2.0, slot * SLOT));
            (0..50).for_each(|_| baseline.add(2.0, 49 * SLOT));
            baseline.forget();
            assert_eq!((baseline.lowest(), baseline.peak()), (None, 6));
            baseline.add(9.0, 49 * SLOT);
            assert_eq!(baseline.lowest(), Some(9.0));
        }
    }

    /// A time that was read earlier falls into the slot that is on.
    #[test]
    fn slots_are_in_order() {
        let mut baseline = Baseline::new(7);
        baseline.used(1, 5 * SLOT);
        baseline.used(2, 3 * SLOT);
        baseline.used(3, 6 * SLOT);
        let slots = baseline.slots.iter().map(|slot| (slot.number, slot.peak));
        assert!(slots.eq([(5, 2), (6, 3)]));
    }
}
