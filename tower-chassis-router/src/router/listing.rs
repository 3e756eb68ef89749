//! What a router says about itself.

use std::{borrow::Cow, fmt, panic::Location, sync::Arc};

use http::Method;

use super::{
    describe::{Item, Router, Target},
    layered::Wrapper,
    method::End,
};

/// A route as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    method: Option<Method>,
    template: Arc<str>,
    name: Option<Arc<str>>,
    guards: Arc<[Arc<str>]>,
    layers: Arc<[Arc<str>]>,
    handler: &'static str,
    location: &'static Location<'static>,
}

impl RouteInfo {
    /// Of what is no route.
    pub(super) fn none() -> Self {
        Self {
            method: None,
            template: Arc::default(),
            name: None,
            guards: Arc::default(),
            layers: Arc::default(),
            handler: "",
            location: Location::caller(),
        }
    }

    /// The method; `None` for every method that has no route of its own.
    #[must_use]
    pub fn method(&self) -> Option<&Method> {
        self.method.as_ref()
    }

    /// The whole pattern, the prefixes of all mounts included. A foreign service below a prefix ends
    /// with `/*`.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.template
    }

    /// The [name](super::MethodRouter::name) for building URLs.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What a request must be beyond its path: hosts and [conditions](super::Condition), from the outside in.
    pub fn guards(&self) -> impl ExactSizeIterator<Item = &str> {
        self.guards.iter().map(|guard| &**guard)
    }

    /// The layers around it, those of the whole router included, in the order in which a request runs
    /// through them: by type, or as they were [`named`](super::named).
    #[doc(alias = "Middlewares")]
    pub fn layers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.layers.iter().map(|layer| &**layer)
    }

    /// The type of the handler or service: for a function its path.
    #[must_use]
    pub fn handler(&self) -> &'static str {
        self.handler
    }

    /// The call that registered it.
    #[must_use]
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }
}

/// `GET /users/{id}`, or `* /files/*`.
impl fmt::Display for RouteInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.method.as_ref().map_or("*", Method::as_str),
            self.template
        )
    }
}

/// What stands above a route.
#[derive(Clone, Debug, Default)]
pub(super) struct Above {
    pub(super) template: String,
    guards: Vec<Arc<str>>,
    layers: Vec<Arc<str>>,
}

impl Above {
    pub(super) fn prefixed(&self, prefix: &str) -> Self {
        Self {
            template: join(&self.template, prefix),
            ..self.clone()
        }
    }

    pub(super) fn guarded(mut self, guard: &dyn fmt::Display) -> Self {
        self.guards.push(guard.to_string().into());
        self
    }

    /// Inside of `layers`, of which the last is outermost.
    pub(super) fn layered<B>(mut self, layers: &[Wrapper<B>]) -> Self {
        self.layers.extend(run_order(layers));
        self
    }

    pub(super) fn route<B>(
        &self,
        method: Option<Method>,
        template: Arc<str>,
        name: Option<Arc<str>>,
        end: &End<B>,
    ) -> RouteInfo {
        let layers = self
            .layers
            .iter()
            .cloned()
            .chain(run_order(&end.layers))
            .chain(end.inner.iter().cloned());
        RouteInfo {
            method,
            template,
            name,
            guards: self.guards.clone().into(),
            layers: layers.collect(),
            handler: end.kind,
            location: end.location,
        }
    }
}

fn run_order<B>(layers: &[Wrapper<B>]) -> impl Iterator<Item = Arc<str>> {
    let names = layers.iter().rev();
    names.flat_map(|layer| layer.names.iter().cloned())
}

impl<B> Router<B> {
    /// Lists what was registered, in that order, whether it could be built or not.
    #[must_use]
    #[doc(alias = "Walk")]
    #[doc(alias = "Routes")]
    pub fn routes(&self) -> Vec<RouteInfo> {
        let mut routes = Vec::new();
        self.list(Above::default(), &mut routes);
        routes
    }

    fn list(&self, above: Above, routes: &mut Vec<RouteInfo>) {
        let above = above.layered(&self.layers);
        for item in &self.items {
            match item {
                Item::Route { path, methods, .. } => {
                    let template: Arc<str> = join(&above.template, path).into();
                    routes.extend(methods.entries.iter().map(|entry| {
                        let name = methods.name.as_ref().map(|(name, _)| Arc::clone(name));
                        above.route(
                            entry.method.clone(),
                            Arc::clone(&template),
                            name,
                            &entry.end,
                        )
                    }));
                }
                Item::Mount {
                    prefix,
                    target,
                    layers,
                    ..
                } => {
                    let below = above.prefixed(prefix).layered(layers);
                    match target {
                        Target::Router(router) => router.list(below, routes),
                        Target::Service(end) => {
                            let template = join(&below.template, "/*").into();
                            routes.push(below.route(None, template, None, end));
                        }
                    }
                }
                Item::Guarded {
                    guard,
                    router,
                    layers,
                    ..
                } => router.list(above.clone().guarded(guard).layered(layers), routes),
            }
        }
    }
}

/// `text` without characters that end a line or tell a terminal what to do.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// The template of `path` below `prefix`. A router's `/` is its prefix.
pub(super) fn join(prefix: &str, path: &str) -> String {
    match prefix.strip_suffix('/') {
        Some(prefix) => format!("{prefix}{path}"),
        None if path == "/" && !prefix.is_empty() => prefix.to_owned(),
        None => format!("{prefix}{path}"),
    }
}
