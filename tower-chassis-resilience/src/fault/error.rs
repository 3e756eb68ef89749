use std::{error::Error, fmt, sync::Arc};

use tower_chassis_core::{BoxError, Kind, Rejection, Verdict, verdict::Judged};

/// What is in the error of a fault: which rule it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InjectedFault {
    rule: Arc<str>,
}

impl InjectedFault {
    /// The injected fault in an error's chain of sources, if there is one.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            let wrapped = error.downcast_ref().and_then(std::io::Error::get_ref);
            next = match wrapped {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        None
    }

    /// The rule.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// The error of a fault that plays what `verdict` says.
    pub(super) fn error(rule: &Arc<str>, verdict: Verdict) -> BoxError {
        Judged::new(verdict, Self::rejection(rule, Kind::Injected)).into()
    }

    pub(super) fn rejection(rule: &Arc<str>, kind: Kind) -> Rejection {
        let rule = Arc::clone(rule);
        Rejection::new(kind, "fault").because(Self { rule })
    }
}

impl fmt::Display for InjectedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "injected by the rule `{}`", self.rule)
    }
}

impl Error for InjectedFault {}
