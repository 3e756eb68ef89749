//! State per key: whose call it is, and where the state of each key lives.
//!
//! `layer.keyed(f)` gives each key that `f` finds in a request a state of its own. Keys are what clients send, or
//! come close to it, so their number is bounded: what is idle is dropped as new keys come, and where all of
//! them are in use, the next ones share a few limits by their hash, or pass a breaker uncounted: a stranger's failures
//! are not held against them. A state that says something, an open circuit, a call in flight, is not dropped.

pub(crate) mod key;
mod store;

pub(crate) mod hash;

pub use key::{By, KeyOf, One, ip_key};
pub(crate) use store::{Forget, Store};
