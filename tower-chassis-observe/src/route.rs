//! What a route is called: by our router, or by axum's.

use http::{Extensions, Request};
use tower_chassis_core::{
    Carrier,
    invocation::{MatchedRoute, RouteSlot},
};

#[cfg(feature = "axum")]
use ::axum::extract::MatchedPath;

/// What another router matched before the call came to this layer.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    #[cfg(feature = "axum")]
    matched: Option<MatchedPath>,
}

impl Foreign {
    /// As the extensions of a request say it.
    #[cfg_attr(
        not(feature = "axum"),
        allow(clippy::missing_const_for_fn, reason = "the same with the feature")
    )]
    pub(crate) fn of(extensions: &Extensions) -> Self {
        #[cfg(not(feature = "axum"))]
        let _ = extensions;
        Self {
            #[cfg(feature = "axum")]
            matched: extensions.get().cloned(),
        }
    }

    fn template(&self) -> Option<&str> {
        #[cfg(feature = "axum")]
        let matched = self.matched.as_ref().map(MatchedPath::as_str);
        #[cfg(not(feature = "axum"))]
        let matched = None;
        matched
    }
}

/// Where the template of a call's route is found, also after the call is over.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    slot: RouteSlot,
    foreign: Foreign,
}

impl Route {
    /// The route of a request, which need not have been matched yet.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Self {
        let foreign = Foreign::of(request.extensions());
        Self::new(request.invocation_mut().route_slot(), foreign)
    }

    /// The same for who has the invocation in his hands.
    pub(crate) const fn new(slot: RouteSlot, foreign: Foreign) -> Self {
        Self { slot, foreign }
    }

    /// What our router says, and what else is found out further in.
    pub(crate) const fn slot(&self) -> &RouteSlot {
        &self.slot
    }

    /// What axum says, where our router says nothing.
    pub(crate) fn foreign(&self) -> Option<&str> {
        match self.slot.get() {
            Some(_) => None,
            None => self.foreign.template(),
        }
    }

    /// The template, whoever says it.
    pub(crate) fn template(&self) -> Option<&str> {
        match self.slot.get() {
            Some(route) => Some(MatchedRoute::template(route)),
            None => self.foreign.template(),
        }
    }
}
