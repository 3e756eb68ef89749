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
//! // While it runs: only what went wrong, and then nothing.
//! let handle = layer.handle();
//! handle.update(|config| config.successes = 0.0).unwrap();
//! service.clone().oneshot(Request::new(())).await.unwrap();
//! handle.format().set(Format::Off).unwrap();
//! service.oneshot(Request::new(())).await.unwrap();
//! assert_eq!((handle.written(), handle.skipped()), (1, 1));
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
//! # Configuration
//! The [`Format`] and [`AccessLogConfig`], both live; [`Query`] before the layer is used.
//!
//! | field | default | |
//! |---|---|---|
//! | `successes` | 1 | the share of the calls that succeeded (class `success`) that has a line; what went wrong always has one |
//! | `slow` | 0: off | a call that took as long as this always has a line |
//!
//! # Events and metrics
//! None of its own; [`AccessLogLayer::handle`] counts the lines that were written, left out and dropped.
//!
//! # Order
//! Inside the layers that name the client, the request and its trace, outside `RescueLayer`.
//!
//! # Cancellation
//! A call that is dropped has its line, with the class `cancelled` and what was known by then.
//!
//! # Cost
//! No allocation: the line is written into a buffer of the thread, what it needs of the request is shared with
//! it. Two counts a call. The sink runs on the task of the call, so it must not wait long. One that hands lines to
//! another thread is bounded, and says when it is full:
//!
//! ```
//! use tower_chassis_observe::access_log::{AccessLogLayer, Format};
//!
//! let (lines, writer) = std::sync::mpsc::sync_channel::<String>(1024);
//! std::thread::spawn(move || writer.iter().for_each(|line| eprint!("{line}")));
//! let layer = AccessLogLayer::new(Format::Text, move |line: &str| lines.try_send(line.into()).is_ok());
//! assert_eq!(layer.handle().dropped(), 0);
//! ```

mod civil;
mod escape;
mod line;
mod policy;
pub mod redact;
mod sink;
mod ticket;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use http::{Request, header};
use tokio::time::Instant;
use tower_chassis_core::{
    Carrier, Live, live::Validate, settle::UntilEnd, verdict::Auto, wire::Start,
};

#[cfg(feature = "log")]
pub(crate) use self::escape::{is_dangerous, text as escape_text};
pub(crate) use self::{civil::write_rfc3339, escape::json as escape_json};
pub use self::{
    policy::{AccessLogConfig, AccessLogHandle, AccessLogPolicy},
    sink::{Taken, stdout, tracing},
    ticket::AccessLogTicket,
};
use crate::tally::Tally;

observer_layer! {
    /// Writes a line per request. See the [module](self).
    #[doc(alias = "Logger")]
    #[doc(alias = "httplog")]
    AccessLogLayer, AccessLog, AccessLogPolicy, AccessLogHandle,
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
    /// Gives every line, with its newline, to `sink`: [`stdout`], [`tracing()`] or a closure. It may say that
    /// it has no room for the line, see [`Taken`].
    pub fn new<T: Taken>(
        format: impl Into<Live<Format>>,
        sink: impl Fn(&str) -> T + Send + Sync + 'static,
    ) -> Self {
        let settings = Settings {
            query: Query::Hidden,
            clock: SystemTime::now,
        };
        let sink = Arc::new(move |line: &str| sink(line).taken());
        let live = Live::new(AccessLogPolicy::default());
        Self {
            policy: AccessLog::new(format.into(), live, settings, sink),
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
}

type Sink = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The policy of [`AccessLogLayer`].
#[derive(Clone)]
pub struct AccessLog(Arc<State>);

struct State {
    format: Live<Format>,
    /// What `format` says, for calls.
    now: AtomicU8,
    live: Live<AccessLogPolicy>,
    /// What `live` says, for calls.
    below: AtomicU64,
    slow: AtomicU64,
    tally: Tally<4>,
    settings: Settings,
    sink: Sink,
}

impl AccessLog {
    fn new(
        format: Live<Format>,
        live: Live<AccessLogPolicy>,
        settings: Settings,
        sink: Sink,
    ) -> Self {
        let state = Arc::new(State {
            format: format.clone(),
            now: AtomicU8::new(0),
            live: live.clone(),
            below: AtomicU64::new(u64::MAX),
            slow: AtomicU64::new(u64::MAX),
            tally: Tally::default(),
            settings,
            sink,
        });
        format.bind(&state, |state, format| {
            state.now.store(*format as u8, Ordering::Relaxed)
        });
        live.bind(&state, State::apply);
        Self(state)
    }

    fn with(&self, settings: Settings) -> Self {
        let State {
            format, live, sink, ..
        } = &*self.0;
        Self::new(format.clone(), live.clone(), settings, Arc::clone(sink))
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
            .field("policy", &self.0.live)
            .finish_non_exhaustive()
    }
}

impl<B> Start<Request<B>> for AccessLog {
    type Ticket = Option<AccessLogTicket>;

    fn start(&self, request: &mut Request<B>, now: Instant) -> Self::Ticket {
        if self.0.now.load(Ordering::Relaxed) == Format::Off as u8 {
            return None;
        }
        self.0.tally.count(policy::BEGAN);
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
