//! An allocator that counts calls and what is alive.
#![allow(unsafe_code, reason = "a global allocator can only be written with it")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// How often this thread allocated or grew something.
pub fn allocations() -> u64 {
    CALLS.with(Cell::get)
}

/// How many bytes this thread has allocated and not freed.
pub fn bytes() -> i64 {
    BYTES.with(Cell::get)
}

pub struct Alive;

fn count(calls: u64, bytes: i64) {
    // Not while the thread's locals are torn down.
    let _ = CALLS.try_with(|known| known.set(known.get() + calls));
    let _ = BYTES.try_with(|known| known.set(known.get() + bytes));
}

// SAFETY: hands every call on to the system's allocator, as it came.
unsafe impl GlobalAlloc for Alive {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the promise of the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: the promise of the caller.
        unsafe { System.realloc(ptr, layout, size) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the promise of the caller.
        unsafe { System.dealloc(ptr, layout) }
    }
}
