use std::{cmp::Ordering, collections::BinaryHeap};

use super::RoundRobin;
use crate::balance::{Candidates, Members, Pick, Rng};

/// In turn and in proportion to the weights, with the turns of a heavy endpoint spread over the round: the order of
/// nginx's smooth weighted round robin.
///
/// The round is made once for a set. In it, each endpoint has its weight's number of turns (weights are divided by
/// their common divisor, and scaled down where a round would be longer than 65,536).
#[derive(Debug, Default)]
pub struct SmoothRoundRobin(RoundRobin);

/// The turns of a round.
#[derive(Debug, Default)]
pub struct Cycle(Box<[u32]>);

/// The longest round.
const LONGEST: u64 = 65_536;
/// Up to this many steps the round is made turn by turn.
const STEPS: u64 = 4_000_000;
/// How many turns of others are passed over before one is drawn.
const PASSED: usize = 128;

impl SmoothRoundRobin {
    /// A picker in turn. Two of them start at different turns.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[cfg(test)]
    pub(in crate::balance) fn first() -> Self {
        Self(RoundRobin::starting_at(0))
    }

    pub(super) fn pick_in<T>(
        turns: &RoundRobin,
        candidates: &Candidates<'_, T>,
        Cycle(cycle): &Cycle,
        rng: &mut Rng,
    ) -> Option<usize> {
        for _ in 0..cycle.len().min(PASSED) {
            let turn = turns.turn() as usize % cycle.len();
            let index = cycle.get(turn).map(|index| *index as usize)?;
            if candidates.is_candidate(index) {
                return Some(index);
            }
        }
        candidates.draw_one(None, rng)
    }
}

impl Pick for SmoothRoundRobin {
    type Table = Cycle;

    fn table(&self, members: &Members<'_>) -> Cycle {
        Cycle::of(members)
    }

    fn pick(&self, candidates: &Candidates<'_, Cycle>, rng: &mut Rng) -> Option<usize> {
        Self::pick_in(&self.0, candidates, candidates.table(), rng)
    }
}

impl Cycle {
    pub(super) fn of(members: &Members<'_>) -> Self {
        let weights: Vec<u32> = (0..members.len()).map(|i| members.weight(i)).collect();
        Self::new(&weights)
    }

    fn new(weights: &[u32]) -> Self {
        let mut turns: Vec<u64> = weights.iter().copied().map(u64::from).collect();
        let divisor = turns.iter().copied().fold(0, divisor).max(1);
        turns.iter_mut().for_each(|turns| *turns /= divisor);
        let total: u64 = turns.iter().sum();
        if total > LONGEST {
            for turns in turns.iter_mut().filter(|turns| **turns > 0) {
                *turns =
                    (u128::from(*turns) * u128::from(LONGEST) / u128::from(total)).max(1) as u64;
            }
        }
        let total: u64 = turns.iter().sum();
        Self(if total.saturating_mul(turns.len() as u64) > STEPS {
            spread(&turns)
        } else {
            smooth(&turns, total)
        })
    }

    #[cfg(test)]
    pub(in crate::balance) fn turns(&self) -> &[u32] {
        &self.0
    }

    #[cfg(test)]
    pub(in crate::balance) fn spread(weights: &[u64]) -> Box<[u32]> {
        spread(weights)
    }
}

fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// At each turn all gain their weight, the richest is taken and pays for all.
fn smooth(weights: &[u64], total: u64) -> Box<[u32]> {
    let mut current = vec![0_i64; weights.len()];
    (0..total)
        .map(|_| {
            let mut best: Option<(usize, i64)> = None;
            for (index, (current, weight)) in current.iter_mut().zip(weights).enumerate() {
                *current += *weight as i64;
                if *weight > 0 && best.is_none_or(|(_, most)| *current > most) {
                    best = Some((index, *current));
                }
            }
            let index = best.map_or(0, |(index, _)| index);
            if let Some(current) = current.get_mut(index) {
                *current -= total as i64;
            }
            index as u32
        })
        .collect()
}

/// The turn `k` of an endpoint of weight `w` is due at `(k + ½) / w` of the round.
struct Due {
    /// `2k + 1`.
    odd: u64,
    weight: u64,
    index: u32,
}

impl Ord for Due {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.odd * self.weight)
            .cmp(&(self.odd * other.weight))
            .then_with(|| other.index.cmp(&self.index))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

/// Nearly as smooth, in `n log n`.
fn spread(weights: &[u64]) -> Box<[u32]> {
    let mut due: BinaryHeap<Due> = (0..)
        .zip(weights)
        .filter(|(_, weight)| **weight > 0)
        .map(|(index, weight)| Due {
            odd: 1,
            weight: *weight,
            index,
        })
        .collect();
    let mut turns = Vec::new();
    while let Some(mut next) = due.pop() {
        turns.push(next.index);
        next.odd += 2;
        if next.odd < next.weight * 2 {
            due.push(next);
        }
    }
    turns.into_boxed_slice()
}
