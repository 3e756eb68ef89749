//! Why a call in flight is being dropped.
//!
//! A future that is dropped cannot be told why: a client that left and a timeout that fired look the same
//! to the breaker below, and a breaker that cannot tell them apart never opens on an upstream that accepts
//! and stays silent. So who drops a call for a reason of its own does it inside [`drop_with`]; the guards
//! that fall in that span read [`current`]. The drop is synchronous, so a thread-local is exact, and it is
//! read only when a call is cut short.

use std::cell::Cell;

use crate::Verdict;

thread_local! {
    static CAUSE: Cell<Option<Verdict>> = const { Cell::new(None) };
}

/// Runs `drop`, during which every guard that ends unfinished is judged `verdict` and not cancelled.
pub fn drop_with<R>(verdict: Verdict, drop: impl FnOnce() -> R) -> R {
    struct Restore(Option<Verdict>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CAUSE.set(self.0);
        }
    }
    let _restore = Restore(CAUSE.replace(Some(verdict)));
    drop()
}

/// The verdict that the drop now running was given, if any.
#[must_use]
pub fn current() -> Option<Verdict> {
    CAUSE.get()
}

/// The verdict on a call whose future is dropped before it ended.
#[must_use]
pub fn of_drop() -> Verdict {
    current().unwrap_or(Verdict::CANCELLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_lasts_for_its_drop_only() {
        assert_eq!(of_drop(), Verdict::CANCELLED);
        drop_with(Verdict::TIMEOUT, || {
            assert_eq!(of_drop(), Verdict::TIMEOUT);
            drop_with(Verdict::CANCELLED, || {
                assert_eq!(of_drop(), Verdict::CANCELLED)
            });
            assert_eq!(of_drop(), Verdict::TIMEOUT);
        });
        assert_eq!(of_drop(), Verdict::CANCELLED);
    }
}
