//! Who asked for what, and what became of it: a record of a call, when it is over.
//!
//! # Example
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError, Carrier};
//! use tower_chassis_observe::audit::{AuditLayer, AuditPolicy, AuditRecord, AuditRule};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (records, mut written) = tokio::sync::mpsc::channel::<AuditRecord>(1024);
//! let policy = AuditPolicy::default().with(|config| {
//!     config.rules = vec![AuditRule { methods: vec!["POST".into(), "DELETE".into()], ..AuditRule::default() }];
//! })?;
//! let service = ServiceBuilder::new()
//!     .layer(AuditLayer::new(policy, records))
//!     .service(service_fn(async |request: Request<()>| {
//!         // What an authentication does.
//!         if let Some(invocation) = request.invocation() {
//!             invocation.set_principal("ann".into());
//!         }
//!         Ok::<_, BoxError>(Response::new(Body::empty()))
//!     }));
//! drop(service.clone().oneshot(Request::post("/orders").body(())?).await);
//! let record = written.recv().await.unwrap();
//! assert_eq!((&*record.principal.unwrap(), record.method.as_str()), ("ann", "POST"));
//!
//! drop(service.oneshot(Request::get("/orders").body(())?).await);
//! assert!(written.try_recv().is_err());
//! # Ok(())
//! # }
//! ```
//!
//! # The record
//! [`AuditRecord`]; as JSON:
//!
//! | | |
//! |---|---|
//! | `time` | when the call was over, UTC, RFC 3339 with milliseconds |
//! | `principal` | who it came from: what the authentication inside [said](tower_chassis_core::Invocation::set_principal), else what [`AuditLayer::principal`] finds |
//! | `client` | the address of the client |
//! | `method`, `route` | the template that matched: of our router, else [axum's](crate::access_log#axum) |
//! | `path` | only where the policy says so, without its [secret](crate::access_log::redact#what-is-secret) parameters; never the query |
//! | `class`, `status`, `grpc` | the verdict, at the end of the body |
//! | `duration_ms`, `received`, `sent` | to the end of the body; bytes of the two bodies |
//! | `request_id`, `trace_id`, `span_id` | |
//! | `headers` | of the request, those that the policy names, 8 KiB of each at the most, without what is [secret](crate::access_log::redact#what-is-secret) |
//!
//! # Where records go
//! An [`AuditSink`]: an [`Output`](crate::output::Output) (lines of JSON in a file that rolls), a channel of tokio, a
//! closure. What a sink has no room for is lost and counted.
//!
//! [`LosslessAuditLayer`] loses none: a call takes the place for its record before it is made, and waits for one where
//! there is none, as long as `max_wait` and its deadline; then it is refused (`Overloaded`, `audit`). It is the sink that
//! sets the pace then, and no more calls are in flight than there are places: a place is held to the end of the body.
//! It needs a channel, whose receiver writes:
//!
//! ```
//! use tower_chassis_observe::audit::{AuditPolicy, AuditRecord, LosslessAuditLayer};
//!
//! let (places, records) = tokio::sync::mpsc::channel::<AuditRecord>(256);
//! let layer = LosslessAuditLayer::new(AuditPolicy::default(), places);
//! # drop((layer, records));
//! ```
//!
//! A receiver that is dropped takes the records of the calls in flight with it. To end without loss, `close` it and read on
//! until it says `None`: calls that began have their places, new ones are refused.
//!
//! # Configuration
//! [`AuditConfig`], live:
//!
//! | field | default | |
//! |---|---|---|
//! | `rules` | none: every call | the first that fits decides; routes, methods, classes, and whether to record |
//! | `paths` | false | the path besides the template |
//! | `headers` | none | headers of the request |
//! | `max_wait` | 1 s | of a call for its place |
//!
//! A change reaches calls that begin after it.
//!
//! # Events and metrics
//! Refusals of [`LosslessAuditLayer`] are reported to its [`Events`](tower_chassis_core::Events);
//! [`AuditLayer::handle`] counts records. What is lost becomes `chassis_telemetry_lost_total` where somebody says so now and
//! then: [`lost`](crate::events::lost) with [`Signal::Audit`](crate::events::Signal::Audit), `.absolute(handle.lost())`.
//!
//! # Order
//! Outside `RescueLayer`, the router and the authentication; inside the layers that name the client, the request and its
//! trace. [`LosslessAuditLayer`] refuses, and no rescue is outside of it there: it
//! [answers by itself](LosslessAuditLayer::respond), and what it refuses is in no record.
//!
//! # Cancellation
//! A call that is dropped has its record, `cancelled`; so has one that panicked. One that is dropped while it waits for its
//! place was not made, and has none; its place in the queue is free at once.
//!
//! # Cost
//! An allocation for a call that may be recorded, and what a record holds of it; nothing for the others.
//! [`LosslessAuditLayer`] makes the future 32 bytes larger, and makes two more allocations for a call that waits for its place.

mod config;
mod layer;
mod lossless;
mod record;
mod rule;
mod sink;
mod state;

pub use self::{
    config::{AuditConfig, AuditPolicy, AuditRule},
    layer::{Audit, AuditLayer, AuditService, AuditTicket},
    lossless::{LosslessAudit, LosslessAuditFuture, LosslessAuditLayer, LosslessTicket},
    record::AuditRecord,
    sink::AuditSink,
    state::AuditHandle,
};
