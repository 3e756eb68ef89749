//! What calls, lines and spans allocate on their own thread: nothing, from the second on; and that they hold no more however
//! many there are.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts can only be written with it"
)]
#![allow(clippy::unwrap_used, clippy::panic_in_result_fn, reason = "a test")]

mod access_log;
#[cfg(feature = "log")]
mod lines;
mod memory;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod spans;
#[path = "../support/mod.rs"]
mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
    /// Bytes that were taken and not given back, here.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: passes everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|count| count.set(count.get() + 1));
        let _ = LIVE.try_with(|live| live.set(live.get() + layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let _ = LIVE.try_with(|live| live.set(live.get() - layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
