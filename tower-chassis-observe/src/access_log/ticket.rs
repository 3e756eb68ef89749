//! What is kept of a call until its line is written.

use std::{
    cell::Cell,
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{HeaderValue, Method, uri::PathAndQuery};
use tokio::time::Instant;
use tower_chassis_core::{
    Verdict,
    invocation::{MatchedRoute, RouteSlot},
    settle::Observe,
    trace::TraceId,
};

use super::{
    Format, State,
    line::Line,
    policy::{DROPPED, SKIPPED, WRITTEN},
};

/// What [`AccessLog`](super::AccessLog) holds for the length of a call.
pub struct AccessLogTicket {
    pub(super) state: Arc<State>,
    pub(super) start: Instant,
    pub(super) bytes: u64,
    pub(super) route: RouteSlot,
    pub(super) client: Option<std::net::IpAddr>,
    pub(super) request_id: Option<Arc<str>>,
    pub(super) trace_id: Option<TraceId>,
    pub(super) method: Method,
    pub(super) path: Option<PathAndQuery>,
    pub(super) user_agent: Option<HeaderValue>,
}

impl fmt::Debug for AccessLogTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLogTicket")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

thread_local! {
    /// Taken while a line is written, so that a sink that makes calls of its own finds another.
    static BUFFER: Cell<String> = const { Cell::new(String::new()) };
}

impl Observe for AccessLogTicket {
    fn data(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    fn done(self, verdict: Verdict, now: Instant) {
        let duration = now.saturating_duration_since(self.start);
        let format = self.state.now.load(Ordering::Relaxed);
        let told = if format == Format::Off as u8 || !self.state.wants(verdict, duration) {
            SKIPPED
        } else if self.write(format, verdict, duration) {
            WRITTEN
        } else {
            DROPPED
        };
        self.state.tally.count(told);
    }
}

impl AccessLogTicket {
    /// Whether the sink took the line.
    fn write(&self, format: u8, verdict: Verdict, duration: Duration) -> bool {
        let line = Line {
            time: (self.state.settings.clock)(),
            client: self.client,
            method: self.method.as_str(),
            path: self.path.as_ref().map_or("/", PathAndQuery::path),
            query: self.path.as_ref().and_then(PathAndQuery::query),
            show: self.state.settings.query,
            route: self.route.get().map(MatchedRoute::template),
            verdict,
            duration,
            bytes: self.bytes,
            request_id: self.request_id.as_deref(),
            trace_id: self.trace_id,
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
        };
        // Fails while the thread ends: then a new buffer will do.
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        buffer.clear();
        if format == Format::Json as u8 {
            line.json(&mut buffer);
        } else {
            line.text(&mut buffer);
        }
        buffer.push('\n');
        let taken = (self.state.sink)(&buffer);
        // A client that sends a huge path does not get to keep the memory.
        if buffer.capacity() <= 16 * 1024 {
            let _ = BUFFER.try_with(|slot| slot.set(buffer));
        }
        taken
    }
}
