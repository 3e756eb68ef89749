//! What calls through the layers allocate, each layer in a file.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts can only be written with it"
)]
#![allow(clippy::unwrap_used, reason = "a test")]

mod bulkhead;
mod deadline;
mod hedge;
mod memo;
mod timeout_retry;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

thread_local! {
    static MADE: Cell<usize> = const { Cell::new(0) };
}

/// How many allocations this thread has made.
fn made() -> usize {
    MADE.get()
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MADE.set(MADE.get() + 1);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
