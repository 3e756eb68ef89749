//! The layer.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header, request::Parts};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tower_chassis_core::{Body, BoxError, boxed::BoxFuture};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Cassette, Matcher, Mode, Recorded, SameRequest, VcrError,
    cassette::{Episode, Fields, RecordedResponse, Text},
    error::Reason,
};
use crate::access_log::redact::Redact;

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
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    // A layer for tests, which reads whole bodies.
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.layer.cassette.mode() != Mode::Replay {
            ready!(self.inner.poll_ready(cx)).map_err(Into::into)?;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let layer = self.layer.clone();
        match layer.cassette.mode() {
            Mode::Pass => {
                let answer = self.inner.call(request.map(Body::new));
                Box::pin(async move { Ok(answer.await.map_err(Into::into)?.map(Body::new)) })
            }
            Mode::Replay => Box::pin(layer.replay(request)),
            Mode::Record | Mode::Auto => {
                // The instance that was readied is the one that is called.
                let clone = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, clone);
                Box::pin(layer.record(inner, request))
            }
        }
    }
}

impl VcrLayer {
    async fn replay<B>(self, request: Request<B>) -> Result<Response<Body>, BoxError>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let (head, body) = request.into_parts();
        let (body, _) = self.whole(body).await?;
        let asked = self.recorded(&head, &body);
        let Settings {
            matcher, in_order, ..
        } = &*self.settings;
        let episode = self.cassette.take(&asked, &**matcher, *in_order)?;
        let Some(recorded) = episode.response else {
            return Err(VcrError::from(Reason::Failed(episode.error.unwrap_or_default())).into());
        };
        let trailers = recorded.trailers.as_ref().map(Fields::headers);
        let mut response = Response::new(with_trailers(recorded.body.0.clone(), trailers));
        *response.status_mut() = recorded.status();
        *response.headers_mut() = recorded.headers.headers();
        Ok(response)
    }

    async fn record<S, B, R>(
        self,
        mut inner: S,
        request: Request<B>,
    ) -> Result<Response<Body>, BoxError>
    where
        S: Service<Request<Body>, Response = Response<R>>,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
        R: http_body::Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let (head, body) = request.into_parts();
        let (body, trailers) = self.whole(body).await?;
        let recorded = self.recorded(&head, &body);
        let request = Request::from_parts(head, with_trailers(body, trailers));
        let failed = |error: String| Episode {
            request: recorded.clone(),
            response: None,
            error: Some(self.settings.redact.text(&error).into_owned()),
        };
        let response = match inner.call(request).await {
            Ok(response) => response,
            Err(error) => {
                let error = error.into();
                self.cassette.record(failed(error.to_string()));
                return Err(error);
            }
        };
        let (head, body) = response.into_parts();
        let (body, trailers) = match self.whole(body).await {
            Ok(whole) => whole,
            Err(error) => {
                self.cassette.record(failed(error.to_string()));
                return Err(error);
            }
        };
        let kind = media_type(&head.headers);
        self.cassette.record(Episode {
            request: recorded.clone(),
            response: Some(RecordedResponse {
                status: head.status.as_u16(),
                headers: self.fields(&head.headers, &body),
                body: self.text(kind, &body),
                trailers: trailers
                    .as_ref()
                    .map(|trailers| self.fields(trailers, &body)),
            }),
            error: None,
        });
        Ok(Response::from_parts(head, with_trailers(body, trailers)))
    }

    /// The body to its end, and its trailers.
    async fn whole<B>(&self, body: B) -> Result<(Bytes, Option<HeaderMap>), BoxError>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let limit = self.settings.body_limit;
        let whole = Limited::new(body, limit).collect().await;
        let whole = whole.map_err(|error| match error.is::<LengthLimitError>() {
            true => VcrError::from(Reason::TooLarge(limit)).into(),
            false => error,
        })?;
        let trailers = whole.trailers().cloned();
        Ok((whole.to_bytes(), trailers))
    }

    fn recorded(&self, head: &Parts, body: &Bytes) -> Recorded {
        Recorded {
            method: head.method.as_str().to_owned(),
            url: self.url(&head.uri, &head.headers),
            headers: self.fields(&head.headers, body),
            body: self.text(media_type(&head.headers), body),
        }
    }

    /// Without the user; the host may be in a header.
    fn url(&self, uri: &Uri, headers: &HeaderMap) -> String {
        let path = uri.path();
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
            let shown = self.settings.redact.header(name.as_str(), value.as_bytes());
            (name.as_str().to_owned(), shown.into_owned())
        }))
    }

    fn text(&self, kind: &str, body: &Bytes) -> Text {
        let whole = str::from_utf8(body).is_ok();
        let redacted = whole
            .then(|| self.settings.redact.body(kind, body))
            .flatten();
        Text(redacted.map_or_else(|| body.clone(), Bytes::from))
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.map(HeaderValue::to_str)
        .and_then(Result::ok)
        .unwrap_or_default()
}

fn with_trailers(body: Bytes, trailers: Option<HeaderMap>) -> Body {
    match trailers {
        Some(trailers) => {
            Body::new(Full::new(body).with_trailers(async move { Some(Ok(trailers)) }))
        }
        None => Body::full(body),
    }
}
