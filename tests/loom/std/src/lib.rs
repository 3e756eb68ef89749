//! The standard library with loom's atomics, locks and threads, under the name `std`.
//!
//! A crate that says `extern crate chassis_loom_std as std;` compiles files that were written for the real one
//! as they are. `Arc`, `Weak` and `OnceLock` stay the real ones: what is modelled is the data that they share.
#![cfg(chassis_loom)]

pub use ::std::*;

/// `std::sync`, modelled.
pub mod sync {
    pub use ::std::sync::*;
    pub use loom::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

    /// `std::sync::atomic`, modelled.
    pub mod atomic {
        pub use ::std::sync::atomic::*;
        pub use loom::sync::atomic::{
            AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
            AtomicUsize, fence,
        };
    }
}

/// `std::thread`, modelled.
pub mod thread {
    pub use ::std::thread::*;
    pub use loom::thread::{Builder, JoinHandle, Thread, current, park, spawn, yield_now};
}
