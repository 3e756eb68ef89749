//! Where the endpoints of a service come from: a watch of whole snapshots per service name.

mod board;
mod composite;
#[cfg(feature = "config")]
mod env;
#[cfg(feature = "config")]
mod file;
mod memory;
mod register;
mod worker;

use std::{fmt, ops::Deref, sync::Arc};

use tokio::sync::watch;

#[cfg(feature = "config")]
pub use self::env::EnvDiscover;
#[cfg(feature = "config")]
pub use self::file::FileDiscover;
pub use self::{
    board::Board,
    composite::{Failover, Merge},
    memory::MemoryRegistry,
    register::{Instance, Register, Registration},
    worker::Worker,
};
use crate::Endpoint;

/// All endpoints of a service at one time, and how sure its source is of them. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    endpoints: Arc<[Endpoint]>,
    known: Known,
}

/// How sure a source is of what it says, which matters where it says that there is nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Known {
    /// Nothing yet: the source is still finding out.
    #[default]
    Asking,
    /// The source does not know such a service.
    Unknown,
    /// What the source saw last. That a service has no endpoint left may be the source's own trouble.
    Seen,
    /// What a person or the program itself said: no endpoint means no endpoint.
    Sure,
}

impl Snapshot {
    /// Not known yet.
    #[must_use]
    pub fn asking() -> Self {
        Self::default()
    }

    /// There is no such service.
    #[must_use]
    pub fn unknown() -> Self {
        Self::of(Known::Unknown, [])
    }

    /// These, as far as the source can see.
    #[must_use]
    pub fn seen(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self::of(Known::Seen, endpoints)
    }

    /// These and no others.
    #[must_use]
    pub fn sure(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self::of(Known::Sure, endpoints)
    }

    fn of(known: Known, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self {
            endpoints: endpoints.into_iter().collect(),
            known,
        }
    }

    /// The endpoints, in the order of the source.
    #[must_use]
    pub const fn endpoints(&self) -> &Arc<[Endpoint]> {
        &self.endpoints
    }

    /// How sure the source is.
    #[must_use]
    pub const fn known(&self) -> Known {
        self.known
    }
}

impl Deref for Snapshot {
    type Target = [Endpoint];

    fn deref(&self) -> &[Endpoint] {
        &self.endpoints
    }
}

/// Those and no others.
impl FromIterator<Endpoint> for Snapshot {
    fn from_iter<I: IntoIterator<Item = Endpoint>>(endpoints: I) -> Self {
        Self::sure(endpoints)
    }
}

/// Those and no others.
impl From<Vec<Endpoint>> for Snapshot {
    fn from(endpoints: Vec<Endpoint>) -> Self {
        Self::sure(endpoints)
    }
}

/// A source of endpoints.
pub trait Discover: Send + Sync {
    /// Watches the endpoints of `service`. The first value is what is known now, perhaps nothing; when the
    /// source goes away the last value stays in force.
    fn watch(&self, service: &str) -> watch::Receiver<Snapshot>;
}

impl<D: Discover + ?Sized> Discover for &D {
    fn watch(&self, service: &str) -> watch::Receiver<Snapshot> {
        (**self).watch(service)
    }
}

impl<D: Discover + ?Sized> Discover for Arc<D> {
    fn watch(&self, service: &str) -> watch::Receiver<Snapshot> {
        (**self).watch(service)
    }
}

impl<D: Discover + ?Sized> Discover for Box<D> {
    fn watch(&self, service: &str) -> watch::Receiver<Snapshot> {
        (**self).watch(service)
    }
}

/// Endpoints that the program itself sets. A name that was not set is [unknown](Known::Unknown).
#[derive(Clone)]
pub struct StaticDiscover(Board);

impl StaticDiscover {
    /// Knows no service yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Board::new(Snapshot::unknown()))
    }

    /// Replaces the endpoints of a service. Watchers hear of it only if something changed.
    pub fn set(&self, service: &str, endpoints: impl IntoIterator<Item = Endpoint>) {
        self.0.set(service, Snapshot::sure(endpoints));
    }

    /// Forgets a service; its watchers keep the last value.
    pub fn remove(&self, service: &str) {
        self.0.remove(service);
    }
}

impl Default for StaticDiscover {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StaticDiscover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Discover for StaticDiscover {
    fn watch(&self, service: &str) -> watch::Receiver<Snapshot> {
        self.0.watch(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_hear_of_changes_only() {
        let discover = StaticDiscover::new();
        let mut watch = discover.watch("shop");
        assert_eq!(*watch.borrow_and_update(), Snapshot::unknown());
        let endpoint = Endpoint::new("http://127.0.0.1:1").unwrap();
        discover.set("shop", [endpoint.clone()]);
        assert!(watch.has_changed().unwrap());
        assert_eq!(watch.borrow_and_update().len(), 1);
        discover.set("shop", [endpoint]);
        assert!(!watch.has_changed().unwrap());
        discover.set("shop", []);
        assert_eq!(*watch.borrow_and_update(), Snapshot::sure([]));
        discover.remove("shop");
        assert_eq!(*watch.borrow(), Snapshot::sure([]));
        assert_eq!(*discover.watch("shop").borrow(), Snapshot::unknown());
    }
}
