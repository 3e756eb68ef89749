//! From a description to a service.

use std::{panic::Location, sync::Arc};

use http::StatusCode;

use super::{
    RouteInfo, RouteService, Router,
    describe::{Item, Policy, Target, WrongMethod},
    endpoint::{Endpoint, Function},
    error::{BuildError, BuildErrors, Place},
    guard::{ForkBuilder, Forwarded, Guard, Refused},
    layered::{Wrapper, wrap},
    level::{Level, Numbers, Slot, Stub},
    listing::Above,
    method::{End, MethodRouter},
    service::Inner,
    table::Table,
    url::{self, Urls},
};
use crate::{
    extract::States,
    matcher::{Builder, Matcher},
    pattern::{Pattern, PatternError, PatternErrorKind},
};

impl<B: Send + 'static> Router<B> {
    /// Compiles the description.
    ///
    /// # Errors
    ///
    /// All faults at once: patterns that cannot be read, methods that one place has twice, mounts and
    /// routes that claim one place, fallbacks that were merged into each other.
    pub fn build(self) -> Result<RouteService<B>, BuildErrors> {
        let (service, faults) = compile(self);
        if faults.is_empty() {
            Ok(service)
        } else {
            Err(BuildErrors::new(faults))
        }
    }
}

impl<B: Send + 'static> Default for RouteService<B> {
    /// No routes: 404 for everything.
    fn default() -> Self {
        compile(Router::new()).0
    }
}

/// The service, and what is wrong with it.
fn compile<B: Send + 'static>(router: Router<B>) -> (RouteService<B>, Vec<BuildError>) {
    let mut build = Build::default();
    let inherited = Inherited {
        not_found: fixed(StatusCode::NOT_FOUND),
        method_not_allowed: fixed(StatusCode::METHOD_NOT_ALLOWED),
        policy: Policy::NONE,
        states: States::NONE,
        forwarded: None,
    };
    let entry = build.level(router, Scope::default(), &inherited);
    build.table.fill(build.templates, build.names);
    let service = RouteService::new(Inner {
        entry,
        table: build.table,
        routes: build.routes,
        urls: build.urls,
    });
    (service, build.faults)
}

fn fixed<B: Send + 'static>(status: StatusCode) -> Arc<dyn Endpoint<B>> {
    Arc::new(Function::new(move || async move { status }, (), None))
}

#[derive(Default)]
struct Build {
    table: Arc<Table>,
    templates: Vec<Arc<str>>,
    names: Vec<Vec<Arc<str>>>,
    routes: Vec<RouteInfo>,
    urls: Urls,
    faults: Vec<BuildError>,
}

/// How a level is reached.
#[derive(Clone, Default)]
struct Scope {
    above: Above,
    names: Vec<Arc<str>>,
    levels: Vec<url::Level>,
}

impl Scope {
    fn below(&self, path: &str, pattern: &Pattern) -> Self {
        let names = self.names.iter().cloned();
        let levels = self.levels.iter().cloned();
        Self {
            above: self.above.prefixed(path),
            names: names.chain(pattern.names().map(Arc::from)).collect(),
            levels: levels.chain([url::Level::new(pattern)]).collect(),
        }
    }

    fn place(&self, location: &'static Location<'static>) -> Place {
        Place {
            location,
            template: self.above.template.as_str().into(),
        }
    }
}

/// What a level takes from its parent where it has nothing of its own.
struct Inherited<B> {
    not_found: Arc<dyn Endpoint<B>>,
    method_not_allowed: Arc<dyn Endpoint<B>>,
    policy: Policy,
    states: States,
    forwarded: Option<Forwarded>,
}

/// A mount or a guarded router: what is there, the layers around it, who registered it.
type Mounted<B, T> = (T, Vec<Wrapper<B>>, &'static Location<'static>);

impl Build {
    fn level<B: Send + 'static>(
        &mut self,
        router: Router<B>,
        mut scope: Scope,
        inherited: &Inherited<B>,
    ) -> Arc<dyn Endpoint<B>> {
        self.faults.extend(router.faults);
        scope.above = scope.above.layered(&router.layers);
        let mut states = router.states;
        states.inherit(&inherited.states);
        let mut or_inherited =
            |own: Option<End<B>>, what, inherited: &Arc<dyn Endpoint<B>>| match own {
                Some(end) => self.fallback(end, what, &states),
                None => Arc::clone(inherited),
            };
        let own = Inherited {
            not_found: or_inherited(router.not_found, "the fallback", &inherited.not_found),
            method_not_allowed: or_inherited(
                router.method_not_allowed,
                "the fallback for 405",
                &inherited.method_not_allowed,
            ),
            policy: router.policy.or(inherited.policy),
            states,
            forwarded: router.forwarded.or_else(|| inherited.forwarded.clone()),
        };
        let mut matcher = matcher(own.policy);
        let mut fork = ForkBuilder::new();
        for item in router.items {
            match item {
                Item::Route {
                    path,
                    methods,
                    location,
                } => self.route(&mut matcher, &scope, &own, &path, (methods, location)),
                Item::Mount {
                    prefix,
                    target,
                    layers,
                    location,
                } => self.mount(
                    &mut matcher,
                    &scope,
                    &own,
                    &prefix,
                    (target, layers, location),
                ),
                Item::Guarded {
                    guard,
                    router,
                    layers,
                    location,
                } => self.guarded(&mut fork, &scope, &own, guard, (*router, layers, location)),
            }
        }
        let level: Arc<dyn Endpoint<B>> = Arc::new(Level {
            matcher: matcher.build(),
            implicit_options: own.policy.implicit_options.unwrap_or_default(),
            trailing_slash: own.policy.trailing_slash.unwrap_or_default(),
            not_found: own.not_found,
            method_not_allowed: own.method_not_allowed,
        });
        let entry = match fork.over(level, own.forwarded) {
            Ok(fork) => Arc::new(fork),
            Err(level) => level,
        };
        wrap(entry, &router.layers, &self.table, &RouteInfo::none())
    }

    fn fallback<B: Send + 'static>(
        &mut self,
        mut end: End<B>,
        what: &'static str,
        states: &States,
    ) -> Arc<dyn Endpoint<B>> {
        let layers = std::mem::take(&mut end.layers);
        let endpoint = self.bind(end, what, states, None);
        wrap(endpoint, &layers, &self.table, &RouteInfo::none())
    }

    fn bind<B: Send + 'static>(
        &mut self,
        end: End<B>,
        what: &str,
        states: &States,
        route: Option<u32>,
    ) -> Arc<dyn Endpoint<B>> {
        let location = end.location;
        end.bind(states, route, &self.table)
            .unwrap_or_else(|missing| {
                self.faults.push(BuildError::state(missing, what, location));
                fixed(StatusCode::INTERNAL_SERVER_ERROR)
            })
    }

    fn route<B: Send + 'static>(
        &mut self,
        matcher: &mut Builder<Slot<B>>,
        scope: &Scope,
        inherited: &Inherited<B>,
        path: &str,
        (methods, location): (MethodRouter<B>, &'static Location<'static>),
    ) {
        let pattern = match Pattern::parse(path) {
            Ok(pattern) => pattern,
            Err(error) => return self.faults.push(BuildError::pattern(error, location)),
        };
        let Scope {
            above,
            names,
            levels,
        } = scope.below(path, &pattern);
        let (index, template) = self.template(above.template);
        let number = self.scope(names);
        if let Some((name, location)) = &methods.name
            && let Err(first) = self.urls.add(name, location, levels)
        {
            let name = Arc::clone(name);
            self.faults.push(BuildError::name(name, location, first));
        }
        if let Some(mount) = matcher
            .occupant(&pattern)
            .filter(|slot| slot.stub.is_some())
        {
            let first = mount.place.clone();
            return self
                .faults
                .push(BuildError::mount(Place { location, template }, first));
        }
        let name = methods.name.map(|(name, _)| name);
        for entry in methods.entries {
            let place = Place {
                location: entry.end.location,
                template: Arc::clone(&template),
            };
            let info = scope.above.route(
                entry.method.clone(),
                Arc::clone(&template),
                name.clone(),
                &entry.end,
            );
            let listed = self.routes.len();
            let slot = Slot {
                endpoint: self.end(entry.end, &info, &inherited.states, index),
                scope: number,
                route: Some(Numbers {
                    template: index,
                    listed: count(listed),
                }),
                stub: None,
                place: place.clone(),
            };
            match matcher.insert(&pattern, entry.method.clone(), slot) {
                Ok(()) => self.routes.push(info),
                Err(first) => self.faults.push(BuildError::conflict(
                    entry.method,
                    place,
                    first.place.clone(),
                )),
            }
        }
    }

    /// The endpoint of a route with its layers.
    fn end<B: Send + 'static>(
        &mut self,
        mut end: End<B>,
        info: &RouteInfo,
        states: &States,
        route: u32,
    ) -> Arc<dyn Endpoint<B>> {
        let layers = std::mem::take(&mut end.layers);
        let endpoint = self.bind(end, &info.to_string(), states, Some(route));
        wrap(endpoint, &layers, &self.table, info)
    }

    fn mount<B: Send + 'static>(
        &mut self,
        matcher: &mut Builder<Slot<B>>,
        scope: &Scope,
        inherited: &Inherited<B>,
        prefix: &str,
        (target, layers, location): Mounted<B, Target<B>>,
    ) {
        let (pattern, stubs) = match stubs(prefix) {
            Ok(stubs) => stubs,
            Err(error) => {
                self.faults.push(BuildError::pattern(error, location));
                // What is below may have faults of its own.
                if let Target::Router(router) = target {
                    self.level(*router, scope.clone(), inherited);
                }
                return;
            }
        };
        let mut below = scope.below(prefix, &pattern);
        below.above = below.above.layered(&layers);
        let number = self.scope(below.names.clone());
        let mut place = below.place(location);
        place.template = below.above.prefixed("/*").template.into();
        let (endpoint, route) = match target {
            Target::Router(router) => (self.level(*router, below, inherited), None),
            Target::Service(end) => {
                let (template, text) = self.template(place.template.to_string());
                let info = below.above.route(None, text, None, &end);
                let listed = count(self.routes.len());
                self.routes.push(info.clone());
                let endpoint = self.end(end, &info, &inherited.states, template);
                (endpoint, Some(Numbers { template, listed }))
            }
        };
        let endpoint = wrap(endpoint, &layers, &self.table, &RouteInfo::none());
        for (pattern, stub) in stubs {
            if let Some(taken) = matcher.occupant(&pattern) {
                let first = taken.place.clone();
                return self.faults.push(BuildError::mount(place, first));
            }
            let slot = Slot {
                endpoint: Arc::clone(&endpoint),
                scope: number,
                route,
                stub: Some(stub),
                place: place.clone(),
            };
            // The place is free, as was just seen.
            let _ = matcher.insert(&pattern, None, slot);
        }
    }

    fn guarded<B: Send + 'static>(
        &mut self,
        fork: &mut ForkBuilder<B>,
        scope: &Scope,
        inherited: &Inherited<B>,
        guard: Guard,
        (router, layers, location): Mounted<B, Router<B>>,
    ) {
        let place = Place {
            location,
            template: guard.to_string().into(),
        };
        let mut below = scope.clone();
        below.above = below.above.guarded(&guard).layered(&layers);
        let endpoint = self.level(router, below, inherited);
        let endpoint = wrap(endpoint, &layers, &self.table, &RouteInfo::none());
        match fork.add(guard, endpoint, place.clone()) {
            Ok(()) => {}
            Err(Refused::Pattern(error)) => {
                self.faults.push(BuildError::pattern(error, location));
            }
            Err(Refused::Condition(why)) => self.faults.push(BuildError::condition(place, why)),
            Err(Refused::Taken(first)) => self.faults.push(BuildError::mount(place, first)),
        }
    }

    fn template(&mut self, template: String) -> (u32, Arc<str>) {
        let template: Arc<str> = template.into();
        self.templates.push(Arc::clone(&template));
        (index(self.templates.len()), template)
    }

    fn scope(&mut self, names: Vec<Arc<str>>) -> u32 {
        self.names.push(names);
        index(self.names.len())
    }
}

/// The one place where what a router says on methods is told to its matcher.
fn matcher<T>(policy: Policy) -> Builder<T> {
    Matcher::builder()
        .implicit_head(policy.implicit_head.unwrap_or(true))
        .strict(policy.wrong_method == Some(WrongMethod::Strict))
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// The index of the last of `len`.
fn index(len: usize) -> u32 {
    count(len.saturating_sub(1))
}

/// The pattern of a prefix, and the places at which a mount answers.
fn stubs(prefix: &str) -> Result<(Pattern, Vec<(Pattern, Stub)>), PatternError> {
    let pattern = Pattern::parse(prefix)?;
    if pattern.is_catch_all() {
        let at = prefix.rfind(['*', '{']).unwrap_or_default();
        return Err(PatternError::new(
            PatternErrorKind::WildcardNotLast,
            prefix,
            at,
        ));
    }
    let stub = |tail: &str, stub| Ok((Pattern::parse(&format!("{prefix}{tail}"))?, stub));
    let stubs = if prefix.ends_with('/') {
        vec![stub("*", Stub::Rest)?]
    } else {
        vec![
            stub("", Stub::Bare)?,
            stub("/", Stub::Slash)?,
            stub("/*", Stub::Rest)?,
        ]
    };
    Ok((pattern, stubs))
}
