//! Writes events.

use std::{cell::Cell, fmt::Write as _, sync::Arc, time::SystemTime};

use tracing::{Event, Level, Metadata, Subscriber, span};
use tracing_subscriber::{
    Layer,
    layer::Context,
    registry::{LookupSpan, SpanRef},
};

use super::{
    LogFormat,
    fields::{Fields, message},
    handle::State,
};
use crate::{
    access_log::{escape_json, write_rfc3339},
    output::Output,
    trace,
};

/// Writes every event that reaches it.
pub(super) struct Lines {
    pub(super) format: LogFormat,
    pub(super) colors: bool,
    pub(super) spans: bool,
    pub(super) clock: fn() -> SystemTime,
    pub(super) output: Output,
    /// Held, so that the level stays live as long as lines are written.
    pub(super) _state: Arc<State>,
}

/// The fields of a span, as they are written.
struct SpanFields(String);

#[derive(Default)]
struct Buffers {
    line: String,
    scratch: String,
}

thread_local! {
    /// Taken while a line is written: what formats a field may log something itself.
    static BUFFERS: Cell<Option<Buffers>> = const { Cell::new(None) };
}

/// More is not kept for the next line.
const KEPT: usize = 16 * 1024;

fn with_buffers(write: impl FnOnce(&mut Buffers)) {
    // Fails while the thread ends: then new ones will do.
    let mut buffers = BUFFERS
        .try_with(Cell::take)
        .ok()
        .flatten()
        .unwrap_or_default();
    buffers.line.clear();
    write(&mut buffers);
    if buffers.line.capacity() <= KEPT && buffers.scratch.capacity() <= KEPT {
        let _ = BUFFERS.try_with(|slot| slot.set(Some(buffers)));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        if let (true, Some(span)) = (self.spans, ctx.span(id)) {
            let of = attributes.metadata();
            self.note(&span, of, |fields| attributes.record(fields));
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, ctx: Context<'_, S>) {
        if let (true, Some(span)) = (self.spans, ctx.span(id)) {
            self.note(&span, span.metadata(), |fields| values.record(fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        with_buffers(|buffers| {
            match self.format {
                LogFormat::Text => self.text(event, &ctx, buffers),
                LogFormat::Json => self.json(event, &ctx, buffers),
            }
            self.output.line(&buffers.line);
        });
    }
}

// Writing into a `String` cannot fail.
impl Lines {
    /// Formats fields of a span, behind those that it has.
    fn note<'a, S: LookupSpan<'a>>(
        &self,
        span: &SpanRef<'a, S>,
        of: &'static Metadata<'static>,
        record: impl FnOnce(&mut Fields<'_>),
    ) {
        with_buffers(|Buffers { line, scratch }| {
            let format = self.format;
            // Not under the lock of the extensions: fields are formatted by code of the user's.
            record(&mut Fields {
                format,
                of,
                out: line,
                scratch,
            });
            let mut extensions = span.extensions_mut();
            match extensions.get_mut::<SpanFields>() {
                Some(SpanFields(fields)) => {
                    if format == LogFormat::Json && !fields.is_empty() && !line.is_empty() {
                        fields.push(',');
                    }
                    fields.push_str(line);
                }
                None => extensions.insert(SpanFields(line.clone())),
            }
        });
    }

    fn json<S>(&self, event: &Event<'_>, ctx: &Context<'_, S>, buffers: &mut Buffers)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Buffers { line, scratch } = buffers;
        let of = event.metadata();
        line.push_str("{\"timestamp\":\"");
        write_rfc3339(line, (self.clock)());
        line.push_str("\",\"level\":\"");
        line.push_str(of.level().as_str());
        line.push_str("\",\"target\":");
        escape_json(line, of.target().as_bytes());
        event.record(&mut Fields {
            format: self.format,
            of,
            out: line,
            scratch,
        });
        if let Some(trace) = trace::current() {
            let (trace, span) = (trace.trace_id(), trace.span_id());
            _ = write!(line, ",\"trace_id\":\"{trace}\",\"span_id\":\"{span}\"");
        }
        if let Some(id) = trace::current_request_id() {
            line.push_str(",\"request_id\":");
            escape_json(line, id.as_bytes());
        }
        if let (true, Some(scope)) = (self.spans, ctx.event_scope(event)) {
            line.push_str(",\"spans\":[");
            for (nth, span) in scope.from_root().enumerate() {
                line.push_str(if nth == 0 {
                    "{\"name\":"
                } else {
                    ",{\"name\":"
                });
                escape_json(line, span.name().as_bytes());
                line.push_str(",\"fields\":{");
                if let Some(SpanFields(fields)) = span.extensions().get() {
                    line.push_str(fields);
                }
                line.push_str("}}");
            }
            line.push(']');
        }
        line.push_str("}\n");
    }

    fn text<S>(&self, event: &Event<'_>, ctx: &Context<'_, S>, buffers: &mut Buffers)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Buffers { line, scratch } = buffers;
        let of = event.metadata();
        write_rfc3339(line, (self.clock)());
        let level = of.level();
        if self.colors {
            _ = write!(line, " \x1b[{}m{level:>5}\x1b[0m ", color(*level));
        } else {
            _ = write!(line, " {level:>5} ");
        }
        message(line, of.target());
        line.push(':');
        event.record(&mut Fields {
            format: self.format,
            of,
            out: line,
            scratch,
        });
        if let Some(trace) = trace::current() {
            let (trace, span) = (trace.trace_id(), trace.span_id());
            _ = write!(line, " trace_id={trace} span_id={span}");
        }
        if let Some(id) = trace::current_request_id() {
            line.push_str(" request_id=");
            crate::access_log::escape_text(line, id.as_bytes());
        }
        if let (true, Some(scope)) = (self.spans, ctx.event_scope(event)) {
            line.push_str(" spans=");
            for (nth, span) in scope.from_root().enumerate() {
                line.push_str(if nth == 0 { "" } else { ":" });
                message(line, span.name());
                if let Some(SpanFields(fields)) = span.extensions().get() {
                    _ = write!(line, "{{{}}}", fields.trim_start());
                }
            }
        }
        line.push('\n');
    }
}

const fn color(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}
