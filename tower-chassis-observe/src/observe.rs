//! Observers of one position as one layer.

use tokio::time::Instant;
use tower_chassis_core::{
    clock::Entered,
    settle::{UntilEnd, UntilHead},
    verdict::{Auto, ByFn},
    wire::{Observed, Start},
};
use tower_layer::Layer;

/// Observers of one position as one layer: one judge, one reading of the clock, one body around the answer.
///
/// `P` is one observer or a tuple of up to four: the layers of this crate, or anything that implements
/// [`Start`]. They start in order. The judge is the tuple's; those of the parts are not asked. What answers
/// something else than an `http::Response` is judged [at the head](Self::until_head).
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
    /// Another judge.
    pub fn classify<D>(self, classify: D) -> ObserveLayer<P, UntilHead<D>> {
        ObserveLayer {
            parts: self.parts,
            settle: self.settle.classify(classify),
        }
    }
    /// A closure as judge.
    pub fn classify_fn<F>(self, f: F) -> ObserveLayer<P, UntilHead<ByFn<F>>> {
        ObserveLayer {
            parts: self.parts,
            settle: self.settle.classify_fn(f),
        }
    }
}

impl<Req, P: Start<Req>, J> Start<Req> for ObserveLayer<P, J> {
    type Ticket = P::Ticket;
    fn start(&self, request: &mut Req, now: Instant) -> P::Ticket {
        self.parts.start(request, now)
    }
    fn start_on_entry(&self, request: &mut Req, entry: &Entered) -> P::Ticket {
        self.parts.start_on_entry(request, entry)
    }
}

/// The layer of one policy for HTTP: it judges until the end of the body by default, and is itself a part for
/// [`ObserveLayer`].
macro_rules! observer_layer {
    ($(#[$doc:meta])* $layer:ident, $policy:ident, $settings:ty, $handle:ty, $(#[$service_doc:meta])* $service:ident) => {
        judged_layer! {
            $(#[$doc])* $layer, $policy, UntilEnd, $settings, $handle, $(#[$service_doc])* $service
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
            #[inline]
            fn start_on_entry(
                &self,
                request: &mut ::http::Request<B>,
                entry: &::tower_chassis_core::clock::Entered,
            ) -> Self::Ticket {
                self.policy.start_on_entry(request, entry)
            }
        }
    };
}

/// The layer of one policy, without its `Start`. The policy has `handle`, `fresh` and `with_policy`.
macro_rules! judged_layer {
    (
        $(#[$doc:meta])* $layer:ident, $policy:ident, $settle:ident, $settings:ty, $handle:ty,
        $(#[$service_doc:meta])* $service:ident
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[must_use]
        pub struct $layer<J = ::tower_chassis_core::settle::$settle<::tower_chassis_core::verdict::Auto>> {
            policy: $policy,
            settle: J,
        }

        $(#[$service_doc])*
        pub type $service<
            S,
            J = ::tower_chassis_core::settle::$settle<::tower_chassis_core::verdict::Auto>,
        > = ::tower_chassis_core::wire::Observed<S, $policy, J>;

        impl<J> $layer<J> {
            /// The settings: a value, or a `Live` one that can be changed from outside. To be said before the
            /// layer is used: it begins with a state of its own.
            pub fn policy(self, policy: impl Into<::tower_chassis_core::Live<$settings>>) -> Self {
                Self { policy: self.policy.with_policy(policy.into()), ..self }
            }
            /// Reads the state and changes the settings while it runs.
            #[must_use]
            pub fn handle(&self) -> $handle {
                self.policy.handle()
            }
            /// The same settings with a state of its own: what its handle counts.
            pub fn fresh(&self) -> Self
            where
                J: Clone,
            {
                Self { policy: self.policy.fresh(), settle: self.settle.clone() }
            }
        }

        impl<C> $layer<::tower_chassis_core::settle::UntilEnd<C>> {
            /// Judges at the head, and leaves the type of the response as it is.
            pub fn until_head(self) -> $layer<::tower_chassis_core::settle::UntilHead<C>> {
                $layer { policy: self.policy, settle: self.settle.until_head() }
            }
            judged_layer!(@judges $layer, UntilEnd);
        }

        impl<C> $layer<::tower_chassis_core::settle::UntilHead<C>> {
            /// Judges at the end of the body.
            pub fn until_end(self) -> $layer<::tower_chassis_core::settle::UntilEnd<C>> {
                $layer { policy: self.policy, settle: self.settle.until_end() }
            }
            judged_layer!(@judges $layer, UntilHead);
        }

        impl<S, J: Clone> ::tower_layer::Layer<S> for $layer<J> {
            type Service = $service<S, J>;
            fn layer(&self, inner: S) -> Self::Service {
                ::tower_chassis_core::wire::Observed::new(inner, self.policy.clone(), self.settle.clone())
            }
        }
    };
    (@judges $layer:ident, $settle:ident) => {
        /// Another judge.
        pub fn classify<D>(self, classify: D) -> $layer<::tower_chassis_core::settle::$settle<D>> {
            $layer { policy: self.policy, settle: self.settle.classify(classify) }
        }
        /// A closure as judge.
        pub fn classify_fn<F>(
            self,
            f: F,
        ) -> $layer<::tower_chassis_core::settle::$settle<::tower_chassis_core::verdict::ByFn<F>>> {
            $layer { policy: self.policy, settle: self.settle.classify_fn(f) }
        }
    };
}
