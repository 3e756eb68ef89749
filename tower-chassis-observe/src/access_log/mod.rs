//! One line per request, written when it is over.
//!
//! # Example
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError};
//! use tower_chassis_observe::access_log::{AccessLogLayer, Format};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let lines = Arc::new(Mutex::new(String::new()));
//! let sink = Arc::clone(&lines);
//! let layer = AccessLogLayer::new(Format::Text, move |line: &str| sink.lock().unwrap().push_str(line));
//! let service = ServiceBuilder::new()
//!     .layer(layer.clone())
//!     .service(service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(Body::empty()))));
//! service.clone().oneshot(Request::new(())).await.unwrap();
//! assert!(lines.lock().unwrap().contains("method=GET path=/ route=- status=200"));
//!
//! // Off while it runs.
//! layer.handle().set(Format::Off).unwrap();
//! service.oneshot(Request::new(())).await.unwrap();
//! assert_eq!(lines.lock().unwrap().lines().count(), 1);
//! # }
//! ```
//!
//! # The line
//! | text and JSON | |
//! |---|---|
//! | `time` | when it ended, UTC, RFC 3339 with milliseconds |
//! | `client` | the address of the client, as the layers outside established it |
//! | `method`, `path` | the query is left out, see [`Query`] |
//! | `route` | the template that matched |
//! | `status`, `grpc` | of the response; of the trailers |
//! | `duration_ms` | from the head of the request to the end of the body |
//! | `bytes` | of the body that passed |
//! | `request_id`, `trace_id`, `user_agent` | |
//! | `class` | the verdict: `success`, `client-fault`, `failure`, `timeout`, `cancelled`, `refused`, … |
//!
//! What is not known is `-` in text and left out of JSON. What a client sent cannot break a line, begin another
//! or reach a terminal: quotes, control characters, and those that turn the direction of text are escaped.
//!
//! # Order
//! Inside the layers that name the client, the request and its trace, outside `RescueLayer`.
//!
//! # Cancellation
//! A call that is dropped has its line, with the class `cancelled` and what was known by then.
//!
//! # Cost
//! No allocation: the line is written into a buffer of the thread, what it needs of the request is shared with
//! it. The sink runs on the task of the call, so it must not wait long.

mod civil;
mod escape;
mod line;
mod sink;
mod ticket;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::SystemTime,
};

use http::{Request, header};
use tokio::time::Instant;
use tower_chassis_core::{
    Carrier, Live, live::Validate, settle::UntilEnd, verdict::Auto, wire::Start,
};

pub use self::{
    sink::{stdout, tracing},
    ticket::AccessLogTicket,
};

observer_layer! {
    /// Writes a line per request. See the [module](self).
    #[doc(alias = "Logger")]
    #[doc(alias = "httplog")]
    AccessLogLayer, AccessLog,
    /// The service of [`AccessLogLayer`].
    AccessLogService
}

/// How the line is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
#[repr(u8)]
pub enum Format {
    /// Not at all.
    Off,
    /// `key=value` pairs.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

impl Validate for Format {}

/// What becomes of the query of a URI. It holds tokens and names of people more often than one thinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Query {
    /// Left out.
    #[default]
    Hidden,
    /// The names, with `*` for the values.
    Names,
    /// As it came.
    Full,
}

impl AccessLogLayer {
    /// Gives every line, with its newline, to `sink`: [`stdout`], [`tracing()`] or a closure.
    pub fn new(
        format: impl Into<Live<Format>>,
        sink: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        let settings = Settings {
            query: Query::Hidden,
            clock: SystemTime::now,
        };
        let policy = AccessLog::new(format.into(), settings, Arc::new(sink));
        Self {
            policy,
            settle: UntilEnd::new(Auto),
        }
    }
}

impl<J> AccessLogLayer<J> {
    /// What becomes of the query. To be said before the layer is used.
    pub fn query(self, query: Query) -> Self {
        let settings = Settings {
            query,
            ..self.policy.0.settings
        };
        Self {
            policy: self.policy.with(settings),
            ..self
        }
    }

    /// Another clock for `time`, for tests. To be said before the layer is used.
    pub fn clock(self, clock: fn() -> SystemTime) -> Self {
        let settings = Settings {
            clock,
            ..self.policy.0.settings
        };
        Self {
            policy: self.policy.with(settings),
            ..self
        }
    }

    /// Reads and sets the format, while it runs.
    pub fn handle(&self) -> Live<Format> {
        self.policy.0.format.clone()
    }
}

type Sink = Arc<dyn Fn(&str) + Send + Sync>;

/// The policy of [`AccessLogLayer`].
#[derive(Clone)]
pub struct AccessLog(Arc<State>);

struct State {
    format: Live<Format>,
    /// What `format` says, for calls.
    now: AtomicU8,
    settings: Settings,
    sink: Sink,
}

impl AccessLog {
    fn new(format: Live<Format>, settings: Settings, sink: Sink) -> Self {
        let state = Arc::new(State {
            format: format.clone(),
            now: AtomicU8::new(0),
            settings,
            sink,
        });
        format.bind(&state, |state, format| {
            state.now.store(*format as u8, Ordering::Relaxed)
        });
        Self(state)
    }

    fn with(&self, settings: Settings) -> Self {
        Self::new(self.0.format.clone(), settings, Arc::clone(&self.0.sink))
    }
}

#[derive(Clone, Copy)]
struct Settings {
    query: Query,
    clock: fn() -> SystemTime,
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("format", &self.0.format)
            .finish_non_exhaustive()
    }
}

impl<B> Start<Request<B>> for AccessLog {
    type Ticket = Option<AccessLogTicket>;

    fn start(&self, request: &mut Request<B>, now: Instant) -> Self::Ticket {
        if self.0.now.load(Ordering::Relaxed) == Format::Off as u8 {
            return None;
        }
        let invocation = request.invocation_mut();
        let (route, client) = (invocation.route_slot(), invocation.client());
        let request_id = invocation.request_id().cloned();
        let trace_id = invocation.trace().map(|trace| trace.trace_id());
        Some(AccessLogTicket {
            state: Arc::clone(&self.0),
            start: now,
            bytes: 0,
            route,
            client: client.map(|client| client.ip()),
            request_id,
            trace_id,
            method: request.method().clone(),
            path: request.uri().path_and_query().cloned(),
            user_agent: request.headers().get(header::USER_AGENT).cloned(),
        })
    }
}
