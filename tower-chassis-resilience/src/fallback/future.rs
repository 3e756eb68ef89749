use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_chassis_core::{BoxError, Class, Verdict, verdict::Classify};
use tower_service::Service;

use super::{
    alternative::{Alternative, Answer, Instead, Keep},
    layer::Shared,
    mark::Mark,
    service::Unready,
};

type Later<S, A, Req> = <A as Alternative<
    Req,
    <S as Service<<A as Keep<Req>>::Request>>::Response,
    <S as Service<<A as Keep<Req>>::Request>>::Error,
>>::Later;

pin_project! {
    /// The future of a [`Fallback`](super::Fallback).
    #[must_use = "futures do nothing unless polled"]
    pub struct FallbackFuture<S, A, C, M, Req>
    where
        A: Keep<Req>,
        A: Alternative<
            Req,
            <S as Service<<A as Keep<Req>>::Request>>::Response,
            <S as Service<<A as Keep<Req>>::Request>>::Error,
        >,
        S: Service<<A as Keep<Req>>::Request>,
    {
        #[pin]
        step: Step<S::Future, Later<S, A, Req>>,
        // None once the inner call is over.
        kept: Option<<A as Keep<Req>>::Kept>,
        shared: Arc<Shared<A>>,
        classify: C,
        mark: M,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F, L> {
        Calling { #[pin] future: F },
        /// There is no inner call, because readiness had failed.
        Unready { why: Option<Box<Unready>> },
        /// The other answer is being made. The verdict is that on the call.
        Waiting { #[pin] later: L, verdict: Verdict },
        Over,
    }
}

impl<S, A, C, M, Req> FallbackFuture<S, A, C, M, Req>
where
    A: Keep<Req> + Alternative<Req, S::Response, S::Error>,
    S: Service<<A as Keep<Req>>::Request>,
{
    pub(super) const fn called(
        future: S::Future,
        shared: Arc<Shared<A>>,
        kept: <A as Keep<Req>>::Kept,
        classify: C,
        mark: M,
    ) -> Self {
        Self {
            step: Step::Calling { future },
            kept: Some(kept),
            shared,
            classify,
            mark,
        }
    }

    pub(super) const fn unready(
        why: Box<Unready>,
        shared: Arc<Shared<A>>,
        kept: <A as Keep<Req>>::Kept,
        classify: C,
        mark: M,
    ) -> Self {
        Self {
            step: Step::Unready { why: Some(why) },
            kept: Some(kept),
            shared,
            classify,
            mark,
        }
    }
}

impl<S, A, C, M, Req> Future for FallbackFuture<S, A, C, M, Req>
where
    A: Keep<Req> + Alternative<Req, S::Response, S::Error>,
    S: Service<<A as Keep<Req>>::Request>,
    S::Error: Into<BoxError>,
    C: Classify<S::Response, S::Error>,
    M: Mark<<A as Alternative<Req, S::Response, S::Error>>::Response>,
{
    type Output = Result<
        <A as Alternative<Req, S::Response, S::Error>>::Response,
        <A as Alternative<Req, S::Response, S::Error>>::Error,
    >;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (failed, verdict) = match this.step.as_mut().project() {
            StepProj::Calling { future } => {
                let result = ready!(future.poll(cx));
                let verdict = match &result {
                    Ok(response) => this.classify.head(response),
                    Err(error) => this.classify.error(error),
                };
                let alternative = &this.shared.alternative;
                match result {
                    Ok(response) if verdict.class() == Class::Success => {
                        let Some(kept) = this.kept.take() else {
                            return Poll::Pending;
                        };
                        return Poll::Ready(Ok(alternative.good(kept, response)));
                    }
                    result if !this.shared.state.wants(verdict) => {
                        *this.kept = None;
                        let result = result.map(|response| alternative.response(response));
                        return Poll::Ready(result.map_err(A::pass));
                    }
                    result => (result.map_err(Into::into), verdict),
                }
            }
            StepProj::Unready { why } => match why.take() {
                Some(why) => (Err(why.error), why.verdict),
                None => return Poll::Pending,
            },
            StepProj::Waiting { later, verdict } => {
                let (result, verdict) = (ready!(later.poll(cx)), *verdict);
                this.step.set(Step::Over);
                return Poll::Ready(this.shared.settle(result, verdict, *this.mark));
            }
            StepProj::Over => return Poll::Pending,
        };
        // What the call still holds goes first: its body comes back only when it has been let go.
        this.step.set(Step::Over);
        let Some(kept) = this.kept.take() else {
            return Poll::Pending;
        };
        match this.shared.alternative.instead(kept, failed, verdict) {
            Instead::Now(result) => Poll::Ready(this.shared.settle(result, verdict, *this.mark)),
            Instead::Later(later) => {
                this.step.set(Step::Waiting { later, verdict });
                let StepProj::Waiting { later, .. } = this.step.as_mut().project() else {
                    return Poll::Pending;
                };
                let result = ready!(later.poll(cx));
                this.step.set(Step::Over);
                Poll::Ready(this.shared.settle(result, verdict, *this.mark))
            }
        }
    }
}

impl<A> Shared<A> {
    /// Counts what came of it, and marks another answer.
    fn settle<Res, Err, M: Mark<Res>>(
        &self,
        result: Result<Answer<Res>, Err>,
        verdict: Verdict,
        mark: M,
    ) -> Result<Res, Err> {
        match result {
            Ok(Answer::Other(mut response)) => {
                self.state.fell_back(verdict);
                let failed = (!self.state.setup.as_success).then_some(verdict);
                mark.mark(&mut response, failed);
                Ok(response)
            }
            Ok(Answer::AsItCame(response)) => {
                self.state.failed_too();
                Ok(response)
            }
            Err(error) => {
                self.state.failed_too();
                Err(error)
            }
        }
    }
}

impl<S, A, C, M, Req> fmt::Debug for FallbackFuture<S, A, C, M, Req>
where
    A: Keep<Req> + Alternative<Req, S::Response, S::Error>,
    S: Service<<A as Keep<Req>>::Request>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match &self.step {
            Step::Calling { .. } => "calling",
            Step::Unready { .. } => "unready",
            Step::Waiting { .. } => "waiting",
            Step::Over => "over",
        };
        f.debug_tuple("FallbackFuture").field(&step).finish()
    }
}
