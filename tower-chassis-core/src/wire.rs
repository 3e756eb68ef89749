//! The wiring of a layer, once: a policy supplies [`Start`] or [`Admit`], the rest is here.
//!
//! * [`Observed`] is the service of a policy that cannot refuse; it keeps the inner error type.
//! * [`Gated`] is the service of a policy that can; its error is [`BoxError`](crate::BoxError) around a [`Rejection`], or, by
//!   [`Respond`](crate::Respond), its refusal is an answer and its error that of the inner service.
//!
//! Both obey the readiness law: the instance that was readied is the one that is called, a clone starts
//! unready, and what a call holds is given back when its future or body is dropped.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    Kind, Rejection,
    clock::{self, Entered},
    refusal::{IsGrpc, Refusal},
    settle::{Held, Observe, ResponseFuture, Settle},
};

/// A policy that watches calls and refuses none.
///
/// Also for tuples of up to four, so that observers of one position are one layer. They start in order: a
/// later one reads what an earlier one wrote into the request.
pub trait Start<Req> {
    /// What it holds for the length of a call.
    type Ticket: Observe;
    /// A call begins. May write into the request (an id, a trace context).
    fn start(&self, request: &mut Req, now: Instant) -> Self::Ticket;
    /// The same, of one that need not know the time of every call: it asks where it does. What calls it calls this.
    #[inline]
    fn start_on_entry(&self, request: &mut Req, entry: &Entered) -> Self::Ticket {
        self.start(request, entry.now())
    }
}

macro_rules! start_tuple {
    ($($name:ident $field:tt),+) => {
        impl<Req, $($name: Start<Req>),+> Start<Req> for ($($name,)+) {
            type Ticket = ($($name::Ticket,)+);
            fn start(&self, request: &mut Req, now: Instant) -> Self::Ticket {
                // Held while a later one, which may panic, starts.
                let started = ($(Held::new(self.$field.start(request, now)),)+);
                ($(started.$field.release(),)+)
            }
            fn start_on_entry(&self, request: &mut Req, entry: &Entered) -> Self::Ticket {
                let started = ($(Held::new(self.$field.start_on_entry(request, entry)),)+);
                ($(started.$field.release(),)+)
            }
        }
    };
}

start_tuple!(A 0, B 1);
start_tuple!(A 0, B 1, C 2);
start_tuple!(A 0, B 1, C 2, D 3);

/// A policy that admits calls or refuses them.
pub trait Admit<Req> {
    /// What it holds for the length of a call; dropping it unfinished gives back what it holds.
    type Ticket: Observe;

    /// Admits a call.
    ///
    /// # Errors
    /// The refusal, which becomes the error of the call. In a box: tickets are many, refusals are few, and what may be
    /// either is as large as the larger one.
    fn admit(&self, request: &mut Req, now: Instant) -> Result<Self::Ticket, Box<Rejection>>;

    /// Whether every call would be refused now, so that the inner service need not be made ready.
    /// Cheap, may be wrong in either direction for an instant.
    fn shut(&self) -> bool {
        false
    }

    /// The refusal of a call that would be admitted, but came when [`shut`](Self::shut) said otherwise: the
    /// inner service was not made ready for it. Reports it where the policy reports refusals.
    fn too_early(&self) -> Rejection {
        Rejection::new(Kind::CircuitOpen, "gate").after(Duration::ZERO)
    }
}

/// The service of a policy that cannot refuse.
#[derive(Clone, Debug)]
pub struct Observed<S, P, J> {
    inner: S,
    policy: P,
    settle: J,
}

impl<S, P, J> Observed<S, P, J> {
    /// Watches `inner` with `policy`; `settle` judges.
    pub const fn new(inner: S, policy: P, settle: J) -> Self {
        Self {
            inner,
            policy,
            settle,
        }
    }
}

impl<S, P, J, Req> Service<Req> for Observed<S, P, J>
where
    S: Service<Req>,
    P: Start<Req>,
    J: Settle<S::Response, S::Error>,
{
    type Response = J::Response<P::Ticket>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, P::Ticket, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Req) -> Self::Future {
        let entered = clock::enter();
        let ticket = self.policy.start_on_entry(&mut request, &entered);
        Held::new(ticket).call(|| self.inner.call(request), self.settle.clone())
    }
}

/// What is answered from inside, once it is judged.
type Settled<S, P, J, Req> = <J as Settle<
    <S as Service<Req>>::Response,
    <S as Service<Req>>::Error,
>>::Response<<P as Admit<Req>>::Ticket>;

/// The service of a policy that can refuse.
#[derive(Debug)]
pub struct Gated<S, P, J> {
    inner: S,
    policy: P,
    settle: J,
    /// Readiness was answered without the inner service, because the policy was shut.
    skipped: bool,
}

impl<S, P, J> Gated<S, P, J> {
    /// Guards `inner` with `policy`; `settle` judges.
    pub const fn new(inner: S, policy: P, settle: J) -> Self {
        Self {
            inner,
            policy,
            settle,
            skipped: false,
        }
    }
}

impl<S: Clone, P: Clone, J: Clone> Clone for Gated<S, P, J> {
    fn clone(&self) -> Self {
        // A clone starts unready: `skipped` is readiness.
        Self::new(self.inner.clone(), self.policy.clone(), self.settle.clone())
    }
}

impl<S, P, J, Req> Service<Req> for Gated<S, P, J>
where
    S: Service<Req>,
    P: Admit<Req>,
    J: Settle<S::Response, S::Error> + IsGrpc<Req> + Refusal<Settled<S, P, J, Req>, S::Error>,
{
    type Response = <J as Refusal<Settled<S, P, J, Req>, S::Error>>::Response;
    type Error = <J as Refusal<Settled<S, P, J, Req>, S::Error>>::Error;
    type Future = GatedFuture<S::Future, P::Ticket, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Before the inner service: a shut gate must not wait on a dead pool.
        self.skipped = self.policy.shut();
        if self.skipped {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx).map_err(J::error)
    }

    fn call(&mut self, mut request: Req) -> Self::Future {
        let skipped = std::mem::take(&mut self.skipped);
        let entered = clock::enter();
        let admitted = self.policy.admit(&mut request, entered.now());
        match admitted {
            Ok(ticket) if !skipped => GatedFuture {
                state: State::Called {
                    future: Held::new(ticket)
                        .call(|| self.inner.call(request), self.settle.clone()),
                },
            },
            // It opened between readiness and the call, but the inner service was not readied.
            Ok(ticket) => {
                drop(Held::new(ticket));
                GatedFuture::refused(Box::new(self.policy.too_early()), J::is_grpc(&request))
            }
            Err(rejection) => GatedFuture::refused(rejection, J::is_grpc(&request)),
        }
    }
}

impl<F, G: Observe, J> GatedFuture<F, G, J> {
    #[cold]
    const fn refused(rejection: Box<Rejection>, grpc: bool) -> Self {
        Self {
            state: State::Refused {
                rejection: Some(rejection),
                grpc,
            },
        }
    }
}

impl<T: Observe> Held<T> {
    /// Calls the inner service. The ticket is told when that panics.
    #[inline]
    fn call<F, J>(mut self, call: impl FnOnce() -> F, settle: J) -> ResponseFuture<F, T, J> {
        let future = self.run(call);
        ResponseFuture::holding(future, self, settle)
    }
}

pin_project! {
    /// The future of [`Gated`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct GatedFuture<F, G, J>
    where
        G: Observe,
    {
        #[pin]
        state: State<F, G, J>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F, G, J>
    where
        G: Observe,
    {
        Called { #[pin] future: ResponseFuture<F, G, J> },
        Refused { rejection: Option<Box<Rejection>>, grpc: bool },
    }
}

impl<F, G, J, Res, Err> Future for GatedFuture<F, G, J>
where
    F: Future<Output = Result<Res, Err>>,
    G: Observe,
    J: Settle<Res, Err> + Refusal<<J as Settle<Res, Err>>::Response<G>, Err>,
{
    type Output = Result<
        <J as Refusal<<J as Settle<Res, Err>>::Response<G>, Err>>::Response,
        <J as Refusal<<J as Settle<Res, Err>>::Response<G>, Err>>::Error,
    >;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready(match this.state.project() {
            StateProj::Called { future } => match ready!(future.poll(cx)) {
                Ok(response) => Ok(J::response(response)),
                Err(error) => Err(J::error(error)),
            },
            StateProj::Refused { rejection, grpc } => match rejection.take() {
                Some(rejection) => J::refused(*rejection, *grpc),
                None => return Poll::Pending,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
    };

    use super::*;
    use crate::{Verdict, settle::UntilHead, verdict::OkIsSuccess};

    #[derive(Clone, Default)]
    struct Failures(Arc<AtomicU32>);
    impl<Req> Start<Req> for Failures {
        type Ticket = Self;
        fn start(&self, _: &mut Req, _: Instant) -> Self {
            self.clone()
        }
    }
    impl Observe for Failures {
        fn done(self, verdict: Verdict, _: Instant) {
            self.0
                .fetch_add(u32::from(verdict.is_failure()), Ordering::Relaxed);
        }
    }

    struct Panics;
    impl Service<()> for Panics {
        type Response = ();
        type Error = Infallible;
        type Future = std::future::Ready<Result<(), Infallible>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, (): ()) -> Self::Future {
            panic!("planted")
        }
    }

    #[test]
    fn a_call_that_panics_before_it_has_a_future_is_a_failure() {
        let failures = Failures::default();
        let mut service = Observed::new(Panics, failures.clone(), UntilHead::new(OkIsSuccess));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(service.call(())))).is_err());
        assert_eq!(failures.0.load(Ordering::Relaxed), 1);
    }
}
