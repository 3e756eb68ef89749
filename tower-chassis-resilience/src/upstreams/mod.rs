//! All services by their names: [`Upstreams`] finds the service of a call, and builds its stack at the first one.
//!
//! Which service a request is for, [`Named`] says; where it is, [discovery](tower_chassis_core::discover) says; what
//! stands before it (retry, timeout, balancer, breakers), a function of yours says, called once per name.
//!
//! # Example
//! ```
//! use http::{Request, Response};
//! use tower::{BoxError, ServiceExt, service_fn};
//! use tower_chassis_core::{Endpoint, discover::StaticDiscover};
//! use tower_chassis_resilience::{
//!     balance::{Balance, Picker},
//!     upstreams::{Built, Upstreams, UpstreamsPolicy},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let discover = StaticDiscover::new();
//! discover.set("stock", [Endpoint::new("http://10.0.0.1:80")?]);
//!
//! let (upstreams, worker) = Upstreams::new(
//!     discover,
//!     |upstream| {
//!         let (balance, worker) = Balance::new(
//!             upstream.watch(),
//!             |make| {
//!                 let address = make.endpoint().address().to_string();
//!                 service_fn(move |_: Request<()>| {
//!                     let response = Response::new(address.clone());
//!                     async { Ok::<_, BoxError>(response) }
//!                 })
//!             },
//!             Picker::default(),
//!         );
//!         let handle = balance.handle();
//!         // Around the balancer: retry, timeouts.
//!         Built::new(balance).worker(worker).balance(handle)
//!     },
//!     UpstreamsPolicy::default(),
//! );
//! worker.spawn();
//!
//! let answer = upstreams.clone().oneshot(Request::get("http://stock/items").body(())?).await?;
//! assert_eq!(answer.body(), "http://10.0.0.1:80/");
//! let refused = upstreams.oneshot(Request::get("http://nobody/").body(())?).await;
//! assert_eq!(refused.unwrap_err().to_string(), "upstreams: no endpoint available");
//! # Ok(())
//! # }
//! ```
//!
//! # Configuration
//! [`UpstreamsConfig`], live: a smaller bound evicts at once.
//!
//! | field | default | is |
//! |---|---|---|
//! | `max_names` | 1,024 | upstreams that are built, and names that are being asked for |
//! | `idle` | 10 min | how long one is kept that nobody calls |
//! | `unknown_for` | 5 s | how long a name that discovery does not know is refused without asking again |
//! | `max_unknown` | 1,024 | unknown names that are remembered |
//! | `discovery_wait` | 1 s | how long the first calls of a name wait for discovery |
//!
//! Names come from requests, so perhaps from anybody: memory is bounded whatever is asked for. Nothing is built for a
//! name before discovery knows it. Over `max_names` the upstream goes that was not called for longest and has no call
//! in flight; if all have one, the new name is refused. Names of more than 255 bytes are refused. All these are
//! `NoEndpoint`.
//!
//! | the source says | a first call |
//! |---|---|
//! | `Asking` | waits, `discovery_wait` at most; then it is refused, and the next one asks again |
//! | `Unknown`, or it went away | is refused; the name too, for `unknown_for` |
//! | `Seen`, `Sure`, also without endpoints | builds the upstream, whose balancer says the rest |
//!
//! # Order
//! Instead of a client's stack: what it calls is one. Inside [`RescueLayer`](tower_chassis_core::RescueLayer) where the
//! caller wants answers, and inside what sets the name.
//!
//! # Events and metrics
//! | what | when |
//! |---|---|
//! | [`Event::Refused`](tower_chassis_core::events::Event::Refused), layer `upstreams` | no name, no such name, no room |
//! | [`UpstreamsHandle`] | the names that are built, their endpoints, how many are unknown |
//!
//! # Cancellation
//! A call may be dropped at any time. If it was the one that asked discovery for the others, another one goes on where
//! it was; so it does if the function that builds panics, and the panic is that of its own caller. An upstream that is
//! evicted serves the calls that it has, whose futures own what they need.
//!
//! # Cost
//! One look into a map and one allocation, the future of the stack: [`SharedService`]. No lock, no reading of the clock,
//! no count that all calls share. A name that is new copies the map.

mod config;
mod directory;
mod future;
mod handle;
mod service;
#[cfg(test)]
mod tests;
mod worker;

use std::{borrow::Cow, fmt, future::Future, sync::Arc};

use http::Request;
use tokio::sync::watch;
use tower_chassis_core::{
    BoxError, Carrier,
    boxed::{BoxFuture, SharedService},
    discover,
};
use tower_service::Service;

pub use self::{
    config::{UpstreamsConfig, UpstreamsPolicy},
    future::ResponseFuture,
    handle::UpstreamsHandle,
    service::{ForBody, Upstreams},
    worker::Worker,
};
use crate::balance::BalanceHandle;

/// A request that says which upstream it is for.
///
/// For HTTP, the service of the [`Invocation`](tower_chassis_core::Invocation) if a router set one, as it is written;
/// else the authority of the URI, in small letters and without a user. Never the header `Host`, which a client
/// would choose.
///
/// ```
/// # use std::borrow::Cow;
/// # use tower_chassis_resilience::upstreams::Named;
/// struct Command { to: String, text: String }
///
/// impl Named for Command {
///     fn upstream(&self) -> Option<Cow<'_, str>> {
///         Some(Cow::Borrowed(&self.to))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which upstream it is for",
    note = "a protocol of your own says it in one method: `impl Named for {Self}`"
)]
pub trait Named {
    /// The name, compared as it is; `None` if there is none.
    fn upstream(&self) -> Option<Cow<'_, str>>;
}

impl<B> Named for Request<B> {
    fn upstream(&self) -> Option<Cow<'_, str>> {
        if let Some(service) = self.invocation().and_then(|call| call.service()) {
            return Some(Cow::Borrowed(service));
        }
        let authority = self.uri().authority()?.as_str();
        let place = authority
            .rsplit_once('@')
            .map_or(authority, |(_, place)| place);
        Some(if place.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(place.to_ascii_lowercase())
        } else {
            Cow::Borrowed(place)
        })
    }
}

/// An upstream that is to be built.
pub struct Upstream<'a> {
    name: &'a Arc<str>,
    watch: &'a watch::Receiver<discover::Snapshot>,
}

impl Upstream<'_> {
    /// The name that was asked for.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        self.name
    }

    /// Its endpoints, for a [`Balance`](crate::balance::Balance). Known already, and perhaps none.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<discover::Snapshot> {
        self.watch.clone()
    }
}

impl fmt::Debug for Upstream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upstream").field(&self.name).finish()
    }
}

/// What was built for a name.
pub struct Built<Req, Res> {
    stack: SharedService<Req, Res>,
    worker: BoxFuture<'static, ()>,
    balance: Option<BalanceHandle>,
}

impl<Req, Res> Built<Req, Res> {
    /// A stack, of which each call clones one.
    pub fn new<S>(stack: S) -> Self
    where
        S: Service<Req, Response = Res, Error = BoxError> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        Req: Send + 'static,
        Res: 'static,
    {
        Self {
            stack: SharedService::new(stack),
            worker: Box::pin(std::future::ready(())),
            balance: None,
        }
    }

    /// What works for the stack while it lives, as the worker of its balancer, and ends when it is gone. Run by the
    /// directory's [`Worker`].
    #[must_use]
    pub fn worker(self, worker: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            worker: Box::pin(worker),
            ..self
        }
    }

    /// The handle of its balancer: an upstream with calls in flight is not evicted, and its endpoints are shown.
    #[must_use]
    pub fn balance(self, handle: BalanceHandle) -> Self {
        Self {
            balance: Some(handle),
            ..self
        }
    }
}

impl<Req, Res> fmt::Debug for Built<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Built")
            .field("balance", &self.balance)
            .finish_non_exhaustive()
    }
}
