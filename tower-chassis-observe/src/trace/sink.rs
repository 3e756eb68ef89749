//! Where spans go besides `tracing`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tower_chassis_core::trace::{SpanId, TraceContext};

use super::about::About;

/// Takes the spans of [`TraceLayer`](super::TraceLayer) and [`ClientTraceLayer`](super::ClientTraceLayer) when they are over,
/// with the ids that went over the wire.
///
/// Only those of sampled traces. It is called on the task of the call: it must not block, and a panic of it is caught.
///
/// ```
/// use std::sync::mpsc;
/// use tower_chassis_observe::trace::{FinishedSpan, SpanSink, TraceLayer};
///
/// struct Names(mpsc::SyncSender<String>);
///
/// impl SpanSink for Names {
///     fn ended(&self, span: FinishedSpan) {
///         let _ = self.0.try_send(span.name());
///     }
/// }
///
/// let (names, listen) = mpsc::sync_channel(1000);
/// let layer = TraceLayer::new().sink(Names(names));
/// # let _ = (layer, listen);
/// ```
pub trait SpanSink: Send + Sync + 'static {
    /// A span is over.
    fn ended(&self, span: FinishedSpan);

    /// Whether it is to be there [around the polls](Self::within) of a call now. It is by default; one that does nothing
    /// there spares every poll something.
    fn surrounds(&self) -> bool {
        true
    }

    /// Runs a poll of a call whose span is `at`: for what wants to make it the current one of another library. The poll
    /// is run once, also where this does not run it.
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

/// A span that is over. It holds nothing of the request, and of what a client can make long only the beginning: 2,048
/// bytes of the path, 512 of the user agent. Making it allocates nothing, unless path, host and user agent have more than
/// 200 bytes together.
#[derive(Clone, Debug)]
pub struct FinishedSpan {
    pub(super) context: TraceContext,
    pub(super) state: Option<Arc<str>>,
    pub(super) parent: Option<SpanId>,
    pub(super) remote_parent: bool,
    pub(super) started: SystemTime,
    pub(super) took: Duration,
    pub(super) about: About,
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
        self.about.kind
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
        self.about.is_error()
    }

    /// Its name, `GET /users/{id}` or `package.Service/Method`, without what a client can make up.
    #[must_use]
    pub fn name(&self) -> String {
        self.about.name().to_string()
    }

    /// Each of its attributes, under the names of OpenTelemetry's conventions.
    pub fn attributes(&self, each: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        self.about.attributes(each);
    }
}

#[cfg(feature = "otlp")]
#[cfg(test)]
impl FinishedSpan {
    /// The `n`th span of a trace: a call that was served in 5 ms, of another process, and has failed.
    pub(crate) fn example(n: u64, started: SystemTime) -> Self {
        let context = |n: u64| TraceContext::new([7; 16], n.to_be_bytes(), true).unwrap();
        let request = http::Request::get("/users/7").body(()).unwrap();
        let mut about = About::nothing();
        about.served(&request, "http");
        let failed = http::StatusCode::INTERNAL_SERVER_ERROR;
        about.ended(tower_chassis_core::Verdict::http(failed), None);
        Self {
            context: context(n),
            state: Some("vendor=x".into()),
            parent: Some(context(n + 1_000_000).span_id()),
            remote_parent: true,
            started,
            took: Duration::from_millis(5),
            about,
        }
    }
}
