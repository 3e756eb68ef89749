//! Observers of one position as one layer.

use http::Request;
use tokio::time::Instant;
use tower_chassis_core::{
    settle::{UntilEnd, UntilHead},
    verdict::{Auto, ByFn},
    wire::{Observed, Start},
};
use tower_layer::Layer;

/// Observers of one position as one layer: one judge, one reading of the clock, one body around the answer.
///
/// `P` is one observer or a tuple of up to four: the layers of this crate, or anything that implements
/// [`Start`]. They start in order. The judge is the tuple's; those of the parts are not asked.
///
/// # Example
/// ```
/// use tower_chassis_observe::{ObserveLayer, metrics::ServerMetricsLayer, trace::TraceLayer};
///
/// let layer = ObserveLayer::new((TraceLayer::new(), ServerMetricsLayer::new()));
/// ```
///
/// # Order
/// Where its parts belong: see the [crate](crate).
///
/// # Cancellation
/// Every part is told once how the call ended.
///
/// # Cost
/// Two readings of the clock for all parts, three where the answer has a body.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ObserveLayer<P, J = UntilEnd<Auto>> {
    parts: P,
    settle: J,
}

impl<P> ObserveLayer<P> {
    /// One layer of `parts`, which judges at the end of the body.
    pub const fn new(parts: P) -> Self {
        Self {
            parts,
            settle: UntilEnd::new(Auto),
        }
    }
}

impl<S, P: Clone, J: Clone> Layer<S> for ObserveLayer<P, J> {
    type Service = Observed<S, P, J>;
    fn layer(&self, inner: S) -> Self::Service {
        Observed::new(inner, self.parts.clone(), self.settle.clone())
    }
}

impl<P, C> ObserveLayer<P, UntilEnd<C>> {
    /// Judges at the head, and leaves the type of the response as it is.
    pub fn until_head(self) -> ObserveLayer<P, UntilHead<C>> {
        ObserveLayer {
            parts: self.parts,
            settle: self.settle.until_head(),
        }
    }
    /// Another judge.
    pub fn classify<D>(self, classify: D) -> ObserveLayer<P, UntilEnd<D>> {
        ObserveLayer {
            parts: self.parts,
            settle: self.settle.classify(classify),
        }
    }
    /// A closure as judge.
    pub fn classify_fn<F>(self, f: F) -> ObserveLayer<P, UntilEnd<ByFn<F>>> {
        ObserveLayer {
            parts: self.parts,
            settle: self.settle.classify_fn(f),
        }
    }
}

impl<P, C> ObserveLayer<P, UntilHead<C>> {
    /// Judges at the end of the body.
    pub fn until_end(self) -> ObserveLayer<P, UntilEnd<C>> {
        ObserveLayer {
            parts: self.parts,
            settle: self.settle.until_end(),
        }
    }
}

impl<B, P: Start<Request<B>>, J> Start<Request<B>> for ObserveLayer<P, J> {
    type Ticket = P::Ticket;
    fn start(&self, request: &mut Request<B>, now: Instant) -> P::Ticket {
        self.parts.start(request, now)
    }
}

/// The layer of one policy: it judges until the end of the body by default, and is itself a part for
/// [`ObserveLayer`].
macro_rules! observer_layer {
    ($(#[$doc:meta])* $layer:ident, $policy:ident, $(#[$service_doc:meta])* $service:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[must_use]
        pub struct $layer<J = ::tower_chassis_core::settle::UntilEnd<::tower_chassis_core::verdict::Auto>> {
            policy: $policy,
            settle: J,
        }

        $(#[$service_doc])*
        pub type $service<
            S,
            J = ::tower_chassis_core::settle::UntilEnd<::tower_chassis_core::verdict::Auto>,
        > = ::tower_chassis_core::wire::Observed<S, $policy, J>;

        impl<C> $layer<::tower_chassis_core::settle::UntilEnd<C>> {
            /// Judges at the head, and leaves the type of the response as it is.
            pub fn until_head(self) -> $layer<::tower_chassis_core::settle::UntilHead<C>> {
                $layer { policy: self.policy, settle: self.settle.until_head() }
            }
            /// Another judge.
            pub fn classify<D>(self, classify: D) -> $layer<::tower_chassis_core::settle::UntilEnd<D>> {
                $layer { policy: self.policy, settle: self.settle.classify(classify) }
            }
            /// A closure as judge.
            pub fn classify_fn<F>(
                self,
                f: F,
            ) -> $layer<::tower_chassis_core::settle::UntilEnd<::tower_chassis_core::verdict::ByFn<F>>> {
                $layer { policy: self.policy, settle: self.settle.classify_fn(f) }
            }
        }

        impl<C> $layer<::tower_chassis_core::settle::UntilHead<C>> {
            /// Judges at the end of the body.
            pub fn until_end(self) -> $layer<::tower_chassis_core::settle::UntilEnd<C>> {
                $layer { policy: self.policy, settle: self.settle.until_end() }
            }
        }

        impl<S, J: Clone> ::tower_layer::Layer<S> for $layer<J> {
            type Service = $service<S, J>;
            fn layer(&self, inner: S) -> Self::Service {
                ::tower_chassis_core::wire::Observed::new(inner, self.policy.clone(), self.settle.clone())
            }
        }

        impl<B, J> ::tower_chassis_core::wire::Start<::http::Request<B>> for $layer<J> {
            type Ticket = <$policy as ::tower_chassis_core::wire::Start<::http::Request<B>>>::Ticket;
            fn start(
                &self,
                request: &mut ::http::Request<B>,
                now: ::tokio::time::Instant,
            ) -> Self::Ticket {
                self.policy.start(request, now)
            }
        }
    };
}
