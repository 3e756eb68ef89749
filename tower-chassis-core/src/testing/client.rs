use std::{any::Any, future::poll_fn, str};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use tower_service::Service;

use crate::{Body, BoxError};

/// A client of a service in the same process: no socket, no port.
///
/// ```
/// use http::{Request, Response};
/// use tower_chassis_core::{Body, BoxError, testing::TestClient};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let hello = tower::service_fn(async |request: Request<Body>| {
///     Ok::<_, BoxError>(Response::new(Body::from(format!("hello {}", request.uri().path()))))
/// });
/// let response = TestClient::new(hello).get("/you").header("accept", "text/plain").send().await;
/// assert_eq!(response.status(), 200);
/// assert_eq!(response.text(), "hello /you");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TestClient<S>(S);

impl<S: Clone> TestClient<S> {
    /// A client of `service`; each request goes to a clone of it.
    pub const fn new(service: S) -> Self {
        Self(service)
    }

    /// A request.
    ///
    /// # Panics
    /// If `uri` is not one.
    #[track_caller]
    pub fn request(&self, method: Method, uri: &str) -> TestRequest<S> {
        let uri: Uri = match uri.parse() {
            Ok(uri) => uri,
            Err(error) => panic!("`{uri}` is not a URI: {error}"),
        };
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        TestRequest {
            service: self.0.clone(),
            request,
        }
    }

    /// A `GET` of `uri`, a path or a whole URI.
    #[track_caller]
    pub fn get(&self, uri: &str) -> TestRequest<S> {
        self.request(Method::GET, uri)
    }

    /// A `POST` to `uri`.
    #[track_caller]
    pub fn post(&self, uri: &str) -> TestRequest<S> {
        self.request(Method::POST, uri)
    }

    /// A `PUT` to `uri`.
    #[track_caller]
    pub fn put(&self, uri: &str) -> TestRequest<S> {
        self.request(Method::PUT, uri)
    }

    /// A `DELETE` of `uri`.
    #[track_caller]
    pub fn delete(&self, uri: &str) -> TestRequest<S> {
        self.request(Method::DELETE, uri)
    }

    /// A `HEAD` of `uri`.
    #[track_caller]
    pub fn head(&self, uri: &str) -> TestRequest<S> {
        self.request(Method::HEAD, uri)
    }
}

/// A request of a [`TestClient`].
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct TestRequest<S> {
    service: S,
    request: Request<Body>,
}

impl<S> TestRequest<S> {
    /// Adds a header.
    ///
    /// # Panics
    /// If name or value is not one of a header.
    #[track_caller]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => {
                self.request.headers_mut().append(name, value);
            }
            _ => panic!("`{name}: {value}` is not a header"),
        }
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        *self.request.body_mut() = body.into();
        self
    }

    /// Adds an extension.
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, extension: T) -> Self {
        self.request.extensions_mut().insert(extension);
        self
    }

    /// Makes the service ready, calls it and reads the body.
    ///
    /// # Panics
    /// If the service or the body fails.
    pub async fn send<B>(self) -> TestResponse
    where
        S: Service<Request<Body>, Response = Response<B>>,
        S::Error: Into<BoxError>,
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        match self.try_send().await {
            Ok(response) => response,
            Err(error) => panic!("the service failed: {error:?}"),
        }
    }

    /// Makes the service ready, calls it and reads the body.
    ///
    /// # Errors
    /// That of the service or of the body.
    pub async fn try_send<B>(mut self) -> Result<TestResponse, BoxError>
    where
        S: Service<Request<Body>, Response = Response<B>>,
        S::Error: Into<BoxError>,
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        poll_fn(|cx| self.service.poll_ready(cx))
            .await
            .map_err(Into::into)?;
        let response = self.service.call(self.request).await.map_err(Into::into)?;
        let (head, body) = response.into_parts();
        let mut body = Box::pin(body);
        let (mut bytes, mut trailers) = (BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            match frame.map_err(Into::into)?.into_data() {
                Ok(data) => bytes.extend_from_slice(&collect(data)),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        Ok(TestResponse {
            head: Response::from_parts(head, ()),
            bytes: bytes.freeze(),
            trailers,
        })
    }
}

fn collect(mut data: impl Buf) -> Bytes {
    data.copy_to_bytes(data.remaining())
}

/// What a [`TestClient`] got: the head, and the body as far as it went.
#[derive(Clone, Debug)]
pub struct TestResponse {
    head: Response<()>,
    bytes: Bytes,
    trailers: Option<HeaderMap>,
}

impl TestResponse {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.head.status()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.head.headers()
    }

    /// The first header of that name, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers().get(name)?.to_str().ok()
    }

    /// An extension of the response, a [`Verdict`](crate::Verdict) for example.
    #[must_use]
    pub fn extension<T: Any + Clone + Send + Sync>(&self) -> Option<&T> {
        self.head.extensions().get()
    }

    /// The body.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> &str {
        match str::from_utf8(&self.bytes) {
            Ok(text) => text,
            Err(error) => panic!("the body is not text: {error}"),
        }
    }

    /// The trailers, if there were any.
    #[must_use]
    pub const fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }
}
