use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    thread,
};

use super::Flaw;

/// So many permits, and who waits for one.
pub(super) struct Permits {
    state: Mutex<State>,
    /// All that are taken of a layer, whichever of its services took them.
    in_use: Arc<AtomicUsize>,
    last: AtomicU64,
    changed: Condvar,
    limit: usize,
    flaw: Option<Flaw>,
}

struct State {
    free: usize,
    waiting: VecDeque<(u64, Waker)>,
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Permits {
    pub(super) fn new(limit: usize, flaw: Option<Flaw>) -> Arc<Self> {
        Self::sharing(limit, flaw, Arc::default())
    }

    /// The same limit again, counted together.
    pub(super) fn private(&self) -> Arc<Self> {
        Self::sharing(self.limit, self.flaw, Arc::clone(&self.in_use))
    }

    fn sharing(limit: usize, flaw: Option<Flaw>, in_use: Arc<AtomicUsize>) -> Arc<Self> {
        let free = if flaw == Some(Flaw::OneLess) {
            limit.saturating_sub(1)
        } else {
            limit
        };
        Arc::new(Self {
            state: Mutex::new(State {
                free,
                waiting: VecDeque::new(),
            }),
            in_use,
            last: AtomicU64::new(0),
            changed: Condvar::new(),
            limit,
            flaw,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names one that may wait.
    pub(super) fn name(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn in_use(&self) -> usize {
        let mut state = self.lock();
        while self.flaw == Some(Flaw::BlockingHandle) && self.in_use.load(Ordering::Relaxed) > 0 {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        self.in_use.load(Ordering::Relaxed)
    }

    /// Whether there is one now.
    pub(super) fn any(&self) -> bool {
        self.lock().free > 0
    }

    /// Takes one, or remembers who asked.
    pub(super) fn take(self: &Arc<Self>, name: u64, cx: &Context<'_>) -> Option<Permit> {
        let mut state = self.lock();
        if state.free > 0 {
            state.waiting.retain(|(other, _)| *other != name);
            state.free -= 1;
            drop(state);
            return Some(self.permit());
        }
        match self.flaw {
            Some(Flaw::Spins) => cx.waker().wake_by_ref(),
            Some(Flaw::OneWaker) => {
                state.waiting.clear();
                state.waiting.push_back((name, cx.waker().clone()));
            }
            Some(Flaw::FirstPlace) if state.waiting.iter().any(|(other, _)| *other == name) => {}
            _ => match state.waiting.iter_mut().find(|(other, _)| *other == name) {
                Some((_, waker)) => waker.clone_from(cx.waker()),
                None => state.waiting.push_back((name, cx.waker().clone())),
            },
        }
        None
    }

    /// Takes one that may not be there.
    pub(super) fn take_anyway(self: &Arc<Self>) -> Permit {
        let mut state = self.lock();
        state.free = state.free.saturating_sub(1);
        drop(state);
        self.permit()
    }

    fn permit(self: &Arc<Self>) -> Permit {
        self.in_use.fetch_add(1, Ordering::Relaxed);
        Permit(Some(Arc::clone(self)))
    }

    /// One that waited has gone.
    pub(super) fn forget(&self, name: u64) {
        if self.flaw != Some(Flaw::WakesTheGone) {
            self.lock().waiting.retain(|(other, _)| *other != name);
        }
    }

    fn give_back(&self) {
        self.in_use.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.lock();
        state.free = (state.free + 1).min(self.limit);
        let woken = if self.flaw == Some(Flaw::WakesTheGone) {
            state.waiting.pop_front().into_iter().collect()
        } else {
            // All, and they race: one that has gone takes no wakeup with it.
            std::mem::take(&mut state.waiting)
        };
        drop(state);
        self.changed.notify_all();
        for (_, waker) in woken {
            waker.wake();
        }
    }
}

/// The right to be in the inner service; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit(Option<Arc<Permits>>);

impl Permit {
    /// Never gives it back.
    pub(super) fn leak(&mut self) {
        self.0 = None;
    }

    pub(super) fn permits(&self) -> Option<Arc<Permits>> {
        self.0.clone()
    }

    /// The permit of one that was leaked.
    pub(super) const fn again(permits: Option<Arc<Permits>>) -> Self {
        Self(permits)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(permits) = self.0.take() {
            let leaks = permits.flaw == Some(Flaw::LeaksOnPanic) && thread::panicking();
            if !leaks {
                permits.give_back();
            }
        }
    }
}
