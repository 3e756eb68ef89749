//! What is kept of a call until its line is written.

use std::{
    borrow::Cow,
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method, Request, Version, header, uri::PathAndQuery};
use tokio::time::Instant;
use tower_chassis_core::{Verdict, settle::Observe, trace::TraceContext};

use super::{
    Format, Level, Query, State,
    excerpt::Excerpts,
    formats::{common, ecs, gcp, otel},
    line::Line,
    policy::{DROPPED, SKIPPED, WRITTEN},
    redact::MASK,
};
use crate::route::Route;

/// What [`AccessLog`](super::AccessLog) holds for the length of a call.
pub struct AccessLogTicket {
    pub(super) state: Arc<State>,
    pub(super) start: Instant,
    pub(super) bytes: u64,
    /// Of the request's body, as it was announced; else [`UNKNOWN`].
    pub(super) announced: u64,
    pub(super) route: Route,
    pub(super) client: Option<std::net::IpAddr>,
    pub(super) request_id: Option<Arc<str>>,
    pub(super) trace: Option<TraceContext>,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) path: Option<PathAndQuery>,
    pub(super) user_agent: Option<HeaderValue>,
    pub(super) extra: Option<Box<Extra>>,
}

pub(super) const UNKNOWN: u64 = u64::MAX;

/// So many bytes of a value that a client has sent are shown: nobody fills a log with one call.
const LONGEST: usize = 8 * 1024;

/// The beginning of a text that is long.
pub(crate) fn cut(text: &str) -> &str {
    if text.len() <= LONGEST {
        return text;
    }
    let mut upto = LONGEST;
    while !text.is_char_boundary(upto) {
        upto -= 1;
    }
    text.get(..upto).unwrap_or_default()
}

/// A value of a header as it may be kept: one that is marked as sensitive is a secret, whatever its name.
pub(crate) fn kept(value: &HeaderValue) -> HeaderValue {
    if value.is_sensitive() {
        return HeaderValue::from_static(MASK);
    }
    match value.as_bytes().get(..LONGEST) {
        // What is a value, is one up to any place.
        Some(long) => HeaderValue::from_bytes(long).unwrap_or_else(|_| value.clone()),
        None => value.clone(),
    }
}

/// What only some formats need.
#[derive(Default)]
pub(super) struct Extra {
    referer: Option<HeaderValue>,
    headers: Vec<(HeaderName, HeaderValue)>,
    excerpts: Option<Excerpts>,
}

impl Extra {
    /// What `format` needs of a request, if it has it.
    #[cold]
    pub(super) fn of<B>(state: &State, format: u8, request: &mut Request<B>) -> Option<Box<Self>> {
        let mut extra = Self::default();
        let headers = request.headers();
        match Format::of(format) {
            Format::Common => {}
            Format::Combined => extra.referer = headers.get(header::REFERER).map(kept),
            Format::Template => {
                let template = state.setup.template.load();
                let named = template.headers().filter_map(|name| {
                    let value = headers.get(name)?;
                    Some((name.clone(), kept(value)))
                });
                extra.headers.extend(named);
            }
            _ => {
                // Of two logs of one call the first has the say.
                let excerpts = match request.extensions().get::<Excerpts>() {
                    Some(excerpts) => excerpts.clone(),
                    None => Excerpts::new(state.setup.live.load(), headers),
                };
                request.extensions_mut().insert(excerpts.clone());
                extra.excerpts = Some(excerpts);
            }
        }
        let any = extra.referer.is_some() || extra.excerpts.is_some() || !extra.headers.is_empty();
        any.then(|| extra.into())
    }
}

impl fmt::Debug for AccessLogTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the query: it holds secrets.
        f.debug_struct("AccessLogTicket")
            .field("path", &self.state.setup.redact.path(self.path()))
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
        let slow = self.state.is_slow(duration);
        let level = Level::of(verdict, &self.method, slow);
        let about = || self.route.template().unwrap_or_else(|| self.path());
        let told = if format == Format::Off as u8 || !self.state.wants(verdict, slow, level, about)
        {
            SKIPPED
        } else if self.write(format, verdict, level, slow, duration) {
            WRITTEN
        } else {
            DROPPED
        };
        self.state.tally.count(told);
    }
}

impl AccessLogTicket {
    fn path(&self) -> &str {
        self.path.as_ref().map_or("/", PathAndQuery::path)
    }

    /// Whether the sink took the line.
    fn write(
        &self,
        format: u8,
        verdict: Verdict,
        level: Level,
        slow: bool,
        duration: Duration,
    ) -> bool {
        let setup = &self.state.setup;
        let extra = self.extra.as_deref();
        let excerpts = extra.and_then(|extra| extra.excerpts.as_ref());
        let excerpts = excerpts
            .filter(|_| self.state.shows(verdict, slow))
            .map(|excerpts| excerpts.shown(&setup.redact));
        let path = match setup.query {
            Query::Raw => Cow::Borrowed(cut(self.path())),
            _ => setup.redact.path(cut(self.path())),
        };
        let line = Line {
            time: (setup.clock)(),
            client: self.client,
            method: self.method.as_str(),
            version: self.version,
            path: &path,
            query: self.path.as_ref().and_then(PathAndQuery::query).map(cut),
            show: setup.query,
            shown: setup.path,
            redact: &setup.redact,
            project: setup.project.as_deref(),
            route: self.route.template(),
            verdict,
            level,
            slow,
            duration,
            bytes: self.bytes,
            request_bytes: match self.announced {
                UNKNOWN => self.route.slot().received_bytes(),
                announced => announced,
            },
            request_id: self.request_id.as_deref().map(cut),
            trace: self.trace,
            user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
            referer: extra
                .and_then(|extra| extra.referer.as_ref())
                .map(HeaderValue::as_bytes),
            user: self.route.slot().principal().map(|user| cut(user)),
            headers: extra.map_or(&[], |extra| &extra.headers),
            excerpts: excerpts.as_ref(),
        };
        // Fails while the thread ends: then a new buffer will do.
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        buffer.clear();
        let out = &mut buffer;
        match Format::of(format) {
            Format::Json => line.json(out),
            Format::Common => common::common(&line, out),
            Format::Combined => common::combined(&line, out),
            Format::Ecs => ecs::ecs(&line, out),
            Format::Otel => otel::otel(&line, out),
            Format::Gcp => gcp::gcp(&line, out),
            Format::Template => setup.template.load().write(&line, out),
            Format::Text | Format::Off => line.text(out),
        }
        buffer.push('\n');
        // A call that panicked tells it while it unwinds: a second panic would end the process.
        let taken = catch_unwind(AssertUnwindSafe(|| (setup.sink)(&buffer, level)));
        // A client that sends a huge path does not get to keep the memory.
        if buffer.capacity() <= 16 * 1024 {
            let _ = BUFFER.try_with(|slot| slot.set(buffer));
        }
        taken.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is moved with the call: who makes it larger says so on the page.
    #[test]
    fn a_ticket_stays_small() {
        let axum = if cfg!(feature = "axum") { 16 } else { 0 };
        assert_eq!(size_of::<Option<AccessLogTicket>>(), 224 + axum);
    }
}
