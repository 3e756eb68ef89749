use tower_chassis_core::config::{Faults, Tree, Value};

use super::service_path;
use crate::gateway::model::Model;

/// The places at which a second fault may be a consequence of the first: what was wrong was left out or
/// stands as a default, and a list that lost an item has its places moved.
pub(super) struct Doubtful<'a> {
    faults: &'a Faults,
    moved: Vec<String>,
}

impl<'a> Doubtful<'a> {
    pub(super) fn of(tree: &Tree, model: &Model, faults: &'a Faults) -> Self {
        let mut moved = Vec::new();
        let mut compare = |path: String, len: usize| {
            let there = tree.get(&path).map(|node| match &node.value {
                Value::List(items) => items.len(),
                _ => len,
            });
            if there.is_some_and(|there| there != len) {
                moved.push(path + "[");
            }
        };
        compare("routes".into(), model.routes.len());
        for (name, service) in &model.services {
            compare(
                format!("{}.endpoints", service_path(name)),
                service.endpoints.len(),
            );
            compare(
                format!("{}.traffic", service_path(name)),
                service.traffic.len(),
            );
        }
        Self { faults, moved }
    }

    pub(super) fn is(&self, path: &str) -> bool {
        let below = |fault: &str| {
            path.strip_prefix(fault)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        // The two timeouts are compared with one another.
        let timeouts = |fault: &str| {
            path.ends_with(".timeout.per_try")
                && fault.starts_with(path.trim_end_matches("per_try"))
        };
        self.moved
            .iter()
            .any(|list| path.starts_with(list.as_str()))
            || self
                .faults
                .iter()
                .any(|fault| below(&fault.path) || timeouts(&fault.path))
    }
}
