use std::{fmt, sync::Arc};

use tower_chassis_core::{
    Events, Live, Respond, Verdict,
    settle::{UntilEnd, UntilHead},
    verdict::ByFn,
};
use tower_layer::Layer;

use super::{
    Adaptive, AdaptiveHandle, AdaptivePolicy,
    service::OneLimit,
    shared::{Setup, Shared},
};

/// Bounds the calls in flight by what the service can bear. See the [module](super) page.
///
/// The state is the layer's: what is layered or cloned twice shares it. `J` judges, and says how long a permit is
/// held.
#[doc(alias = "ConcurrencyLimit")]
#[doc(alias = "AdaptiveLimiter")]
pub struct AdaptiveLayer<J = UntilHead> {
    shared: Arc<Shared>,
    settle: J,
}

impl AdaptiveLayer {
    /// A limit that begins at the policy's `start` and judges calls by their heads. A [`Live`] policy can be changed
    /// from outside.
    pub fn new(policy: impl Into<Live<AdaptivePolicy>>) -> Self {
        let setup = Setup {
            name: Arc::from("adaptive"),
            events: Events::none(),
            seed: None,
        };
        Self {
            shared: Shared::new(policy.into(), setup),
            settle: UntilHead::default(),
        }
    }
}

impl<J> AdaptiveLayer<J> {
    fn settled_by<I>(self, change: impl FnOnce(J) -> I) -> AdaptiveLayer<I> {
        AdaptiveLayer {
            shared: self.shared,
            settle: change(self.settle),
        }
    }
}

impl<C> AdaptiveLayer<UntilHead<C>> {
    /// Holds the permit to the end of the body. Latency is still that of the head.
    #[must_use]
    pub fn until_end(self) -> AdaptiveLayer<UntilEnd<C>> {
        self.settled_by(UntilHead::until_end)
    }

    /// Judges calls by `classify`.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> AdaptiveLayer<UntilHead<D>> {
        self.settled_by(|settle| settle.classify(classify))
    }

    /// Judges calls by a closure.
    #[must_use]
    pub fn classify_fn<F, Res, Err>(self, f: F) -> AdaptiveLayer<UntilHead<ByFn<F>>>
    where
        F: Fn(Result<&Res, &Err>) -> Verdict,
    {
        self.settled_by(|settle| settle.classify_fn(f))
    }
}

impl<J> AdaptiveLayer<J> {
    /// Names it in events and handles: an endpoint, a service. Default `adaptive`.
    ///
    /// This and the setters below are for the set-up: they begin anew, with no call in flight, and services that were
    /// layered before keep the old limit.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.set_up(|setup| setup.name = name)
    }

    /// Reports changes of the limit, and refusals. Default: to nobody.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// Seeds the choice of the windows that the baseline remembers, for tests that must repeat.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.set_up(|setup| setup.seed = Some(seed))
    }

    /// Answers its own refusals by the table at [`Kind`](tower_chassis_core::Kind) instead of failing with them,
    /// and passes errors from inside on: the error type is that of the inner service. To be said last; for HTTP
    /// and gRPC.
    #[must_use]
    pub fn respond(self) -> AdaptiveLayer<Respond<J>> {
        self.settled_by(Respond::new)
    }

    /// The same settings with a limit of its own.
    #[must_use]
    pub fn fresh(&self) -> Self
    where
        J: Clone,
    {
        Self {
            shared: self.shared.fresh(),
            settle: self.settle.clone(),
        }
    }

    /// Reads the limit, forces it, changes the settings.
    #[must_use]
    pub fn handle(&self) -> AdaptiveHandle {
        AdaptiveHandle(Arc::clone(&self.shared))
    }

    pub(super) fn into_parts(self) -> (Arc<Shared>, J) {
        (self.shared, self.settle)
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        Self {
            shared: self.shared.fresh_with(change),
            settle: self.settle,
        }
    }
}

impl<J: Clone> Clone for AdaptiveLayer<J> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            settle: self.settle.clone(),
        }
    }
}

impl<J> fmt::Debug for AdaptiveLayer<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLayer")
            .field("name", self.shared.name())
            .field("policy", &self.shared.common.live)
            .finish_non_exhaustive()
    }
}

impl<S, J: Clone> Layer<S> for AdaptiveLayer<J> {
    type Service = Adaptive<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        let limit = OneLimit(Arc::clone(&self.shared));
        Adaptive::new(inner, limit, self.settle.clone())
    }
}
