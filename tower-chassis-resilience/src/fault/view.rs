//! What the layer reads of a request.

use std::borrow::Cow;

use tower_chassis_core::{Carrier, Deadline, Invocation};

use crate::{dice, mirror::is_shadow};

/// What rules may ask of a request.
///
/// [`ByCarrier`] does it for every [`Carrier`]; a request that is none needs an implementation of its own, whose
/// methods may all stay as they are.
pub trait View<Req>: Clone {
    /// The id of the call, the same on all hops and attempts. Without one, calls are chosen by their turn.
    fn id<'a>(&self, request: &'a Req) -> Option<Cow<'a, str>> {
        let _ = request;
        None
    }
    /// The number of the attempt, from 1.
    fn attempt(&self, request: &Req) -> u32 {
        let _ = request;
        1
    }
    /// When the call must be over.
    fn deadline(&self, request: &Req) -> Option<Deadline> {
        let _ = request;
        None
    }
    /// The service that is called.
    fn service<'a>(&self, request: &'a Req) -> Option<&'a str> {
        let _ = request;
        None
    }
    /// What is asked for, in the terms of the protocol.
    fn operation<'a>(&self, request: &'a Req) -> Cow<'a, str> {
        let _ = request;
        Cow::Borrowed("")
    }
    /// The path that is asked for, where the protocol has one.
    fn path<'a>(&self, request: &'a Req) -> Option<&'a str> {
        let _ = request;
        None
    }
    /// Metadata that came over the wire.
    fn meta<'a>(&self, request: &'a Req, name: &str) -> Option<&'a str> {
        let _ = (request, name);
        None
    }
    /// Whether it never gets a fault.
    fn is_excluded(&self, request: &Req) -> bool {
        let _ = request;
        false
    }
    /// Whether its peer may ask for faults by its headers.
    fn is_trusted(&self, request: &Req) -> bool {
        let _ = request;
        false
    }
    /// What else the rule of this name asks.
    fn matches(&self, rule: &str, request: &Req) -> bool {
        let _ = (rule, request);
        true
    }
}

/// Reads what a [`Carrier`] shows. Copies that a mirror made are excluded.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByCarrier;

impl<Req: Carrier> View<Req> for ByCarrier {
    fn id<'a>(&self, request: &'a Req) -> Option<Cow<'a, str>> {
        dice::id_of(request).map(Cow::Borrowed)
    }
    fn attempt(&self, request: &Req) -> u32 {
        request.invocation().map_or(1, Invocation::attempt)
    }
    fn deadline(&self, request: &Req) -> Option<Deadline> {
        request.invocation().and_then(Invocation::deadline)
    }
    fn service<'a>(&self, request: &'a Req) -> Option<&'a str> {
        request.invocation().and_then(Invocation::service)
    }
    fn operation<'a>(&self, request: &'a Req) -> Cow<'a, str> {
        request.operation()
    }
    fn path<'a>(&self, request: &'a Req) -> Option<&'a str> {
        request.path()
    }
    fn meta<'a>(&self, request: &'a Req, name: &str) -> Option<&'a str> {
        request.meta(name)
    }
    fn is_excluded(&self, request: &Req) -> bool {
        is_shadow(request)
    }
}

/// Passes the questions named on to the view inside.
macro_rules! delegate {
    ($Req:ty: $($method:ident)*) => { $(delegate!(@$method $Req);)* };
    (@id $Req:ty) => {
        fn id<'a>(&self, request: &'a $Req) -> Option<Cow<'a, str>> {
            self.inner.id(request)
        }
    };
    (@rest $Req:ty) => {
        fn attempt(&self, request: &$Req) -> u32 {
            self.inner.attempt(request)
        }
        fn deadline(&self, request: &$Req) -> Option<Deadline> {
            self.inner.deadline(request)
        }
        fn service<'a>(&self, request: &'a $Req) -> Option<&'a str> {
            self.inner.service(request)
        }
        fn operation<'a>(&self, request: &'a $Req) -> Cow<'a, str> {
            self.inner.operation(request)
        }
        fn path<'a>(&self, request: &'a $Req) -> Option<&'a str> {
            self.inner.path(request)
        }
        fn meta<'a>(&self, request: &'a $Req, name: &str) -> Option<&'a str> {
            self.inner.meta(request, name)
        }
    };
    (@is_excluded $Req:ty) => {
        fn is_excluded(&self, request: &$Req) -> bool {
            self.inner.is_excluded(request)
        }
    };
    (@is_trusted $Req:ty) => {
        fn is_trusted(&self, request: &$Req) -> bool {
            self.inner.is_trusted(request)
        }
    };
    (@matches $Req:ty) => {
        fn matches(&self, rule: &str, request: &$Req) -> bool {
            self.inner.matches(rule, request)
        }
    };
}

/// A view with another id. Made by [`FaultLayer::request_id`](super::FaultLayer::request_id).
#[derive(Clone, Copy, Debug)]
pub struct WithId<V, F> {
    pub(super) inner: V,
    pub(super) id: F,
}

impl<Req, V, F> View<Req> for WithId<V, F>
where
    V: View<Req>,
    F: Fn(&Req) -> Option<String> + Clone,
{
    fn id<'a>(&self, request: &'a Req) -> Option<Cow<'a, str>> {
        (self.id)(request).map(Cow::Owned)
    }
    delegate!(Req: rest is_excluded is_trusted matches);
}

/// A view with more exclusions. Made by [`FaultLayer::exclude`](super::FaultLayer::exclude).
#[derive(Clone, Copy, Debug)]
pub struct Excluding<V, F> {
    pub(super) inner: V,
    pub(super) excluded: F,
}

impl<Req, V, F> View<Req> for Excluding<V, F>
where
    V: View<Req>,
    F: Fn(&Req) -> bool + Clone,
{
    fn is_excluded(&self, request: &Req) -> bool {
        (self.excluded)(request) || self.inner.is_excluded(request)
    }
    delegate!(Req: id rest is_trusted matches);
}

/// A view that knows trusted peers. Made by [`FaultLayer::trusted`](super::FaultLayer::trusted).
#[derive(Clone, Copy, Debug)]
pub struct Trusting<V, F> {
    pub(super) inner: V,
    pub(super) trusted: F,
}

impl<Req, V, F> View<Req> for Trusting<V, F>
where
    V: View<Req>,
    F: Fn(&Req) -> bool + Clone,
{
    fn is_trusted(&self, request: &Req) -> bool {
        (self.trusted)(request)
    }
    delegate!(Req: id rest is_excluded matches);
}

/// A view that asks more for a rule. Made by [`FaultLayer::matching`](super::FaultLayer::matching).
#[derive(Clone, Debug)]
pub struct Matching<V, F> {
    pub(super) inner: V,
    pub(super) rule: std::sync::Arc<str>,
    pub(super) matches: F,
}

impl<Req, V, F> View<Req> for Matching<V, F>
where
    V: View<Req>,
    F: Fn(&Req) -> bool + Clone,
{
    fn matches(&self, rule: &str, request: &Req) -> bool {
        (*self.rule != *rule || (self.matches)(request)) && self.inner.matches(rule, request)
    }
    delegate!(Req: id rest is_excluded is_trusted);
}
