//! The trace and the request id of the call that is being polled on this thread.
//!
//! A poll is synchronous, so a thread-local that is set around it is exact; it needs no subscriber.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use tower_chassis_core::trace::TraceContext;

thread_local! {
    /// Behind a pointer, because it changes at every poll.
    static CURRENT: Cell<Option<Box<Scope>>> = const { Cell::new(None) };
    /// Places for scopes, so that a call allocates none.
    #[allow(clippy::vec_box, reason = "the box is what is kept")]
    static FREE: RefCell<Vec<Box<Scope>>> = const { RefCell::new(Vec::new()) };
}

/// So many are kept.
const KEPT: usize = 64;

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
    look(|scope| scope.context)
}

/// The id of the request of the call that is being polled, under a layer of this module. It must have been there when
/// the call came to that layer.
#[must_use]
pub fn current_request_id() -> Option<Arc<str>> {
    look(|scope| scope.request_id.clone()).flatten()
}

/// The same with its state.
pub(super) fn here() -> Option<Scope> {
    look(Scope::clone)
}

fn look<R>(at: impl FnOnce(&Scope) -> R) -> Option<R> {
    CURRENT
        .try_with(|current| {
            let scope = current.take();
            let seen = scope.as_deref().map(at);
            current.set(scope);
            seen
        })
        .ok()
        .flatten()
}

impl Scope {
    /// In a place that was used before, if there is one.
    pub(super) fn boxed(self) -> Box<Self> {
        let free = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        match free {
            Some(mut place) => {
                *place = self;
                place
            }
            None => Box::new(self),
        }
    }

    /// Takes back the place of a scope that is over.
    pub(super) fn give(mut place: Box<Self>) {
        place.state = None;
        place.request_id = None;
        // Fails while the thread ends: then it is let go.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(place);
            }
        });
    }

    /// Runs `f` with this scope as the current one.
    #[inline]
    pub(super) fn enter<R>(mine: &mut Option<Box<Self>>, f: impl FnOnce() -> R) -> R {
        /// Here is, meanwhile, what was current outside.
        struct Entered<'a>(&'a Cell<Option<Box<Scope>>>);
        impl Drop for Entered<'_> {
            #[inline]
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

#[inline]
fn exchange(scope: &Cell<Option<Box<Scope>>>) {
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
            let scope = Scope {
                context,
                state: Some("a=b".into()),
                request_id: Some(format!("r-{n}").into()),
            };
            Some(scope.boxed())
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
        assert!(one.is_some() && two.as_ref().is_some_and(|two| two.state.is_some()));
        // A place that was given back holds nothing of the call that it was of.
        let (id, scope) = (
            two.as_ref().unwrap().request_id.clone().unwrap(),
            two.unwrap(),
        );
        assert_eq!(Arc::strong_count(&id), 2);
        Scope::give(scope);
        assert_eq!(Arc::strong_count(&id), 1);
    }
}
