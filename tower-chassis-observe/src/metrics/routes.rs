//! What is kept per route, found by the route's table and index.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tower_chassis_core::invocation::{MatchedRoute, RouteTable};

/// Tables kept beside the first. Live configuration swaps them, and the old ones have no more calls.
const KEPT: usize = 15;

/// A `T` per route of every table, and one for calls that no route matched.
#[derive(Debug)]
pub(crate) struct Routes<T> {
    /// The table of most processes for all of their life: found by a plain load.
    first: OnceLock<Table<T>>,
    others: ArcSwap<Vec<Arc<Table<T>>>>,
    unmatched: T,
}

#[derive(Debug)]
struct Table<T> {
    /// Held so that no other table gets its address.
    table: Arc<RouteTable>,
    routes: Box<[OnceLock<Box<T>>]>,
}

impl<T: Default> Table<T> {
    fn new(table: &Arc<RouteTable>) -> Self {
        Self {
            table: Arc::clone(table),
            routes: (0..table.len()).map(|_| OnceLock::new()).collect(),
        }
    }

    fn is(&self, table: &Arc<RouteTable>) -> bool {
        Arc::ptr_eq(&self.table, table)
    }

    fn get(&self, index: u32) -> Option<&T> {
        self.routes
            .get(index as usize)
            .map(|slot| &**slot.get_or_init(Box::default))
    }
}

impl<T: Default> Default for Routes<T> {
    fn default() -> Self {
        Self {
            first: OnceLock::new(),
            others: ArcSwap::default(),
            unmatched: T::default(),
        }
    }
}

impl<T: Default> Routes<T> {
    /// Runs `f` with what is kept for the route, and the template if one matched.
    pub(crate) fn with<R>(
        &self,
        route: Option<&MatchedRoute>,
        f: impl FnOnce(&T, Option<&str>) -> R,
    ) -> R {
        let Some(route) = route else {
            return f(&self.unmatched, None);
        };
        let run = |table: &Table<T>| match table.get(route.index()) {
            Some(kept) => f(kept, Some(route.template())),
            None => f(&self.unmatched, None),
        };
        let first = self.first.get_or_init(|| Table::new(route.table()));
        if first.is(route.table()) {
            return run(first);
        }
        let others = self.others.load();
        if let Some(table) = others.iter().rfind(|table| table.is(route.table())) {
            return run(table);
        }
        drop(others);
        run(&self.add(route.table()))
    }

    fn add(&self, table: &Arc<RouteTable>) -> Arc<Table<T>> {
        let new = Arc::new(Table::new(table));
        let mut mine = Arc::clone(&new);
        self.others.rcu(|old| {
            if let Some(there) = old.iter().find(|there| there.is(table)) {
                // Another call was faster.
                mine = Arc::clone(there);
                return Arc::clone(old);
            }
            mine = Arc::clone(&new);
            let kept = &old[(old.len() + 1).saturating_sub(KEPT)..];
            Arc::new(kept.iter().chain([&new]).cloned().collect())
        });
        mine
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Count(AtomicUsize);

    fn table() -> Arc<RouteTable> {
        Arc::new(RouteTable::new(["/a".into(), "/b/{id}".into()]))
    }

    fn hit(routes: &Routes<Count>, table: &Arc<RouteTable>, index: u32) -> (usize, Option<String>) {
        routes.with(
            Some(&MatchedRoute::new(Arc::clone(table), index)),
            |count, template| {
                (
                    count.0.fetch_add(1, Ordering::Relaxed),
                    template.map(str::to_owned),
                )
            },
        )
    }

    #[test]
    fn every_route_of_every_table_has_its_own() {
        let routes = Routes::<Count>::default();
        let (one, two) = (table(), table());
        for table in [&one, &two] {
            assert_eq!(hit(&routes, table, 0), (0, Some("/a".into())));
            assert_eq!(hit(&routes, table, 1), (0, Some("/b/{id}".into())));
            assert_eq!(hit(&routes, table, 1), (1, Some("/b/{id}".into())));
        }
        // An index that the table does not have.
        assert_eq!(hit(&routes, &one, 2), (0, None));
        assert_eq!(
            routes.with(None, |count, _| count.0.load(Ordering::Relaxed)),
            1
        );
    }

    #[test]
    fn swapped_tables_do_not_pile_up() {
        let routes = Routes::<Count>::default();
        let first = table();
        let weak: Vec<_> = (0..100)
            .map(|_| {
                let table = table();
                hit(&routes, &first, 0);
                hit(&routes, &table, 0);
                Arc::downgrade(&table)
            })
            .collect();
        assert_eq!(
            weak.iter().filter(|table| table.strong_count() > 0).count(),
            KEPT
        );
        assert!(weak[99].strong_count() > 0);
        assert_eq!(hit(&routes, &first, 0).0, 100);
    }
}
