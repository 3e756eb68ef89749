//! Where the endpoints of a service come from: a watch of whole snapshots per service name.

#[cfg(feature = "config")]
mod file;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

#[cfg(feature = "config")]
pub use self::file::{FileDiscover, Worker};
use crate::Endpoint;

/// All endpoints of a service at one time.
pub type Snapshot = Arc<[Endpoint]>;

/// A source of endpoints.
pub trait Discover: Send + Sync {
    /// Watches the endpoints of `service`. The first value is what is known now, perhaps nothing; when the
    /// source goes away the last value stays in force.
    fn watch(&self, service: &str) -> watch::Receiver<Snapshot>;
}

/// Endpoints that the program itself sets.
#[derive(Clone, Default)]
pub struct StaticDiscover(Arc<Mutex<HashMap<String, watch::Sender<Snapshot>>>>);

impl StaticDiscover {
    /// Knows no service yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the endpoints of a service. Watchers hear of it only if something changed.
    pub fn set(&self, service: &str, endpoints: impl IntoIterator<Item = Endpoint>) {
        let endpoints: Snapshot = endpoints.into_iter().collect();
        self.with(service, |sender| {
            sender.send_if_modified(|current| {
                let changed = **current != *endpoints;
                if changed {
                    *current = endpoints;
                }
                changed
            });
        });
    }

    fn with<R>(&self, service: &str, f: impl FnOnce(&watch::Sender<Snapshot>) -> R) -> R {
        let mut services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = || watch::Sender::new(Arc::from([]));
        f(services.entry(service.to_owned()).or_insert_with(empty))
    }

    /// Forgets a service; its watchers keep the last value.
    pub fn remove(&self, service: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(service);
    }
}

impl fmt::Debug for StaticDiscover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(services.keys()).finish()
    }
}

impl Discover for StaticDiscover {
    fn watch(&self, service: &str) -> watch::Receiver<Snapshot> {
        self.with(service, watch::Sender::subscribe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_hear_of_changes_only() {
        let discover = StaticDiscover::new();
        let mut watch = discover.watch("shop");
        assert!(watch.borrow_and_update().is_empty());
        let endpoint = Endpoint::new("http://127.0.0.1:1").unwrap();
        discover.set("shop", [endpoint.clone()]);
        assert!(watch.has_changed().unwrap());
        assert_eq!(watch.borrow_and_update().len(), 1);
        discover.set("shop", [endpoint]);
        assert!(!watch.has_changed().unwrap());
    }
}
