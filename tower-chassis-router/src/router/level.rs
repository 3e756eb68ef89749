//! One router of a tree of routers, compiled.

use std::sync::Arc;

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, Entry, LOCATION},
};
use tower_chassis_core::{Body, Carrier, boxed::BoxFuture};

use super::{
    endpoint::{Endpoint, Match},
    error::Place,
    explain::{Trail, Why},
    locate::{Located, Search},
    slash::{self, TrailingSlash},
};
use crate::matcher::{self, Captures, Matcher, Outcome, Tried};

pub(super) struct Level<B> {
    pub(super) matcher: Matcher<Slot<B>>,
    pub(super) implicit_options: bool,
    pub(super) trailing_slash: TrailingSlash,
    pub(super) not_found: Arc<dyn Endpoint<B>>,
    pub(super) method_not_allowed: Arc<dyn Endpoint<B>>,
}

/// What a level has at a place.
pub(super) struct Slot<B> {
    pub(super) endpoint: Arc<dyn Endpoint<B>>,
    pub(super) scope: u32,
    /// None for a router of ours, which knows better which of its routes is meant.
    pub(super) route: Option<Numbers>,
    pub(super) stub: Option<Stub>,
    pub(super) place: Place,
}

/// Where a route is known under which number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    /// In the table of templates.
    pub(super) template: u32,
    /// In the list of routes.
    pub(super) listed: u32,
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

/// What a level makes of a request.
enum Verdict<'a, B> {
    Slot {
        slot: &'a Slot<B>,
        /// Where a router below goes on.
        at: usize,
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

impl<B> Level<B> {
    fn verdict(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        from: usize,
        captures: &mut Captures,
    ) -> Verdict<'_, B> {
        match self.matcher.find(method, path, from, captures) {
            Outcome::Found { value: slot } => Verdict::Slot {
                slot,
                at: slot.rest(path.len(), from, captures),
            },
            Outcome::MethodNotAllowed => self.not_allowed(method, path, from),
            Outcome::NotFound if self.trailing_slash == TrailingSlash::Exact => Verdict::NotFound,
            Outcome::NotFound => self.respelled(method, path, query, from, captures),
        }
    }

    /// The path is not found; perhaps it is with its other spelling.
    fn respelled(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        from: usize,
        captures: &mut Captures,
    ) -> Verdict<'_, B> {
        let Some(other) = slash::other(path, from) else {
            return Verdict::NotFound;
        };
        let redirects = self.trailing_slash == TrailingSlash::Redirect;
        match self.matcher.find(method, &other, from, captures) {
            Outcome::Found { .. } if redirects => {
                slash::location(path, query).map_or(Verdict::NotFound, Verdict::Redirect)
            }
            Outcome::Found { value: slot } => {
                let at = slot.rest(other.len(), from, captures).min(path.len());
                slash::clip(captures, path.len());
                Verdict::Slot { slot, at }
            }
            Outcome::MethodNotAllowed if !redirects => self.not_allowed(method, &other, from),
            _ => Verdict::NotFound,
        }
    }

    /// Tells of every place that is looked at.
    fn trace(&self, trail: &mut Trail, method: &Method, path: &str, from: usize) {
        let tried = self.matcher.explain(method, path, from);
        let mut decided = tried
            .iter()
            .filter(|tried| tried.verdict == matcher::Verdict::Serves);
        let serving = decided.next().map(|tried| &tried.value.place);
        let seen = path.get(from..).unwrap_or_default();
        let missed = |tried: &Tried<'_, Slot<B>>| {
            use matcher::Verdict::{Later, Method, Serves};
            !matches!(tried.verdict, Serves | Later | Method)
        };
        let respelled = match self.trailing_slash {
            TrailingSlash::Exact => None,
            _ if !tried.iter().all(missed) => None,
            _ => slash::other(path, from),
        };
        for tried in tried {
            let Slot { place, stub, .. } = tried.value;
            let serves = tried.verdict == matcher::Verdict::Serves;
            // A mount is one candidate, not three.
            let again = match stub {
                None => false,
                Some(Stub::Rest) => !serves && serving.is_some_and(|one| one.is(place)),
                Some(Stub::Bare | Stub::Slash) => !serves,
            };
            if again {
                continue;
            }
            let why = match Why::of(tried.verdict, seen) {
                Why::Serves if tried.value.route.is_none() => Why::Enters,
                why => why,
            };
            trail.push(&place.template, tried.methods, why);
        }
        if let Some(other) = respelled {
            let path: Box<str> = other.get(from..).unwrap_or_default().into();
            trail.push(&Arc::from(&*path), Vec::new(), Why::Respelled { path });
            let from = from.min(other.len());
            for tried in self.matcher.explain(method, &other, from) {
                if matches!(
                    tried.verdict,
                    matcher::Verdict::Serves | matcher::Verdict::Method
                ) {
                    let enters = self.trailing_slash == TrailingSlash::Both;
                    let why = match Why::of(tried.verdict, &other) {
                        Why::Serves if enters && tried.value.route.is_none() => Why::Enters,
                        why => why,
                    };
                    trail.push(&tried.value.place.template, tried.methods, why);
                }
            }
        }
    }

    fn not_allowed(&self, method: &Method, path: &str, from: usize) -> Verdict<'_, B> {
        let allow = self.matcher.allow(path, from);
        if !self.implicit_options {
            return Verdict::MethodNotAllowed { allow };
        }
        let mut methods: Vec<_> = allow.split(", ").filter(|name| !name.is_empty()).collect();
        if let Err(place) = methods.binary_search(&"OPTIONS") {
            methods.insert(place, "OPTIONS");
        }
        let allow = methods.join(", ");
        if *method == Method::OPTIONS {
            Verdict::Options { allow }
        } else {
            Verdict::MethodNotAllowed { allow }
        }
    }
}

impl<B> Slot<B> {
    /// Where the next router goes on in a path of `len` bytes.
    fn rest(&self, len: usize, from: usize, captures: &mut Captures) -> usize {
        match self.stub {
            None => 0,
            Some(Stub::Bare) => len,
            Some(Stub::Slash) => len.saturating_sub(1),
            // The catch-all of a mount is nobody's capture: it is where the next router goes on.
            Some(Stub::Rest) => captures
                .pop()
                .map_or(len, |(rest, _)| rest.saturating_sub(1))
                .max(from),
        }
    }
}

impl<B> Endpoint<B> for Level<B>
where
    B: Send + 'static,
{
    fn serve(&self, req: Request<B>, matched: Match<'_>) -> BoxFuture<'static, Response<Body>> {
        let mut captures = matched.captures.clone();
        let path = matched.path(&req);
        let query = req.uri().query();
        let (slot, at) = match self.verdict(req.method(), path, query, matched.at, &mut captures) {
            Verdict::Slot { slot, at } => (slot, at),
            Verdict::Redirect(location) => {
                let mut response = status(StatusCode::PERMANENT_REDIRECT);
                response.headers_mut().insert(LOCATION, location);
                return Box::pin(std::future::ready(response));
            }
            Verdict::Options { allow } => {
                let mut response = status(StatusCode::NO_CONTENT);
                if let Ok(allow) = HeaderValue::try_from(allow) {
                    response.headers_mut().insert(ALLOW, allow);
                }
                return Box::pin(std::future::ready(response));
            }
            Verdict::MethodNotAllowed { allow } => {
                return with_allow(
                    self.method_not_allowed
                        .serve(req, Match { at: 0, ..matched }),
                    HeaderValue::try_from(allow).ok(),
                );
            }
            Verdict::NotFound => {
                return self.not_found.serve(req, Match { at: 0, ..matched });
            }
        };
        if let Some(route) = slot.route.and_then(|numbers| {
            let invocation = req.invocation()?;
            Some((invocation, matched.table.route(numbers.template)?))
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

    fn locate(&self, search: &mut Search<'_>, matched: Match<'_>) -> Located {
        let mut captures = matched.captures.clone();
        let req = search.req;
        let path = matched.path(req);
        let query = req.uri().query();
        if let Some(trail) = &mut search.trail {
            self.trace(trail, req.method(), path, matched.at);
        }
        match self.verdict(req.method(), path, query, matched.at, &mut captures) {
            Verdict::Slot { slot, at } => {
                let matched = Match {
                    scope: Some(slot.scope),
                    route: slot.route.map(|numbers| numbers.template),
                    captures: &captures,
                    at,
                    ..matched
                };
                match slot.route {
                    None => search.enter(&slot.endpoint, matched),
                    Some(numbers) => Located::Route {
                        index: numbers.listed,
                        params: matched.params(req),
                    },
                }
            }
            Verdict::Redirect(location) => Located::Redirect(location),
            Verdict::Options { allow } => Located::Options { allow },
            Verdict::MethodNotAllowed { allow } => Located::MethodNotAllowed { allow },
            Verdict::NotFound => Located::NotFound,
        }
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
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
