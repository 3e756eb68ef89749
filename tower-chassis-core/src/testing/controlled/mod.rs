//! An inner service that does what a test says.

mod body;
mod control;
mod plan;

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    panic::resume_unwind,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Response;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

pub use self::{
    control::{Control, Counts},
    plan::{Marked, Plan},
};
use self::{
    control::{InFlight, ReadyFault},
    plan::{End, Wait},
};
use crate::{Body, BoxError};

/// An inner service for tests, directed through its [`Control`]. For every request.
///
/// Clones share the control; each has a readiness of its own. A call of an instance that is not ready is
/// counted ([`Counts::unready_calls`]) and served, so that the test can say what is wrong.
///
/// ```
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_chassis_core::{BoxError, testing::{ControlledService, Plan}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let inner = ControlledService::new();
/// let control = inner.control();
/// control.next(Plan::error());
/// assert!(inner.clone().oneshot(Request::new(())).await.is_err());
/// assert_eq!(inner.oneshot(Request::new(())).await?.status(), 200);
/// assert_eq!(control.counts().calls, 2);
/// # Ok(())
/// # }
/// ```
pub struct ControlledService<Res = Response<Body>, E = BoxError> {
    control: Control,
    answer: Arc<dyn Fn(&Control) -> Res + Send + Sync>,
    id: u64,
    ready: bool,
    error: PhantomData<fn() -> E>,
}

impl ControlledService {
    /// Answers 200 with a body of two frames, which the [`Control`] can stop, break and change.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Arc::new(|control: &Control| {
            Response::new(Body::new(body::ControlledBody::new(control.clone())))
        }))
    }
}

impl Default for ControlledService {
    fn default() -> Self {
        Self::new()
    }
}

impl<Res, E> ControlledService<Res, E> {
    /// Answers what `answer` makes.
    pub fn answering(answer: impl Fn() -> Res + Send + Sync + 'static) -> Self {
        Self::with(Arc::new(move |_: &Control| answer()))
    }

    fn with(answer: Arc<dyn Fn(&Control) -> Res + Send + Sync>) -> Self {
        Self::instance(Control::default(), answer)
    }

    fn instance(control: Control, answer: Arc<dyn Fn(&Control) -> Res + Send + Sync>) -> Self {
        let id = {
            let mut state = control.lock();
            state.counts.instances += 1;
            state.id()
        };
        Self {
            control,
            answer,
            id,
            ready: false,
            error: PhantomData,
        }
    }

    /// Directs this service and its clones.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Whether this instance was ready; it is not any more.
    fn unready(&mut self) -> bool {
        let ready = std::mem::take(&mut self.ready);
        if ready {
            self.control.lock().counts.reserved -= 1;
        }
        ready
    }
}

impl<Res, E> Clone for ControlledService<Res, E> {
    fn clone(&self) -> Self {
        Self::instance(self.control.clone(), Arc::clone(&self.answer))
    }
}

impl<Res, E> Drop for ControlledService<Res, E> {
    fn drop(&mut self) {
        self.unready();
        self.control.change(|state| {
            state.counts.instances -= 1;
            state.waiting.remove(&self.id);
            state.ready_wakers()
        });
    }
}

impl<Res, E> fmt::Debug for ControlledService<Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlledService")
            .field("ready", &self.ready)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

fn planted_panic() -> ! {
    // Without the hook, which would print a trace for a panic that is part of the test.
    resume_unwind(Box::new("planted panic"))
}

impl<Res, E, Req> Service<Req> for ControlledService<Res, E>
where
    E: From<Marked>,
{
    type Response = Res;
    type Error = E;
    type Future = ControlledFuture<Res, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        let fault = {
            let mut state = self.control.lock();
            state.counts.ready_polls += 1;
            state.ready_fault.take()
        };
        if fault.is_some() {
            self.unready();
            self.control.change(control::State::ready_wakers);
        }
        match fault {
            Some(ReadyFault::Error) => return Poll::Ready(Err(Marked { call: 0 }.into())),
            Some(ReadyFault::Panic) => planted_panic(),
            None => {}
        }
        if self.ready {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.control.lock();
        if state.closed || state.is_full() {
            state.waiting.insert(self.id, cx.waker().clone());
            return Poll::Pending;
        }
        state.waiting.remove(&self.id);
        state.counts.reserved += 1;
        state.counts.grants += 1;
        drop(state);
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        let was_ready = self.unready();
        let plan = self.control.take_plan();
        let (id, number) = {
            let mut state = self.control.lock();
            state.counts.unready_calls += usize::from(!was_ready);
            state.counts.calls += 1;
            state.counts.in_flight += 1;
            state.counts.peak = state.counts.peak.max(state.counts.in_flight);
            let id = state.id();
            state.calls.insert(id, InFlight::default());
            (id, state.counts.calls)
        };
        let future = ControlledFuture {
            control: self.control.clone(),
            answer: Arc::clone(&self.answer),
            id,
            number,
            plan,
            sleep: None,
            over: false,
            error: PhantomData,
        };
        if plan.end == End::PanicInCall {
            planted_panic();
        }
        future
    }
}

/// The future of [`ControlledService`].
#[must_use = "futures do nothing unless polled"]
pub struct ControlledFuture<Res, E> {
    control: Control,
    answer: Arc<dyn Fn(&Control) -> Res + Send + Sync>,
    id: u64,
    number: usize,
    plan: Plan,
    sleep: Option<Pin<Box<Sleep>>>,
    over: bool,
    error: PhantomData<fn() -> E>,
}

impl<Res, E> fmt::Debug for ControlledFuture<Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlledFuture")
            .field("plan", &self.plan)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

impl<Res, E> ControlledFuture<Res, E> {
    fn end(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.control.change(|state| {
                state.counts.in_flight -= 1;
                state.calls.remove(&self.id);
                state.ready_wakers()
            });
        }
    }

    /// Whether the wait is over; if not, it will be woken, or nudged.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.plan.wait {
            Wait::Time(time) => {
                let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(*time)));
                return sleep.as_mut().poll(cx).is_ready();
            }
            Wait::Polls(0) => return true,
            Wait::Polls(left) => *left -= 1,
            Wait::Released => {}
        }
        let mut state = self.control.lock();
        let Some(call) = state.calls.get_mut(&self.id) else {
            return true;
        };
        if call.released && self.plan.wait == Wait::Released {
            return true;
        }
        call.waker = Some(cx.waker().clone());
        false
    }
}

impl<Res, E> Drop for ControlledFuture<Res, E> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<Res, E: From<Marked>> Future for ControlledFuture<Res, E> {
    type Output = Result<Res, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.over {
            self.control.lock().counts.polls_after_end += 1;
            return Poll::Pending;
        }
        if !self.poll_wait(cx) {
            return Poll::Pending;
        }
        let call = self.number;
        self.end();
        match self.plan.end {
            End::Answer => Poll::Ready(Ok((self.answer)(&self.control))),
            End::Error => Poll::Ready(Err(Marked { call }.into())),
            End::Panic | End::PanicInCall => planted_panic(),
        }
    }
}
