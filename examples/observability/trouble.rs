//! What goes wrong with the process itself in a storm: workers that are blocked, descriptors that nobody closes. And what
//! its allocator has given away.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts can only be written with it"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs::{self, File},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use tower_chassis::observe::runtime::AllocatorStats;

/// The system's allocator does not say what it has given away. jemalloc does: `tikv_jemalloc_ctl::stats`.
struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

pub(crate) fn allocated() -> AllocatorStats {
    AllocatorStats {
        allocated: Some(ALLOCATED.load(Relaxed)),
        ..AllocatorStats::default()
    }
}

/// As handlers do that ask a database without `await`: so many that each worker has one at any time. What else there is waits
/// some milliseconds each time.
pub(crate) fn block_the_workers() {
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    for _ in 0..4 * workers {
        tokio::spawn(async {
            loop {
                thread::park_timeout(Duration::from_millis(2));
                tokio::task::yield_now().await;
            }
        });
    }
}

/// Opens nearly as many as there may be, where that is not too many, and does not close them.
pub(crate) fn leak_descriptors() -> Vec<File> {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let most = limits.lines().find_map(|line| {
        let rest = line.strip_prefix("Max open files")?;
        rest.split_ascii_whitespace().next()?.parse::<usize>().ok()
    });
    let leaked = match most {
        // Of fewer, those that are left would be too few for the load.
        Some(most @ 2_000..=10_000) => most * 93 / 100,
        _ => 0,
    };
    let files = (0..leaked).map_while(|_| File::open("/dev/null").ok());
    files.collect()
}
