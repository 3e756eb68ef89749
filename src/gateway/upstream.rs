//! The service that the demo and the tests call.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::time::Sleep;
use tower_chassis_core::{Body, BoxError, boxed::BoxFuture};
use tower_service::Service;

/// One instance of the demo service.
///
/// | path | answers |
/// |---|---|
/// | `/slow?ms=N` | after N ms, default 2000 |
/// | `/fail?status=N` | with this status, default 500 |
/// | `/half?bytes=N` | with half of the bytes that it announced, then breaks the connection |
/// | `/echo` | with the request's body |
/// | `/headers` | with the request's headers |
/// | `/stats` | with the number of requests so far, itself not counted |
/// | any other | with `{"service","version","instance"}` |
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Instance>);

#[derive(Debug)]
struct Instance {
    service: String,
    version: String,
    instance: String,
    steady: bool,
    requests: AtomicU64,
}

impl Upstream {
    /// An instance of `service`.
    pub fn new(service: &str, version: &str, instance: &str) -> Self {
        Self(Arc::new(Instance {
            service: service.into(),
            version: version.into(),
            instance: instance.into(),
            steady: false,
            requests: AtomicU64::new(0),
        }))
    }

    /// `/fail` without a status succeeds here: a retry that lands here is served.
    #[must_use]
    pub fn steady(self) -> Self {
        let this = &self.0;
        Self(Arc::new(Instance {
            service: this.service.clone(),
            version: this.version.clone(),
            instance: this.instance.clone(),
            steady: true,
            requests: AtomicU64::new(0),
        }))
    }

    async fn serve(self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let this = &*self.0;
        let (head, body) = request.into_parts();
        let query = |name: &str| -> Option<u64> {
            let mut pairs = head
                .uri
                .query()?
                .split('&')
                .filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name)?.1.parse().ok()
        };
        let path = head.uri.path();
        if path != "/stats" {
            this.requests.fetch_add(1, Ordering::Relaxed);
        }
        let mut response = match path {
            "/stats" => json_body(&json!({ "requests": this.requests.load(Ordering::Relaxed) })),
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(query("ms").unwrap_or(2000))).await;
                self.hello()
            }
            "/fail" if this.steady && query("status").is_none() => self.hello(),
            "/fail" => {
                let status =
                    query("status").and_then(|s| StatusCode::from_u16(s.try_into().ok()?).ok());
                let mut response = self.hello();
                *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                response
            }
            "/half" => {
                let bytes = query("bytes").unwrap_or(10_000).clamp(2, 1 << 20);
                Response::new(Body::new(Half {
                    announced: bytes,
                    failing: None,
                }))
            }
            "/headers" => {
                let text =
                    |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
                let headers: serde_json::Map<_, _> = head
                    .headers
                    .keys()
                    .map(|name| {
                        let values: Vec<_> = head.headers.get_all(name).iter().map(text).collect();
                        (name.to_string(), json!(values.join(", ")))
                    })
                    .collect();
                json_body(&json!(headers))
            }
            "/echo" => Response::new(Body::from(body.collect().await?.to_bytes())),
            _ => self.hello(),
        };
        if let Ok(value) = HeaderValue::from_str(&format!("{}/{}", this.version, this.instance)) {
            response.headers_mut().insert("x-upstream", value);
        }
        Ok(response)
    }

    fn hello(&self) -> Response<Body> {
        let this = &*self.0;
        json_body(
            &json!({ "service": this.service, "version": this.version, "instance": this.instance }),
        )
    }
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = BoxError;
    // A service to be called, not a layer to be measured.
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().serve(request))
    }
}

fn json_body(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{value}\n")));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// Announces a length, sends half of it, and fails once that is on its way.
struct Half {
    announced: u64,
    failing: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Half {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(failing) = &mut self.failing {
            ready!(failing.as_mut().poll(cx));
            return Poll::Ready(Some(Err("half of it has to do".into())));
        }
        self.failing = Some(Box::pin(tokio::time::sleep(Duration::from_millis(50))));
        let half = vec![b'x'; (self.announced / 2) as usize];
        Poll::Ready(Some(Ok(Frame::data(half.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
