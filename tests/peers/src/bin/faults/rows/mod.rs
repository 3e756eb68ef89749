//! What a fault comes to in theirs and in ours. A file for each layer that has faults of its own scenarios.

use std::fmt;

mod adaptive;
mod cache;
mod coalesce;
mod connect;
mod fallback;
mod hedge;

/// A figure, and whether it is the symptom.
pub struct Outcome(pub String, pub bool);

impl Outcome {
    pub fn of<T: fmt::Display>(figure: T, shown: bool) -> Self {
        Self(figure.to_string(), shown)
    }

    /// Yes or no, of which yes is the symptom.
    pub fn yes(shown: bool) -> Self {
        Self::of(if shown { "yes" } else { "no" }, shown)
    }
}

/// Says the same of both.
pub fn both<T>(theirs: T, ours: T, judge: impl Fn(T) -> Outcome) -> [Outcome; 2] {
    [judge(theirs), judge(ours)]
}

pub struct Fault {
    pub number: u8,
    pub symptom: &'static str,
    /// Theirs and ours.
    pub outcomes: [Outcome; 2],
}

/// A row of the table.
pub const fn fault(number: u8, symptom: &'static str, outcomes: [Outcome; 2]) -> Fault {
    Fault {
        number,
        symptom,
        outcomes,
    }
}

/// The rows of the files here.
pub fn all() -> Vec<Fault> {
    [
        coalesce::faults(),
        connect::faults(),
        adaptive::faults(),
        hedge::faults(),
        cache::faults(),
        fallback::faults(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
