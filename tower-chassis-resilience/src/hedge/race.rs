//! Which attempts of a call there are, and whose answer is the caller's. Knows neither time nor tower.

use std::time::Duration;

use tower_chassis_core::{Class, Verdict};

/// The attempts of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Race {
    /// How many more may be sent.
    left: u8,
    /// How many are under way.
    running: u8,
    /// Whether one that failed sends the next.
    on_failure: bool,
}

/// What the end of an attempt means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// It is the caller's answer; the others have lost.
    Answer,
    /// The others go on without it.
    Others,
    /// The others go on without it, and the next is not sent before that time.
    NotBefore(Duration),
    /// The next is sent after that time, if it can be; else [`Race::or_else`] has the say.
    Again(Duration),
}

impl Race {
    /// The first attempt is under way, and up to `hedges` more may be sent.
    pub(super) const fn new(hedges: u8, on_failure: bool) -> Self {
        Self {
            left: hedges,
            running: 1,
            on_failure,
        }
    }

    /// Whether another may be sent.
    pub(super) const fn may_send(self) -> bool {
        self.left > 0
    }

    /// Whether the next is the last that may be sent.
    pub(super) const fn is_last(self) -> bool {
        self.left == 1
    }

    /// No more are sent.
    pub(super) const fn stop(&mut self) {
        self.left = 0;
    }

    /// One more is under way.
    pub(super) const fn sent(&mut self) {
        self.left = self.left.saturating_sub(1);
        self.running += 1;
    }

    /// One that was about to be sent was not: its service failed.
    pub(super) const fn failed_to_send(&mut self) -> Turn {
        self.stop();
        self.or_else()
    }

    /// Whether one that failed sends the next.
    pub(super) const fn sends_on_failure(self) -> bool {
        self.on_failure
    }

    /// One ended. `again` says when it might be tried again, if that is worth it.
    pub(super) fn ended(
        &mut self,
        verdict: Verdict,
        again: impl FnOnce() -> Option<Duration>,
    ) -> Turn {
        self.running = self.running.saturating_sub(1);
        if verdict.is_success() {
            return Turn::Answer;
        }
        if verdict.forbids_retry() {
            self.stop();
        }
        if self.on_failure
            && self.may_send()
            && let Some(wait) = again()
        {
            return Turn::Again(wait);
        }
        // It asks for less.
        if verdict.class() == Class::RateLimited {
            self.stop();
        }
        match (self.or_else(), verdict.retry_after()) {
            (Turn::Others, Some(wait)) if self.may_send() => Turn::NotBefore(wait),
            (turn, _) => turn,
        }
    }

    /// What the end means if nothing is sent in its place.
    pub(super) const fn or_else(self) -> Turn {
        if self.running == 0 {
            Turn::Answer
        } else {
            Turn::Others
        }
    }
}
