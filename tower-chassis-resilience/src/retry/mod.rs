//! Another attempt, within a budget, for HTTP and for [a protocol of your own](#a-protocol-of-your-own).
//!
//! A call that failed in a way that another attempt may heal is made again after a wait, unless that could do
//! harm: to the service (the budget), to the caller's time (the deadline), or by serving a request twice (its
//! method). When there is no other attempt the caller gets the last result as it came: this layer refuses
//! nothing and makes no error of its own.
//!
//! What is tried again is a function of the [verdict](tower_chassis_core::verdict) alone, and, for an error, of the
//! [`Rejection`] in it:
//!
//! | outcome | tried again |
//! |---|---|
//! | no connection, or the server did not look at the request (`REFUSED_STREAM`): [`Kind::Unreachable`] | every request, but one with a body that was read and is not idempotent; once at once and for nothing, then as the rest |
//! | the gate of one endpoint was shut ([`Kind::CircuitOpen`]) | every request: nothing was sent |
//! | connection broke ([`Kind::Reset`]), a try timed out ([`Kind::Timeout`]) | idempotent ones |
//! | a status of the list (502, 503, 504), a gRPC code of the list (`UNAVAILABLE`) | idempotent ones |
//! | a response judged a failure or timeout, without a status or code | idempotent ones |
//! | 429 (or [`Class::RateLimited`]) with a wait of at most one second, gRPC `RESOURCE_EXHAUSTED` with a pushback | idempotent ones |
//! | 425 | every request, once |
//! | the service [forbade it](tower_chassis_core::Verdict::forbids_retry) | none |
//! | 409, 501, 505, 511, other refusals of ours, other errors, cancellation | none |
//!
//! [`RetryLayer::retry_if`] adds to it and takes away. A gRPC status in the trailers comes too late for all of this,
//! unless a [`PeekLayer`] below looks for it.
//!
//! Idempotent is what [`Carrier::is_idempotent`] says: for HTTP, GET, HEAD, OPTIONS, TRACE, PUT, DELETE, a request
//! with an `idempotency-key` header, and one with [`Idempotent`] in its extensions.
//!
//! **An error's whole chain counts.** `Unreachable` and `CircuitOpen` repeat a POST wherever they are among the
//! sources of an error, because they say that nothing was sent. A service that calls others while it serves, and
//! passes their errors on as its own, must say that this is not so: the outermost [`Rejection`] of a chain has the
//! say, so wrap theirs, as in `Rejection::new(Kind::Internal, "orders").because(error)`, or answer instead.
//!
//! # Example
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError, Carrier, Invocation};
//! use tower_chassis_resilience::retry::{RetryConfig, RetryLayer, RetryPolicy};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let policy = RetryPolicy::try_from(RetryConfig { attempts: 4, ..RetryConfig::default() })?;
//! // The inner service takes one type of body only, hence `rewrap`.
//! let layer = RetryLayer::new(policy).rewrap::<Body>();
//! let handle = layer.handle();
//! let service = ServiceBuilder::new().layer(layer).service(service_fn(async |request: Request<Body>| {
//!     let attempt = request.invocation().map_or(1, Invocation::attempt);
//!     let status = if attempt < 3 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
//!     Ok::<_, BoxError>(Response::builder().status(status).body(Body::empty())?)
//! }));
//! let response = service.oneshot(Request::put("/").body(Body::full("kept while it is sent"))?).await?;
//! assert_eq!(response.status(), StatusCode::OK);
//! assert_eq!(handle.retries(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # A protocol of your own
//! A request that is `Clone` and a [`Carrier`] is retried with [`clone_body`](RetryLayer::clone_body), which clones
//! all of it; its response says by [`Outcome`] how the call went. Not every protocol knows what may be made
//! twice, so a request is idempotent only if it says so.
//! ```
//! use http::Extensions;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{BoxError, Carrier, Verdict, verdict::Outcome};
//! use tower_chassis_resilience::retry::{RetryLayer, RetryPolicy};
//!
//! #[derive(Clone)]
//! struct Lookup {
//!     key: u64,
//!     extensions: Extensions,
//! }
//!
//! impl Carrier for Lookup {
//!     fn extensions(&self) -> &Extensions {
//!         &self.extensions
//!     }
//!     fn extensions_mut(&mut self) -> &mut Extensions {
//!         &mut self.extensions
//!     }
//!     fn is_idempotent(&self) -> bool {
//!         true
//!     }
//! }
//!
//! #[derive(Debug, PartialEq)]
//! enum Found {
//!     Value(u64),
//!     Broken,
//! }
//!
//! impl Outcome for Found {
//!     fn verdict(&self) -> Verdict {
//!         match self {
//!             Self::Value(_) => Verdict::SUCCESS,
//!             Self::Broken => Verdict::FAILURE,
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let service = ServiceBuilder::new()
//!     .layer(RetryLayer::new(RetryPolicy::default()).clone_body())
//!     .service(service_fn(async |lookup: Lookup| {
//!         let attempt = lookup.invocation().map_or(1, |invocation| invocation.attempt());
//!         Ok::<_, BoxError>(if attempt < 3 { Found::Broken } else { Found::Value(lookup.key) })
//!     }));
//! let found = service.oneshot(Lookup { key: 7, extensions: Extensions::new() }).await?;
//! assert_eq!(found, Found::Value(7));
//! # Ok(())
//! # }
//! ```
//! An error type of your own holds a [`Rejection`] where it is a
//! [`BoxError`](tower_chassis_core::BoxError); for any other, [`RetryLayer::classify_fn`] names the class
//! ([`Class::Timeout`], [`Class::Unreachable`]) or the code of what may be tried again. A request that `Clone` does
//! not do justice to implements [`Replay`] with a type of yours, for [`RetryLayer::replay`].
//!
//! # Configuration
//! [`RetryConfig`] → [`RetryPolicy`] → [`Live`](tower_chassis_core::Live), through [`RetryHandle::config`] too.
//!
//! | field | default | means |
//! |---|---|---|
//! | `attempts` | 3 | in all, the first included; 1 switches the layer off, 5 is the most, as in gRPC |
//! | `statuses` | 502, 503, 504 | what is tried again by its status |
//! | `grpc_codes` | 14 | and by its gRPC code |
//! | `methods` | none | what may be made twice: what [`Carrier::is_idempotent`] says, or these and no others |
//! | `backoff_base`, `backoff_max` | 25 ms, 1 s | the first wait on average, the longest |
//! | `jitter` | `decorrelated` | how waits are spread; `full`, `exponential` ([`Jitter`]) |
//! | `min_attempt_time` | 1 ms | an attempt that would have less before the deadline is not begun |
//! | `retry_under_retry` | `false` | whether a call that serves another's retry is tried again |
//! | `body_limit` | 64 KiB | how much of a body is kept |
//! | `budget_ratio` | 0.2 | retries for each call |
//! | `budget_min_per_second` | 10 | and so many more per second |
//! | `budget_in_flight_ratio` | 0.2 | which share of the calls under way may be retries |
//! | `budget_min_in_flight` | 3 | and so many in any case |
//!
//! | setter | default | means |
//! |---|---|---|
//! | [`retry_if`](RetryLayer::retry_if) | the table above | a rule of yours |
//! | [`classify`](RetryLayer::classify), [`classify_fn`](RetryLayer::classify_fn) | [`Auto`](tower_chassis_core::verdict::Auto) | who judges |
//! | [`clone_body`](RetryLayer::clone_body), [`replay`](RetryLayer::replay) | [`Buffered`] | how a request is sent twice |
//! | [`rewrap`](RetryLayer::rewrap), [`rewrap_with`](RetryLayer::rewrap_with) | – | for inner services that take one type of body |
//! | [`budget`](RetryLayer::budget) | one of its own | a budget that layers share |
//! | [`untracked`](RetryLayer::untracked) | tracked | no [`Invocation`](tower_chassis_core::Invocation) is made |
//!
//! * **Wait.** What the verdict [asks for](tower_chassis_core::Verdict::retry_after) takes the place of the backoff:
//!   `Retry-After` (seconds or a date; without one, the `t` of a `RateLimit` of which nothing is left; up to 10 % more) and `grpc-retry-pushback-ms` (exact; negative: no retry). A wait
//!   that ends after the [deadline](tower_chassis_core::Invocation::deadline) or is above 30 s is not begun: the caller
//!   gets the last result at once.
//! * **Budget.** Tokens bound the rate of retries, places how many are under way; see [`Budget`] for both. What never left
//!   us needs neither, once for each call, as long as it helps: after eight such attempts in a row that did not leave us
//!   either, whichever calls made them, it needs both.
//! * **Body.** [`Buffered`] records what the first attempt reads of an HTTP body while it reads it; a body that is longer
//!   than `body_limit`, finds no room in the 64 MiB of the process ([`ReplayMemory`]), or is still being read when the
//!   answer comes, is not sent again.
//!
//! # Under another retry
//! Three services one above another that try three times each make 27 calls of one. So each attempt but the first says its
//! number in `x-chassis-attempt`, and a call that [serves](tower_chassis_core::Invocation::caller_attempt) a retry of its
//! caller, or is one of a retry further out, is not tried again here, and says so to the next service: seven calls in
//! place of 27. Only who knows its callers should believe them: a server does it with a [`CallerAttemptLayer`], and calls
//! that it [makes to serve](tower_chassis_core::Invocation::carry) a call know it. A layer with one attempt passes it on.
//!
//! # Order
//! Below a total timeout and a rate limit, so that they see one call; above the timeout of a try and the
//! balancer, so that each attempt has its own time and lands elsewhere. Each copy carries its number and what was
//! tried in its [`Invocation`](tower_chassis_core::Invocation), made here if there is none.
//!
//! # Events and metrics
//! [`Event::Retry`] with the number and the wait of each retry (`chassis_retry_attempts_total`),
//! [`Event::BudgetExhausted`] where one was wanted and not in the budget (`chassis_retry_budget_exhausted_total`).
//! [`RetryHandle`] counts them, those for nothing and those that a caller's retry forbade, and reads the
//! [budget](RetryHandle::budget). Later attempts whose `content-type` is gRPC's carry `grpc-previous-rpc-attempts`.
//!
//! # Cancellation
//! Dropping the future drops the attempt or the wait, and nothing goes on behind it. A token that was taken for
//! a retry is not put back, its place is. The failed response, its body and its connection are dropped before the wait
//! begins. A service that failed to be ready is dropped too, and the next attempt is made by a fresh clone.
//!
//! # Cost
//! With one attempt: a look for the invocation. Else a reference count in the lane of the thread, a few plain moves in a
//! cell of its own, a reading of the clock for one call in 64 (for each where calls are rare or the budget is empty), and
//! the copy of the head (or the clone of the request), which is not made for a request that cannot be tried again: its
//! body is longer than the limit, or the budget is empty and nothing can be reached either. The future is 272 bytes
//! larger than the inner one with the head of an HTTP request, 32 and the clone with a request that is cloned; what a
//! second attempt needs is made when the first has failed. A request without an
//! [`Invocation`](tower_chassis_core::Invocation) gets one (four allocations; see [`RetryLayer::untracked`]); one with a
//! body pays for the record of it. The service below is cloned only for the second attempt, and the instance that was
//! readied makes the first.
//!
//! [`Carrier`]: tower_chassis_core::Carrier
//! [`Carrier::is_idempotent`]: tower_chassis_core::Carrier::is_idempotent
//! [`Class::RateLimited`]: tower_chassis_core::Class::RateLimited
//! [`Class::Timeout`]: tower_chassis_core::Class::Timeout
//! [`Class::Unreachable`]: tower_chassis_core::Class::Unreachable
//! [`Idempotent`]: tower_chassis_core::invocation::Idempotent
//! [`Outcome`]: tower_chassis_core::verdict::Outcome
//! [`Rejection`]: tower_chassis_core::Rejection
//! [`Kind::Unreachable`]: tower_chassis_core::Kind::Unreachable
//! [`Kind::CircuitOpen`]: tower_chassis_core::Kind::CircuitOpen
//! [`Kind::Reset`]: tower_chassis_core::Kind::Reset
//! [`Kind::Timeout`]: tower_chassis_core::Kind::Timeout
//! [`Event::Retry`]: tower_chassis_core::events::Event::Retry
//! [`Event::BudgetExhausted`]: tower_chassis_core::events::Event::BudgetExhausted

pub(crate) mod attempt;
mod backoff;
mod budget;
mod buffered;
mod cells;
mod config;
mod future;
mod layer;
mod memory;
mod peek;
mod replay;
pub(crate) mod rules;
mod state;
mod tape;
#[cfg(test)]
mod tests;

pub use self::{
    attempt::{ATTEMPT, CallerAttempt, CallerAttemptLayer},
    budget::{Budget, BudgetSnapshot, Deposit, Withdrawal},
    buffered::{Buffered, ReplayBody, ReplaySource},
    config::{BudgetConfig, BudgetPolicy, Jitter, RetryConfig, RetryPolicy},
    future::RetryFuture,
    layer::{Retry, RetryLayer},
    memory::ReplayMemory,
    peek::{Peek, PeekBody, PeekFuture, PeekLayer},
    replay::{Cloned, Replay, Rewrapped, RewrappedWith},
    state::{Attempted, RetryHandle},
};
