//! Routers for some requests only: by host, by header, by query.

mod condition;
mod host;

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::Arc,
};

use http::{Method, Request, Response};
use tower_chassis_core::{Body, boxed::BoxFuture};

pub use self::condition::Condition;
pub(in crate::router) use self::host::Forwarded;
pub(crate) use self::host::HostCaptures;
use self::{
    condition::Compiled,
    host::{HostMatch, host_of, host_pattern, joined, normal, reversed},
};
use super::{
    endpoint::{Endpoint, Match},
    error::Place,
    explain::{Trail, Why},
    locate::{Located, Search},
};
use crate::{
    matcher::{Builder, Captures, Matcher, Outcome, Verdict},
    pattern::PatternError,
};

/// What a request must be for a router to see it, as it was written.
pub(in crate::router) enum Guard {
    Host(Box<str>),
    Condition(Condition),
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "host {host}"),
            Self::Condition(condition) => condition.fmt(f),
        }
    }
}

/// Routers for some requests, in front of the one for all others.
pub(in crate::router) struct Fork<B> {
    exact: HashMap<Box<str>, Guarded<B>>,
    /// Hosts with parameters and wildcards are searched as paths, with their labels from the right.
    patterns: Option<Matcher<Guarded<B>>>,
    conditions: Vec<(Compiled, Guarded<B>)>,
    forwarded: Option<Forwarded>,
    default: Arc<dyn Endpoint<B>>,
}

/// What becomes a [`Fork`].
pub(in crate::router) struct ForkBuilder<B> {
    exact: HashMap<Box<str>, Guarded<B>>,
    patterns: Builder<Guarded<B>>,
    any_pattern: bool,
    conditions: Vec<(Compiled, Guarded<B>)>,
    /// The same, as they were written.
    written: Vec<Condition>,
}

struct Guarded<B> {
    endpoint: Arc<dyn Endpoint<B>>,
    /// What its host captures, from the left, and which capture of its pattern each is.
    names: Box<[(Arc<str>, usize)]>,
    place: Place,
}

/// Why a guard was refused.
pub(in crate::router) enum Refused {
    Pattern(PatternError),
    Condition(Box<str>),
    Taken(Place),
}

impl<B> ForkBuilder<B> {
    pub(in crate::router) fn new() -> Self {
        Self {
            exact: HashMap::new(),
            patterns: Matcher::builder(),
            any_pattern: false,
            conditions: Vec::new(),
            written: Vec::new(),
        }
    }

    pub(in crate::router) fn add(
        &mut self,
        guard: Guard,
        endpoint: Arc<dyn Endpoint<B>>,
        place: Place,
    ) -> Result<(), Refused> {
        let mut guarded = Guarded {
            endpoint,
            names: Box::default(),
            place,
        };
        let host = match guard {
            Guard::Condition(condition) => {
                let mut known = self.written.iter().zip(&self.conditions);
                if let Some((_, (_, first))) = known.find(|(known, _)| **known == condition) {
                    return Err(Refused::Taken(first.place.clone()));
                }
                let compiled = Compiled::new(condition.clone()).map_err(Refused::Condition)?;
                self.conditions.push((compiled, guarded));
                self.written.push(condition);
                return Ok(());
            }
            Guard::Host(host) => host,
        };
        if let Some(host) = host_pattern(&host).map_err(Refused::Pattern)? {
            guarded.names = host.names;
            self.any_pattern = true;
            return self
                .patterns
                .insert(&host.pattern, None, guarded)
                .map_err(|first| Refused::Taken(first.place.clone()));
        }
        match self.exact.entry(normal(&host).into_owned().into()) {
            Entry::Occupied(first) => Err(Refused::Taken(first.get().place.clone())),
            Entry::Vacant(entry) => {
                entry.insert(guarded);
                Ok(())
            }
        }
    }

    /// In front of `default`, if there is anything to choose from.
    pub(in crate::router) fn over(
        self,
        default: Arc<dyn Endpoint<B>>,
        forwarded: Option<Forwarded>,
    ) -> Result<Fork<B>, Arc<dyn Endpoint<B>>> {
        if self.exact.is_empty() && !self.any_pattern && self.conditions.is_empty() {
            return Err(default);
        }
        Ok(Fork {
            exact: self.exact,
            patterns: self.any_pattern.then(|| self.patterns.build()),
            conditions: self.conditions,
            forwarded,
            default,
        })
    }
}

impl<B> Fork<B> {
    /// Who decides; none is the default.
    fn pick<T>(&self, req: &Request<T>) -> (Option<&Guarded<B>>, HostMatch) {
        if let Some((guarded, captured)) = self.by_host(req) {
            return (Some(guarded), captured);
        }
        let mut conditions = self.conditions.iter();
        let chosen = conditions.find(|(condition, _)| condition.holds(req));
        (chosen.map(|(_, guarded)| guarded), None)
    }

    fn by_host<T>(&self, req: &Request<T>) -> Option<(&Guarded<B>, HostMatch)> {
        if self.exact.is_empty() && self.patterns.is_none() {
            return None;
        }
        let host = host_of(req, self.forwarded.as_ref())?;
        let host = normal(&host);
        if let Some(guarded) = self.exact.get(&*host) {
            return Some((guarded, None));
        }
        let patterns = self.patterns.as_ref()?;
        let mut captures = Captures::new();
        let path = reversed(&host);
        let found = patterns.find(&Method::GET, &path, 0, &mut captures);
        let Outcome::Found { value: guarded } = found else {
            return None;
        };
        let values = guarded.names.iter().map(|(name, index)| {
            let (start, end) = captures.get(*index).unwrap_or_default();
            let value = path.get(start..end).unwrap_or_default();
            let value: Vec<_> = value.rsplit('/').collect();
            (Arc::clone(name), value.join(".").into())
        });
        let captured = HostCaptures(values.collect());
        Some((guarded, Some(captured)))
    }
}

impl<B: Send + 'static> Endpoint<B> for Fork<B> {
    fn serve(&self, req: Request<B>, matched: Match<'_>) -> BoxFuture<'static, Response<Body>> {
        let (guarded, captured) = self.pick(&req);
        let host = joined(matched.host, captured);
        let matched = Match {
            host: host.as_ref(),
            ..matched
        };
        let endpoint = guarded.map_or(&self.default, |guarded| &guarded.endpoint);
        endpoint.serve(req, matched)
    }

    fn locate(&self, search: &mut Search<'_>, matched: Match<'_>) -> Located {
        let (guarded, captured) = self.pick(search.req);
        let host = joined(matched.host, captured);
        let matched = Match {
            host: host.as_ref(),
            ..matched
        };
        if let Some(trail) = &mut search.trail {
            self.trace(trail, search.req, guarded);
        }
        match guarded {
            Some(guarded) => search.enter(&guarded.endpoint, matched),
            None => self.default.locate(search, matched),
        }
    }
}

impl<B> Fork<B> {
    /// Tells of every router that there is to choose from.
    fn trace<T>(&self, trail: &mut Trail, req: &Request<T>, chosen: Option<&Guarded<B>>) {
        let mut push = |guarded: &Guarded<B>, holds: bool| {
            let why = match (chosen.is_some_and(|one| std::ptr::eq(one, guarded)), holds) {
                (true, _) => Why::Enters,
                (false, true) => Why::Later,
                _ => Why::Unmet,
            };
            trail.push(&guarded.place.template, Vec::new(), why);
        };
        let mut exact: Vec<_> = self.exact.values().collect();
        exact.sort_by(|one, other| one.place.template.cmp(&other.place.template));
        exact.into_iter().for_each(|guarded| push(guarded, false));
        if let Some(patterns) = &self.patterns {
            let host = host_of(req, self.forwarded.as_ref());
            let path = reversed(&normal(host.as_deref().unwrap_or_default()));
            for tried in patterns.explain(&Method::GET, &path, 0) {
                let matches = matches!(tried.verdict, Verdict::Serves | Verdict::Later);
                let holds = matches && host.is_some();
                push(tried.value, holds);
            }
        }
        for (condition, guarded) in &self.conditions {
            push(guarded, condition.holds(req));
        }
    }
}
