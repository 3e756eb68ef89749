use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::directory::Directory;
use crate::balance::EndpointStatus;

/// A view of a directory, for an admin page. Clones see the same; none keeps the directory alive.
#[derive(Clone)]
pub struct UpstreamsHandle(Weak<dyn View>);

trait View: Send + Sync {
    fn names(&self) -> Vec<Arc<str>>;
    fn len(&self) -> usize;
    fn unknown(&self) -> usize;
    fn endpoints(&self, name: &str) -> Option<Vec<EndpointStatus>>;
    fn evict(&self, name: &str) -> bool;
}

impl<Req, Res> View for Directory<Req, Res> {
    fn names(&self) -> Vec<Arc<str>> {
        Self::names(self)
    }

    fn len(&self) -> usize {
        Self::len(self)
    }

    fn unknown(&self) -> usize {
        Self::unknown(self)
    }

    fn endpoints(&self, name: &str) -> Option<Vec<EndpointStatus>> {
        Some(self.get(name)?.balance.as_ref()?.endpoints())
    }

    fn evict(&self, name: &str) -> bool {
        Self::evict(self, name)
    }
}

impl UpstreamsHandle {
    pub(super) fn new<Req: 'static, Res: 'static>(directory: &Arc<Directory<Req, Res>>) -> Self {
        let view: Weak<Directory<Req, Res>> = Arc::downgrade(directory);
        Self(view)
    }

    /// The upstreams that are built, in no order.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        self.0.upgrade().map_or_else(Vec::new, |view| view.names())
    }

    /// How many upstreams are built.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.upgrade().map_or(0, |view| view.len())
    }

    /// Whether no upstream is built.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many names are refused for a while without asking discovery.
    #[must_use]
    pub fn unknown(&self) -> usize {
        self.0.upgrade().map_or(0, |view| view.unknown())
    }

    /// The endpoints of an upstream, if it is built and its builder gave a handle.
    #[must_use]
    pub fn endpoints(&self, name: &str) -> Option<Vec<EndpointStatus>> {
        self.0.upgrade()?.endpoints(name)
    }

    /// Takes an upstream out; the next call of its name builds it anew. Calls of it that are in flight go on. False if
    /// it is not built.
    pub fn evict(&self, name: &str) -> bool {
        self.0.upgrade().is_some_and(|view| view.evict(name))
    }
}

impl fmt::Debug for UpstreamsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
