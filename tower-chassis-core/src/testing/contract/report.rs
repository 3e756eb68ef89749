use std::{collections::BTreeSet, fmt};

use super::Law;

/// A law that was broken, and how it showed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// The law.
    pub law: Law,
    /// What was done and what was seen.
    pub what: String,
}

/// A law that was not tried.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// The law.
    pub law: Law,
    /// Why.
    pub why: String,
}

/// What [`contract`](super::contract) found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[must_use = "a report says nothing until it is looked at: `report.assert()`"]
pub struct Report {
    /// The laws that were broken. Empty is good.
    pub findings: Vec<Finding>,
    /// The laws that were not tried, or not wholly, and why.
    pub skipped: Vec<Skipped>,
    /// The size of the service's future, in bytes, with that of [`ControlledService`](super::ControlledService)
    /// inside.
    pub future_size: usize,
}

impl Report {
    /// The laws that were broken.
    #[must_use]
    pub fn laws(&self) -> BTreeSet<Law> {
        self.findings.iter().map(|finding| finding.law).collect()
    }

    /// Asserts that no law was broken.
    ///
    /// # Panics
    /// If one was; the message lists each finding.
    #[track_caller]
    pub fn assert(&self) {
        assert!(self.findings.is_empty(), "\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} findings:", self.findings.len())?;
        for Finding { law, what } in &self.findings {
            writeln!(f, "  {law:?} ({law})\n    {what}")?;
        }
        for Skipped { law, why } in &self.skipped {
            writeln!(f, "  not tried: {law:?}: {why}")?;
        }
        write!(f, "  future: {} bytes", self.future_size)
    }
}
