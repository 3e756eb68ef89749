use std::{error::Error, fmt};

use tower_chassis_core::Quota;

/// The cause of a refusal that no wait can change: the call costs more than is ever allowed at once.
///
/// The [`Rejection`](tower_chassis_core::Rejection) around it says of no time when to come again.
#[derive(Debug)]
pub struct TooCostly {
    pub(super) cost: u32,
    pub(super) most: u32,
    pub(super) quota: Option<Quota>,
}

impl TooCostly {
    /// What the call costs.
    #[must_use]
    pub const fn cost(&self) -> u32 {
        self.cost
    }

    /// The most that a call may cost: the burst, or the limit of a sliding window.
    #[must_use]
    pub const fn most(&self) -> u32 {
        self.most
    }

    /// The one in an error's chain of sources, if there is one.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for TooCostly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cost, most, .. } = self;
        write!(f, "costs {cost}, and {most} is the most at once")
    }
}

impl Error for TooCostly {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.quota.as_ref().map(|quota| quota as _)
    }
}
