//! Routers for some requests only: by host, by header, by query.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use http::{
    HeaderName, Method, Request, Response,
    header::{FORWARDED, HOST},
    uri::Authority,
};
use tower_chassis_core::{Body, Carrier, boxed::BoxFuture};

use super::{
    endpoint::{Endpoint, Match},
    error::Place,
    explain::{Trail, Why},
    locate::{Located, Search},
};
use crate::{
    matcher::{Builder, Captures, Matcher, Outcome, Verdict},
    pattern::{Pattern, PatternError},
    percent,
    rules::{HeaderMatch, Test, ValueMatch},
};

/// What a request must be for a router to see it, as it was written.
pub(super) enum Guard {
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

/// What a request must have for [`Router::when`](super::Router::when): headers, parameters of the query, or
/// several of these at once.
///
/// ```
/// use tower_chassis_core::Body;
/// use tower_chassis_router::{Condition, Router, get, rules::{HeaderMatch, ValueMatch}};
///
/// # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
/// let beta = Condition::header(HeaderMatch::prefix("accept", "application/vnd.shop.v2"))
///     .and(Condition::query("beta", ValueMatch::Present));
/// let app = Router::<Body>::new()
///     .when(beta, Router::new().route("/items", get(|| async { "the new list" })))
///     .route("/items", get(|| async { "the list" }))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Header(HeaderMatch),
    Query { name: String, value: ValueMatch },
}

impl Condition {
    /// The request has this header. Of several values, one must do.
    #[must_use]
    pub fn header(header: HeaderMatch) -> Self {
        Self(vec![Term::Header(header)])
    }

    /// The query has a parameter of this name and value, both decoded as a form's are. Of several, one must do.
    #[must_use]
    pub fn query(name: impl Into<String>, value: ValueMatch) -> Self {
        let name = name.into();
        Self(vec![Term::Query { name, value }])
    }

    /// Both this and the other.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.0.iter().enumerate() {
            let (what, name, value) = match term {
                Term::Header(header) => ("header", &header.name, &header.value),
                Term::Query { name, value } => ("query", name, value),
            };
            write!(f, "{}{what} {name}", if index == 0 { "" } else { " and " })?;
            match value {
                ValueMatch::Exact(value) => write!(f, "={value}")?,
                ValueMatch::Prefix(value) => write!(f, "={value}*")?,
                ValueMatch::Regex(value) => write!(f, "~{value}")?,
                ValueMatch::Present => {}
            }
        }
        Ok(())
    }
}

/// A [`Condition`], compiled.
struct Compiled(Vec<(Field, Test)>);

enum Field {
    Header(HeaderName),
    Query(Box<[u8]>),
}

impl Compiled {
    fn new(condition: Condition) -> Result<Self, Box<str>> {
        let compile = |value: ValueMatch| {
            Test::new(value).map_err(|error| -> Box<str> {
                format!("must be a small expression: {error}").into()
            })
        };
        let terms = condition.0.into_iter().map(|term| match term {
            Term::Header(header) => match HeaderName::try_from(&header.name) {
                Ok(name) => Ok((Field::Header(name), compile(header.value)?)),
                Err(_) => Err(format!("`{}` is no name of a header", header.name).into()),
            },
            Term::Query { name, value } => {
                let name = name.into_bytes().into_boxed_slice();
                Ok((Field::Query(name), compile(value)?))
            }
        });
        terms.collect::<Result<_, _>>().map(Self)
    }

    fn holds<T>(&self, req: &Request<T>) -> bool {
        self.0.iter().all(|(field, test)| match field {
            Field::Header(name) => {
                let mut values = req.headers().get_all(name).iter();
                values.any(|value| test.accepts(value.as_bytes()))
            }
            Field::Query(name) => {
                let mut pairs = req.uri().query().unwrap_or_default().split('&');
                pairs.any(|pair| {
                    let (known, value) = pair.split_once('=').unwrap_or((pair, ""));
                    *form(known) == **name && test.accepts(&form(value))
                })
            }
        })
    }
}

/// Decodes a part of a form: escapes, and `+` for a space.
fn form(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        Cow::Owned(percent::decode(text.replace('+', "%20").as_bytes()).into_owned())
    } else {
        percent::decode(text.as_bytes())
    }
}

/// Whose word on the host is believed, besides the client's.
#[derive(Clone)]
pub(super) struct Forwarded {
    pub(super) header: HeaderName,
    pub(super) trusted: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

/// What a host captured: names and values.
#[derive(Debug)]
pub(crate) struct HostCaptures(Vec<(Arc<str>, Box<str>)>);

impl HostCaptures {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut captures = self.0.iter().rev();
        captures.find_map(|(known, value)| (**known == *name).then_some(&**value))
    }
}

/// Routers for some requests, in front of the one for all others.
pub(super) struct Fork<B> {
    exact: HashMap<Box<str>, Guarded<B>>,
    /// Hosts with parameters and wildcards are searched as paths, with their labels from the right.
    patterns: Option<Matcher<Guarded<B>>>,
    conditions: Vec<(Compiled, Guarded<B>)>,
    forwarded: Option<Forwarded>,
    default: Arc<dyn Endpoint<B>>,
}

/// What becomes a [`Fork`].
pub(super) struct ForkBuilder<B> {
    exact: HashMap<Box<str>, Guarded<B>>,
    patterns: Builder<Guarded<B>>,
    any_pattern: bool,
    conditions: Vec<(Compiled, Guarded<B>)>,
}

struct Guarded<B> {
    endpoint: Arc<dyn Endpoint<B>>,
    names: Box<[Arc<str>]>,
    place: Place,
}

/// Why a guard was refused.
pub(super) enum Refused {
    Pattern(PatternError),
    Condition(Box<str>),
    Taken(Place),
}

impl<B> ForkBuilder<B> {
    pub(super) fn new() -> Self {
        Self {
            exact: HashMap::new(),
            patterns: Matcher::builder(),
            any_pattern: false,
            conditions: Vec::new(),
        }
    }

    pub(super) fn add(
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
                let compiled = Compiled::new(condition).map_err(Refused::Condition)?;
                self.conditions.push((compiled, guarded));
                return Ok(());
            }
            Guard::Host(host) => host,
        };
        if let Some(pattern) = host_pattern(&host).map_err(Refused::Pattern)? {
            guarded.names = pattern.names().map(Arc::from).collect();
            self.any_pattern = true;
            return self
                .patterns
                .insert(&pattern, None, guarded)
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
    pub(super) fn over(
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
        let values = guarded.names.iter().enumerate().map(|(index, name)| {
            let (start, end) = captures.get(index).unwrap_or_default();
            let value = path.get(start..end).unwrap_or_default();
            let value: Vec<_> = value.rsplit('/').collect();
            (Arc::clone(name), value.join(".").into())
        });
        let captured = HostCaptures(values.collect());
        Some((guarded, Some(captured)))
    }
}

type HostMatch = Option<HostCaptures>;

/// Adds up what the hosts of nested routers captured.
fn joined(outer: Option<&Arc<HostCaptures>>, inner: HostMatch) -> Option<Arc<HostCaptures>> {
    let Some(mut inner) = inner.filter(|captured| !captured.0.is_empty()) else {
        return outer.cloned();
    };
    if let Some(outer) = outer {
        inner.0.splice(0..0, outer.0.iter().cloned());
    }
    Some(Arc::new(inner))
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
            let host = host_of(req, self.forwarded.as_ref()).unwrap_or_default();
            let path = reversed(&normal(&host));
            for tried in patterns.explain(&Method::GET, &path, 0) {
                let holds = matches!(tried.verdict, Verdict::Serves | Verdict::Later);
                push(tried.value, holds);
            }
        }
        for (condition, guarded) in &self.conditions {
            push(guarded, condition.holds(req));
        }
    }
}

/// The host that a request asks for: that of a proxy that is trusted, the authority, the `Host` header, in
/// this order. None where there is more than one header.
fn host_of<'a, T>(req: &'a Request<T>, forwarded: Option<&Forwarded>) -> Option<Cow<'a, str>> {
    if let Some(forwarded) = forwarded
        && let Some(client) = req.invocation().and_then(|invocation| invocation.client())
        && (forwarded.trusted)(client.ip())
        && let Some(host) = last_forwarded(req, &forwarded.header)
    {
        return Some(Cow::Borrowed(host));
    }
    if let Some(host) = req.uri().host() {
        return Some(Cow::Borrowed(host));
    }
    let mut values = req.headers().get_all(HOST).iter();
    let (Some(host), None) = (values.next(), values.next()) else {
        return None;
    };
    let host: Authority = host.to_str().ok()?.parse().ok()?;
    Some(Cow::Owned(host.host().to_owned()))
}

/// What the nearest proxy wrote: it is the last.
fn last_forwarded<'a, T>(req: &'a Request<T>, header: &HeaderName) -> Option<&'a str> {
    let mut values = req.headers().get_all(header).iter();
    let last = values
        .next_back()?
        .to_str()
        .ok()?
        .rsplit(',')
        .next()?
        .trim();
    let host = if *header == FORWARDED {
        last.split(';').find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            name.eq_ignore_ascii_case("host")
                .then(|| value.trim_matches('"'))
        })?
    } else {
        last
    };
    (!host.is_empty()).then(|| without_port(host))
}

fn without_port(host: &str) -> &str {
    let end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    host.get(..end).unwrap_or(host)
}

/// Lower case, without the dot of the root.
fn normal(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// `a.example.com` as `/com/example/a`.
fn reversed(host: &str) -> String {
    let mut path = String::with_capacity(host.len() + 1);
    for label in host.rsplit('.') {
        path.push('/');
        path.push_str(label);
    }
    path
}

/// The pattern of the labels of `host` from the right; none if it stands for itself.
fn host_pattern(host: &str) -> Result<Option<Pattern>, PatternError> {
    let moved = |error: PatternError, at: usize| {
        PatternError::new(
            error.kind().clone(),
            host,
            (at + error.offset()).saturating_sub(1),
        )
    };
    if host.is_empty() || !host.contains(['{', '}', '*']) {
        return match host {
            "" => Pattern::parse("").map(Some),
            _ => Ok(None),
        };
    }
    // One label after the other, so that a fault is told where it stands.
    let mut labels = Vec::new();
    let mut start = 0;
    for label in labels_of(host) {
        let text = format!("/{}", lower(label));
        let pattern = Pattern::parse(&text).map_err(|error| moved(error, start))?;
        if pattern.is_catch_all() && start > 0 {
            // Only the first label can stand for several.
            let kind = crate::pattern::PatternErrorKind::WildcardNotLast;
            return Err(PatternError::new(kind, host, start));
        }
        labels.push(text);
        start += label.len() + 1;
    }
    labels.reverse();
    let whole = labels.concat();
    Pattern::parse(&whole)
        .map(Some)
        .map_err(|error| PatternError::new(error.kind().clone(), host, 0))
}

/// What stands between the dots that are not inside of braces.
fn labels_of(host: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0u32;
    host.strip_suffix('.')
        .unwrap_or(host)
        .split(move |c: char| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == '.' && depth == 0
        })
}

/// Lower case, but for what stands in braces.
fn lower(label: &str) -> String {
    let mut depth = 0u32;
    let lower = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 => return c.to_ascii_lowercase(),
            _ => {}
        }
        c
    };
    label.chars().map(lower).collect()
}
