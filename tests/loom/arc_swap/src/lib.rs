//! What the files under test use of `arc-swap`, on loom's lock: each call is one step that others may come
//! before and after, which the real crate's atomics, unknown to loom, are not.
#![cfg(chassis_loom)]

use std::{ops::Deref, sync::Arc};

use loom::sync::Mutex;

/// An `Arc` that can be replaced.
#[derive(Debug)]
pub struct ArcSwap<T>(Mutex<Arc<T>>);

/// What [`ArcSwap::load`] found.
#[derive(Debug)]
pub struct Guard<T>(Arc<T>);

impl<T> Deref for Guard<T> {
    type Target = Arc<T>;
    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

impl<T: Default> Default for ArcSwap<T> {
    fn default() -> Self {
        Self::from_pointee(T::default())
    }
}

impl<T> ArcSwap<T> {
    /// Holds `value`.
    pub fn from_pointee(value: T) -> Self {
        Self(Mutex::new(Arc::new(value)))
    }

    /// What it holds.
    pub fn load(&self) -> Guard<T> {
        Guard(self.load_full())
    }

    /// What it holds.
    pub fn load_full(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().unwrap())
    }

    /// Puts `new` in its place.
    pub fn store(&self, new: Arc<T>) {
        *self.0.lock().unwrap() = new;
    }

    /// Replaces it by what `f` makes of it, again if it was replaced meanwhile.
    pub fn rcu<R: Into<Arc<T>>>(&self, mut f: impl FnMut(&Arc<T>) -> R) -> Arc<T> {
        loop {
            let old = self.load_full();
            let new = f(&old).into();
            let mut current = self.0.lock().unwrap();
            if Arc::ptr_eq(&current, &old) {
                *current = new;
                return old;
            }
        }
    }
}
