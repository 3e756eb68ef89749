//! What a trace layer holds for the length of a call.

use std::{
    cell::RefCell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use tokio::time::Instant;
use tower_chassis_core::{
    Verdict, clock,
    invocation::RouteSlot,
    settle::Observe,
    trace::{SpanId, TraceContext},
};
use tracing::{Span, field};

use super::{
    about::About,
    current::Scope,
    policy::Shared,
    propagation::Incoming,
    sink::{Attribute, FinishedSpan, SpanKind, SpanSink},
    tracer::Tracer,
    wall,
};

/// What [`Trace`](super::Trace) and [`ClientTrace`](super::ClientTrace) hold for the length of a call.
pub struct TraceTicket {
    scope: Option<Scope>,
    /// Not here but behind a pointer, because the ticket is moved often, and most calls have none. The place is used again.
    open: Option<Box<Option<Open>>>,
}

/// A span that somebody takes.
pub(super) struct Open {
    pub(super) about: About,
    pub(super) span: Span,
    /// Where the route will be.
    pub(super) route: Option<RouteSlot>,
    pub(super) started: Instant,
    context: TraceContext,
    state: Option<Arc<str>>,
    parent: Option<SpanId>,
    remote_parent: bool,
    sink: Option<Arc<dyn SpanSink>>,
    shared: Arc<Shared>,
}

impl Open {
    pub(super) fn new(
        tracer: &Tracer,
        scope: &Scope,
        parent: &Incoming,
        about: About,
        span: Span,
        started: Instant,
    ) -> Self {
        tracer.shared.begin_span();
        Self {
            about,
            span,
            route: None,
            started,
            context: scope.context,
            state: scope.state.clone(),
            parent: parent.parent.map(|parent| parent.span_id()),
            remote_parent: parent.remote,
            sink: tracer.sink_for(&scope.context).cloned(),
            shared: Arc::clone(&tracer.shared),
        }
    }

    fn ended(mut self, verdict: Verdict, now: Instant) {
        self.shared.end_span();
        let route = self.route.as_ref().and_then(RouteSlot::get).cloned();
        self.about.ended(verdict, route);
        if !self.span.is_disabled() {
            record(&self.span, &self.about);
        }
        let Some(sink) = self.sink else {
            return;
        };
        let span = FinishedSpan {
            context: self.context,
            state: self.state,
            parent: self.parent,
            remote_parent: self.remote_parent && self.parent.is_some(),
            started: wall::at(self.started, now),
            took: now.saturating_duration_since(self.started),
            about: self.about,
        };
        // Its fault, and not the call's. The hook of the process has told it.
        let _ = catch_unwind(AssertUnwindSafe(|| sink.ended(span)));
    }
}

/// What is known at the end, for who listens to `tracing`.
fn record(span: &Span, about: &About) {
    if about.kind == SpanKind::Server {
        span.record("otel.name", field::display(about.name()));
    }
    about.attributes_at_end(&mut |name, value| {
        match value {
            Attribute::Str(text) => span.record(name, text),
            Attribute::Int(number) => span.record(name, number),
        };
    });
    if about.is_error() {
        span.record("otel.status_code", "ERROR");
    }
}

impl TraceTicket {
    pub(super) fn new(scope: Scope, open: Option<Open>) -> Self {
        Self {
            scope: Some(scope),
            open: open.map(places::fill),
        }
    }
}

impl fmt::Debug for TraceTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceTicket")
            .field("scope", &self.scope)
            .field("open", &self.open.is_some())
            .finish()
    }
}

impl Observe for TraceTicket {
    fn within<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        let Self { scope, open } = self;
        let Some(open) = open.as_deref().and_then(Option::as_ref) else {
            return Scope::enter(scope, poll);
        };
        let poll = || Scope::enter(scope, poll);
        let poll = || {
            if open.span.is_disabled() {
                poll()
            } else {
                open.span.in_scope(poll)
            }
        };
        match &open.sink {
            Some(sink) => through(&**sink, open, poll),
            None => poll(),
        }
    }

    fn now(&self) -> Instant {
        match self.open.as_deref() {
            Some(Some(open)) if open.sink.is_none() => open.started,
            Some(_) => clock::now(),
            None => wall::any(),
        }
    }

    fn done(self, verdict: Verdict, now: Instant) {
        if let Some(open) = self.open.and_then(places::empty) {
            open.ended(verdict, now);
        }
    }
}

/// Lets a sink run the poll: once, whatever the sink does; and what it panics with is not the call's.
fn through<R>(sink: &dyn SpanSink, open: &Open, poll: impl FnOnce() -> R) -> R {
    let mut poll = Some(AssertUnwindSafe(poll));
    let mut ran = None;
    let _ = catch_unwind(AssertUnwindSafe(|| {
        sink.within(&open.context, open.state.as_ref(), &mut || {
            if let Some(poll) = poll.take() {
                ran = Some(catch_unwind(poll));
            }
        });
    }));
    match (ran, poll) {
        (Some(Ok(answer)), _) => answer,
        (Some(Err(panic)), _) => resume_unwind(panic),
        (None, Some(poll)) => poll.0(),
        // It is taken where it is run, and nowhere else.
        (None, None) => unreachable!("a poll that was taken has run"),
    }
}

/// Places for spans, of every thread, so that a call allocates none.
mod places {
    use super::{Open, RefCell};

    /// So many are kept.
    const KEPT: usize = 64;

    thread_local! {
        #[allow(clippy::vec_box, reason = "the box is what is kept")]
        static FREE: RefCell<Vec<Box<Option<Open>>>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn fill(open: Open) -> Box<Option<Open>> {
        let free = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        match free {
            Some(mut place) => {
                *place = Some(open);
                place
            }
            None => Box::new(Some(open)),
        }
    }

    pub(super) fn empty(mut place: Box<Option<Open>>) -> Option<Open> {
        let open = place.take();
        // Fails while the thread ends: then it is let go.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(place);
            }
        });
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size_of::<Option<TraceTicket>>(), 80);
        assert!(
            size_of::<FinishedSpan>() <= 432,
            "{}",
            size_of::<FinishedSpan>()
        );
    }
}
