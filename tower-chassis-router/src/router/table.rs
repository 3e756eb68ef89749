//! What all levels of a router share: templates and the names of captures.

use std::sync::{Arc, OnceLock};

use tower_chassis_core::invocation::{MatchedRoute, RouteTable};

/// Filled once, at the end of the build; the levels that are made before hold it by then.
#[derive(Debug, Default)]
pub struct Table(OnceLock<Filled>);

#[derive(Debug)]
struct Filled {
    routes: Arc<RouteTable>,
    /// By scope: the names of everything captured on the way there. Routes and mounts have a scope each.
    names: Vec<Vec<Arc<str>>>,
}

impl Table {
    pub(super) fn fill(&self, templates: Vec<Arc<str>>, names: Vec<Vec<Arc<str>>>) {
        let _ = self.0.set(Filled {
            routes: Arc::new(RouteTable::new(templates)),
            names,
        });
    }

    pub(super) fn routes(&self) -> Option<&Arc<RouteTable>> {
        self.0.get().map(|filled| &filled.routes)
    }

    pub(crate) fn route(&self, index: u32) -> Option<MatchedRoute> {
        Some(MatchedRoute::new(Arc::clone(self.routes()?), index))
    }

    pub(crate) fn template(&self, index: u32) -> Option<&str> {
        let template = self.routes()?.template(index);
        (!template.is_empty()).then_some(template)
    }

    pub(crate) fn names(&self, scope: Option<u32>) -> &[Arc<str>] {
        let names = || self.0.get()?.names.get(scope? as usize);
        names().map_or(&[], Vec::as_slice)
    }
}
