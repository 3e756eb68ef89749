//! What a handler may return.

use std::{borrow::Cow, convert::Infallible};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use tower_chassis_core::{Body, BoxError};

use crate::params::ParamError;

/// A value that is an answer.
///
/// | value | answer |
/// |---|---|
/// | [`Response`] of any body of bytes | itself |
/// | `&'static str`, `String`, `Cow<'static, str>` | 200, `text/plain; charset=utf-8` |
/// | [`Bytes`], `Vec<u8>` | 200, `application/octet-stream` |
/// | [`Body`] | 200 without a content type |
/// | `()` | 200 without a body |
/// | [`StatusCode`] | that status without a body |
/// | `(StatusCode, T)` | the answer of `T` with that status |
/// | `Result<T, E>` | the answer of whichever it is |
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an answer",
    note = "return a `Response`, text, bytes, a `StatusCode`, `(StatusCode, T)` or a `Result` of two answers"
)]
pub trait IntoResponse {
    /// The answer.
    fn into_response(self) -> Response<Body>;
}

impl<B> IntoResponse for Response<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn into_response(self) -> Response<Body> {
        self.map(Body::new)
    }
}

impl IntoResponse for Body {
    fn into_response(self) -> Response<Body> {
        Response::new(self)
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Response<Body> {
        Response::new(Body::empty())
    }
}

impl IntoResponse for Infallible {
    fn into_response(self) -> Response<Body> {
        match self {}
    }
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Response<Body> {
        (self, ()).into_response()
    }
}

impl<T: IntoResponse> IntoResponse for (StatusCode, T) {
    fn into_response(self) -> Response<Body> {
        let mut response = self.1.into_response();
        *response.status_mut() = self.0;
        response
    }
}

impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response<Body> {
        match self {
            Ok(value) => value.into_response(),
            Err(error) => error.into_response(),
        }
    }
}

impl IntoResponse for ParamError {
    fn into_response(self) -> Response<Body> {
        let status = if self.is_missing() {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            StatusCode::BAD_REQUEST
        };
        (status, self.to_string()).into_response()
    }
}

impl IntoResponse for Cow<'static, str> {
    fn into_response(self) -> Response<Body> {
        match self {
            Cow::Borrowed(text) => text.into_response(),
            Cow::Owned(text) => text.into_response(),
        }
    }
}

macro_rules! with_content_type {
    ($content_type:literal: $($kind:ty),+) => {$(
        impl IntoResponse for $kind {
            fn into_response(self) -> Response<Body> {
                let mut response = Response::new(Body::full(self));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static($content_type));
                response
            }
        }
    )+};
}

with_content_type!("text/plain; charset=utf-8": &'static str, String);
with_content_type!("application/octet-stream": Bytes, Vec<u8>);
