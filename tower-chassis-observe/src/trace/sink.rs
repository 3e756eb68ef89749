//! Where spans go besides `tracing`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::uri::PathAndQuery;
use tower_chassis_core::{
    invocation::MatchedRoute,
    trace::{SpanId, TraceContext},
};

use crate::{fault::Outcome, method::KnownMethod};

/// Takes the spans of [`TraceLayer`](super::TraceLayer) and [`ClientTraceLayer`](super::ClientTraceLayer) when they are over,
/// with the ids that went over the wire.
///
/// Only those of sampled traces. It is called on the task of the call: it must not block, and a panic of it is caught.
pub trait SpanSink: Send + Sync + 'static {
    /// A span is over.
    fn ended(&self, span: FinishedSpan);

    /// Runs a poll of a call whose span is `at`: for what wants to make it the current one of another library.
    fn within(&self, at: &TraceContext, state: Option<&Arc<str>>, poll: &mut dyn FnMut()) {
        let _ = (at, state);
        poll();
    }
}

/// Which side of a call a span is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SpanKind {
    /// A call that was served.
    Server,
    /// A call that was made.
    Client,
}

/// A value of an attribute.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Attribute<'a> {
    /// A text.
    Str(&'a str),
    /// A whole number.
    Int(i64),
}

/// A span that is over. Making it allocates nothing: what it tells is shared with the request.
#[derive(Clone, Debug)]
pub struct FinishedSpan {
    pub(crate) context: TraceContext,
    pub(crate) state: Option<Arc<str>>,
    pub(crate) parent: Option<SpanId>,
    pub(crate) remote_parent: bool,
    pub(crate) kind: SpanKind,
    pub(crate) started: SystemTime,
    pub(crate) took: Duration,
    pub(crate) error: bool,
    pub(crate) about: About,
}

/// What the attributes are made of.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) method: KnownMethod,
    pub(crate) path: PathAndQuery,
    pub(crate) route: Option<MatchedRoute>,
    pub(crate) outcome: Outcome,
}

impl FinishedSpan {
    /// The trace, the id of the span, and its flags.
    #[must_use]
    pub const fn context(&self) -> TraceContext {
        self.context
    }

    /// What other systems wrote into the trace (`tracestate`).
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The span that it is a part of.
    #[must_use]
    pub const fn parent(&self) -> Option<SpanId> {
        self.parent
    }

    /// Whether that is one of another process.
    #[must_use]
    pub const fn has_remote_parent(&self) -> bool {
        self.remote_parent
    }

    /// Whose span it is.
    #[must_use]
    pub const fn kind(&self) -> SpanKind {
        self.kind
    }

    /// When the call began.
    #[must_use]
    pub const fn started(&self) -> SystemTime {
        self.started
    }

    /// How long it took, to the end of its body.
    #[must_use]
    pub const fn took(&self) -> Duration {
        self.took
    }

    /// Whether it has failed; a caller that left is nobody's failure.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        self.error
    }

    /// Its name, `GET /users/{id}`, without what a client can make up.
    #[must_use]
    pub fn name(&self) -> String {
        let method = self.about.method.span_name();
        match &self.about.route {
            Some(route) => format!("{method} {}", route.template()),
            None => method.to_owned(),
        }
    }

    /// Each of its attributes, under the names of OpenTelemetry's conventions.
    pub fn attributes(&self, each: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        let About {
            method,
            path,
            route,
            outcome,
        } = &self.about;
        each("http.request.method", Attribute::Str(method.label()));
        each("url.path", Attribute::Str(path.path()));
        if let Some(route) = route {
            each("http.route", Attribute::Str(route.template()));
        }
        if let Some(status) = outcome.status {
            each("http.response.status_code", Attribute::Int(status.into()));
        }
        if let Some(error) = outcome.error_type() {
            each("error.type", Attribute::Str(&error));
        }
    }
}
