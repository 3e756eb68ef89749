use std::{
    borrow::Cow,
    fmt,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use tower_chassis_core::{
    Body, BoxError,
    settle::{Observe, ResponseFuture, Settle},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{AccessLogPolicy, Excerpts, Half, Kind, Piece, REQUEST, RESPONSE, chosen};
use crate::access_log::redact::essence;

/// Keeps pieces of headers and bodies for the line of an [`AccessLogLayer`](super::super::AccessLogLayer) outside of it.
///
/// Only of calls of which the log wants them: [`AccessLogConfig::excerpts`](super::super::AccessLogConfig::excerpts), off by
/// default and live. Of a body it keeps the first bytes as they pass; nothing is waited for or held back, and what nobody
/// reads is not kept.
///
/// # Example
/// ```
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_chassis_core::{Body, BoxError};
/// use tower_chassis_observe::access_log::{AccessLogLayer, Excerpt, ExcerptLayer, Format};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let log = AccessLogLayer::new(Format::Text, |line: &str| {
///     assert!(line.contains(r#"response_body="{\"error\":\"no\",\"token\":\"***\"}""#));
/// });
/// log.handle().update(|config| config.excerpts = Excerpt::Failures).unwrap();
/// let service = ServiceBuilder::new()
///     .layer(log.clone())
///     .layer(ExcerptLayer::new())
///     .service(service_fn(async |_: Request<Body>| {
///         let answer = Response::builder().status(500).header("content-type", "application/json");
///         Ok::<_, BoxError>(answer.body(Body::from(r#"{"error":"no","token":"S3CR3T"}"#))?)
///     }));
/// let response = service.oneshot(Request::new(Body::empty())).await.unwrap();
/// # use http_body_util::BodyExt;
/// response.into_body().collect().await.unwrap();
/// assert_eq!(log.handle().written(), 1);
/// # }
/// ```
///
/// # Which bodies
/// JSON (`application/json`, `+json`), forms and `text/plain`, in UTF-8 and not compressed: those that
/// [`redact`](super::super::redact) can read. Of others there is `[body of image/png]`.
/// [`AccessLogConfig::excerpt_types`](super::super::AccessLogConfig::excerpt_types) adds types, which are read as plain text.
///
/// # Order
/// Right inside the log. Inside of a retry it shows the last attempt.
///
/// # Cancellation
/// What has passed by then is in the line.
///
/// # Cost
/// While no log asks: a look into the extensions, and the bodies as [`Body`], which costs nothing where they are that; 24 bytes of future. For
/// a call of which one asks: some allocations, and up to twice `excerpt_bytes`.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct ExcerptLayer(());

/// The service of [`ExcerptLayer`].
#[derive(Clone, Debug)]
pub struct ExcerptService<S>(S);

impl ExcerptLayer {
    /// It has no settings: the log has them.
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for ExcerptLayer {
    type Service = ExcerptService<S>;
    fn layer(&self, inner: S) -> ExcerptService<S> {
        ExcerptService(inner)
    }
}

impl<S, B, R> Service<Request<B>> for ExcerptService<S>
where
    S: Service<Request<Body>, Response = Response<R>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, (), Excerpted>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        // Taken: a second layer further in has nothing to do.
        let call = parts.extensions.remove::<Excerpts>().map(Attempt::begin);
        let body = match &call {
            Some(call) => call.watch(REQUEST, &parts.headers, body),
            None => Body::new(body),
        };
        let future = self.0.call(Request::from_parts(parts, body));
        ResponseFuture::new(future, (), Excerpted(call))
    }
}

/// What looks at the response.
#[derive(Clone)]
pub struct Excerpted(Option<Attempt>);

impl fmt::Debug for Excerpted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Excerpted").finish_non_exhaustive()
    }
}

impl<R, E> Settle<Response<R>, E> for Excerpted
where
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response<G: Observe> = Response<Body>;

    fn settle<G: Observe>(
        &self,
        result: Result<Response<R>, E>,
        _: G,
    ) -> Result<Response<Body>, E> {
        let (parts, body) = result?.into_parts();
        let body = match &self.0 {
            Some(call) => {
                call.keep_headers(&parts.headers);
                call.watch(RESPONSE, &parts.headers, body)
            }
            None => Body::new(body),
        };
        Ok(Response::from_parts(parts, body))
    }
}

/// A call, or one attempt of it.
#[derive(Clone)]
struct Attempt {
    excerpts: Excerpts,
    number: u32,
}

impl Attempt {
    fn begin(excerpts: Excerpts) -> Self {
        let mut kept = excerpts.kept();
        kept.attempt = kept.attempt.wrapping_add(1);
        let number = kept.attempt;
        kept.sides[REQUEST].body = None;
        let before = std::mem::take(&mut kept.sides[RESPONSE]);
        drop(kept);
        drop(before);
        Self { excerpts, number }
    }

    /// Changes what is kept, if this is still what it is of.
    fn change(&self, side: usize, change: impl FnOnce(&mut Half)) {
        let mut kept = self.excerpts.kept();
        if kept.attempt == self.number
            && let Some(half) = kept.sides.get_mut(side)
        {
            change(half);
        }
    }

    fn keep_headers(&self, headers: &HeaderMap) {
        let headers = chosen(&self.excerpts.0.policy, headers);
        self.change(RESPONSE, |half| half.headers = headers);
    }

    fn watch<B>(&self, side: usize, headers: &HeaderMap, body: B) -> Body
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let limit = self.excerpts.0.policy.config().excerpt_bytes;
        if limit == 0 || body.is_end_stream() {
            return Body::new(body);
        }
        let piece = self.piece(headers);
        let shown = matches!(piece, Piece::Shown { .. });
        self.change(side, |half| half.body = Some(piece));
        if !shown {
            return Body::new(body);
        }
        let call = self.clone();
        Body::new(body.inspect_frame(move |frame| {
            if let Some(data) = frame.data_ref() {
                call.change(side, |half| half.add(data.chunk(), limit));
            }
        }))
    }

    fn piece(&self, headers: &HeaderMap) -> Piece {
        let content_type = headers.get(header::CONTENT_TYPE);
        let media = label(content_type);
        let encoding = headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Piece::Closed(format!("{media}, {}", label(encoding)).into());
        }
        let full = content_type.map_or("", |value| value.to_str().unwrap_or_default());
        let named = is_named(&self.excerpts.0.policy, &media);
        match Kind::of(full).or(named.then_some(Kind::Text)) {
            Some(kind) => Piece::Shown {
                kind,
                media: media.into(),
                bytes: Vec::new(),
                more: false,
            },
            None => Piece::Closed(media.into()),
        }
    }
}

impl Half {
    fn add(&mut self, data: &[u8], limit: usize) {
        let Some(Piece::Shown { bytes, more, .. }) = &mut self.body else {
            return;
        };
        let room = limit.saturating_sub(bytes.len());
        *more |= data.len() > room;
        bytes.extend_from_slice(data.get(..room).unwrap_or(data));
    }
}

/// Whether a media type is one of those that were named: `text/html`, `text/*`.
fn is_named(policy: &AccessLogPolicy, essence: &str) -> bool {
    let types = &policy.config().excerpt_types;
    types.iter().any(|named| match named.strip_suffix('*') {
        Some(begin) => essence.starts_with(&*begin.to_ascii_lowercase()),
        None => essence.eq_ignore_ascii_case(named),
    })
}

/// A value of a header that is named in a line: of what it may be.
fn label(value: Option<&HeaderValue>) -> Cow<'_, str> {
    let value = value.map(HeaderValue::as_bytes).unwrap_or_default();
    let value = essence(&String::from_utf8_lossy(value));
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$&^_.+-/".contains(c);
    if value.is_empty() {
        Cow::Borrowed("no type")
    } else if value.len() > 64 || !value.chars().all(plain) {
        Cow::Borrowed("an odd type")
    } else {
        Cow::Owned(value)
    }
}
