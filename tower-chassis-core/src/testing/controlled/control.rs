use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use bytes::Bytes;

use super::Plan;

/// Directs a [`ControlledService`](super::ControlledService) and its clones, and counts. Clones are the same.
#[derive(Clone)]
pub struct Control(Arc<Mutex<State>>);

/// What a [`Control`] has counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Instances of the service that are alive.
    pub instances: usize,
    /// Instances that are ready and were not called yet.
    pub reserved: usize,
    /// Times that readiness was asked for.
    pub ready_polls: usize,
    /// Times that it was granted.
    pub grants: usize,
    /// Calls, whatever became of them.
    pub calls: usize,
    /// Calls whose future is neither over nor dropped.
    pub in_flight: usize,
    /// The most that were in flight at once.
    pub peak: usize,
    /// Bodies of responses that are neither read to the end nor dropped.
    pub bodies: usize,
    /// Calls of an instance that was not ready.
    pub unready_calls: usize,
    /// Polls of a future that was over.
    pub polls_after_end: usize,
}

/// What readiness does once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ReadyFault {
    Error,
    Panic,
}

pub(super) struct State {
    pub(super) counts: Counts,
    pub(super) closed: bool,
    pub(super) slots: Option<usize>,
    pub(super) ready_fault: Option<ReadyFault>,
    /// By instance: who waits for readiness.
    pub(super) waiting: BTreeMap<u64, Waker>,
    /// By call, in their order.
    pub(super) calls: BTreeMap<u64, InFlight>,
    pub(super) next: VecDeque<Plan>,
    pub(super) plan: Plan,
    pub(super) frames: Vec<Bytes>,
    pub(super) trailers: bool,
    /// Bodies stop before this frame.
    pub(super) body_held: Option<usize>,
    pub(super) body_breaks: Option<usize>,
    pub(super) body_wakers: Vec<Waker>,
    pub(super) last_id: u64,
}

#[derive(Default)]
pub(super) struct InFlight {
    pub(super) waker: Option<Waker>,
    pub(super) released: bool,
}

impl State {
    pub(super) fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A slot is one instance that is ready, or one call in flight.
    pub(super) fn is_full(&self) -> bool {
        self.slots
            .is_some_and(|slots| self.counts.reserved + self.counts.in_flight >= slots)
    }

    /// Everybody who waits for readiness: a slot came free, or the door opened.
    pub(super) fn ready_wakers(&mut self) -> Vec<Waker> {
        if self.closed || self.is_full() {
            return Vec::new();
        }
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    fn call_wakers(&mut self) -> Vec<Waker> {
        self.calls
            .values_mut()
            .filter_map(|call| call.waker.take())
            .collect()
    }
}

impl Default for Control {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            counts: Counts::default(),
            closed: false,
            slots: None,
            ready_fault: None,
            waiting: BTreeMap::new(),
            calls: BTreeMap::new(),
            next: VecDeque::new(),
            plan: Plan::answer(),
            frames: vec![Bytes::from_static(b"one "), Bytes::from_static(b"two")],
            trailers: false,
            body_held: None,
            body_breaks: None,
            body_wakers: Vec::new(),
            last_id: 0,
        })))
    }
}

impl Control {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes outside of the lock.
    pub(super) fn change(&self, change: impl FnOnce(&mut State) -> Vec<Waker>) {
        let wakers = change(&mut self.lock());
        for waker in wakers {
            waker.wake();
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Calls from now on do `plan`.
    pub fn plan(&self, plan: Plan) {
        self.lock().plan = plan;
    }

    /// The next call does `plan`, once; given several times, the calls after it do theirs in that order.
    pub fn next(&self, plan: Plan) {
        self.lock().next.push_back(plan);
    }

    pub(super) fn take_plan(&self) -> Plan {
        let mut state = self.lock();
        state.next.pop_front().unwrap_or(state.plan)
    }

    /// Readiness is pending until [`open`](Self::open). Instances that are ready stay so.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// Readiness is granted again; who waited for it is woken.
    pub fn open(&self) {
        self.change(|state| {
            state.closed = false;
            state.ready_wakers()
        });
    }

    /// At most `slots` instances are ready or in a call at once; the next is pending until a slot is free.
    /// A slot comes back when the instance is dropped unused, and when its call is over or dropped.
    pub fn slots(&self, slots: usize) {
        self.change(|state| {
            state.slots = Some(slots);
            state.ready_wakers()
        });
    }

    /// The next `poll_ready` fails with a [`Marked`](super::Marked) error.
    pub fn fail_ready(&self) {
        self.set_ready_fault(ReadyFault::Error);
    }

    /// The next `poll_ready` panics.
    pub fn panic_ready(&self) {
        self.set_ready_fault(ReadyFault::Panic);
    }

    fn set_ready_fault(&self, fault: ReadyFault) {
        self.change(|state| {
            state.ready_fault = Some(fault);
            std::mem::take(&mut state.waiting).into_values().collect()
        });
    }

    /// Wakes every call in flight, which lets those go on that are pending for a number of polls.
    pub fn nudge(&self) {
        self.change(State::call_wakers);
    }

    /// Releases the calls that are held now.
    pub fn release(&self) {
        self.change(|state| {
            for call in state.calls.values_mut() {
                call.released = true;
            }
            state.call_wakers()
        });
    }

    /// Releases the oldest of the held calls.
    pub fn release_one(&self) {
        self.change(|state| {
            let call = state.calls.values_mut().find(|call| !call.released);
            call.and_then(|call| {
                call.released = true;
                call.waker.take()
            })
            .into_iter()
            .collect()
        });
    }

    /// Bodies of responses have these frames. Default: `one ` and `two`.
    pub fn frames(&self, frames: impl IntoIterator<Item = impl Into<Bytes>>) {
        self.lock().frames = frames.into_iter().map(Into::into).collect();
    }

    /// Bodies of responses end with the trailer `x-trailer: last`. Default: they do not.
    pub fn trailers(&self, trailers: bool) {
        self.lock().trailers = trailers;
    }

    /// Bodies of responses are pending before frame `index`, until [`release_bodies`](Self::release_bodies).
    pub fn hold_bodies(&self, index: usize) {
        self.lock().body_held = Some(index);
    }

    /// Bodies of responses fail in the place of frame `index`.
    pub fn break_bodies(&self, index: usize) {
        self.lock().body_breaks = Some(index);
    }

    /// Bodies go on.
    pub fn release_bodies(&self) {
        self.change(|state| {
            state.body_held = None;
            std::mem::take(&mut state.body_wakers)
        });
    }

    /// Whether a body must wait before frame `index`; if so it will be woken.
    pub(super) fn holds_body(&self, index: usize, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        let held = state.body_held == Some(index);
        if held {
            state.body_wakers.push(cx.waker().clone());
        }
        held
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Control").field(&self.counts()).finish()
    }
}
