//! What is live, and whether it can be used.

use std::sync::Arc;

use tower_chassis_observe::health::Status;

use super::{Gateway, model::ReadyModel, service::UpstreamStatus};

impl Gateway {
    /// The number of the configuration that is live, from 1.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// What is live and from where, secrets redacted, and why the last change was refused, if it was.
    #[must_use]
    pub fn describe(&self) -> String {
        let state = self.lock();
        let mut text = format!("version: {}\n", state.version);
        if let Some(refused) = &state.refused {
            text.push_str("refused:\n");
            for fault in refused.lines() {
                text.push_str("  ");
                text.push_str(fault);
                text.push('\n');
            }
        }
        if let Some(tree) = &state.tree {
            text.push_str("---\n");
            // They hold what opens a collector.
            let secret = [
                "otlp.headers",
                "otlp.traces.headers",
                "otlp.metrics.headers",
            ];
            text.push_str(&tree.render(&secret));
        }
        text
    }

    /// Whether requests should come: not where a service that the file calls `required` has no endpoint that can be called.
    #[must_use]
    pub fn readiness(&self) -> Status {
        let state = self.lock();
        let asked: Vec<_> = state
            .ready
            .iter()
            .filter_map(|(name, ready)| {
                Some((Arc::clone(name), *ready, state.services.get(name)?.status()))
            })
            .collect();
        drop(state);
        let mut worst = Status::Up;
        for (name, ready, service) in asked {
            if service
                .balance
                .endpoints()
                .iter()
                .any(|endpoint| endpoint.open)
            {
                continue;
            }
            let why = format!("no endpoint of {name} can be called");
            match ready {
                ReadyModel::Required => return Status::down(why),
                _ => worst = Status::degraded(why),
            }
        }
        worst
    }

    pub(crate) fn services(&self) -> Vec<(Arc<str>, UpstreamStatus)> {
        self.lock()
            .services
            .iter()
            .map(|(name, service)| (Arc::clone(name), service.status()))
            .collect()
    }
}
