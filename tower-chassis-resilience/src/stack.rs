//! The resilience of a client as one layer, in the order in which it is right.
//!
//! ```text
//! total deadline → fallback → rate limit → retry or hedge → timeout of a try → between → balance
//! ```
//!
//! # Example
//! ```
//! use std::time::Duration;
//!
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError, Kind, Rejection};
//! use tower_chassis_resilience::{
//!     fallback::FallbackLayer,
//!     rate_limit::{RateLimitLayer, RateLimitPolicy},
//!     retry::{RetryLayer, RetryPolicy},
//!     stack,
//!     timeout::{TimeoutLayer, TimeoutPolicy},
//! };
//! use tower_layer::Identity;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let retry = RetryLayer::new(RetryPolicy::default()).rewrap::<Body>();
//! let retries = retry.handle();
//! let client = stack::client(
//!     TimeoutLayer::total(TimeoutPolicy::new(Duration::from_secs(2))?),
//!     FallbackLayer::with(|_| Response::new(Body::from("[]"))),
//!     RateLimitLayer::new(RateLimitPolicy::new(100.0, 20)?),
//!     retry,
//!     TimeoutLayer::per_try(TimeoutPolicy::new(Duration::from_millis(250))?),
//!     Identity::new(), // traffic rules, faults, a mirror
//! );
//! // A balancer, as a rule.
//! let stock = ServiceBuilder::new().layer(client).service(service_fn(async |_: Request<Body>| {
//!     Err::<Response<Body>, BoxError>(Rejection::new(Kind::Unreachable, "connect").into())
//! }));
//! let answer = stock.oneshot(Request::get("/stock").body(Body::empty())?).await?;
//! assert_eq!((answer.status().as_u16(), retries.retries() > 0), (200, true));
//! # Ok(())
//! # }
//! ```
//!
//! # Order
//! | place | why there |
//! |---|---|
//! | [`Total`] | all that is inside counts: queues, waits, attempts |
//! | [`Instead`] | answers for everything inside, but not for a caller whose time is up |
//! | [`Limits`] | a call that is refused costs no attempt, an attempt costs no permit |
//! | [`Again`] | above the balancer, so that the next attempt lands elsewhere |
//! | [`PerTry`] | an attempt that hangs is ended, and the next one has time |
//! | between | what each attempt goes through: traffic rules, faults (so that they exercise what is above), a mirror |
//!
//! A layer in a place where it does not belong is refused by the compiler. [`Identity`] leaves a place empty. A layer of
//! your own says where it belongs: `impl Fits<Limits> for MyLayer {}`.
//!
//! # Events and metrics, cancellation, cost
//! Those of its parts; this is a name for their order and nothing at run time.

use tower_layer::{Identity, Stack};

use crate::{
    deadline::{DeadlineLayer, Propagate},
    fallback::FallbackLayer,
    hedge::HedgeLayer,
    rate_limit::RateLimitLayer,
    retry::RetryLayer,
    timeout::TimeoutLayer,
};

/// Outermost: the time of the whole call.
#[derive(Clone, Copy, Debug)]
pub enum Total {}
/// What answers where the rest fails.
#[derive(Clone, Copy, Debug)]
pub enum Instead {}
/// What refuses calls before they cost anything.
#[derive(Clone, Copy, Debug)]
pub enum Limits {}
/// What makes more attempts than one.
#[derive(Clone, Copy, Debug)]
pub enum Again {}
/// The time of one attempt.
#[derive(Clone, Copy, Debug)]
pub enum PerTry {}

/// A layer that belongs in a place of a [`client`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not belong in the place `{Place}` of a client's stack",
    label = "another layer is expected here",
    note = "the arguments are: total deadline, fallback, rate limit, retry or hedge, timeout of a try, what comes between it and the balancer; `Identity::new()` leaves a place empty; a layer of your own says `impl Fits<{Place}> for {Self} {{}}`"
)]
pub trait Fits<Place> {}

impl<Place> Fits<Place> for Identity {}
impl<A> Fits<Total> for DeadlineLayer<Propagate, A> {}
impl<W, A, E> Fits<Total> for TimeoutLayer<W, A, E> {}
impl<A, C, M> Fits<Instead> for FallbackLayer<A, C, M> {}
impl<F, K, J> Fits<Limits> for RateLimitLayer<F, K, J> {}
impl<R, C> Fits<Again> for RetryLayer<R, C> {}
impl<R, C, F, K> Fits<Again> for HedgeLayer<R, C, F, K> {}
impl<W, A, E> Fits<PerTry> for TimeoutLayer<W, A, E> {}

/// What [`client`] makes.
pub type Client<D, F, L, A, T, B> = Stack<B, Stack<T, Stack<A, Stack<L, Stack<F, D>>>>>;

/// The layers of a client in their [order](self).
pub fn client<D, F, L, A, T, B>(
    total: D,
    fallback: F,
    rate_limit: L,
    again: A,
    per_try: T,
    between: B,
) -> Client<D, F, L, A, T, B>
where
    D: Fits<Total>,
    F: Fits<Instead>,
    L: Fits<Limits>,
    A: Fits<Again>,
    T: Fits<PerTry>,
{
    let limited = Stack::new(rate_limit, Stack::new(fallback, total));
    Stack::new(between, Stack::new(per_try, Stack::new(again, limited)))
}
