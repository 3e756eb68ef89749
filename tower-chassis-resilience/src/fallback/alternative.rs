//! What answers in place of a failed call.

use std::{error::Error, fmt};

use tower_chassis_core::{BoxError, Rejection, Verdict};

/// Why another answer is wanted.
#[derive(Debug)]
pub struct Failure {
    verdict: Verdict,
    error: Option<BoxError>,
}

impl Failure {
    pub(super) const fn new(verdict: Verdict, error: Option<BoxError>) -> Self {
        Self { verdict, error }
    }

    /// How the call went.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The error of the call; `None` where it was answered by a response that was judged a failure.
    #[must_use]
    pub fn error(&self) -> Option<&(dyn Error + 'static)> {
        self.error
            .as_deref()
            .map(|error| error as &(dyn Error + 'static))
    }

    /// The refusal of a layer inside, if that is what it was.
    #[must_use]
    pub fn rejection(&self) -> Option<&Rejection> {
        self.error().and_then(Rejection::find)
    }
}

/// What a fallback keeps of a request while the call runs.
pub trait Keep<Req>: sealed::Sealed {
    /// The request that the inner service sees.
    type Request;
    /// What is kept.
    type Kept;
    /// Takes what is to be kept.
    fn keep(&self, request: Req) -> (Self::Request, Self::Kept);
}

/// What answers in place of a failed call: made by the constructors of
/// [`FallbackLayer`](super::FallbackLayer).
pub trait Alternative<Req, Res, Err>: Keep<Req> {
    /// What the layer answers.
    type Response;
    /// The error of the layer.
    type Error;
    /// An answer that takes time.
    type Later: Future<Output = Result<Answer<Self::Response>, Self::Error>>;
    /// An inner answer, passed on.
    fn response(&self, response: Res) -> Self::Response;
    /// An inner error, passed on.
    fn pass(error: Err) -> Self::Error;
    /// The call succeeded.
    fn good(&self, kept: Self::Kept, response: Res) -> Self::Response {
        drop(kept);
        self.response(response)
    }
    /// The call failed and another answer is wanted.
    fn instead(
        &self,
        kept: Self::Kept,
        failed: Result<Res, BoxError>,
        verdict: Verdict,
    ) -> Instead<Self::Response, Self::Error, Self::Later>;
}

/// What came of the wish for another answer.
#[derive(Debug)]
pub enum Instead<Res, Err, F> {
    /// There it is, or there is none.
    Now(Result<Answer<Res>, Err>),
    /// It takes time.
    Later(F),
}

/// An answer.
#[derive(Debug)]
pub enum Answer<Res> {
    /// Another one.
    Other(Res),
    /// The one that was judged a failure, because there was no other.
    AsItCame(Res),
}

pub(super) mod sealed {
    pub trait Sealed: Sized {
        /// The same for another service, where what is known of one says nothing of the other.
        fn anew(&self) -> Option<Self> {
            None
        }
    }
    impl<F> Sealed for super::ByFn<F> {}
    impl<P, F> Sealed for super::WithRequest<P, F> {}
}

/// A future that never is: the answer of a closure takes no time.
pub type Never<Res, Err> = std::future::Pending<Result<Answer<Res>, Err>>;

/// A closure answers: [`FallbackLayer::with`](super::FallbackLayer::with).
#[derive(Clone, Copy)]
pub struct ByFn<F>(pub(super) F);

impl<F> fmt::Debug for ByFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByFn").finish_non_exhaustive()
    }
}

impl<F, Req> Keep<Req> for ByFn<F> {
    type Request = Req;
    type Kept = ();
    fn keep(&self, request: Req) -> (Req, ()) {
        (request, ())
    }
}

impl<F, Req, Res, Err> Alternative<Req, Res, Err> for ByFn<F>
where
    F: Fn(Failure) -> Res,
{
    type Response = Res;
    type Error = Err;
    type Later = Never<Res, Err>;
    fn response(&self, response: Res) -> Res {
        response
    }
    fn pass(error: Err) -> Err {
        error
    }
    fn instead(
        &self,
        (): (),
        failed: Result<Res, BoxError>,
        verdict: Verdict,
    ) -> Instead<Res, Err, Self::Later> {
        let failure = Failure::new(verdict, failed.err());
        Instead::Now(Ok(Answer::Other((self.0)(failure))))
    }
}

/// A closure answers that is told what another one took from the request:
/// [`FallbackLayer::with_request`](super::FallbackLayer::with_request).
#[derive(Clone, Copy)]
pub struct WithRequest<P, F> {
    pub(super) part: P,
    pub(super) answer: F,
}

impl<P, F> fmt::Debug for WithRequest<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithRequest").finish_non_exhaustive()
    }
}

impl<P, F, K, Req> Keep<Req> for WithRequest<P, F>
where
    P: Fn(&Req) -> K,
{
    type Request = Req;
    type Kept = K;
    fn keep(&self, request: Req) -> (Req, K) {
        let kept = (self.part)(&request);
        (request, kept)
    }
}

impl<P, F, K, Req, Res, Err> Alternative<Req, Res, Err> for WithRequest<P, F>
where
    P: Fn(&Req) -> K,
    F: Fn(K, Failure) -> Res,
{
    type Response = Res;
    type Error = Err;
    type Later = Never<Res, Err>;
    fn response(&self, response: Res) -> Res {
        response
    }
    fn pass(error: Err) -> Err {
        error
    }
    fn instead(
        &self,
        kept: K,
        failed: Result<Res, BoxError>,
        verdict: Verdict,
    ) -> Instead<Res, Err, Self::Later> {
        let failure = Failure::new(verdict, failed.err());
        Instead::Now(Ok(Answer::Other((self.answer)(kept, failure))))
    }
}
