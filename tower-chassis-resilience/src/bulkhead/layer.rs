use std::{fmt, sync::Arc};

use tower_chassis_core::{
    Events, Live, Respond,
    settle::{UntilEnd, UntilHead},
    verdict::OkIsSuccess,
};
use tower_layer::Layer;

use super::{
    Bulkhead, BulkheadHandle, BulkheadPolicy,
    shared::{Setup, Shared},
};

/// Bounds the calls in flight. See the [module](super) page.
///
/// The state is the layer's: what is layered or cloned twice shares it. `J` says how long a permit
/// is held.
#[doc(alias = "ConcurrencyLimit")]
#[doc(alias = "Throttle")]
pub struct BulkheadLayer<J = UntilHead<OkIsSuccess>> {
    shared: Arc<Shared>,
    settle: J,
}

impl BulkheadLayer {
    /// A bulkhead that holds a permit until the head of the answer. A [`Live`] policy can be changed
    /// from outside.
    pub fn new(policy: impl Into<Live<BulkheadPolicy>>) -> Self {
        let setup = Setup {
            name: Arc::from("bulkhead"),
            events: Events::none(),
        };
        Self {
            shared: Shared::new(policy.into(), setup),
            settle: UntilHead::default(),
        }
    }
}

impl<C> BulkheadLayer<UntilHead<C>> {
    /// Holds the permit to the end of the body.
    #[must_use]
    pub fn until_end(self) -> BulkheadLayer<UntilEnd<C>> {
        BulkheadLayer {
            shared: self.shared,
            settle: self.settle.until_end(),
        }
    }
}

impl<J> BulkheadLayer<J> {
    /// Names it, for logs. Default `bulkhead`. For the set-up: begins with no call in flight.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.set_up(|setup| setup.name = name)
    }

    /// Reports refusals. Default: to nobody. For the set-up: begins with no call in flight.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// Answers its own refusals by the table at [`Kind`](tower_chassis_core::Kind) instead of failing with them,
    /// and passes errors from inside on: the error type is that of the inner service. To be said last; for HTTP
    /// and gRPC.
    #[must_use]
    pub fn respond(self) -> BulkheadLayer<Respond<J>> {
        BulkheadLayer {
            shared: self.shared,
            settle: Respond::new(self.settle),
        }
    }

    /// The same settings with permits and a queue of its own.
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

    /// Reads what is in flight and waits, changes the settings.
    #[must_use]
    pub fn handle(&self) -> BulkheadHandle {
        BulkheadHandle(Arc::clone(&self.shared))
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

impl<J: Clone> Clone for BulkheadLayer<J> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            settle: self.settle.clone(),
        }
    }
}

impl<J> fmt::Debug for BulkheadLayer<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadLayer")
            .field("name", self.shared.name())
            .field("policy", &self.shared.common.live)
            .finish_non_exhaustive()
    }
}

impl<S, J: Clone> Layer<S> for BulkheadLayer<J> {
    type Service = Bulkhead<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        Bulkhead::new(inner, Arc::clone(&self.shared), self.settle.clone())
    }
}
