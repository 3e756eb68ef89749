//! How many bytes of bodies may be kept at once, to be sent again.

use std::{
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// Bounds what [`Buffered`](super::Buffered) keeps, over all calls that share it: a body that finds no room goes on and
/// is not sent again. Clones share it.
///
/// By default all layers of the process share 64 MiB. What a body holds is given back when its call is over.
#[derive(Clone, Default)]
pub struct ReplayMemory(Option<Arc<Pool>>);

struct Pool {
    limit: usize,
    used: AtomicUsize,
}

/// That of all layers that were given none. It counts bytes and holds nothing.
static PROCESS: Pool = Pool::new(64 * 1024 * 1024);

impl ReplayMemory {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Some(Arc::new(Pool::new(bytes))))
    }

    /// How many bytes are kept now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.pool().used.load(Relaxed)
    }

    /// How many there is room for.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.pool().limit
    }

    fn pool(&self) -> &Pool {
        self.0.as_deref().unwrap_or(&PROCESS)
    }
}

impl fmt::Debug for ReplayMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayMemory")
            .field("used", &self.used())
            .field("limit", &self.limit())
            .finish()
    }
}

impl Pool {
    const fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
        }
    }
}

/// The bytes that one body holds. Given back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Charge {
    memory: ReplayMemory,
    bytes: usize,
}

impl Charge {
    pub(super) const fn on(memory: ReplayMemory) -> Self {
        Self { memory, bytes: 0 }
    }

    /// Holds so many more; false if there is no room.
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        let pool = self.memory.pool();
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= pool.limit);
        let taken = pool.used.fetch_update(Relaxed, Relaxed, take).is_ok();
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.bytes);
        if bytes > 0 {
            self.memory.pool().used.fetch_sub(bytes, Relaxed);
        }
    }
}
