//! What a router says about itself.

use std::{fmt, sync::Arc};

use http::Method;

use super::describe::{Item, Router, Target};

/// A route as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    method: Option<Method>,
    template: Arc<str>,
}

impl RouteInfo {
    pub(super) const fn new(method: Option<Method>, template: Arc<str>) -> Self {
        Self { method, template }
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

impl<B> Router<B> {
    /// Lists what was registered, in that order, whether it could be built or not.
    #[must_use]
    #[doc(alias = "Walk")]
    #[doc(alias = "Routes")]
    pub fn routes(&self) -> Vec<RouteInfo> {
        let mut routes = Vec::new();
        self.list("", &mut routes);
        routes
    }

    fn list(&self, prefix: &str, routes: &mut Vec<RouteInfo>) {
        for item in &self.items {
            match item {
                Item::Route { path, methods, .. } => {
                    let template: Arc<str> = join(prefix, path).into();
                    let methods = methods.entries.iter().map(|entry| entry.method.clone());
                    routes.extend(
                        methods.map(|method| RouteInfo::new(method, Arc::clone(&template))),
                    );
                }
                Item::Mount {
                    prefix: inner,
                    target,
                    ..
                } => {
                    let inner = join(prefix, inner);
                    match target {
                        Target::Router(router) => router.list(&inner, routes),
                        Target::Service(_) => {
                            routes.push(RouteInfo::new(None, join(&inner, "/*").into()))
                        }
                    }
                }
            }
        }
    }
}

/// The template of `path` below `prefix`. A router's `/` is its prefix.
pub(super) fn join(prefix: &str, path: &str) -> String {
    match prefix.strip_suffix('/') {
        Some(prefix) => format!("{prefix}{path}"),
        None if path == "/" && !prefix.is_empty() => prefix.to_owned(),
        None => format!("{prefix}{path}"),
    }
}
