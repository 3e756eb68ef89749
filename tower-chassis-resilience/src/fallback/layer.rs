use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use tower_chassis_core::{
    Events, Live, Verdict,
    verdict::{Auto, ByFn as JudgeFn},
};
use tower_layer::Layer;

use super::{
    alternative::{ByFn, Failure, WithRequest, sealed::Sealed},
    backup::Backup,
    config::FallbackPolicy,
    last_good::LastGood,
    mark::{Marked, Unmarked},
    service::Fallback,
    state::{FallbackHandle, Setup, State},
};
use crate::{
    retry::Cloned,
    share::{Http, HttpKey, HttpKeys, Whole},
};

/// Bodies of good answers are kept up to this length.
const BODY_LIMIT: usize = 64 * 1024;

/// Answers in place of calls that failed. See the [module](super).
///
/// `A` is what answers, `C` judges, `M` marks.
#[must_use]
pub struct FallbackLayer<A, C = Auto, M = Unmarked> {
    shared: Arc<Shared<A>>,
    classify: C,
    mark: M,
}

/// What all services of a layer share.
#[derive(Debug)]
pub(super) struct Shared<A> {
    pub(super) state: Arc<State>,
    pub(super) alternative: Arc<A>,
}

impl<A> FallbackLayer<A> {
    fn answering(alternative: A) -> Self {
        let live = Live::new(FallbackPolicy::default());
        Self {
            shared: Arc::new(Shared {
                state: State::new(live, Setup::default()),
                alternative: Arc::new(alternative),
            }),
            classify: Auto,
            mark: Unmarked,
        }
    }
}

impl<F> FallbackLayer<ByFn<F>> {
    /// A closure answers, that is told why.
    pub fn with<Res>(answer: F) -> Self
    where
        F: Fn(Failure) -> Res,
    {
        Self::answering(ByFn(answer))
    }
}

impl FallbackLayer<ByFn<()>> {
    /// Clones of `response` answer. One that cannot be cloned, or not be shared by threads, is made by
    /// [`with`](FallbackLayer::with).
    pub fn value<Res: Clone>(
        response: Res,
    ) -> FallbackLayer<ByFn<impl Fn(Failure) -> Res + Clone>> {
        FallbackLayer::with(move |_| response.clone())
    }
}

impl<P, F> FallbackLayer<WithRequest<P, F>> {
    /// A closure answers, that is told why, and what `part` took from the request before the call: its path, its
    /// id, or a clone of all of it.
    pub fn with_request<Req, K, Res>(part: P, answer: F) -> Self
    where
        P: Fn(&Req) -> K,
        F: Fn(K, Failure) -> Res,
    {
        Self::answering(WithRequest { part, answer })
    }
}

impl<Q, K> FallbackLayer<LastGood<Q, K>>
where
    K: Hash + Eq + Send + Sync + 'static,
{
    /// The last good answer to the same request answers, if it is not older than `max_age`. Requests are the same if
    /// `key` finds the same in them; everything that an answer depends on belongs into the key, the user above all.
    /// Answers are cloned.
    ///
    /// A good answer is kept once a second and key, up to 10,000 of them and 64 MiB ([`room`](Self::room)).
    pub fn last_good<Req>(max_age: Duration, key: Q) -> Self
    where
        Q: Fn(&Req) -> Option<K>,
    {
        Self::answering(LastGood::new(max_age, key, Whole))
    }
}

impl FallbackLayer<LastGood<HttpKeys, HttpKey, Http>> {
    /// The same for HTTP. Which requests are the same, and which answers may be given to others, says the page of
    /// [`share`](crate::share). Bodies of up to 64 KiB are kept as they pass.
    pub fn last_good_http(max_age: Duration, keys: HttpKeys) -> Self {
        let share = Http::new(BODY_LIMIT, keys.covered());
        Self::answering(LastGood::new(max_age, keys, share))
    }
}

impl<Q, K, H, C, M> FallbackLayer<LastGood<Q, K, H>, C, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    H: Clone,
{
    /// How many answers are kept, at least one, and how many bytes they take. For the set-up: begins with none.
    pub fn room(self, max_entries: usize, max_bytes: usize) -> Self {
        let alternative = self.shared.alternative.with_room(max_entries, max_bytes);
        self.with_alternative(alternative)
    }
}

impl<B: Clone> FallbackLayer<Backup<B>> {
    /// A second service answers.
    ///
    /// It is given a copy of the request, made as a [retry](crate::retry) makes one: what the first service reads of an
    /// HTTP body is recorded, up to 64 KiB. It is not called where the request could be served twice and is
    /// not idempotent, nor where its body is not whole any more; then the outcome passes as it came.
    ///
    /// It is made ready by each call for itself, in a clone: one that is slow delays nobody else.
    pub fn service(backup: B) -> Self {
        Self::answering(Backup::new(backup))
    }
}

impl<B: Clone, R: Clone, C, M> FallbackLayer<Backup<B, R>, C, M> {
    /// Copies a request in another way: a [`Replay`](crate::retry::Replay) of yours, or
    /// [`Rewrapped`](crate::retry::Rewrapped) for services that take one type of body only.
    pub fn replay<Q>(self, replay: Q) -> FallbackLayer<Backup<B, Q>, C, M> {
        let alternative = self.shared.alternative.replay(replay);
        self.with_alternative(alternative)
    }

    /// Clones a request instead of recording its body: for a protocol of your own, and for bodies that are cheap to
    /// clone.
    pub fn clone_body(self) -> FallbackLayer<Backup<B, Cloned>, C, M> {
        let alternative = self.shared.alternative.clone_body();
        self.with_alternative(alternative)
    }

    /// How many bytes of a body are recorded. Default 64 KiB.
    pub fn body_limit(self, bytes: usize) -> Self {
        let alternative = self.shared.alternative.with(Some(bytes), false);
        self.with_alternative(alternative)
    }

    /// Calls the second service also where the first may have served the request already and it is not idempotent.
    pub fn every_method(self) -> Self {
        let alternative = self.shared.alternative.with(None, true);
        self.with_alternative(alternative)
    }
}

impl<A, C> FallbackLayer<A, C> {
    /// Marks HTTP answers by `x-chassis-fallback: 1`, and leaves the verdict on the failed call in them, so that
    /// nobody outside takes them for what they stand for: a cache does not store them, metrics count a failure.
    pub fn mark(self) -> FallbackLayer<A, C, Marked> {
        FallbackLayer {
            shared: self.shared,
            classify: self.classify,
            mark: Marked,
        }
    }
}

impl<A, C> FallbackLayer<A, C, Marked> {
    /// A marked answer is judged by what it is, and not by the call that it stands for: metrics outside count
    /// a success.
    pub fn as_success(self) -> Self {
        self.set_up(|setup| setup.as_success = true)
    }
}

impl<A, C, M> FallbackLayer<A, C, M> {
    /// Which outcomes are answered in place of, as a policy that may be [live](Live). Default:
    /// [`FallbackPolicy::default`]. Counters begin anew.
    pub fn policy(self, policy: impl Into<Live<FallbackPolicy>>) -> Self {
        let setup = self.shared.state.setup.clone();
        self.with_state(State::new(policy.into(), setup))
    }

    /// Which outcomes are answered in place of, by the verdict, instead of those of the policy, of which only `enabled`
    /// counts on. Not asked of successes. Counters begin anew.
    pub fn when(self, when: impl Fn(Verdict) -> bool + Send + Sync + 'static) -> Self {
        self.set_up(|setup| setup.when = Some(Arc::new(when)))
    }

    /// Judges responses and errors by `classify`. Default: [`Auto`].
    pub fn classify<D>(self, classify: D) -> FallbackLayer<A, D, M> {
        FallbackLayer {
            shared: self.shared,
            classify,
            mark: self.mark,
        }
    }

    /// Judges by a closure `Fn(Result<&Res, &Err>) -> Verdict`.
    pub fn classify_fn<F>(self, f: F) -> FallbackLayer<A, JudgeFn<F>, M> {
        self.classify(JudgeFn(f))
    }

    /// Names it, for events. Default `fallback`. Counters begin anew.
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.set_up(|setup| setup.name = name)
    }

    /// Reports each answer of its own. Default: to nobody. Counters begin anew.
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// The same layer for another service: with counters of its own, and with no last good answer yet. What else
    /// answers is shared.
    pub fn fresh(&self) -> Self
    where
        A: Sealed,
        C: Clone,
        M: Clone,
    {
        let fresh = self.clone().set_up(|_| ());
        match self.shared.alternative.anew() {
            Some(alternative) => fresh.with_alternative(alternative),
            None => fresh,
        }
    }

    /// Reads and changes the layer while it runs.
    #[must_use]
    pub fn handle(&self) -> FallbackHandle {
        FallbackHandle(Arc::clone(&self.shared.state))
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.shared.state.setup.clone();
        change(&mut setup);
        let live = self.shared.state.live().clone();
        self.with_state(State::new(live, setup))
    }

    fn with_state(self, state: Arc<State>) -> Self {
        let alternative = Arc::clone(&self.shared.alternative);
        Self {
            shared: Arc::new(Shared { state, alternative }),
            ..self
        }
    }

    fn with_alternative<N>(self, alternative: N) -> FallbackLayer<N, C, M> {
        FallbackLayer {
            shared: Arc::new(Shared {
                state: Arc::clone(&self.shared.state),
                alternative: Arc::new(alternative),
            }),
            classify: self.classify,
            mark: self.mark,
        }
    }
}

impl<A, C: Clone, M: Clone> Clone for FallbackLayer<A, C, M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            classify: self.classify.clone(),
            mark: self.mark.clone(),
        }
    }
}

impl<A: fmt::Debug, C, M> fmt::Debug for FallbackLayer<A, C, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

impl<S, A, C: Clone, M: Clone> Layer<S> for FallbackLayer<A, C, M> {
    type Service = Fallback<S, A, C, M>;

    fn layer(&self, inner: S) -> Self::Service {
        Fallback::new(
            inner,
            Arc::clone(&self.shared),
            self.classify.clone(),
            self.mark.clone(),
        )
    }
}
