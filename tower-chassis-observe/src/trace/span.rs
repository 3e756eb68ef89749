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
use crate::route::Route;

/// What [`Trace`](super::Trace) and [`ClientTrace`](super::ClientTrace) hold for the length of a call.
///
/// Two pointers, because it is moved often.
pub struct TraceTicket {
    scope: Option<Box<Scope>>,
    /// Most calls have none.
    place: Option<Box<Place>>,
}

/// Where a span that somebody takes is while its call goes on. Used again, and filled where it is.
pub(super) struct Place {
    pub(super) about: About,
    open: Option<Open>,
}

struct Open {
    span: Span,
    /// Where the route will be.
    route: Option<Route>,
    started: Instant,
    context: TraceContext,
    state: Option<Arc<str>>,
    parent: Option<SpanId>,
    remote_parent: bool,
    sink: Option<Arc<dyn SpanSink>>,
    shared: Arc<Shared>,
}

impl Place {
    pub(super) fn open(
        &mut self,
        tracer: &Tracer,
        scope: &Scope,
        parent: &Incoming,
        span: Span,
        route: Option<Route>,
        started: Instant,
    ) {
        tracer.shared.begin_span();
        self.open = Some(Open {
            span,
            route,
            started,
            context: scope.context,
            state: scope.state.clone(),
            parent: parent.parent.map(|parent| parent.span_id()),
            remote_parent: parent.remote && parent.parent.is_some(),
            sink: tracer.sink_for(&scope.context).cloned(),
            shared: Arc::clone(&tracer.shared),
        });
    }

    /// Tells who takes the span.
    fn ended(mut self: Box<Self>, verdict: Verdict, now: Instant) {
        let Some(open) = self.open.take() else {
            return;
        };
        open.shared.end_span();
        self.about.ended(verdict, open.route);
        if !open.span.is_disabled() {
            record(&open.span, &self.about);
        }
        let about = self.about.take();
        places::give(self);
        let Some(sink) = open.sink else {
            return;
        };
        let span = FinishedSpan {
            context: open.context,
            state: open.state,
            parent: open.parent,
            remote_parent: open.remote_parent,
            started: wall::at(open.started, now),
            took: now.saturating_duration_since(open.started),
            about,
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
    pub(super) fn new(scope: Scope, place: Option<Box<Place>>) -> Self {
        Self {
            scope: Some(scope.boxed()),
            place,
        }
    }

    fn open(&self) -> Option<&Open> {
        self.place.as_ref()?.open.as_ref()
    }
}

impl fmt::Debug for TraceTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceTicket")
            .field("scope", &self.scope)
            .field("open", &self.open().is_some())
            .finish()
    }
}

impl Observe for TraceTicket {
    fn within<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        let Self { scope, place } = self;
        let Some(open) = place.as_ref().and_then(|place| place.open.as_ref()) else {
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
            Some(sink) if sink.surrounds() => through(&**sink, open, poll),
            _ => poll(),
        }
    }

    fn listens(&self) -> bool {
        self.place.is_some()
    }

    fn now(&self) -> Instant {
        match self.open() {
            Some(open) if open.sink.is_some() => clock::now(),
            Some(open) => open.started,
            None => wall::any(),
        }
    }

    fn done(self, verdict: Verdict, now: Instant) {
        if let Some(scope) = self.scope {
            Scope::give(scope);
        }
        if let Some(place) = self.place {
            place.ended(verdict, now);
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
pub(super) mod places {
    use super::{About, Place, RefCell};

    /// So many are kept.
    const KEPT: usize = 64;

    thread_local! {
        #[allow(clippy::vec_box, reason = "the box is what is kept")]
        static FREE: RefCell<Vec<Box<Place>>> = const { RefCell::new(Vec::new()) };
    }

    pub(in super::super) fn take() -> Box<Place> {
        let free = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        free.unwrap_or_else(|| {
            Box::new(Place {
                about: About::nothing(),
                open: None,
            })
        })
    }

    /// Takes back what holds nothing any more.
    pub(in super::super) fn give(place: Box<Place>) {
        // Fails while the thread ends: then it is let go.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(place);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size_of::<Option<TraceTicket>>(), 24);
        assert!(
            size_of::<FinishedSpan>() <= 432,
            "{}",
            size_of::<FinishedSpan>()
        );
    }
}
