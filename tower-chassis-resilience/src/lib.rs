//! Timeout, deadline, retry, hedge, breaker, bulkhead, rate limit and balance as tower layers: protocol-agnostic, one
//! verdict, live.
//!
//! | module | is | refuses with |
//! |---|---|---|
//! | [`timeout`] | an answer in time, per try or in total, to its head or its end; a stream that does not stall | `Timeout` |
//! | [`deadline`] | a time that a call has, carried over hops | `DeadlineExceeded`, `Timeout`, `BadRequest` |
//! | [`retry`] | another attempt, within a budget | the last error |
//! | [`hedge`] | a second attempt of a call that is late | nothing |
//! | [`breaker`] | a service that fails is left alone | `CircuitOpen` |
//! | [`bulkhead`] | so many calls at once, so many that wait | `Overloaded` |
//! | [`rate_limit`] | so many calls per time and key | `RateLimited` |
//! | [`adaptive`] | as many calls at once as the service can bear | `Overloaded` |
//! | [`shed`] | under overload, refused at once, what matters least first | `Overloaded` |
//! | [`cache`] | answers that are kept for a while and given again | |
//! | [`coalesce`] | one call for all that ask the same at once | `Internal`: it panicked |
//! | [`fallback`] | another answer for a call that failed | the error of both |
//! | [`balance`] | one service out of many endpoints | `NoEndpoint`, `CircuitOpen` |
//! | [`upstreams`] | all services by their names | `NoEndpoint` |
//! | [`fault`] | failures on purpose, the same for the same request | `Injected`, `Timeout` |
//! | [`mirror`] | a copy of some calls for a second service | nothing |
//! | [`stack`] | the order of these in a client | |
//!
//! State lives in the layer: layering or cloning twice shares it. Settings are live: every layer takes
//! `impl Into<Live<Policy>>`.
#![forbid(unsafe_code)]

pub mod adaptive;
pub mod balance;
pub mod breaker;
pub mod bulkhead;
pub mod cache;
pub mod coalesce;
pub mod deadline;
mod dice;
pub mod fallback;
pub mod fault;
pub mod hedge;
pub mod keyed;
mod lazy;
pub mod mirror;
pub mod rate_limit;
pub mod retry;
pub mod share;
pub mod shed;
mod slots;
pub mod stack;
mod template;
pub mod timeout;
mod until;
pub mod upstreams;
