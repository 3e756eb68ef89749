//! The trace and the request id of the call that is being polled on this thread.
//!
//! A poll is synchronous, so a thread-local that is set around it is exact; it needs no subscriber.

use std::{cell::Cell, sync::Arc};

use tower_chassis_core::trace::TraceContext;

thread_local! {
    static CURRENT: Cell<Option<Scope>> = const { Cell::new(None) };
}

/// A trace, and what is passed on with it.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) context: TraceContext,
    pub(super) state: Option<Arc<str>>,
    pub(super) request_id: Option<Arc<str>>,
}

/// The trace and span of the call that is being polled, under a layer of this module.
#[must_use]
pub fn current() -> Option<TraceContext> {
    here().map(|scope| scope.context)
}

/// The id of the request of the call that is being polled, under a layer of this module. It must have been there when
/// the call came to that layer.
#[must_use]
pub fn current_request_id() -> Option<Arc<str>> {
    here().and_then(|scope| scope.request_id)
}

/// The same with its state.
pub(super) fn here() -> Option<Scope> {
    CURRENT
        .try_with(|current| {
            let scope = current.take();
            current.set(scope.clone());
            scope
        })
        .ok()
        .flatten()
}

impl Scope {
    /// Runs `f` with this scope as the current one.
    pub(super) fn enter<R>(mine: &mut Option<Self>, f: impl FnOnce() -> R) -> R {
        /// Here is, meanwhile, what was current outside.
        struct Entered<'a>(&'a Cell<Option<Scope>>);
        impl Drop for Entered<'_> {
            fn drop(&mut self) {
                exchange(self.0);
            }
        }
        let mine = Cell::from_mut(mine);
        exchange(mine);
        let _entered = Entered(mine);
        f()
    }
}

/// In place: a scope is too large to be handed to and fro.
fn exchange(scope: &Cell<Option<Scope>>) {
    // Fails while the thread ends: then there is no current one, and nobody to ask for it.
    let _ = CURRENT.try_with(|current| current.swap(scope));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_nest_and_come_back_after_a_panic() {
        let scope = |n: u8| {
            let context = TraceContext::new([n; 16], [n; 8], true).unwrap();
            Some(Scope {
                context,
                state: Some("a=b".into()),
                request_id: Some(format!("r-{n}").into()),
            })
        };
        let id = || current().map(|context| context.span_id().to_bytes()[0]);
        let (mut one, mut two) = (scope(1), scope(2));
        Scope::enter(&mut one, || {
            assert_eq!(id(), Some(1));
            Scope::enter(&mut two, || {
                assert_eq!(id(), Some(2));
                assert_eq!(current_request_id().as_deref(), Some("r-2"));
            });
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                Scope::enter(&mut two, || panic!("planted"));
            }));
            assert!(panicked.is_err());
            assert_eq!(id(), Some(1));
        });
        assert_eq!(id(), None);
        assert!(one.is_some() && two.is_some_and(|two| two.state.is_some()));
    }
}
