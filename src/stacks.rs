//! The recommended stacks: which layer stands where, once.
//!
//! Each function takes layers that are set up already, because who set them up keeps their handles, and puts them in
//! the order in which they are right; it says `.until_end()` where a permit or a verdict must last until the end of
//! the body. The result is a [`Layer`](tower_layer::Layer) for `ServiceBuilder`, for an axum `Router::layer`, for
//! tonic's `Server::layer`. Who wants fewer or other layers takes a `ServiceBuilder` and the [guide](crate::guide::stacks),
//! which says why the order is what it is.

use tower_chassis_core::{
    RescueLayer, Respond,
    settle::{UntilEnd, UntilHead},
    verdict::OkIsSuccess,
};
use tower_chassis_observe::ObserveLayer;
use tower_chassis_resilience::{
    adaptive::AdaptiveLayer,
    breaker::BreakerLayer,
    bulkhead::{BulkheadLayer, Deadlines},
    deadline::{Accept, DeadlineLayer, Propagate},
    rate_limit::RateLimitLayer,
    shed::ShedLayer,
    stack,
    timeout::TimeoutLayer,
};
use tower_layer::{Identity, Stack};

/// A bulkhead whose permits last to the end of the body.
pub type Held = BulkheadLayer<UntilEnd<OkIsSuccess>>;

/// The same, in whose queue nobody waits past the deadline of its call.
pub type Dated<J = UntilEnd<OkIsSuccess>> = BulkheadLayer<J, Deadlines>;

/// What refuses the calls of a [`server`] that matter least: a [`ShedLayer`], or [`Identity`], which leaves the place
/// empty.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not shed load",
    label = "a `ShedLayer` is expected here",
    note = "the arguments are: observe, deadline, shed, limit, rate limit; `Identity::new()` leaves the place empty; a layer of your own says `impl Sheds for {Self} {{}}`"
)]
pub trait Sheds {}

impl Sheds for Identity {}
impl<P, J> Sheds for ShedLayer<P, J> {}

/// What bounds the calls of a [`server`] at once: a [`BulkheadLayer`], or an [`AdaptiveLayer`] that finds the bound.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not bound the calls at once",
    label = "a `BulkheadLayer` or an `AdaptiveLayer` is expected here",
    note = "the arguments are: observe, deadline, shed, limit, rate limit; what judges and how long permits last is said by the stack"
)]
pub trait Bounds: sealed::Sealed {
    /// The same, whose permits last to the end of the body.
    type Held;
    /// Makes it.
    fn held(self) -> Self::Held;
}

impl Bounds for BulkheadLayer {
    type Held = Dated;
    fn held(self) -> Dated {
        self.until_end().deadlines()
    }
}

impl Bounds for AdaptiveLayer {
    type Held = AdaptiveLayer<UntilEnd>;
    fn held(self) -> Self::Held {
        self.until_end()
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::BulkheadLayer {}
    impl Sealed for super::AdaptiveLayer {}
}

/// What [`server`] makes.
pub type ServerStack<P, S, B, L> = Stack<
    L,
    Stack<
        <B as Bounds>::Held,
        Stack<S, Stack<DeadlineLayer<Accept>, Stack<RescueLayer, ObserveLayer<P>>>>,
    >,
>;

/// Around a whole server: `observe → rescue → deadline → shed → limit → rate limit → …`.
///
/// `observe` is trace, access log and metrics as one layer: they see every answer, also those that the layers inside
/// refuse. `limit` bounds the calls at once, to the end of their bodies; in the queue of a bulkhead nobody waits past the
/// deadline of its call. `shed` [watches](ShedLayer::watch) it, and refuses what matters least before the queue is full of
/// it; [`Identity`] where all calls are alike. Inside come authentication, body limits and the router, and, where the
/// callers are services of ours, a [`CallerAttemptLayer`](tower_chassis_resilience::retry::CallerAttemptLayer). Behind it
/// nothing fails: what is refused is an answer.
pub fn server<P, S, B, F, K>(
    observe: ObserveLayer<P>,
    deadline: DeadlineLayer<Accept>,
    shed: S,
    limit: B,
    rate_limit: RateLimitLayer<F, K>,
) -> ServerStack<P, S, B, RateLimitLayer<F, K>>
where
    S: Sheds,
    B: Bounds,
{
    let rescue = Stack::new(RescueLayer::new(), observe);
    let shed = Stack::new(shed, Stack::new(deadline, rescue));
    Stack::new(rate_limit, Stack::new(limit.held(), shed))
}

/// What [`route`] makes.
pub type RouteStack<W> = Stack<Dated<Respond<UntilEnd<OkIsSuccess>>>, TimeoutLayer<W, Respond>>;

/// Around a route: `timeout → bulkhead → handler`. The timeout is a [total](TimeoutLayer::total) one: the timeout of a
/// try would be held against the services that the handler was asking when its time was up. What they refuse is an
/// answer, so that the route stays what it was, infallible.
pub fn route<W>(timeout: TimeoutLayer<W>, bulkhead: BulkheadLayer) -> RouteStack<W> {
    let bulkhead = bulkhead.until_end().deadlines().respond();
    Stack::new(bulkhead, timeout.respond())
}

/// What [`client`] makes.
pub type ClientStack<P, F, L, A, W, B> =
    Stack<stack::Client<DeadlineLayer<Propagate>, F, L, A, TimeoutLayer<W>, B>, ObserveLayer<P>>;

/// Around a service of many endpoints:
/// `observe → deadline → fallback → rate limit → retry or hedge → timeout of a try → between → …`.
///
/// The part inside `observe` is [`stack::client`], whose page says why the order is so; `Identity::new()` leaves a place
/// empty. `between` is what each attempt goes through: traffic rules, faults, a mirror. Inside comes the balancer, so that
/// each attempt may go elsewhere, and around each endpoint [`endpoint`]. Around it [`RescueLayer`], where the caller wants
/// answers and no errors, as tonic's clients do.
pub fn client<P, F, L, A, W, B>(
    observe: ObserveLayer<P>,
    deadline: DeadlineLayer<Propagate>,
    fallback: F,
    rate_limit: L,
    again: A,
    per_try: TimeoutLayer<W>,
    between: B,
) -> ClientStack<P, F, L, A, W, B>
where
    F: stack::Fits<stack::Instead>,
    L: stack::Fits<stack::Limits>,
    A: stack::Fits<stack::Again>,
{
    let inside = stack::client(deadline, fallback, rate_limit, again, per_try, between);
    Stack::new(inside, observe)
}

/// What [`endpoint`] makes.
pub type EndpointStack<C> = Stack<DeadlineLayer<Propagate>, Stack<Held, BreakerLayer<UntilEnd<C>>>>;

/// Around one endpoint of a balancer: `breaker → bulkhead → deadline → connection`.
///
/// Give the breaker the endpoint's [gate](BreakerLayer::gate), so that the balancer passes it over while it is open. Give the
/// bulkhead no queue: a probe of the breaker that waits in it is late. The deadline is a clone of the one in [`client`]:
/// here it only tells the endpoint what is left for this attempt, and the other one ends the call.
pub fn endpoint<C>(
    breaker: BreakerLayer<UntilHead<C>>,
    bulkhead: BulkheadLayer,
    deadline: DeadlineLayer<Propagate>,
) -> EndpointStack<C> {
    let inside = Stack::new(bulkhead.until_end(), breaker.until_end());
    Stack::new(deadline.tell_only(), inside)
}
