use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_chassis_core::{
    BoxError, Carrier, Events, Invocation, Live, Verdict, invocation::Upload, striped::Striped,
};
use tower_layer::Layer;
use tower_service::Service;

use super::{Report, State, TimedBody, TimeoutHandle, TimeoutPolicy, body::Limit};

/// Ends responses whose body stalls. See the [module](super#streams) page.
#[derive(Debug)]
#[must_use]
pub struct IdleLayer {
    state: Striped<State>,
}

impl IdleLayer {
    /// Ends a response in which nothing moves for as long as `policy` says. Sixty seconds are usual
    /// ([`default`](Self::default)).
    pub fn new(policy: impl Into<Live<TimeoutPolicy>>) -> Self {
        Self {
            state: State::new(policy.into(), Events::none()),
        }
    }

    /// Reports the responses that it ends. Default: to nobody.
    pub fn events(self, events: Events) -> Self {
        Self {
            state: State::new(self.state.live.clone(), events),
        }
    }

    /// The same settings in a layer of its own. It keeps nothing of its calls, so it does the same.
    pub fn fresh(&self) -> Self {
        Self {
            state: State::new(self.state.live.clone(), self.state.events.clone()),
        }
    }

    /// Reads and changes the layer while it runs.
    #[must_use]
    pub fn handle(&self) -> TimeoutHandle {
        TimeoutHandle {
            state: Arc::clone(self.state.arc()),
        }
    }
}

/// Sixty seconds.
impl Default for IdleLayer {
    fn default() -> Self {
        Self::new(TimeoutPolicy {
            after: Duration::from_secs(60),
        })
    }
}

impl Clone for IdleLayer {
    fn clone(&self) -> Self {
        Self {
            state: self.state.keep(),
        }
    }
}

impl<S> Layer<S> for IdleLayer {
    type Service = Idle<S>;
    fn layer(&self, inner: S) -> Idle<S> {
        Idle {
            inner,
            state: self.state.keep(),
        }
    }
}

/// The service of an [`IdleLayer`].
#[derive(Clone, Debug)]
pub struct Idle<S> {
    inner: S,
    state: Striped<State>,
}

impl<S, B, R> Service<Request<B>> for Idle<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Error: Into<BoxError>>,
{
    type Response = Response<TimedBody<R>>;
    type Error = S::Error;
    type Future = IdleFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let upload = request.invocation().map(Invocation::upload);
        IdleFuture {
            inner: self.inner.call(request),
            after: Duration::from_nanos(self.state.nanos.load(Relaxed)),
            upload,
            report: Report::new(&self.state),
        }
    }
}

pin_project! {
    /// The future of an [`Idle`] service.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct IdleFuture<F> {
        #[pin]
        inner: F,
        after: Duration,
        upload: Option<Upload>,
        report: Report,
    }
}

impl<F, R, E> Future for IdleFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<TimedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let limit = Limit::Idle {
            after: *this.after,
            due: None,
            upload: this.upload.take(),
            seen: 0,
        };
        let report = this.report.take();
        // The service stalls, as it does where a try takes too long.
        Poll::Ready(Ok(
            response.map(|body| TimedBody::new(body, limit, Verdict::TIMEOUT, report))
        ))
    }
}
