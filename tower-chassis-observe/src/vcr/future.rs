//! A call, and what is recorded of it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, request, response};
use http_body::Body as HttpBody;
use http_body_util::{Limited, combinators::Collect};
use pin_project_lite::pin_project;
use tower_chassis_core::{Body, BoxError};
use tower_service::Service;

use super::{Recorded, VcrLayer, layer::with_trailers};

pin_project! {
    /// The future of a [`Vcr`](super::Vcr). Of a call that is recorded or replayed all is in one box, so that one that passes
    /// is as small as that of the service.
    #[must_use = "futures do nothing unless polled"]
    pub struct VcrFuture<S, B, R>
    where
        S: Service<Request<Body>>,
        B: HttpBody,
        B::Error: Into<BoxError>,
        R: HttpBody,
        R::Error: Into<BoxError>,
    {
        #[pin]
        call: Call<S, B, R>,
    }
}

pin_project! {
    #[project = CallNow]
    enum Call<S, B, R>
    where
        S: Service<Request<Body>>,
        B: HttpBody,
        B::Error: Into<BoxError>,
        R: HttpBody,
        R::Error: Into<BoxError>,
    {
        Passes {
            #[pin]
            future: S::Future,
        },
        Taped {
            taped: Pin<Box<Taped<S, B, R>>>,
        },
    }
}

pin_project! {
    struct Taped<S, B, R>
    where
        S: Service<Request<Body>>,
        B: HttpBody,
        B::Error: Into<BoxError>,
        R: HttpBody,
        R::Error: Into<BoxError>,
    {
        #[pin]
        step: Step<S, B, R>,
        // What its request is given to; none in a replay.
        inner: Option<S>,
        layer: VcrLayer,
        request: Option<request::Parts>,
        asked: Option<(u64, Recorded)>,
        response: Option<response::Parts>,
    }
}

pin_project! {
    #[project = StepNow]
    enum Step<S, B, R>
    where
        S: Service<Request<Body>>,
        B: HttpBody,
        B::Error: Into<BoxError>,
        R: HttpBody,
        R::Error: Into<BoxError>,
    {
        // The request is read.
        Asks {
            #[pin]
            body: Collect<Limited<B>>,
        },
        // The service has it.
        Waits {
            #[pin]
            future: S::Future,
        },
        // The answer is read.
        Hears {
            #[pin]
            body: Collect<Limited<R>>,
        },
        Over,
    }
}

impl<S, B, R> VcrFuture<S, B, R>
where
    S: Service<Request<Body>>,
    B: HttpBody,
    B::Error: Into<BoxError>,
    R: HttpBody,
    R::Error: Into<BoxError>,
{
    pub(super) const fn pass(future: S::Future) -> Self {
        Self {
            call: Call::Passes { future },
        }
    }

    pub(super) fn taped(layer: VcrLayer, inner: Option<S>, request: Request<B>) -> Self {
        let (request, body) = request.into_parts();
        let taped = Taped {
            step: Step::Asks {
                body: layer.collect(body),
            },
            inner,
            layer,
            request: Some(request),
            asked: None,
            response: None,
        };
        Self {
            call: Call::Taped {
                taped: Box::pin(taped),
            },
        }
    }
}

impl<S, B, R> Future for VcrFuture<S, B, R>
where
    S: Service<Request<Body>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().call.project() {
            CallNow::Passes { future } => {
                let answer = ready!(future.poll(cx)).map_err(Into::into)?;
                Poll::Ready(Ok(answer.map(Body::new)))
            }
            CallNow::Taped { taped } => taped.as_mut().poll(cx),
        }
    }
}

impl<S, B, R> Taped<S, B, R>
where
    S: Service<Request<Body>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    /// Once over, it pends.
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Body>, BoxError>> {
        loop {
            let mut this = self.as_mut().project();
            let answer = match this.step.as_mut().project() {
                StepNow::Asks { body } => {
                    let whole = ready!(body.poll(cx));
                    match (this.layer.whole(whole), this.request.take()) {
                        (Ok((body, trailers)), Some(head)) => {
                            let asked = this.layer.recorded(&head, &body);
                            match this.inner {
                                Some(inner) => {
                                    *this.asked = Some((this.layer.make(), asked));
                                    let body = with_trailers(body, trailers);
                                    let future = inner.call(Request::from_parts(head, body));
                                    this.step.set(Step::Waits { future });
                                    continue;
                                }
                                None => this.layer.replay(&asked),
                            }
                        }
                        (Err(error), _) => Err(error),
                        (Ok(_), None) => return Poll::Pending,
                    }
                }
                StepNow::Waits { future } => match ready!(future.poll(cx)) {
                    Ok(response) => {
                        let (head, body) = response.into_parts();
                        *this.response = Some(head);
                        let body = this.layer.collect(body);
                        this.step.set(Step::Hears { body });
                        continue;
                    }
                    Err(error) => Err(error.into()),
                },
                StepNow::Hears { body } => {
                    let whole = ready!(body.poll(cx));
                    match (this.layer.whole(whole), this.response.take()) {
                        (Ok(whole), Some(head)) => {
                            if let Some(asked) = this.asked.take() {
                                this.layer.answered(asked, &head, &whole);
                            }
                            let (body, trailers) = whole;
                            Ok(Response::from_parts(head, with_trailers(body, trailers)))
                        }
                        (Err(error), _) => Err(error),
                        (Ok(_), None) => return Poll::Pending,
                    }
                }
                StepNow::Over => return Poll::Pending,
            };
            this.step.set(Step::Over);
            if let (Err(error), Some(asked)) = (&answer, this.asked.take()) {
                this.layer.failed(asked, error);
            }
            return Poll::Ready(answer);
        }
    }
}

impl<S, B, R> fmt::Debug for VcrFuture<S, B, R>
where
    S: Service<Request<Body>>,
    B: HttpBody,
    B::Error: Into<BoxError>,
    R: HttpBody,
    R::Error: Into<BoxError>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = match &self.call {
            Call::Passes { .. } => "passes",
            Call::Taped { .. } => "taped",
        };
        f.debug_tuple("VcrFuture").field(&call).finish()
    }
}
