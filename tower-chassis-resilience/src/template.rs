//! The service that a layer makes clones of: for a second attempt, a hedge, a fallback.

use std::{
    fmt, mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// Never readied and never called, and cloned when a call needs one of its own.
///
/// Behind a lock so that `S` need not be `Sync`, but taken out of it to be cloned: that is foreign code, which may do
/// anything. Who comes meanwhile waits as for a service that is not ready.
pub(crate) struct Template<S>(Mutex<Slot<S>>);

struct Slot<S> {
    /// None while somebody makes a clone.
    service: Option<S>,
    waiting: Vec<Waker>,
}

impl<S> Template<S> {
    pub(crate) const fn new(service: S) -> Self {
        Self(Mutex::new(Slot {
            service: Some(service),
            waiting: Vec::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Slot<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Out<'_, S>> {
        let service = self.lock().service.take()?;
        Some(self.out(service))
    }

    const fn out(&self, service: S) -> Out<'_, S> {
        Out {
            template: self,
            service: Some(service),
        }
    }

    /// The same for who is to be woken when it is there again.
    fn take_or_wait(&self, cx: &Context<'_>) -> Option<Out<'_, S>> {
        // Made and dropped outside of the lock: a waker is foreign code too.
        let waker = cx.waker().clone();
        let mut slot = self.lock();
        if let Some(service) = slot.service.take() {
            return Some(self.out(service));
        }
        if !slot.waiting.iter().any(|other| other.will_wake(&waker)) {
            slot.waiting.push(waker);
        }
        None
    }
}

impl<S: Clone> Template<S> {
    /// A clone, as soon as nobody else makes one.
    pub(crate) fn poll_clone(&self, cx: &Context<'_>) -> Poll<S> {
        let out = self.take().or_else(|| self.take_or_wait(cx));
        out.and_then(|out| out.service.clone())
            .map_or(Poll::Pending, Poll::Ready)
    }
}

/// The service while it is cloned. It goes back when that is done, or has panicked.
struct Out<'a, S> {
    template: &'a Template<S>,
    service: Option<S>,
}

impl<S> Drop for Out<'_, S> {
    fn drop(&mut self) {
        let waiting = {
            let mut slot = self.template.lock();
            slot.service = self.service.take();
            mem::take(&mut slot.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }
}

impl<S> fmt::Debug for Template<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::Wake,
        thread,
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// What is done while a clone is made.
    struct Calls<F>(Arc<F>);
    impl<F: Fn()> Clone for Calls<F> {
        fn clone(&self) -> Self {
            (self.0)();
            Self(Arc::clone(&self.0))
        }
    }

    type Any = Calls<Box<dyn Fn() + Send + Sync>>;

    fn template(then: impl Fn(&Template<Any>) + Send + Sync + 'static) -> Arc<Template<Any>> {
        Arc::new_cyclic(|weak: &std::sync::Weak<Template<Any>>| {
            let weak = weak.clone();
            let then = move || then(&weak.upgrade().unwrap());
            Template::new(Calls(Arc::new(Box::new(then) as _)))
        })
    }

    #[test]
    fn who_wants_one_while_one_is_made_is_woken_once_it_is() {
        let woken = Arc::new(Woken::default());
        let other = Arc::clone(&woken);
        let made = template(move |template| {
            let waker = Arc::clone(&other).into();
            let cx = Context::from_waker(&waker);
            let before = other.0.load(Relaxed);
            // Twice by the same task, which is woken once.
            assert!(template.poll_clone(&cx).is_pending());
            assert!(template.poll_clone(&cx).is_pending());
            assert_eq!(other.0.load(Relaxed), before);
        });
        let cx = Context::from_waker(Waker::noop());
        for times in 1..3 {
            assert!(made.poll_clone(&cx).is_ready());
            assert_eq!(woken.0.load(Relaxed), times);
        }
        assert!(made.lock().waiting.is_empty());
    }

    #[test]
    fn a_clone_that_panics_leaves_the_template_where_it_was() {
        let calls = AtomicUsize::new(0);
        let made = template(move |_| assert!(calls.fetch_add(1, Relaxed) > 0, "planted"));
        let cx = Context::from_waker(Waker::noop());
        assert!(catch_unwind(AssertUnwindSafe(|| made.poll_clone(&cx))).is_err());
        assert!(made.poll_clone(&cx).is_ready());
    }

    #[test]
    fn many_threads_all_get_one() {
        let within = AtomicUsize::new(0);
        let made = template(move |_| {
            assert_eq!(within.fetch_add(1, Relaxed), 0, "one at a time");
            thread::yield_now();
            within.fetch_sub(1, Relaxed);
        });
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build();
                    runtime.unwrap().block_on(async {
                        for _ in 0..500 {
                            std::future::poll_fn(|cx| made.poll_clone(cx)).await;
                        }
                    });
                });
            }
        });
    }
}
