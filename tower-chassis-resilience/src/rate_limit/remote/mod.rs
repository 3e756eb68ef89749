//! A rate limit that several instances share through a store, such as Redis.
//!
//! ```
//! use std::{collections::HashMap, convert::Infallible, sync::Mutex, time::Duration};
//!
//! use tower::{Service, ServiceExt, service_fn};
//! use tower_chassis_core::BoxError;
//! use tower_chassis_resilience::rate_limit::{RateLimitLayer, RateLimitPolicy, remote::{Grant, Limit, Store}};
//! use tower_layer::Layer;
//!
//! /// Ten calls of a key, and no more ever.
//! #[derive(Default)]
//! struct Ten(Mutex<HashMap<String, u32>>);
//!
//! impl Store for Ten {
//!     async fn acquire(&self, key: &str, need: u32, _want: u32, _: Limit) -> Result<Grant, BoxError> {
//!         let mut keys = self.0.lock().unwrap();
//!         let used = keys.entry(key.to_owned()).or_default();
//!         if *used + need > 10 {
//!             return Ok(Grant::Refused(Duration::from_secs(3_600)));
//!         }
//!         *used += need;
//!         Ok(Grant::Calls(need))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let limit = RateLimitLayer::new(RateLimitPolicy::new(100.0, 50)?)
//!     .keyed(|user: &&'static str| Some(*user))
//!     .remote(Ten::default());
//! let mut service = limit.layer(service_fn(async |_: &'static str| Ok::<_, Infallible>(())));
//! for _ in 0..10 {
//!     service.ready().await?.call("ann").await?;
//! }
//! assert!(service.ready().await?.call("ann").await.is_err());
//! service.ready().await?.call("bob").await?;
//! # Ok(())
//! # }
//! ```
//!
//! An instance does not ask the store for each call: it takes a *lease* of some calls of a key, what the rate gives in
//! [`lease`](RemoteRateLimitLayer::lease), and spends it before that time is over. A key that the store refused is refused
//! here until its time has come, so that a client that is limited costs the store nothing. Keys above `max_keys` are asked for at each
//! call.
//!
//! When the store does not answer within [`timeout`](RemoteRateLimitLayer::timeout), or fails, this instance allows its
//! *share* by itself: rate and burst divided by the number of [`instances`](RemoteRateLimitLayer::instances). It asks the store
//! again every quarter of a second, with one call. The limit of a service must not become its outage.
//!
//! # How exact
//!
//! The store allows at most `burst + rate * t` calls in any time `t`. Calls that were leased may be made up to
//! a lease's time later, so that over all instances there may be as many more as they hold: for each instance, less than
//! half a burst divided by the number of instances, and less than `rate * lease`; where calls of a key wait for the store, as
//! many as wait are taken at once. While the store is away, the shares add up to
//! the limit if `instances` is right and not above `burst`; what was used shortly before it went away counts for the share. A store that comes back
//! empty has forgotten what was used: that is one burst.
//!
//! # Configuration
//!
//! The policy is that of the [rate limit](super): `rate`, `burst` and `per`. A store counts by GCRA, whatever `algorithm`
//! says, and nobody waits, whatever `max_wait` says.
//!
//! | setter | default | means |
//! |---|---|---|
//! | [`instances`](RemoteRateLimitLayer::instances) | 1 | how many share the limit; live through the [handle](RemoteRateLimitHandle::set_instances) |
//! | [`timeout`](RemoteRateLimitLayer::timeout) | 10 ms | how long a call waits for the store |
//! | [`lease`](RemoteRateLimitLayer::lease) | 100 ms | how long calls are held that were taken in advance |
//!
//! `max_keys`, `named` and `events` are those of the rate limit, said before
//! [`remote`](super::RateLimitLayer::remote). The name is part of the store's key: two limits of one name and one store count as
//! one. Without a name, the burst and the window that it has at first are.
//!
//! # Events and metrics
//!
//! Refusals, as of the rate limit. [`is_away`](RemoteRateLimitHandle::is_away) says whether the store is; that it went
//! away is logged as a warning, once each time.
//!
//! # Cancellation
//!
//! A call that is dropped while it asks the store leaves what was granted to nobody; the next one asks again.
//!
//! # Cost
//!
//! A call that finds a lease: the time, a look-up of its key under one of 64 locks, and the lock of the key. One that asks: an
//! allocation, a timer, and a round trip; calls of one key ask one after the other, and find what the one before has leased.

mod account;
mod layer;
#[cfg(feature = "redis")]
mod redis;
mod service;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt::Write as _, future::Future, net::IpAddr, sync::Arc, time::Duration};

use tower_chassis_core::BoxError;

#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
pub use self::{
    layer::{RemoteRateLimitHandle, RemoteRateLimitLayer},
    service::{RemoteRateLimit, RemoteRateLimitFuture},
};

/// Where the calls of all instances are counted.
pub trait Store: Send + Sync + 'static {
    /// Takes `need` calls of a key, and up to `want` where so many are to be had; nothing if there are
    /// less than `need`.
    ///
    /// Dropped when it takes too long: what it took then is lost.
    ///
    /// # Errors
    /// The store could not be asked.
    fn acquire(
        &self,
        key: &str,
        need: u32,
        want: u32,
        limit: Limit,
    ) -> impl Future<Output = Result<Grant, BoxError>> + Send;
}

impl<S: Store> Store for Arc<S> {
    fn acquire(
        &self,
        key: &str,
        need: u32,
        want: u32,
        limit: Limit,
    ) -> impl Future<Output = Result<Grant, BoxError>> + Send {
        S::acquire(self, key, need, want, limit)
    }
}

/// What a store is to allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limit {
    /// The time in which one more call is allowed.
    pub interval: Duration,
    /// The calls that are allowed at once.
    pub burst: u32,
}

/// What a store says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grant {
    /// So many calls, at least as many as were needed.
    Calls(u32),
    /// None, and for so long.
    Refused(Duration),
}

/// A key that a store can be asked for.
pub trait StoreKey {
    /// The key as text; two keys are the same text only if they are equal.
    fn text(&self) -> Cow<'_, str>;
}

impl StoreKey for () {
    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
}

macro_rules! text_keys {
    ($($name:ty),+) => {
        $(impl StoreKey for $name {
            fn text(&self) -> Cow<'_, str> {
                Cow::Borrowed(self)
            }
        })+
    };
}
text_keys!(String, &'static str, Arc<str>, Box<str>);

macro_rules! display_keys {
    ($($name:ty),+) => {
        $(impl StoreKey for $name {
            fn text(&self) -> Cow<'_, str> {
                let mut text = String::new();
                let _ = write!(text, "{self}");
                Cow::Owned(text)
            }
        })+
    };
}
display_keys!(IpAddr, u16, u32, u64, u128);
