use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::{Instant, Sleep, sleep_until},
};
use tower_chassis_core::{BoxError, Deadline, Kind, clock};
use tower_service::Service;

use super::{
    error::InjectedFault,
    kinds::{Abort, BodyPlan},
    protocol::{Mark, Protocol},
};

pin_project! {
    /// The future of [`Fault`](super::Fault). As small as the inner one, but for a word: what a call under a fault
    /// needs is in a box.
    #[must_use = "futures do nothing unless polled"]
    pub struct FaultFuture<S, Req, P>
    where
        S: Service<Req>,
    {
        #[pin]
        repr: Repr<S, S::Future, Req>,
        protocol: PhantomData<fn() -> P>,
    }
}

pin_project! {
    #[project = ReprProj]
    enum Repr<S, F, Req> {
        Alone { #[pin] inner: F },
        Faulted { faulted: Pin<Box<Faulted<S, F, Req>>> },
    }
}

pin_project! {
    /// A call under a fault.
    pub(super) struct Faulted<S, F, Req> {
        #[pin]
        step: Step<F>,
        // The service that was readied, until it is called.
        call: Option<(S, Req)>,
        abort: Option<Abort>,
        deadline: Option<Deadline>,
        // After all that: what it stands for is let go first.
        mark: Option<Mark>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F> {
        /// Until `end`, the deadline, or the end of all faults.
        Waiting {
            #[pin]
            killed: OwnedNotified,
            end: Option<Instant>,
            #[pin]
            sleep: Option<Sleep>,
        },
        /// The wait is over.
        Waited,
        Calling { #[pin] inner: F },
        Over,
    }
}

impl<S: Service<Req>, Req, P> FaultFuture<S, Req, P> {
    pub(super) const fn alone(inner: S::Future) -> Self {
        Self {
            repr: Repr::Alone { inner },
            protocol: PhantomData,
        }
    }

    pub(super) fn faulted(faulted: Faulted<S, S::Future, Req>) -> Self {
        Self {
            repr: Repr::Faulted {
                faulted: Box::pin(faulted),
            },
            protocol: PhantomData,
        }
    }
}

impl<S, F, Req> Faulted<S, F, Req> {
    /// Waits until `end`, or for ever, and then fails or makes the call.
    pub(super) fn waiting(
        (service, request): (S, Req),
        end: Option<Instant>,
        abort: Option<Abort>,
        deadline: Option<Deadline>,
        mark: Mark,
        killed: &Arc<Notify>,
    ) -> Self {
        Self {
            step: Step::Waiting {
                killed: Arc::clone(killed).notified_owned(),
                end,
                sleep: None,
            },
            call: Some((service, request)),
            abort,
            deadline,
            mark: Some(mark),
        }
    }

    pub(super) const fn failing(abort: Abort, mark: Mark) -> Self {
        Self {
            step: Step::Waited,
            call: None,
            abort: Some(abort),
            deadline: None,
            mark: Some(mark),
        }
    }

    pub(super) const fn calling(inner: F, mark: Mark) -> Self {
        Self {
            step: Step::Calling { inner },
            call: None,
            abort: None,
            deadline: None,
            mark: Some(mark),
        }
    }
}

impl<S, Req> Faulted<S, S::Future, Req>
where
    S: Service<Req>,
{
    fn poll<P>(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<P::Response, BoxError>>
    where
        P: Protocol<Req, S::Response, S::Error>,
    {
        let mut this = self.project();
        loop {
            let Some(mark) = this.mark.as_mut() else {
                // Polled after it was over.
                return Poll::Pending;
            };
            match this.step.as_mut().project() {
                StepProj::Waiting {
                    killed,
                    end,
                    mut sleep,
                } => {
                    if !mark.is_killed() {
                        let deadline = this.deadline.map(Deadline::instant);
                        // Both, either or none.
                        let until = end.map_or(deadline, |end| {
                            Some(deadline.map_or(end, |deadline| deadline.min(end)))
                        });
                        if let Some(until) = until {
                            if sleep.is_none() {
                                sleep.set(Some(sleep_until(until)));
                            }
                            if let Some(sleep) = sleep.as_pin_mut()
                                && sleep.poll(cx).is_ready()
                            {
                                if deadline.is_none_or(|deadline| deadline > until) {
                                    this.step.set(Step::Waited);
                                    continue;
                                }
                                this.step.set(Step::Over);
                                *this.call = None;
                                let Some(mark) = this.mark.take() else {
                                    return Poll::Pending;
                                };
                                let late = InjectedFault::rejection(&mark.rule, Kind::Timeout);
                                return Poll::Ready(P::failed(late.into(), mark));
                            }
                        }
                        ready!(killed.poll(cx));
                    }
                    // All faults were ended: the call is made as if there had been none.
                    *this.abort = None;
                    mark.body = BodyPlan::default();
                    this.step.set(Step::Waited);
                }
                StepProj::Waited => {
                    if let Some(abort) = this.abort.take() {
                        this.step.set(Step::Over);
                        *this.call = None;
                        let Some(mark) = this.mark.take() else {
                            return Poll::Pending;
                        };
                        let error = InjectedFault::error(&mark.rule, abort.verdict());
                        return Poll::Ready(match abort {
                            Abort::Reset => Err(error),
                            _ => P::failed(error, mark),
                        });
                    }
                    let Some((mut service, request)) = this.call.take() else {
                        return Poll::Pending;
                    };
                    if mark.body.is_none() {
                        mark.active = None;
                    }
                    let inner = clock::entered(|_| service.call(request));
                    this.step.set(Step::Calling { inner });
                }
                StepProj::Calling { inner } => {
                    let result = ready!(inner.poll(cx));
                    this.step.set(Step::Over);
                    let Some(mark) = this.mark.take() else {
                        return Poll::Pending;
                    };
                    return Poll::Ready(match result {
                        Ok(response) => Ok(P::faulted(response, mark)),
                        Err(error) => Err(P::error(error)),
                    });
                }
                StepProj::Over => return Poll::Pending,
            }
        }
    }
}

impl<S, Req, P> Future for FaultFuture<S, Req, P>
where
    S: Service<Req>,
    P: Protocol<Req, S::Response, S::Error>,
{
    type Output = Result<P::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().repr.project() {
            ReprProj::Alone { inner } => Poll::Ready(match ready!(inner.poll(cx)) {
                Ok(response) => Ok(P::response(response)),
                Err(error) => Err(P::error(error)),
            }),
            ReprProj::Faulted { faulted } => faulted.as_mut().poll::<P>(cx),
        }
    }
}

impl<S: Service<Req>, Req, P> fmt::Debug for FaultFuture<S, Req, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.repr {
            Repr::Alone { .. } => "FaultFuture(alone)",
            Repr::Faulted { .. } => "FaultFuture(faulted)",
        })
    }
}
