//! What a route is called: by our router, or by axum's.

use http::Request;
use tower_chassis_core::{Carrier, invocation::RouteSlot};

#[cfg(feature = "axum")]
use ::axum::extract::MatchedPath;

/// Where the template of a call's route is found, also after the call is over.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    slot: RouteSlot,
    /// What axum matched before it came to this layer.
    #[cfg(feature = "axum")]
    matched: Option<MatchedPath>,
}

impl Route {
    /// The route of a request, which need not have been matched yet.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Self {
        Self {
            #[cfg(feature = "axum")]
            matched: request.extensions().get().cloned(),
            slot: request.invocation_mut().route_slot(),
        }
    }

    /// What our router says, and what else is found out further in.
    pub(crate) const fn slot(&self) -> &RouteSlot {
        &self.slot
    }

    /// What axum says, where our router says nothing.
    pub(crate) fn foreign(&self) -> Option<&str> {
        if self.slot.get().is_some() {
            return None;
        }
        #[cfg(feature = "axum")]
        let matched = self.matched.as_ref().map(MatchedPath::as_str);
        #[cfg(not(feature = "axum"))]
        let matched = None;
        matched
    }
}
