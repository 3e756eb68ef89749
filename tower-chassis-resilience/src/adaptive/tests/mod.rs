mod faults;
mod model;
mod overload;
mod service;
mod share;
mod sim;

use tower_chassis_core::{Kind, Rejection, Verdict};

use super::{AdaptiveConfig, AdaptivePolicy};

fn policy(change: impl FnOnce(&mut AdaptiveConfig)) -> AdaptivePolicy {
    AdaptivePolicy::default().with(change).unwrap()
}

fn kind(error: &tower_chassis_core::BoxError) -> Option<Kind> {
    Rejection::find(&**error).map(Rejection::kind)
}

/// Any answer is a verdict here.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Answer(Verdict);

impl tower_chassis_core::verdict::Outcome for Answer {
    fn verdict(&self) -> Verdict {
        self.0
    }
}
