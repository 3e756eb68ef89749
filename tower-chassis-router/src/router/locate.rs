//! Which route serves a request, without running anything.

use std::sync::Arc;

use http::{HeaderValue, Request};

use super::{
    RouteInfo,
    endpoint::{Endpoint, Match},
    explain::Trail,
};
use crate::params::Params;

/// What a router would do with a request: see [`RouteService::find`](super::RouteService::find).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Found<'a> {
    /// This route serves it.
    Route {
        /// The route.
        route: &'a RouteInfo,
        /// What its pattern captures.
        params: Params,
    },
    /// The path with or without its last slash is that of a route: 308.
    Redirect {
        /// Where to, as a relative reference.
        location: String,
    },
    /// The path has routes, but none for OPTIONS: 204, by [`implicit_options`](super::Router::implicit_options).
    Options {
        /// The methods of these routes.
        allow: String,
    },
    /// The path has routes, but none with the method: 405.
    MethodNotAllowed {
        /// The methods of these routes.
        allow: String,
    },
    /// No route has the path: 404.
    NotFound,
}

impl<'a> Found<'a> {
    /// The route, if one serves it.
    #[must_use]
    pub fn route(&self) -> Option<&'a RouteInfo> {
        match self {
            Self::Route { route, .. } => Some(route),
            _ => None,
        }
    }

    pub(super) fn new(located: Located, routes: &'a [RouteInfo]) -> Self {
        match located {
            Located::Route { index, params } => match routes.get(index as usize) {
                Some(route) => Self::Route { route, params },
                None => Self::NotFound,
            },
            Located::Redirect(location) => Self::Redirect {
                location: String::from_utf8_lossy(location.as_bytes()).into_owned(),
            },
            Located::Options { allow } => Self::Options { allow },
            Located::MethodNotAllowed { allow } => Self::MethodNotAllowed { allow },
            Located::NotFound => Self::NotFound,
        }
    }
}

/// A question to a tree of routers.
#[derive(Debug)]
pub struct Search<'a> {
    pub(super) req: &'a Request<()>,
    /// What was looked at, if somebody wants to know.
    pub(super) trail: Option<Trail>,
}

impl Search<'_> {
    /// Asks a router that was entered.
    pub(super) fn enter<B>(
        &mut self,
        router: &Arc<dyn Endpoint<B>>,
        matched: Match<'_>,
    ) -> Located {
        if let Some(trail) = &mut self.trail {
            trail.depth += 1;
        }
        router.locate(self, matched)
    }
}

/// Its answer.
#[derive(Debug)]
pub enum Located {
    Route {
        /// In the list of routes.
        index: u32,
        params: Params,
    },
    Redirect(HeaderValue),
    Options {
        allow: String,
    },
    MethodNotAllowed {
        allow: String,
    },
    NotFound,
}
