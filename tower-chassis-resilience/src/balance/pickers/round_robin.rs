use std::sync::atomic::{AtomicU32, Ordering};

use crate::balance::{Candidates, Members, Pick, Rng};

/// One after the other, in proportion to the weights, from a random start.
#[derive(Debug)]
pub struct RoundRobin {
    cursor: AtomicU32,
}

impl Default for RoundRobin {
    fn default() -> Self {
        Self::new()
    }
}

impl RoundRobin {
    /// A picker in turn. Two of them start at different endpoints.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cursor: AtomicU32::new(fastrand::u32(..)),
        }
    }
}

impl RoundRobin {
    #[cfg(test)]
    pub(super) fn starting_at(turn: u32) -> Self {
        Self {
            cursor: AtomicU32::new(turn),
        }
    }

    /// The number of the next turn. They wrap.
    pub(super) fn turn(&self) -> u32 {
        self.cursor.fetch_add(1, Ordering::Relaxed)
    }

    pub(in crate::balance) fn pick_in<T>(
        &self,
        candidates: &Candidates<'_, T>,
        rng: &mut Rng,
    ) -> Option<usize> {
        let count = u32::try_from(candidates.len())
            .ok()
            .filter(|count| *count > 0)?;
        for _ in 0..count {
            let turn = self.turn();
            let index = (turn % count) as usize;
            if candidates.is_candidate(index) && candidates.has_turn(index, turn / count) {
                return Some(index);
            }
        }
        // Others took the turns, or few may take this call.
        candidates.draw_one(None, rng)
    }
}

impl Pick for RoundRobin {
    type Table = ();

    fn table(&self, _: &Members<'_>) {}

    fn pick(&self, candidates: &Candidates<'_>, rng: &mut Rng) -> Option<usize> {
        self.pick_in(candidates, rng)
    }
}
