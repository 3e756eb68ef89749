//! What happens, as server-sent events: for an admin page, for `curl`.

use std::{
    convert::Infallible,
    fmt::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::time::{Instant, timeout_at};
#[cfg(feature = "server")]
use tower_chassis_core::server::Drain;
use tower_chassis_core::{
    Body, Events,
    body::{Bytes, Frame},
    events::{Event, EventStream, Field, Received, TryRecvError},
};
use tower_service::Service;

use crate::{
    access_log::escape_json,
    health::{not_allowed, text},
    streaming::{self, Frames},
};

/// A frame takes what has happened until it is so long.
const LONG: usize = 16 * 1024;
/// And of so many at most.
const AT_ONCE: usize = 1024;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const KEEP_ALIVE: &str = ": keep-alive\n\n";

/// The events of a service as a stream that a browser's `EventSource` reads.
///
/// ```text
/// id: 7
/// event: breaker
/// data: {"name":"http://10.0.0.1:80","to":"open","reason":"failure-rate","open_for_ms":5000}
/// ```
///
/// `event` is [`Event::name`], `data` one line of JSON with [its fields](Event::fields), times in milliseconds. What a
/// client was too slow to read is `event: missed` with `{"count":n}` in its place, and what happened while it was not
/// connected `{"count":null}`, if it says by `Last-Event-ID` that it was. Nothing is repeated.
///
/// `?kinds=breaker,ejected` leaves out all others, also of what may be missed; a kind that does not exist is a 400 that names those that do. `GET`
/// (and `HEAD`, which ends at once), else 405.
///
/// # Example
/// ```
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_chassis_core::Events;
/// use tower_chassis_observe::events::Sse;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let events = Events::new(); // the layers have clones of it
/// let service = Sse::new(events).streams(4).service();
/// let response = service.oneshot(Request::get("/events").body(()).unwrap()).await.unwrap();
/// assert_eq!(response.headers()["content-type"], "text/event-stream");
/// # }
/// ```
///
/// # Configuration
/// | setting | default | |
/// |---|---|---|
/// | [`capacity`](Self::capacity) | 256 | events that wait for a client |
/// | [`streams`](Self::streams) | 16 | clients at once; the next get 503 with `Retry-After` |
/// | [`keep_alive`](Self::keep_alive) | 15 s | silence after which a comment is sent, so that nobody on the way gives up |
///
/// # Order
/// On a private listener, or behind authentication: the names of endpoints are in it. Outside of whatever limits the
/// time of a response.
///
/// # Cancellation
/// A client that leaves frees its place with the drop of its body. With `drain` (feature `server`) the streams end when it is
/// announced.
///
/// # Cost
/// Nothing while nobody is connected; then a copy of each event per client, and a box and a string per frame.
#[derive(Clone)]
#[must_use]
pub struct Sse {
    events: Events,
    capacity: usize,
    streams: usize,
    keep_alive: Duration,
    #[cfg(feature = "server")]
    drain: Option<Drain>,
    open: Arc<AtomicUsize>,
}

impl Sse {
    /// What is reported to `events`.
    pub fn new(events: Events) -> Self {
        Self {
            events,
            capacity: 256,
            streams: 16,
            keep_alive: Duration::from_secs(15),
            #[cfg(feature = "server")]
            drain: None,
            open: Arc::default(),
        }
    }

    /// How many events wait for a client until it has missed some, at least one. Default: 256.
    pub const fn capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }

    /// How many clients there may be at once. Default: 16.
    pub const fn streams(mut self, streams: usize) -> Self {
        self.streams = streams;
        self
    }

    /// How long a stream may be silent, a second to a day. Default: 15 s.
    pub fn keep_alive(mut self, every: Duration) -> Self {
        self.keep_alive = every.clamp(Duration::from_secs(1), DAY);
        self
    }

    /// Ends the streams when this drain is announced: it need not wait for them.
    #[cfg(feature = "server")]
    #[cfg_attr(docsrs, doc(cfg(feature = "server")))]
    pub fn drain(mut self, drain: &Drain) -> Self {
        self.drain = Some(drain.clone());
        self
    }

    /// How many clients are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> SseService {
        SseService(Arc::new(self.clone()))
    }

    fn place(self: &Arc<Self>) -> Option<Place> {
        let free = |open: usize| (open < self.streams).then_some(open + 1);
        self.open.fetch_update(Relaxed, Relaxed, free).ok()?;
        Some(Place(Arc::clone(&self.open)))
    }

    /// Until a drain is announced; if there is none to wait for, for ever.
    async fn draining(&self) {
        #[cfg(feature = "server")]
        if let Some(drain) = &self.drain {
            return drain.announced().await;
        }
        std::future::pending().await
    }

    fn open<B>(self: Arc<Self>, request: &Request<B>) -> Response<Body> {
        let kinds = match Kinds::asked(request.uri().query()) {
            Ok(kinds) => kinds,
            Err(unknown) => {
                let known = Event::NAMES.join(", ");
                let mut why = String::from("no such kind: ");
                escape_json(&mut why, unknown.as_bytes());
                let _ = writeln!(why, "; there are {known}");
                return text(StatusCode::BAD_REQUEST, why);
            }
        };
        let mut response = text(StatusCode::OK, String::new());
        let headers = response.headers_mut();
        let stream = HeaderValue::from_static("text/event-stream");
        headers.insert(header::CONTENT_TYPE, stream);
        // nginx collects answers before it sends them, unless told.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        if request.method() == Method::HEAD {
            return response;
        }
        let Some(place) = self.place() else {
            let mut full = text(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many streams\n".to_owned(),
            );
            let wait = HeaderValue::from_static("5");
            full.headers_mut().insert(header::RETRY_AFTER, wait);
            return full;
        };
        let last = request.headers().get("last-event-id");
        let last = last.map(|last| {
            let last = last.to_str().ok().and_then(|last| last.parse().ok());
            last.unwrap_or(0)
        });
        *response.body_mut() = streaming::body(Streams {
            // A flood of others must not push out what is wanted.
            stream: self
                .events
                .subscribe_to(self.capacity, move |event| kinds.has(event.name())),
            id: last.unwrap_or(0),
            greeting: Some(last.is_some()),
            sse: self,
            _place: place,
        });
        response
    }
}

impl fmt::Debug for Sse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sse")
            .field("capacity", &self.capacity)
            .field("streams", &self.streams)
            .field("connected", &self.connected())
            .finish_non_exhaustive()
    }
}

/// The service of [`Sse`]. Clones, and others of the same [`Sse`], share its places.
#[derive(Clone, Debug)]
pub struct SseService(Arc<Sse>);

impl<B> Service<Request<B>> for SseService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let known = matches!(*request.method(), Method::GET | Method::HEAD);
        std::future::ready(Ok(if known {
            Arc::clone(&self.0).open(&request)
        } else {
            not_allowed()
        }))
    }
}

/// A place among the streams, until it is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The kinds that are wanted, a bit each.
#[derive(Clone, Copy)]
struct Kinds(u64);

impl Kinds {
    const ALL: Self = Self(u64::MAX);

    /// What a query asks for, or the first that does not exist.
    fn asked(query: Option<&str>) -> Result<Self, &str> {
        let asked = query
            .unwrap_or_default()
            .split('&')
            .find_map(|pair| pair.strip_prefix("kinds="));
        let Some(asked) = asked else {
            return Ok(Self::ALL);
        };
        let mut kinds = 0;
        // As `URLSearchParams` writes a comma, too.
        let names = asked.split(',').flat_map(|part| part.split("%2C"));
        for name in names.flat_map(|part| part.split("%2c")) {
            let at = Event::NAMES.iter().position(|known| *known == name);
            kinds |= 1 << at.ok_or(name)?;
        }
        Ok(Self(kinds))
    }

    fn has(self, name: &str) -> bool {
        let at = Event::NAMES.iter().position(|known| *known == name);
        // One that a later version may have goes to who wants all.
        at.map_or(self.0 == u64::MAX, |at| self.0 & (1 << at) != 0)
    }
}

/// The frames of one client.
struct Streams {
    stream: EventStream,
    /// Of the event that was sent last.
    id: u64,
    /// What is said first, and whether something may have been missed before.
    greeting: Option<bool>,
    sse: Arc<Sse>,
    _place: Place,
}

impl Streams {
    fn write(&mut self, out: &mut String, received: Received) {
        match received {
            Received::Missed(count) => missed(out, format_args!("{count}")),
            Received::Event(event) => {
                // It goes on from what a client says.
                self.id = self.id.wrapping_add(1);
                let _ = write!(out, "id: {}\nevent: {}\ndata: ", self.id, event.name());
                data(out, &event);
                out.push_str("\n\n");
            }
        }
    }
}

impl Frames for Streams {
    async fn next(mut self) -> Option<(Frame<Bytes>, Self)> {
        let mut out = String::new();
        if let Some(again) = self.greeting.take() {
            // How long a browser waits until it connects again.
            out.push_str("retry: 3000\n\n");
            if again {
                missed(&mut out, format_args!("null"));
            }
        }
        let sse = Arc::clone(&self.sse);
        let silence = Instant::now() + sse.keep_alive;
        if out.is_empty() {
            let drained = std::pin::pin!(sse.draining());
            match timeout_at(silence, first(self.stream.recv(), drained)).await {
                Ok(Some(received)) => self.write(&mut out, received),
                Ok(None) => return None,
                Err(_) => out.push_str(KEEP_ALIVE),
            }
        }
        for _ in 0..AT_ONCE {
            match self.stream.try_recv() {
                Ok(received) => self.write(&mut out, received),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
            if out.len() >= LONG {
                break;
            }
        }
        Some((Frame::data(Bytes::from(out)), self))
    }
}

/// What `next` gives, or none once `end` has come.
async fn first<T>(
    next: impl Future<Output = Option<T>>,
    mut end: std::pin::Pin<&mut impl Future<Output = ()>>,
) -> Option<T> {
    let mut next = std::pin::pin!(next);
    std::future::poll_fn(|cx| {
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        next.as_mut().poll(cx)
    })
    .await
}

fn missed(out: &mut String, count: fmt::Arguments<'_>) {
    let _ = write!(out, "event: missed\ndata: {{\"count\":{count}}}\n\n");
}

/// The fields of an event as one line of JSON.
fn data(out: &mut String, event: &Event) {
    let mut separator = '{';
    event.fields(&mut |name, field| {
        out.push(separator);
        separator = ',';
        let _ = match field {
            Field::Text(value) => {
                let _ = write!(out, "\"{name}\":");
                escape_json(out, value.as_bytes());
                Ok(())
            }
            Field::Number(value) => write!(out, "\"{name}\":{value}"),
            Field::Duration(time) => write!(out, "\"{name}_ms\":{}", time.as_millis()),
            // One that a later version may have.
            _ => write!(out, "\"{name}\":null"),
        };
    });
    if separator == '{' {
        out.push('{');
    }
    out.push('}');
}
