//! From a description to a service.

use std::{panic::Location, sync::Arc};

use http::{Method, StatusCode};

use super::{
    RouteInfo, RouteService, Router,
    describe::{Item, Target},
    endpoint::{Endpoint, Function},
    error::{BuildError, BuildErrors, Place},
    layered::{EndpointLayer, wrap},
    level::{Level, Slot, Stub},
    listing::join,
    method::{End, MethodRouter},
    table::Table,
};
use crate::{
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
    let root = Scope {
        template: String::new(),
        names: Vec::new(),
    };
    let inherited = Inherited {
        not_found: Arc::new(Function::new(|| async { StatusCode::NOT_FOUND })),
        method_not_allowed: Arc::new(Function::new(|| async { StatusCode::METHOD_NOT_ALLOWED })),
        implicit_head: true,
    };
    let entry = build.level(router, &root, &inherited);
    build.table.fill(build.templates, build.names);
    (
        RouteService::new(entry, build.table, build.routes),
        build.faults,
    )
}

#[derive(Default)]
struct Build {
    table: Arc<Table>,
    templates: Vec<Arc<str>>,
    names: Vec<Vec<Arc<str>>>,
    routes: Vec<RouteInfo>,
    faults: Vec<BuildError>,
}

/// How a level is reached.
struct Scope {
    template: String,
    names: Vec<Arc<str>>,
}

impl Scope {
    fn below(&self, path: &str, pattern: &Pattern) -> Self {
        let names = self
            .names
            .iter()
            .cloned()
            .chain(pattern.names().map(Arc::from))
            .collect();
        Self {
            template: join(&self.template, path),
            names,
        }
    }
}

/// What a level takes from its parent where it has nothing of its own.
struct Inherited<B> {
    not_found: Arc<dyn Endpoint<B>>,
    method_not_allowed: Arc<dyn Endpoint<B>>,
    implicit_head: bool,
}

impl Build {
    fn level<B: Send + 'static>(
        &mut self,
        router: Router<B>,
        scope: &Scope,
        inherited: &Inherited<B>,
    ) -> Arc<dyn Endpoint<B>> {
        self.faults.extend(router.faults);
        let or_inherited = |own: Option<End<B>>, inherited: &Arc<dyn Endpoint<B>>| match own {
            Some(end) => wrap(end.endpoint, &end.layers, &self.table),
            None => Arc::clone(inherited),
        };
        let own = Inherited {
            not_found: or_inherited(router.not_found, &inherited.not_found),
            method_not_allowed: or_inherited(
                router.method_not_allowed,
                &inherited.method_not_allowed,
            ),
            implicit_head: router.implicit_head.unwrap_or(inherited.implicit_head),
        };
        let mut matcher = Matcher::builder().implicit_head(own.implicit_head);
        for item in router.items {
            match item {
                Item::Route {
                    path,
                    methods,
                    location,
                } => {
                    self.route(&mut matcher, scope, &path, methods, location);
                }
                Item::Mount {
                    prefix,
                    target,
                    layers,
                    location,
                } => {
                    self.mount(
                        &mut matcher,
                        scope,
                        &own,
                        &prefix,
                        (target, layers),
                        location,
                    );
                }
            }
        }
        let Inherited {
            not_found,
            method_not_allowed,
            ..
        } = own;
        wrap(
            Arc::new(Level {
                matcher: matcher.build(),
                not_found,
                method_not_allowed,
            }),
            &router.layers,
            &self.table,
        )
    }

    fn route<B: Send + 'static>(
        &mut self,
        matcher: &mut Builder<Slot<B>>,
        scope: &Scope,
        path: &str,
        methods: MethodRouter<B>,
        location: &'static Location<'static>,
    ) {
        let pattern = match Pattern::parse(path) {
            Ok(pattern) => pattern,
            Err(error) => return self.faults.push(BuildError::pattern(error, location)),
        };
        let scope = scope.below(path, &pattern);
        let (route, template) = self.template(scope.template);
        let scope = self.scope(scope.names);
        if let Some(mount) = matcher
            .occupant(&pattern)
            .filter(|slot| slot.stub.is_some())
        {
            let first = mount.place.clone();
            return self
                .faults
                .push(BuildError::mount(Place { location, template }, first));
        }
        for entry in methods.entries {
            let place = Place {
                location: entry.end.location,
                template: Arc::clone(&template),
            };
            let slot = Slot {
                endpoint: wrap(entry.end.endpoint, &entry.end.layers, &self.table),
                scope,
                route: Some(route),
                stub: None,
                place: place.clone(),
            };
            match matcher.insert(&pattern, entry.method.clone(), slot) {
                Ok(()) => self.list(entry.method, &template),
                Err(first) => self.faults.push(BuildError::conflict(
                    entry.method,
                    place,
                    first.place.clone(),
                )),
            }
        }
    }

    fn mount<B: Send + 'static>(
        &mut self,
        matcher: &mut Builder<Slot<B>>,
        scope: &Scope,
        inherited: &Inherited<B>,
        prefix: &str,
        (target, layers): (Target<B>, Vec<EndpointLayer<B>>),
        location: &'static Location<'static>,
    ) {
        let (pattern, stubs) = match stubs(prefix) {
            Ok(stubs) => stubs,
            Err(error) => {
                self.faults.push(BuildError::pattern(error, location));
                // What is below may have faults of its own.
                if let Target::Router(router) = target {
                    self.level(*router, scope, inherited);
                }
                return;
            }
        };
        let below = scope.below(prefix, &pattern);
        let number = self.scope(below.names.clone());
        let place = Place {
            location,
            template: join(&below.template, "/*").into(),
        };
        let (endpoint, route) = match target {
            Target::Router(router) => (self.level(*router, &below, inherited), None),
            Target::Service(end) => {
                let (route, template) = self.template(place.template.to_string());
                self.list(None, &template);
                (end.endpoint, Some(route))
            }
        };
        let endpoint = wrap(endpoint, &layers, &self.table);
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

    fn template(&mut self, template: String) -> (u32, Arc<str>) {
        let template: Arc<str> = template.into();
        self.templates.push(Arc::clone(&template));
        (index(self.templates.len()), template)
    }

    fn scope(&mut self, names: Vec<Arc<str>>) -> u32 {
        self.names.push(names);
        index(self.names.len())
    }

    fn list(&mut self, method: Option<Method>, template: &Arc<str>) {
        self.routes
            .push(RouteInfo::new(method, Arc::clone(template)));
    }
}

/// The index of the last of `len`.
fn index(len: usize) -> u32 {
    u32::try_from(len.saturating_sub(1)).unwrap_or(u32::MAX)
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
