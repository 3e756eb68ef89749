//! A second service answers.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_chassis_core::{BoxError, Carrier, Class, Kind, Rejection, Verdict, clock};
use tower_service::Service;

use super::alternative::{Alternative, Answer, Instead, Keep, sealed::Sealed};
use crate::{
    retry::{Buffered, Cloned, Replay},
    template::Template,
};

/// What a first attempt reads of a body is kept up to this length.
const BODY_LIMIT: usize = 64 * 1024;

/// A second service answers: [`FallbackLayer::service`](super::FallbackLayer::service).
#[derive(Debug)]
pub struct Backup<B, R = Buffered> {
    template: Arc<Template<B>>,
    replay: R,
    body_limit: usize,
    every_method: bool,
}

impl<B> Backup<B> {
    pub(super) fn new(service: B) -> Self {
        Self {
            template: Arc::new(Template::new(service)),
            replay: Buffered::default(),
            body_limit: BODY_LIMIT,
            every_method: false,
        }
    }
}

impl<B, R> Backup<B, R> {
    pub(super) fn replay<Q>(&self, replay: Q) -> Backup<B, Q> {
        Backup {
            template: Arc::clone(&self.template),
            replay,
            body_limit: self.body_limit,
            every_method: self.every_method,
        }
    }

    pub(super) fn clone_body(&self) -> Backup<B, Cloned> {
        self.replay(Cloned)
    }

    pub(super) fn with(&self, body_limit: Option<usize>, every_method: bool) -> Self
    where
        R: Clone,
    {
        let mut new = self.replay(self.replay.clone());
        new.body_limit = body_limit.unwrap_or(self.body_limit);
        new.every_method |= every_method;
        new
    }
}

impl<B, R> Sealed for Backup<B, R> {}

/// The copy of a request, and whether it may be served twice.
#[derive(Debug)]
pub struct Copy<Source> {
    source: Option<Source>,
    twice: bool,
}

impl<B, R, Req> Keep<Req> for Backup<B, R>
where
    R: Replay<Req>,
    Req: Carrier,
{
    type Request = R::Request;
    type Kept = Copy<R::Source>;

    fn keep(&self, request: Req) -> (R::Request, Self::Kept) {
        let twice = self.every_method || request.is_idempotent();
        let (request, source) = self.replay.split(request, self.body_limit, twice);
        (request, Copy { source, twice })
    }
}

impl<B, R, Req, Res, Err> Alternative<Req, Res, Err> for Backup<B, R>
where
    R: Replay<Req>,
    Req: Carrier,
    B: Service<R::Request, Response = Res, Error: Into<BoxError>> + Clone,
    Err: Into<BoxError>,
{
    type Response = Res;
    type Error = BoxError;
    type Later = BackupFuture<B, R::Request, Res>;

    fn response(&self, response: Res) -> Res {
        response
    }

    fn pass(error: Err) -> BoxError {
        error.into()
    }

    fn instead(
        &self,
        mut kept: Copy<R::Source>,
        failed: Result<Res, BoxError>,
        verdict: Verdict,
    ) -> Instead<Res, BoxError, Self::Later> {
        let unseen = || match &failed {
            _ if verdict.class() == Class::Refused => true,
            Ok(_) => false,
            Err(error) => {
                let found = Rejection::find(&**error);
                found.is_some_and(|found| found.kind() == Kind::Unreachable)
            }
        };
        let request = if kept.twice || unseen() {
            let source = kept.source.as_mut();
            source.and_then(|source| self.replay.again(source, true))
        } else {
            None
        };
        match request {
            Some(request) => Instead::Later(BackupFuture {
                step: Step::Readying {
                    template: Arc::clone(&self.template),
                    service: None,
                    request: Some(request),
                },
                failed: Some(failed),
            }),
            None => Instead::Now(failed.map(Answer::AsItCame)),
        }
    }
}

pin_project! {
    /// The call of a second service.
    #[must_use = "futures do nothing unless polled"]
    pub struct BackupFuture<B, Req, Res>
    where
        B: Service<Req>,
    {
        #[pin]
        step: Step<B, B::Future, Req>,
        // What the first one said, for when this one fails too.
        failed: Option<Result<Res, BoxError>>,
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<B, F, Req> {
        Readying { template: Arc<Template<B>>, service: Option<B>, request: Option<Req> },
        Calling { #[pin] future: F },
    }
}

impl<B, Req, Res> Future for BackupFuture<B, Req, Res>
where
    B: Service<Req, Response = Res, Error: Into<BoxError>> + Clone,
{
    type Output = Result<Answer<Res>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = loop {
            match this.step.as_mut().project() {
                StepProj::Readying {
                    template,
                    service,
                    request,
                } => {
                    if request.is_none() {
                        return Poll::Pending;
                    }
                    if service.is_none() {
                        *service = Some(ready!(template.poll_clone(cx)));
                    }
                    let Some(readied) = service else {
                        return Poll::Pending;
                    };
                    if let Err(error) = ready!(readied.poll_ready(cx)) {
                        // What failed to be ready is not polled again.
                        (*service, *request) = (None, None);
                        break Err(error);
                    }
                    let (Some(mut service), Some(request)) = (service.take(), request.take())
                    else {
                        return Poll::Pending;
                    };
                    let future = clock::entered(|_| service.call(request));
                    this.step.set(Step::Calling { future });
                }
                StepProj::Calling { future } => break ready!(future.poll(cx)),
            }
        };
        Poll::Ready(match (result, this.failed.take()) {
            (Ok(response), _) => Ok(Answer::Other(response)),
            (Err(_), Some(Ok(response))) => Ok(Answer::AsItCame(response)),
            (Err(error), Some(Err(first))) => Err(BothFailed {
                first,
                second: error.into(),
            }
            .into()),
            (Err(error), None) => Err(error.into()),
        })
    }
}

impl<B: Service<Req>, Req, Res> fmt::Debug for BackupFuture<B, Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let readying = matches!(self.step, Step::Readying { .. });
        f.debug_struct("BackupFuture")
            .field("readying", &readying)
            .finish_non_exhaustive()
    }
}

/// The service failed, and so did the one that was to answer in its place.
///
/// The error of the first is its [`source`](Error::source), so that what the caller is told, and every verdict, is about that.
#[derive(Debug)]
pub struct BothFailed {
    first: BoxError,
    second: BoxError,
}

impl BothFailed {
    /// The error of the service that was to answer in place of the first.
    #[must_use]
    pub fn fallback(&self) -> &(dyn Error + 'static) {
        &*self.second
    }
}

impl fmt::Display for BothFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; then the fallback: {}", self.first, self.second)
    }
}

impl Error for BothFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.first)
    }
}
