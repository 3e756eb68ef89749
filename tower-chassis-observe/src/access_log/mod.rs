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
//! | `method`, `path` | the query is left out, see [`Query`] and [`PathShown`] |
//! | `route` | the template that matched: of our router, else of [axum](#axum) |
//! | `status`, `grpc` | of the response; of the trailers |
//! | `duration_ms` | from the head of the request to the end of the body |
//! | `bytes` | of the body that passed |
//! | `request_id`, `trace_id`, `user_agent` | |
//! | `class` | the verdict: `success`, `client-fault`, `failure`, `timeout`, `cancelled`, `refused`, … |
//! | `span_id`, `level` | |
//! | `request_bytes` | the length that the request announced (not asked of `GET` and `HEAD`), else what a server of ours received |
//! | `protocol` | `HTTP/1.1`, `HTTP/2.0` |
//! | `user` | who the call was found to come from (`Invocation::set_principal`) |
//! | `slow` | `true`, where it was |
//!
//! The other formats say the same in words of their own: [`Format::Common`] and [`Format::Combined`] what they have a place
//! for, [`Format::Ecs`] (durations in nanoseconds), [`Format::Otel`] (in seconds), [`Format::Gcp`] (`"0.500000s"`), and a
//! [`Template`] what you like.
//!
//! What is not known is `-` in text and left out of JSON. What a client sent cannot break a line, begin another
//! or reach a terminal: quotes, control characters, and those that turn the direction of text are escaped. Nor can it fill the
//! log: of a value 8 KiB are shown.
//!
//! # axum
//! With the feature `axum` the template is axum's `MatchedPath` where our router says nothing. axum tells it to layers of
//! `Router::layer` and `route_layer`, not to those around the whole of it, nor to what `nest_service` mounts:
//!
//! ```
//! # #[cfg(feature = "axum")]
//! # {
//! use tower_chassis_observe::access_log::{AccessLogLayer, Format, stdout};
//!
//! let app = axum::Router::<()>::new()
//!     .route("/users/{id}", axum::routing::get(async || "ann"))
//!     .layer(AccessLogLayer::new(Format::Json, stdout()));
//! # drop(app);
//! # }
//! ```
//!
//! # The level
//! | [`Level`] | |
//! |---|---|
//! | `error` | the service failed, was late, could not be reached |
//! | `warn` | the caller's fault, a refusal of ours; at least this, where the call was slow |
//! | `info` | success; a caller that left; 429 |
//! | `debug` | a successful `OPTIONS` |
//!
//! [`AccessLogLayer::leveled`] tells it to the sink; with [`tracing()`] it is the level of the event.
//!
//! # Secrets
//! The query is not shown by default, parameters of the path (`;jsessionid=x`) only if they are no secret, other headers than the user agent are not either (but the referer in
//! [`Format::Combined`], without its query). A header whose value is
//! [marked](http::HeaderValue::set_sensitive) as sensitive is `***`. Where more is asked for, [`redact`] masks what is secret by its name.
//!
//! # Configuration
//! The [`Format`], the [`Template`] and [`AccessLogConfig`], all live; [`Query`], [`PathShown`] and
//! [`Redact`] before the layer is used.
//!
//! | field | default | |
//! |---|---|---|
//! | `successes` | 1 | the share of the calls that succeeded (class `success`) that has a line; what went wrong always has one |
//! | `slow` | 0: off | a call that took as long as this has a line, of at least the level `warn`, and is `slow` in it |
//! | `level` | `debug` | lines of less than this level are left out |
//! | `skip` | none | routes whose successes have no line (`/livez`, `/static/*`), unless they were slow |
//! | `excerpts` | off | which lines show pieces of headers and bodies, with an [`ExcerptLayer`] inside |
//! | `excerpt_bytes` | 1,024 | how much of a body, up to 65,536 |
//! | `excerpt_types` | none | types of bodies besides JSON, forms and plain text |
//! | `excerpt_headers` | `content-type`, `origin` | |
//!
//! A log of what went wrong or was slow, with one success of a hundred:
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//!
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_chassis_core::Body;
//! use tower_chassis_observe::access_log::{AccessLogLayer, Format};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let log = AccessLogLayer::new(Format::Text, |line: &str| {
//!     assert!(line.contains("status=200") && line.contains("level=warn") && line.ends_with("slow=true\n"));
//! });
//! let changed = log.handle().update(|config| {
//!     config.successes = 0.01;
//!     config.slow = Duration::from_millis(500);
//! });
//! assert!(changed.is_ok());
//! let service = log.layer(service_fn(async |_: Request<()>| {
//!     tokio::time::sleep(Duration::from_secs(1)).await;
//!     Ok::<_, Infallible>(Response::new(Body::empty()))
//! }));
//! drop(service.oneshot(Request::new(())).await);
//! assert_eq!(log.handle().written(), 1);
//! # }
//! ```
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
//! it. (A query that is shown, a referer and the headers of a template are copied.) Two counts and 224 bytes a call (240 with the
//! feature `axum`). The sink runs on the task of the call, so it must not wait long. [`Output`](crate::output) is one that never
//! does. One of your own that hands lines to another thread is bounded, and says when it is full:
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
mod excerpt;
mod formats;
mod level;
mod line;
mod policy;
pub mod redact;
mod sink;
mod template;
mod ticket;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use http::{HeaderMap, Method, Request, header};
use tokio::time::Instant;
use tower_chassis_core::{
    Carrier, Live, live::Validate, settle::UntilEnd, verdict::Auto, wire::Start,
};

#[cfg(feature = "log")]
pub(crate) use self::escape::{is_dangerous, text as escape_text};
pub use self::excerpt::{ExcerptLayer, ExcerptService, Excerpted};
pub(crate) use self::{
    civil::write_rfc3339, escape::json as escape_json, ticket::cut, ticket::kept as kept_header,
};
pub use self::{
    excerpt::Excerpt,
    level::Level,
    policy::{AccessLogConfig, AccessLogHandle, AccessLogPolicy},
    sink::{Taken, stdout, tracing},
    template::{Template, TemplateFault},
    ticket::AccessLogTicket,
};
use self::{
    redact::Redact,
    ticket::{Extra, UNKNOWN, kept},
};
use crate::{
    route::{Foreign, Route},
    tally::Tally,
};

observer_layer! {
    /// Writes a line per request. See the [module](self).
    #[doc(alias = "Logger")]
    #[doc(alias = "httplog")]
    AccessLogLayer, AccessLog, AccessLogPolicy, AccessLogHandle,
    /// The service of [`AccessLogLayer`].
    AccessLogService
}

macro_rules! formats {
    ($($(#[$doc:meta])* $format:ident),+ $(,)?) => {
        /// How the line is written.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
        #[cfg_attr(
            feature = "config",
            derive(serde::Deserialize),
            serde(rename_all = "lowercase")
        )]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Format {
            $($(#[$doc])* $format),+
        }

        impl Format {
            /// The format of a number; one that is none is `Off`.
            fn of(number: u8) -> Self {
                let all = [$(Self::$format),+];
                all.get(usize::from(number)).copied().unwrap_or(Self::Off)
            }
        }
    };
}

formats! {
    /// Not at all.
    Off,
    /// `key=value` pairs.
    #[default]
    Text,
    /// A JSON object.
    Json,
    /// As NCSA httpd and every web server since: `client - user [time] "GET /path HTTP/1.1" 200 12`.
    Common,
    /// The same with referer and user agent.
    Combined,
    /// JSON in the words of Elastic Common Schema.
    Ecs,
    /// JSON as a log record of OpenTelemetry.
    Otel,
    /// JSON as Google Cloud reads it.
    Gcp,
    /// As [`AccessLogLayer::template`] says.
    Template,
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
    /// As it came, but for the values of [names that are secret](redact#what-is-secret).
    Full,
    /// As it came, secrets and all; the parameters of the path too.
    Raw,
}

/// What becomes of the path of a URI.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum PathShown {
    /// As it came.
    #[default]
    AsIs,
    /// The template that matched; nothing where none did. For paths that hold secrets or names of people.
    Template,
}

impl AccessLogLayer {
    /// Gives every line, with its newline, to `sink`: [`stdout`] or a closure. It may say that it has no room for the
    /// line, see [`Taken`]; if it panics, the line is dropped.
    pub fn new<T: Taken>(
        format: impl Into<Live<Format>>,
        sink: impl Fn(&str) -> T + Send + Sync + 'static,
    ) -> Self {
        Self::leveled(format, move |line: &str, _| sink(line))
    }

    /// The same for a sink that wants to know how much a line matters: [`tracing()`] or a closure.
    pub fn leveled<T: Taken>(
        format: impl Into<Live<Format>>,
        sink: impl Fn(&str, Level) -> T + Send + Sync + 'static,
    ) -> Self {
        let policy = AccessLog::new(Setup {
            format: format.into(),
            template: Live::new(Template::default()),
            live: Live::new(AccessLogPolicy::default()),
            query: Query::Hidden,
            path: PathShown::AsIs,
            redact: Redact::new(),
            project: None,
            clock: SystemTime::now,
            sink: Arc::new(move |line: &str, level| sink(line, level).taken()),
        });
        Self {
            policy,
            settle: UntilEnd::new(Auto),
        }
    }
}

impl<J> AccessLogLayer<J> {
    fn with(self, change: impl FnOnce(&mut Setup)) -> Self {
        Self {
            policy: self.policy.with(change),
            ..self
        }
    }

    /// What becomes of the query. To be said before the layer is used.
    pub fn query(self, query: Query) -> Self {
        self.with(|setup| setup.query = query)
    }

    /// What becomes of the path. To be said before the layer is used.
    pub fn path(self, path: PathShown) -> Self {
        self.with(|setup| setup.path = path)
    }

    /// What a line of [`Format::Template`] looks like: a value, or a `Live` one that can be changed from outside. To be said
    /// before the layer is used.
    pub fn template(self, template: impl Into<Live<Template>>) -> Self {
        self.with(|setup| setup.template = template.into())
    }

    /// Which names are secret. To be said before the layer is used.
    pub fn redact(self, redact: Redact) -> Self {
        self.with(|setup| setup.redact = redact)
    }

    /// Whose traces they are, for [`Format::Gcp`]: `projects/{project}/traces/…`. To be said before the layer is used.
    pub fn google_project(self, project: &str) -> Self {
        self.with(|setup| setup.project = Some(project.into()))
    }

    /// Another clock for `time`, for tests. To be said before the layer is used.
    pub fn clock(self, clock: fn() -> SystemTime) -> Self {
        self.with(|setup| setup.clock = clock)
    }
}

type Sink = Arc<dyn Fn(&str, Level) -> bool + Send + Sync>;

/// The policy of [`AccessLogLayer`].
#[derive(Clone)]
pub struct AccessLog(Arc<State>);

/// What was said before the layer was used.
#[derive(Clone)]
struct Setup {
    format: Live<Format>,
    template: Live<Template>,
    live: Live<AccessLogPolicy>,
    query: Query,
    path: PathShown,
    redact: Redact,
    project: Option<Arc<str>>,
    clock: fn() -> SystemTime,
    sink: Sink,
}

struct State {
    setup: Setup,
    /// What `format` says, for calls.
    now: AtomicU8,
    /// What `live` says, for calls.
    level: AtomicU8,
    skips: AtomicBool,
    excerpts: AtomicU8,
    below: AtomicU64,
    slow: AtomicU64,
    tally: Tally<4>,
}

impl AccessLog {
    fn new(setup: Setup) -> Self {
        let state = Arc::new(State {
            now: AtomicU8::new(0),
            level: AtomicU8::new(0),
            skips: AtomicBool::new(false),
            excerpts: AtomicU8::new(0),
            below: AtomicU64::new(u64::MAX),
            slow: AtomicU64::new(u64::MAX),
            tally: Tally::default(),
            setup,
        });
        state.setup.format.bind(&state, |state, format| {
            state.now.store(*format as u8, Ordering::Relaxed)
        });
        state.setup.live.bind(&state, State::apply);
        Self(state)
    }

    fn with(&self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.0.setup.clone();
        change(&mut setup);
        Self::new(setup)
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("format", &self.0.setup.format)
            .field("policy", &self.0.setup.live)
            .finish_non_exhaustive()
    }
}

impl<B> Start<Request<B>> for AccessLog {
    type Ticket = Option<AccessLogTicket>;

    fn start(&self, request: &mut Request<B>, now: Instant) -> Self::Ticket {
        let format = self.0.now.load(Ordering::Relaxed);
        if format == Format::Off as u8 {
            return None;
        }
        self.0.tally.count(policy::BEGAN);
        let needs_more = format == Format::Combined as u8
            || format == Format::Template as u8
            || self.0.excerpts.load(Ordering::Relaxed) != Excerpt::Off as u8;
        let extra = needs_more.then(|| Extra::of(&self.0, format, request));
        let foreign = Foreign::of(request.extensions());
        let invocation = request.invocation_mut();
        let route = Route::new(invocation.route_slot(), foreign);
        let client = invocation.client();
        let request_id = invocation.request_id().cloned();
        let trace = invocation.trace();
        Some(AccessLogTicket {
            state: Arc::clone(&self.0),
            start: now,
            bytes: 0,
            announced: announced(request.method(), request.headers()),
            route,
            client: client.map(|client| client.ip()),
            request_id,
            trace,
            method: request.method().clone(),
            version: request.version(),
            path: request.uri().path_and_query().cloned(),
            user_agent: request.headers().get(header::USER_AGENT).map(kept),
            extra: extra.flatten(),
        })
    }
}

/// How long the request's body is to be. Those that have none are most, and are not asked.
fn announced(method: &Method, headers: &HeaderMap) -> u64 {
    if matches!(*method, Method::GET | Method::HEAD) {
        return UNKNOWN;
    }
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or(UNKNOWN)
}
