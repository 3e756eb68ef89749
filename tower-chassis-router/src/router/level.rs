//! One router of a tree of routers, compiled.

use std::sync::Arc;

use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{ALLOW, Entry},
};
use tower_chassis_core::{Body, Carrier, boxed::BoxFuture};

use super::{
    endpoint::{Endpoint, Match},
    error::Place,
};
use crate::matcher::{Matcher, Outcome};

pub(super) struct Level<B> {
    pub(super) matcher: Matcher<Slot<B>>,
    pub(super) not_found: Arc<dyn Endpoint<B>>,
    pub(super) method_not_allowed: Arc<dyn Endpoint<B>>,
}

/// What a level has at a place.
pub(super) struct Slot<B> {
    pub(super) endpoint: Arc<dyn Endpoint<B>>,
    pub(super) scope: u32,
    /// None for a router of ours, which knows better which of its routes is meant.
    pub(super) route: Option<u32>,
    pub(super) stub: Option<Stub>,
    pub(super) place: Place,
}

/// The three places at which a mount `p` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stub {
    /// `p`
    Bare,
    /// `p/`
    Slash,
    /// `p/*`
    Rest,
}

impl<B> Endpoint<B> for Level<B>
where
    B: Send + 'static,
{
    fn serve(&self, req: Request<B>, matched: Match<'_>) -> BoxFuture<'static, Response<Body>> {
        let mut captures = matched.captures.clone();
        let path = matched.path(&req);
        let slot = match self
            .matcher
            .find(req.method(), path, matched.at, &mut captures)
        {
            Outcome::Found { value } => value,
            Outcome::MethodNotAllowed => {
                let allow = HeaderValue::try_from(self.matcher.allow(path, matched.at));
                return with_allow(
                    self.method_not_allowed
                        .serve(req, Match { at: 0, ..matched }),
                    allow.ok(),
                );
            }
            Outcome::NotFound => return self.not_found.serve(req, Match { at: 0, ..matched }),
        };
        let at = match slot.stub {
            None => 0,
            Some(Stub::Bare) => path.len(),
            Some(Stub::Slash) => path.len().saturating_sub(1),
            // The catch-all of a mount is nobody's capture: it is where the next router goes on.
            Some(Stub::Rest) => captures
                .pop()
                .map_or(path.len(), |(rest, _)| rest.saturating_sub(1))
                .max(matched.at),
        };
        if let Some(route) = slot.route.and_then(|index| {
            let invocation = req.invocation()?;
            Some((invocation, matched.table.route(index)?))
        }) {
            route.0.set_route(route.1);
        }
        slot.endpoint.serve(
            req,
            Match {
                scope: Some(slot.scope),
                captures: &captures,
                at,
                ..matched
            },
        )
    }
}

/// A 405 must say what is allowed (RFC 9110, 15.5.6), whoever wrote it.
fn with_allow(
    answer: BoxFuture<'static, Response<Body>>,
    allow: Option<HeaderValue>,
) -> BoxFuture<'static, Response<Body>> {
    Box::pin(async move {
        let mut response = answer.await;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED
            && let Entry::Vacant(slot) = response.headers_mut().entry(ALLOW)
            && let Some(allow) = allow
        {
            slot.insert(allow);
        }
        response
    })
}
