use std::{error::Error, fmt};

use super::Verdict;
use crate::BoxError;

/// An error with the verdict of a classifier, which every outer layer reads. Made by
/// [`JudgeLayer`](crate::JudgeLayer); it prints as the error that it holds.
#[derive(Debug)]
pub struct Judged {
    verdict: Verdict,
    source: BoxError,
}

impl Judged {
    /// `source`, judged `verdict`.
    pub fn new(verdict: Verdict, source: impl Into<BoxError>) -> Self {
        Self {
            verdict,
            source: source.into(),
        }
    }

    /// What the classifier said.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The error as it came.
    #[must_use]
    pub fn into_inner(self) -> BoxError {
        self.source
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for Judged {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
