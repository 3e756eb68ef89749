//! The layer.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header, request::Parts, response,
};
use http_body_util::{BodyExt, Collected, Full, LengthLimitError, Limited, combinators::Collect};
use tower_chassis_core::{Body, BoxError};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Cassette, Matcher, Mode, Recorded, SameRequest, VcrError, VcrFuture,
    cassette::{Episode, Fields, RecordedResponse, Text},
    error::Reason,
};
use crate::access_log::redact::{MASK, Redact};

/// Records the calls of a client, or answers them. See the [module](super).
#[derive(Clone)]
#[must_use]
pub struct VcrLayer {
    cassette: Cassette,
    settings: Arc<Settings>,
}

#[derive(Clone)]
struct Settings {
    matcher: Arc<dyn Matcher>,
    redact: Redact,
    in_order: bool,
    any_origin: bool,
    body_limit: usize,
}

impl VcrLayer {
    /// Whose calls are those of `cassette`.
    pub fn new(cassette: Cassette) -> Self {
        let settings = Settings {
            matcher: Arc::new(SameRequest),
            redact: Redact::new(),
            in_order: false,
            any_origin: false,
            body_limit: 10 * 1024 * 1024,
        };
        Self {
            cassette,
            settings: Arc::new(settings),
        }
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// Which recorded call answers which. Default [`SameRequest`].
    pub fn matcher(self, matcher: impl Matcher) -> Self {
        self.set(|settings| settings.matcher = Arc::new(matcher))
    }

    /// Calls must be made in the order in which they were recorded.
    pub fn in_order(self) -> Self {
        self.set(|settings| settings.in_order = true)
    }

    /// Leaves scheme, host and port out of URLs: a server of a test has another port each time.
    pub fn any_origin(self) -> Self {
        self.set(|settings| settings.any_origin = true)
    }

    /// What is secret. Default [`Redact::new`].
    pub fn redact(self, redact: Redact) -> Self {
        self.set(|settings| settings.redact = redact)
    }

    /// The longest body in bytes, of a request or of an answer. Default 10 MiB; what is longer is an error of the call.
    pub fn body_limit(self, bytes: usize) -> Self {
        self.set(|settings| settings.body_limit = bytes)
    }
}

impl fmt::Debug for VcrLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VcrLayer")
            .field("cassette", &self.cassette)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for VcrLayer {
    type Service = Vcr<S>;
    fn layer(&self, inner: S) -> Vcr<S> {
        Vcr {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`VcrLayer`].
#[derive(Clone, Debug)]
pub struct Vcr<S> {
    inner: S,
    layer: VcrLayer,
}

impl<S, B, R> Service<Request<B>> for Vcr<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = VcrFuture<S, B, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.layer.cassette.mode() != Mode::Replay {
            ready!(self.inner.poll_ready(cx)).map_err(Into::into)?;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.layer.cassette.mode() {
            Mode::Pass => VcrFuture::pass(self.inner.call(request.map(Body::new))),
            Mode::Replay => VcrFuture::taped(self.layer.clone(), None, request),
            Mode::Record | Mode::Auto => {
                // The instance that was readied is the one that is called.
                let clone = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, clone);
                VcrFuture::taped(self.layer.clone(), Some(inner), request)
            }
        }
    }
}

/// A body to its end, and its trailers.
pub(super) type Whole = (Bytes, Option<HeaderMap>);

impl VcrLayer {
    /// What the cassette answers.
    pub(super) fn replay(&self, asked: &Recorded) -> Result<Response<Body>, BoxError> {
        let Settings {
            matcher, in_order, ..
        } = &*self.settings;
        let episode = self.cassette.take(asked, &**matcher, *in_order)?;
        let Some(recorded) = &episode.response else {
            let error = episode.error.clone().unwrap_or_default();
            return Err(VcrError::from(Reason::Failed(error)).into());
        };
        let trailers = recorded.trailers.as_ref().map(Fields::headers);
        let mut response = Response::new(with_trailers(recorded.body.0.clone(), trailers));
        *response.status_mut() = recorded.status();
        *response.headers_mut() = recorded.headers.headers();
        Ok(response)
    }

    /// Begins to record a call; its number.
    pub(super) fn make(&self) -> u64 {
        self.cassette.make()
    }

    /// Records a call that failed.
    pub(super) fn failed(&self, (number, request): (u64, Recorded), error: &BoxError) {
        let error = self.settings.redact.text(&error.to_string()).into_owned();
        let episode = Episode {
            request,
            response: None,
            error: Some(error),
        };
        self.cassette.record(number, episode);
    }

    /// Records what was answered.
    pub(super) fn answered(
        &self,
        (number, request): (u64, Recorded),
        head: &response::Parts,
        (body, trailers): &Whole,
    ) {
        let response = RecordedResponse {
            status: head.status.as_u16(),
            headers: self.fields(&head.headers, body),
            body: self.text(media_type(&head.headers), body),
            trailers: trailers
                .as_ref()
                .map(|trailers| self.fields(trailers, body)),
        };
        let episode = Episode {
            request,
            response: Some(response),
            error: None,
        };
        self.cassette.record(number, episode);
    }

    /// A body that is read to its end, unless it is too long.
    pub(super) fn collect<B>(&self, body: B) -> Collect<Limited<B>>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        Limited::new(body, self.settings.body_limit).collect()
    }

    /// What came of that.
    pub(super) fn whole(
        &self,
        whole: Result<Collected<Bytes>, BoxError>,
    ) -> Result<Whole, BoxError> {
        let whole = whole.map_err(|error| match error.is::<LengthLimitError>() {
            true => VcrError::from(Reason::TooLarge(self.settings.body_limit)).into(),
            false => error,
        })?;
        let trailers = whole.trailers().cloned();
        Ok((whole.to_bytes(), trailers))
    }

    pub(super) fn recorded(&self, head: &Parts, body: &Bytes) -> Recorded {
        Recorded {
            method: head.method.as_str().to_owned(),
            url: self.url(&head.uri, &head.headers),
            headers: self.fields(&head.headers, body),
            body: self.text(media_type(&head.headers), body),
        }
    }

    /// Without the user, and without what is secret; the host may be in a header.
    fn url(&self, uri: &Uri, headers: &HeaderMap) -> String {
        let path = self.settings.redact.path(uri.path());
        let query = uri.query().map(|query| self.settings.redact.query(query));
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        if self.settings.any_origin {
            return format!("{path}{query}");
        }
        let scheme = uri.scheme_str().unwrap_or("http");
        let host = uri.authority().map(|authority| {
            let text = authority.as_str();
            text.rsplit_once('@').map_or(text, |(_, host)| host)
        });
        let told = || headers.get(header::HOST)?.to_str().ok();
        match host.or_else(told) {
            Some(host) => format!("{scheme}://{host}{path}{query}"),
            None => format!("{path}{query}"),
        }
    }

    fn fields(&self, headers: &HeaderMap, body: &Bytes) -> Fields {
        // The length is that of the body as it is kept, if there is one: a HEAD tells that of another.
        let kept = |name: &HeaderName| match *name {
            header::CONTENT_LENGTH => body.is_empty(),
            header::TRANSFER_ENCODING => false,
            _ => true,
        };
        let kept = headers.iter().filter(|(name, _)| kept(name));
        Fields::new(kept.map(|(name, value)| {
            let redact = &self.settings.redact;
            let shown = match (name, value.to_str()) {
                _ if value.is_sensitive() => MASK.into(),
                // A client goes there.
                (&header::LOCATION | &header::CONTENT_LOCATION | &header::LINK, Ok(text)) => {
                    redact.followed(text).into_bytes()
                }
                _ => redact.value(name, value).into_owned(),
            };
            (name.as_str().to_owned(), shown)
        }))
    }

    fn text(&self, kind: &str, body: &Bytes) -> Text {
        // Who does not say what it is mostly means JSON, if it looks like it.
        let json = || matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
        let kind = match kind {
            "" if json() => "application/json",
            kind => kind,
        };
        // What is no text and has no secret that can be found stays as it is.
        let redacted = self.settings.redact.body(kind, body);
        let redacted = redacted.filter(|text| *text != String::from_utf8_lossy(body));
        Text(redacted.map_or_else(|| body.clone(), Bytes::from))
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.map(HeaderValue::to_str)
        .and_then(Result::ok)
        .unwrap_or_default()
}

pub(super) fn with_trailers(body: Bytes, trailers: Option<HeaderMap>) -> Body {
    match trailers {
        Some(trailers) => {
            Body::new(Full::new(body).with_trailers(async move { Some(Ok(trailers)) }))
        }
        None => Body::full(body),
    }
}
