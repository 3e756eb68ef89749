use std::{fmt, marker::PhantomData, sync::Arc};

use tower_chassis_core::{
    Events, Live, Respond,
    settle::{UntilEnd, UntilHead},
    striped::Striped,
    verdict::OkIsSuccess,
};
use tower_layer::Layer;

use super::{
    Bulkhead, BulkheadHandle, BulkheadPolicy, Deadlines, NoDeadlines,
    shared::{Setup, Shared},
};

/// Bounds the calls in flight. See the [module](super) page.
///
/// The state is the layer's: what is layered or cloned twice shares it. `J` says how long a permit
/// is held, `D` whether [deadlines](Self::deadlines) are asked for.
#[doc(alias = "ConcurrencyLimit")]
#[doc(alias = "Throttle")]
pub struct BulkheadLayer<J = UntilHead<OkIsSuccess>, D = NoDeadlines> {
    shared: Striped<Shared>,
    settle: J,
    deadlines: PhantomData<fn() -> D>,
}

impl BulkheadLayer {
    /// A bulkhead that holds a permit until the head of the answer. A [`Live`] policy can be changed
    /// from outside.
    pub fn new(policy: impl Into<Live<BulkheadPolicy>>) -> Self {
        let setup = Setup {
            name: Arc::from("bulkhead"),
            events: Events::none(),
        };
        let shared = Striped::of_arc(Shared::new(policy.into(), setup));
        Self::with(shared, UntilHead::default())
    }
}

impl<C, D> BulkheadLayer<UntilHead<C>, D> {
    /// Holds the permit to the end of the body.
    #[must_use]
    pub fn until_end(self) -> BulkheadLayer<UntilEnd<C>, D> {
        BulkheadLayer::with(self.shared, self.settle.until_end())
    }
}

impl<J> BulkheadLayer<J> {
    /// Nobody waits past the deadline in the [`Invocation`](tower_chassis_core::Invocation) of the request: who is
    /// still in the queue then is refused (`DeadlineExceeded`), and no permit goes to one who has no use for it any
    /// more. For every request that is a [`Carrier`](tower_chassis_core::Carrier). Default: only `max_wait` counts.
    #[must_use]
    pub fn deadlines(self) -> BulkheadLayer<J, Deadlines> {
        BulkheadLayer::with(self.shared, self.settle)
    }
}

impl<J, D> BulkheadLayer<J, D> {
    const fn with(shared: Striped<Shared>, settle: J) -> Self {
        Self {
            shared,
            settle,
            deadlines: PhantomData,
        }
    }

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
    pub fn respond(self) -> BulkheadLayer<Respond<J>, D> {
        BulkheadLayer::with(self.shared, Respond::new(self.settle))
    }

    /// The same settings with permits and a queue of its own.
    #[must_use]
    pub fn fresh(&self) -> Self
    where
        J: Clone,
    {
        let shared = Striped::of_arc(self.shared.fresh());
        Self::with(shared, self.settle.clone())
    }

    /// Reads what is in flight and waits, changes the settings.
    #[must_use]
    pub fn handle(&self) -> BulkheadHandle {
        BulkheadHandle(Arc::clone(self.shared.arc()))
    }

    pub(super) fn into_parts(self) -> (Striped<Shared>, J) {
        (self.shared, self.settle)
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        let shared = Striped::of_arc(self.shared.fresh_with(change));
        Self::with(shared, self.settle)
    }
}

impl<J: Clone, D> Clone for BulkheadLayer<J, D> {
    fn clone(&self) -> Self {
        Self::with(self.shared.keep(), self.settle.clone())
    }
}

impl<J, D> fmt::Debug for BulkheadLayer<J, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadLayer")
            .field("name", self.shared.name())
            .field("policy", &self.shared.common.live)
            .finish_non_exhaustive()
    }
}

impl<S, J: Clone, D> Layer<S> for BulkheadLayer<J, D> {
    type Service = Bulkhead<S, J, D>;

    fn layer(&self, inner: S) -> Self::Service {
        Bulkhead::new(inner, self.shared.keep(), self.settle.clone())
    }
}
