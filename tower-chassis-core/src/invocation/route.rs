use std::sync::Arc;

/// The templates of a router, by the index of their routes.
#[derive(Debug)]
pub struct RouteTable {
    templates: Box<[Arc<str>]>,
}

impl RouteTable {
    /// A table of templates (`/users/{id}`).
    #[must_use]
    pub fn new(templates: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self {
            templates: templates.into_iter().collect(),
        }
    }

    /// How many routes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    /// Whether it has no route.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// The template of a route; empty for an index that is not in the table.
    #[must_use]
    pub fn template(&self, index: u32) -> &str {
        self.templates
            .get(index as usize)
            .map_or("", |template| template)
    }
}

/// A route: a table and the index in it.
#[derive(Clone, Debug)]
pub struct MatchedRoute {
    table: Arc<RouteTable>,
    index: u32,
}

impl MatchedRoute {
    /// The route `index` of `table`.
    #[must_use]
    pub const fn new(table: Arc<RouteTable>, index: u32) -> Self {
        Self { table, index }
    }

    /// The table of the whole router.
    #[must_use]
    pub const fn table(&self) -> &Arc<RouteTable> {
        &self.table
    }

    /// The index in the table.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// The template (`/users/{id}`).
    #[must_use]
    pub fn template(&self) -> &str {
        self.table.template(self.index)
    }

    /// The template, to be kept; none for an index that is not in the table.
    #[must_use]
    pub fn shared_template(&self) -> Option<Arc<str>> {
        self.table.templates.get(self.index as usize).cloned()
    }
}
