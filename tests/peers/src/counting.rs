//! An allocator that counts, per thread.
#![allow(unsafe_code, reason = "a global allocator can only be written with it")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread allocated or grew something, if [`Counting`] is the global allocator.
#[must_use]
pub fn allocations() -> u64 {
    CALLS.with(Cell::get)
}

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

fn count() {
    // Not while the thread's locals are torn down.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: hands every call on to the system's allocator, as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the promise of the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the promise of the caller.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the promise of the caller.
        unsafe { System.realloc(ptr, layout, size) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the promise of the caller.
        unsafe { System.dealloc(ptr, layout) }
    }
}
