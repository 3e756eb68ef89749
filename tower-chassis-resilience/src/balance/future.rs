use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_chassis_core::{
    Carrier, Invocation, Rejection, Verdict, cause, clock,
    refusal::{IsGrpc, Refusal},
    settle::{self, Observe, Settle},
};
use tower_service::Service;

use super::{
    pick::Pick,
    service::Settled,
    snapshot::{Snapshot, State},
    waiting::{Turn, Waiting},
};

/// What a call holds of its endpoint: it counts as in flight until this is dropped.
#[derive(Debug)]
pub struct Ticket {
    pub(super) state: Arc<State>,
    since: Instant,
    /// The verdict on the head, once it came.
    head: Option<Verdict>,
}

impl Ticket {
    pub(super) fn new(state: &Arc<State>, now: Instant) -> Self {
        state.load.enter(now);
        Self {
            state: Arc::clone(state),
            since: now,
            head: None,
        }
    }

    /// The caller went away before the endpoint was ready: it takes at least so long.
    pub(super) fn give_up(self, now: Instant) {
        let took = now.saturating_duration_since(self.since);
        match cause::of_drop() {
            late if late.is_failure() => {
                self.state.load.record(took, late, now);
                self.state.outlier.count(&self.state, late, now);
            }
            _ => self.state.load.record_cut(took, now),
        }
    }
}

impl Observe for Ticket {
    fn head(&mut self, verdict: Verdict, now: Instant) {
        let took = now.saturating_duration_since(self.since);
        let Self { state, .. } = self;
        state.load.record(took, verdict, now);
        if verdict.is_failure() {
            // What comes after the head makes it no better, and may take long.
            state.outlier.count(state, verdict, now);
        } else {
            state.outlier.sample(state, verdict, took);
        }
        self.head = Some(verdict);
    }

    fn done(self, verdict: Verdict, now: Instant) {
        let took = now.saturating_duration_since(self.since);
        let failed = verdict.is_failure();
        if !self.head.is_some_and(Verdict::is_failure) {
            self.state.outlier.count(&self.state, verdict, now);
        }
        match self.head {
            // The latency was known at the head; what follows can only condemn it.
            Some(head) if head.is_failure() || !failed => {}
            None if !failed => self.state.load.record_cut(took, now),
            _ => self.state.load.record(took, verdict, now),
        }
        if failed {
            self.state.load.count_failure();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.state.load.leave();
    }
}

/// An endpoint that a call chose, with its own instance of the service.
#[derive(Debug)]
pub(super) struct Attempt<S> {
    pub(super) service: S,
    pub(super) ticket: Ticket,
    pub(super) build: u64,
}

impl<S: Clone> Attempt<S> {
    pub(super) fn new(
        snapshot: &Snapshot<S, impl Sized>,
        index: usize,
        invocation: Option<&Invocation>,
        now: Instant,
    ) -> Option<Self> {
        let entry = snapshot.plan.entries.get(index)?;
        let service = snapshot.services.get(index)?;
        if let Some(invocation) = invocation {
            invocation.note_endpoint(entry.state.key);
        }
        let ticket = Ticket::new(&entry.state, now);
        Some(Self {
            service: service.clone(),
            ticket,
            build: entry.build,
        })
    }
}

pin_project! {
    /// The future of [`Balance`](super::Balance). Holds its endpoint, and nothing that other endpoints share.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, P, J>
    where
        S: Service<Req>,
        P: Pick,
    {
        settle: J,
        grpc: bool,
        #[pin]
        stage: Stage<S, Req, S::Future, P, J>,
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<S, Req, F, P, J>
    where
        P: Pick,
    {
        Chosen { chosen: Option<(Attempt<S>, Req)> },
        Waiting { waiting: Box<Waiting<S, P>>, request: Option<Req> },
        Called { #[pin] future: settle::ResponseFuture<F, Ticket, J> },
        Refused { rejection: Option<Rejection> },
    }
}

impl<S: Service<Req>, Req, P: Pick, J> ResponseFuture<S, Req, P, J> {
    pub(super) fn new(request: Req, attempt: Attempt<S>, settle: J) -> Self {
        Self {
            settle,
            // Read where it is needed: there is a request.
            grpc: false,
            stage: Stage::Chosen {
                chosen: Some((attempt, request)),
            },
        }
    }

    pub(super) fn refused(rejection: Rejection, grpc: bool, settle: J) -> Self {
        Self {
            settle,
            grpc,
            stage: Stage::Refused {
                rejection: Some(rejection),
            },
        }
    }
}

impl<S: Service<Req>, Req, P: Pick, J> fmt::Debug for ResponseFuture<S, Req, P, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Chosen { .. } => "chosen",
            Stage::Waiting { .. } => "waiting",
            Stage::Called { .. } => "called",
            Stage::Refused { .. } => "refused",
        };
        f.debug_struct("ResponseFuture")
            .field("stage", &stage)
            .finish_non_exhaustive()
    }
}

impl<S, Req, P, J> Future for ResponseFuture<S, Req, P, J>
where
    Req: Carrier,
    S: Service<Req> + Clone + Send + Sync + 'static,
    P: Pick,
    J: Settle<S::Response, S::Error> + IsGrpc<Req> + Refusal<Settled<S, J, Req>, S::Error>,
{
    type Output = Result<
        <J as Refusal<Settled<S, J, Req>, S::Error>>::Response,
        <J as Refusal<Settled<S, J, Req>, S::Error>>::Error,
    >;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let (attempt, request, outcome) = match this.stage.as_mut().project() {
                StageProj::Called { future } => {
                    let result = ready!(future.poll(cx));
                    return Poll::Ready(result.map(J::response).map_err(J::error));
                }
                StageProj::Refused { rejection } => {
                    return match rejection.take() {
                        Some(rejection) => Poll::Ready(J::refused(rejection, *this.grpc)),
                        None => Poll::Pending,
                    };
                }
                StageProj::Chosen { chosen } => {
                    let Some((mut attempt, request)) = chosen.take() else {
                        return Poll::Pending;
                    };
                    match attempt.service.poll_ready(cx) {
                        Poll::Ready(outcome) => (attempt, request, outcome),
                        Poll::Pending => {
                            let waiting = Box::new(Waiting::new(attempt));
                            this.stage.set(Stage::Waiting {
                                waiting,
                                request: Some(request),
                            });
                            continue;
                        }
                    }
                }
                StageProj::Waiting { waiting, request } => {
                    match ready!(waiting.poll(cx, request.as_ref())) {
                        Turn::Ready(attempt, outcome) => {
                            let Some(request) = request.take() else {
                                return Poll::Pending;
                            };
                            (attempt, request, outcome)
                        }
                        Turn::Refused(rejection) => {
                            *this.grpc = request.as_ref().is_some_and(J::is_grpc);
                            this.stage.set(Stage::Refused {
                                rejection: Some(rejection),
                            });
                            continue;
                        }
                    }
                }
            };
            let Attempt {
                mut service,
                ticket,
                ..
            } = attempt;
            ticket.state.load.count_attempt();
            if let Some(invocation) = request.invocation() {
                // Another than the first chosen may have been ready first.
                invocation.note_endpoint(ticket.state.key);
            }
            match outcome {
                Ok(()) => {
                    let future = clock::entered(|_| service.call(request));
                    let future = settle::ResponseFuture::new(future, ticket, this.settle.clone());
                    this.stage.set(Stage::Called { future });
                }
                Err(error) => {
                    this.stage.set(Stage::Refused { rejection: None });
                    let result = this.settle.settle(Err(error), ticket);
                    return Poll::Ready(result.map(J::response).map_err(J::error));
                }
            }
        }
    }
}
