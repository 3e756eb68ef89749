//! Where the end of a call is judged: one future, one body, for every layer.
//!
//! A policy supplies a ticket that implements [`Observe`]; [`ResponseFuture`] and [`Watched`] own it and see
//! to it that it is told exactly once how the call ended, also when the future or the body is dropped, the
//! inner service fails, or it panics.

mod future;
mod held;
#[cfg(test)]
mod tests;
mod watched;

use std::convert::Infallible;

use http::{Response, header};
use http_body::Body;
use tokio::time::Instant;

use crate::{
    clock, upgrade,
    verdict::{Auto, ByFn, Classify, ClassifyEnd, Verdict},
};

pub(crate) use self::held::Held;
use self::held::Told;
pub use self::{future::ResponseFuture, watched::Watched};

/// The RAII half of a policy: it is told once how its call ended.
///
/// Also for tuples of up to four, so that observers of one position share one judge, one body and one
/// reading of the clock.
pub trait Observe: Send + 'static {
    /// The head of the response arrived, or the call failed without one. Called at most once, before `done`.
    fn head(&mut self, verdict: Verdict, now: Instant) {
        let _ = (verdict, now);
    }
    /// `bytes` more of the response's body passed. Only under [`UntilEnd`].
    fn data(&mut self, bytes: usize) {
        let _ = bytes;
    }
    /// Runs one poll of the inner call. A span enters itself around it.
    fn within<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        poll()
    }
    /// Whether it wants to hear how the call ends. For one that does not nobody judges the call, unless it is left: it is
    /// there [around the polls](Self::within), has no head, and its `done` comes with a verdict that says nothing.
    fn listens(&self) -> bool {
        true
    }
    /// The time that `head` and `done` are told. One that looks at no time may give any, and spare the reading.
    fn now(&self) -> Instant {
        clock::now()
    }
    /// The call is over. Called exactly once, or [`done_at_head`](Self::done_at_head) is.
    fn done(self, verdict: Verdict, now: Instant);
    /// The call is over with its head: [`head`](Self::head) and [`done`](Self::done) in one, for those that have less to
    /// do then.
    #[inline]
    fn done_at_head(self, verdict: Verdict, now: Instant)
    where
        Self: Sized,
    {
        let mut held = Held::new(self);
        held.head(verdict, now);
        held.done(verdict, now);
    }
}

impl Observe for () {
    fn listens(&self) -> bool {
        false
    }
    fn done(self, _: Verdict, _: Instant) {}
}

impl<O: Observe> Observe for Option<O> {
    fn head(&mut self, verdict: Verdict, now: Instant) {
        if let Some(observer) = self {
            observer.head(verdict, now);
        }
    }
    fn data(&mut self, bytes: usize) {
        if let Some(observer) = self {
            observer.data(bytes);
        }
    }
    #[inline]
    fn within<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        match self {
            Some(observer) => observer.within(poll),
            None => poll(),
        }
    }
    #[inline]
    fn listens(&self) -> bool {
        self.as_ref().is_some_and(O::listens)
    }
    #[inline]
    fn now(&self) -> Instant {
        self.as_ref().map_or_else(clock::now, O::now)
    }
    #[inline]
    fn done(self, verdict: Verdict, now: Instant) {
        if let Some(observer) = self {
            observer.done(verdict, now);
        }
    }
    #[inline]
    fn done_at_head(self, verdict: Verdict, now: Instant) {
        if let Some(observer) = self {
            observer.done_at_head(verdict, now);
        }
    }
}

macro_rules! observe_tuple {
    ($($name:ident $field:tt),+; $first:tt $($rest:tt)*) => {
        impl<$($name: Observe),+> Observe for ($($name,)+) {
            fn head(&mut self, verdict: Verdict, now: Instant) {
                $(self.$field.head(verdict, now);)+
            }
            fn data(&mut self, bytes: usize) {
                $(self.$field.data(bytes);)+
            }
            fn within<R>(&mut self, poll: impl FnOnce() -> R) -> R {
                observe_tuple!(@within self, poll, $first $($rest)*)
            }
            fn listens(&self) -> bool {
                $(self.$field.listens())||+
            }
            fn done(self, verdict: Verdict, now: Instant) {
                // Whoever comes after one that panics hears the same.
                drop(($(Told::new(self.$field, verdict, now),)+));
            }
            fn done_at_head(self, verdict: Verdict, now: Instant) {
                drop(($(Told::at_head(self.$field, verdict, now),)+));
            }
        }
    };
    (@within $self:ident, $poll:expr, ) => { $poll() };
    (@within $self:ident, $poll:expr, $first:tt $($rest:tt)*) => {{
        let (one, poll) = (&mut $self.$first, $poll);
        one.within(|| observe_tuple!(@within $self, poll, $($rest)*))
    }};
}

observe_tuple!(A 0, B 1; 0 1);
observe_tuple!(A 0, B 1, C 2; 0 1 2);
observe_tuple!(A 0, B 1, C 2, D 3; 0 1 2 3);

/// Who judges a call, and when it is over. The one type parameter of a layer that a user may meet.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot judge a call that answers `{Res}`",
    label = "this response has no body whose end could be judged",
    note = "leave `.until_end()` out, or say `.until_head()` where that is the default: `{Res}` is judged at the head, by its `Outcome` or by `.classify(…)`"
)]
pub trait Settle<Res, Err>: Clone {
    /// What the layer answers; [`UntilEnd`] wraps the body.
    type Response<G: Observe>;

    /// Judges the outcome and ends `guard`, now or with the body.
    ///
    /// # Errors
    /// The inner error, as it came.
    fn settle<G: Observe>(
        &self,
        result: Result<Res, Err>,
        guard: G,
    ) -> Result<Self::Response<G>, Err>;
}

/// The call is over when its head has arrived. Leaves the response type as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct UntilHead<C = Auto>(C);

/// The call is over when its body has ended: read to the end, broken or dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct UntilEnd<C = Auto>(C);

impl<C> UntilHead<C> {
    /// Judges by `classify`.
    pub const fn new(classify: C) -> Self {
        Self(classify)
    }
    /// The same judge, until the end of the body.
    pub fn until_end(self) -> UntilEnd<C> {
        UntilEnd(self.0)
    }
    /// Another judge, for the same span.
    pub fn classify<D>(self, classify: D) -> UntilHead<D> {
        UntilHead(classify)
    }
    /// A closure as judge, for the same span.
    pub fn classify_fn<F>(self, f: F) -> UntilHead<ByFn<F>> {
        UntilHead(ByFn(f))
    }
}

impl<C> UntilEnd<C> {
    /// Judges by `classify`.
    pub const fn new(classify: C) -> Self {
        Self(classify)
    }
    /// The same judge, until the head only.
    pub fn until_head(self) -> UntilHead<C> {
        UntilHead(self.0)
    }
    /// Another judge, for the same span.
    pub fn classify<D>(self, classify: D) -> UntilEnd<D> {
        UntilEnd(classify)
    }
    /// A closure as judge, for the same span.
    pub fn classify_fn<F>(self, f: F) -> UntilEnd<ByFn<F>> {
        UntilEnd(ByFn(f))
    }
}

impl<Res, Err, C: Classify<Res, Err>> Settle<Res, Err> for UntilHead<C> {
    type Response<G: Observe> = Res;

    #[inline]
    fn settle<G: Observe>(&self, result: Result<Res, Err>, guard: G) -> Result<Res, Err> {
        let now = guard.now();
        if !guard.listens() {
            guard.done(UNHEARD, now);
            return result;
        }
        // Held while a classifier, which may panic, has the say.
        let guard = Held::new(guard);
        let verdict = match &result {
            Ok(response) => self.0.head(response),
            Err(error) => self.0.error(error),
        };
        guard.release().done_at_head(verdict, now);
        result
    }
}

impl<B: Body, Err, C: Classify<Response<B>, Err>> Settle<Response<B>, Err> for UntilEnd<C> {
    type Response<G: Observe> = Response<Watched<B, G, C>>;

    fn settle<G: Observe>(
        &self,
        result: Result<Response<B>, Err>,
        guard: G,
    ) -> Result<Self::Response<G>, Err> {
        let now = guard.now();
        if !guard.listens() {
            return self.unheard(result, guard, now);
        }
        let mut guard = Held::new(guard);
        match result {
            Ok(mut response) => {
                let head = self.0.head(&response);
                guard.head(head, now);
                let ending = self.0.ending(&response);
                let guard = guard.release();
                if upgrade::is_switch(&response) {
                    upgrade::park(&mut response, guard, head);
                    return Ok(response.map(Watched::done));
                }
                let classify = self.0.clone();
                let length = length_of(&response);
                Ok(response
                    .map(|body| Watched::new(body, length, guard, classify, ending, head, now)))
            }
            Err(error) => {
                let verdict = self.0.error(&error);
                guard.release().done_at_head(verdict, now);
                Err(error)
            }
        }
    }
}

/// What they are told who do not listen.
const UNHEARD: Verdict = Verdict::SUCCESS;

impl<C: ClassifyEnd> UntilEnd<C> {
    /// For a guard that is there around the polls alone.
    fn unheard<B: Body, Err, G: Observe>(
        &self,
        result: Result<Response<B>, Err>,
        guard: G,
        now: Instant,
    ) -> Result<Response<Watched<B, G, C>>, Err>
    where
        C: Clone,
    {
        match result {
            Ok(mut response) if upgrade::is_switch(&response) => {
                upgrade::park(&mut response, guard, UNHEARD);
                Ok(response.map(Watched::done))
            }
            Ok(response) => {
                let classify = self.0.clone();
                Ok(response
                    .map(|body| Watched::new(body, None, guard, classify, None, UNHEARD, now)))
            }
            Err(error) => {
                guard.done(UNHEARD, now);
                Err(error)
            }
        }
    }
}

/// How long a body is, by what it says, else by its header.
fn length_of<B: Body>(response: &Response<B>) -> Option<u64> {
    response.body().size_hint().exact().or_else(|| {
        let told = response.headers().get(header::CONTENT_LENGTH)?;
        let told = told.to_str().ok()?;
        // `+1` is a number to `parse`.
        let digits = told.bytes().all(|byte| byte.is_ascii_digit());
        told.parse().ok().filter(|_| digits)
    })
}

/// A service that never answers has no body to wait for.
///
/// With one type of response alone rustc would take it for granted that every response is one of HTTP, and would not
/// come to say what [`Settle`] says of another.
impl<Err, C: Classify<Infallible, Err>> Settle<Infallible, Err> for UntilEnd<C> {
    type Response<G: Observe> = Infallible;

    fn settle<G: Observe>(
        &self,
        result: Result<Infallible, Err>,
        guard: G,
    ) -> Result<Infallible, Err> {
        UntilHead(self.0.clone()).settle(result, guard)
    }
}
