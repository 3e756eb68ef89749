//! The handles of series, by position: made at first use, afterwards a load.

use std::{array, sync::OnceLock};

use metrics::Histogram;

use crate::fault::{Fault, Outcome};

/// `N` values, each made and boxed at its first use.
#[derive(Debug)]
pub(crate) struct Lazy<T, const N: usize>([OnceLock<Box<T>>; N]);

impl<T, const N: usize> Default for Lazy<T, N> {
    fn default() -> Self {
        Self(array::from_fn(|_| OnceLock::new()))
    }
}

impl<T: Default, const N: usize> Lazy<T, N> {
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.0
            .get(index)
            .map(|slot| &**slot.get_or_init(Box::default))
    }
}

/// What is measured of a call, as far as it is known: seconds until the head, and bytes of both bodies.
pub(crate) type Values = [Option<f64>; 3];

pub(crate) const DURATION: usize = 0;
pub(crate) const REQUEST: usize = 1;
pub(crate) const RESPONSE: usize = 2;

/// The histograms of one route and method, by outcome.
#[derive(Debug, Default)]
pub(crate) struct Series(Lazy<Page, FAULTS>);

type Page = Lazy<Slot, SLOTS>;
type Slot = [OnceLock<Histogram>; 3];

impl Series {
    /// Records what there is of `values`, in the histograms that `make` makes for this outcome.
    #[inline]
    pub(crate) fn record(
        &self,
        outcome: Outcome,
        values: Values,
        make: impl Fn(usize) -> Histogram,
    ) {
        let slot = self.slot(outcome);
        for (at, value) in values.into_iter().enumerate() {
            let Some(value) = value else { continue };
            match slot.and_then(|slot| slot.get(at)) {
                Some(histogram) => histogram.get_or_init(|| make(at)).record(value),
                // A status that has no name: rare, and not worth a slot.
                None => make(at).record(value),
            }
        }
    }

    fn slot(&self, outcome: Outcome) -> Option<&Slot> {
        let slot = match outcome.fault {
            // Its status is always 200.
            Fault::Grpc(code) => usize::from(code),
            _ => status_slot(outcome.status)?,
        };
        self.0.get(fault_page(outcome.fault))?.get(slot)
    }
}

/// How many kinds of faults there are, none among them.
pub(crate) const FAULTS: usize = 8;

/// The place of a kind of fault among all.
pub(crate) const fn fault_page(fault: Fault) -> usize {
    match fault {
        Fault::None => 0,
        Fault::Status => 1,
        Fault::Timeout => 2,
        Fault::Unreachable => 3,
        Fault::Cancelled => 4,
        Fault::Refused => 5,
        Fault::Other => 6,
        Fault::Grpc(_) => 7,
    }
}

/// The registered status codes, 499 and none.
const SLOTS: usize = 65;

const fn status_slot(status: Option<u16>) -> Option<usize> {
    let Some(status) = status else {
        return Some(SLOTS - 1);
    };
    let (first, at) = match status {
        100..=103 => (100, 0),
        200..=208 => (200, 4),
        226 => (226, 13),
        300..=308 => (300, 14),
        400..=418 => (400, 23),
        421..=426 => (421, 42),
        428..=429 => (428, 48),
        431 => (431, 50),
        451 => (451, 51),
        499 => (499, 52),
        500..=508 => (500, 53),
        510..=511 => (510, 62),
        _ => return None,
    };
    Some((status - first) as usize + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_slot_of_its_own_or_none() {
        let mut seen = [false; SLOTS];
        for status in (0..1000).map(Some).chain([None]) {
            if let Some(slot) = status_slot(status) {
                assert!(!std::mem::replace(&mut seen[slot], true), "{status:?}");
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}
