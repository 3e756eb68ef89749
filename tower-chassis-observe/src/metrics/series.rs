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

/// The histograms of one route and method, by outcome.
#[derive(Debug, Default)]
pub(crate) struct Series(Lazy<Page, PAGES>);

#[derive(Debug)]
struct Page([OnceLock<Histogram>; SLOTS]);

impl Default for Page {
    fn default() -> Self {
        Self(array::from_fn(|_| OnceLock::new()))
    }
}

impl Series {
    /// Records `seconds`, in the histogram that `make` makes for this outcome.
    pub(crate) fn record(&self, outcome: Outcome, seconds: f64, make: impl Fn() -> Histogram) {
        match self.slot(outcome) {
            Some(slot) => slot.get_or_init(make).record(seconds),
            // A status that has no name: rare, and not worth a slot.
            None => make().record(seconds),
        }
    }

    fn slot(&self, outcome: Outcome) -> Option<&OnceLock<Histogram>> {
        let (page, slot) = match outcome.fault {
            Fault::None => (0, status_slot(outcome.status)?),
            Fault::Status => (1, status_slot(outcome.status)?),
            Fault::Timeout => (2, status_slot(outcome.status)?),
            Fault::Unreachable => (3, status_slot(outcome.status)?),
            Fault::Cancelled => (4, status_slot(outcome.status)?),
            Fault::Refused => (5, status_slot(outcome.status)?),
            Fault::Other => (6, status_slot(outcome.status)?),
            // Its status is always 200.
            Fault::Grpc(code) => (7, usize::from(code)),
        };
        self.0.get(page)?.0.get(slot)
    }
}

const PAGES: usize = 8;
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
