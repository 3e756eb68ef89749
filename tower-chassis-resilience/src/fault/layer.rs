use std::{fmt, marker::PhantomData, sync::Arc};

use tower_chassis_core::{Events, Live};
use tower_layer::Layer;

use super::{
    Arming, Fault, FaultHandle, FaultPolicy,
    protocol::{AnyProtocol, Http},
    shared::{Setup, Shared},
    view::{ByCarrier, Excluding, Matching, Trusting, WithId},
};

/// Injects faults into calls. See the [module](super) page.
///
/// The state is the layer's: what is layered or cloned twice shares it. `V` reads requests, `P` says how faults show.
#[doc(alias = "Chaos")]
pub struct FaultLayer<V = ByCarrier, P = AnyProtocol> {
    shared: Arc<Shared>,
    view: V,
    protocol: PhantomData<fn() -> P>,
}

impl FaultLayer {
    /// Injects the faults of `policy`, if the [environment](Arming::from_env) allows it. A [`Live`] policy can be
    /// changed from outside.
    #[must_use]
    pub fn new(policy: impl Into<Live<FaultPolicy>>) -> Self {
        let setup = Setup {
            arming: Arming::from_env(),
            events: Events::none(),
        };
        Self::of(Shared::new(policy.into(), setup), ByCarrier)
    }
}

impl<V> FaultLayer<V> {
    /// Answers faults in the terms of HTTP and gRPC, marks answers by `x-chassis-fault`, and does what the rules say
    /// to bodies. A reset stays an error. Default: faults are errors, bodies are left alone.
    #[must_use]
    pub fn http(self) -> FaultLayer<V, Http> {
        FaultLayer::of(self.shared, self.view)
    }
}

impl<V, P> FaultLayer<V, P> {
    fn of(shared: Arc<Shared>, view: V) -> Self {
        Self {
            shared,
            view,
            protocol: PhantomData,
        }
    }

    /// Is armed as `arming` says, and not as the environment of the process does. For the set-up: counters begin anew.
    #[must_use]
    pub fn arming(self, arming: Arming) -> Self {
        self.set_up(|setup| setup.arming = arming)
    }

    /// Reports each fault. Default: to nobody. For the set-up: counters begin anew.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// Reads requests by `view`. Default: [`ByCarrier`]. To be said before what asks for more of a request.
    #[must_use]
    pub fn view<W>(self, view: W) -> FaultLayer<W, P> {
        FaultLayer::of(self.shared, view)
    }

    /// Chooses calls by this id. Default: that of the invocation, else `x-request-id`, else the turn of the call.
    #[must_use]
    pub fn request_id<F>(self, id: F) -> FaultLayer<WithId<V, F>, P> {
        let inner = self.view;
        FaultLayer::of(self.shared, WithId { inner, id })
    }

    /// Leaves requests alone for which this is true, whatever a rule or a header says: a health check, an admin page.
    #[must_use]
    pub fn exclude<F>(self, excluded: F) -> FaultLayer<Excluding<V, F>, P> {
        let inner = self.view;
        FaultLayer::of(self.shared, Excluding { inner, excluded })
    }

    /// Lets peers for which this is true ask for faults by their headers, within
    /// [`headers`](super::FaultConfig::headers), without which nobody may. A header proves nothing: ask for what the
    /// peer cannot make up, its address or its certificate.
    #[must_use]
    pub fn trusted<F>(self, trusted: F) -> FaultLayer<Trusting<V, F>, P> {
        let inner = self.view;
        FaultLayer::of(self.shared, Trusting { inner, trusted })
    }

    /// Lets the rule of this name match only what this is true for, beside what the policy says.
    #[must_use]
    pub fn matching<F>(
        self,
        rule: impl Into<Arc<str>>,
        matches: F,
    ) -> FaultLayer<Matching<V, F>, P> {
        let view = Matching {
            inner: self.view,
            rule: rule.into(),
            matches,
        };
        FaultLayer::of(self.shared, view)
    }

    /// The same settings with counters and a kill switch of its own.
    #[must_use]
    pub fn fresh(&self) -> Self
    where
        V: Clone,
    {
        Self::of(self.shared.fresh(|_| ()), self.view.clone())
    }

    /// Reads, stops and changes the layer while it runs.
    #[must_use]
    pub fn handle(&self) -> FaultHandle {
        FaultHandle(Arc::clone(&self.shared))
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        Self::of(self.shared.fresh(change), self.view)
    }
}

impl<V: Clone, P> Clone for FaultLayer<V, P> {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.shared), self.view.clone())
    }
}

impl<V, P> fmt::Debug for FaultLayer<V, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultLayer")
            .field("arming", &self.shared.setup.arming)
            .field("policy", &self.shared.live)
            .finish_non_exhaustive()
    }
}

impl<S, V: Clone, P> Layer<S> for FaultLayer<V, P> {
    type Service = Fault<S, V, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Fault::new(inner, Arc::clone(&self.shared), self.view.clone())
    }
}
