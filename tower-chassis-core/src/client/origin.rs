use std::task::{Context, Poll};

use http::{HeaderValue, Request, Uri, header, uri};
use tower_layer::Layer;
use tower_service::Service;

use super::without_user;
use crate::Endpoint;

/// Aims requests at an endpoint: its scheme and authority take the place of what the URI has.
///
/// The `Host` that the client asked for is kept, unless [`rewrite_host`](Self::rewrite_host) says otherwise.
/// Above layers that tell where a call goes (client metrics, traces), which read it from the URI.
#[derive(Clone, Debug)]
pub struct OriginLayer {
    scheme: uri::Scheme,
    authority: uri::Authority,
    host: HeaderValue,
    rewrite_host: bool,
}

impl OriginLayer {
    /// Aims at `endpoint`.
    #[must_use]
    pub fn new(endpoint: &Endpoint) -> Self {
        Self {
            scheme: endpoint.scheme().clone(),
            authority: endpoint.authority().clone(),
            host: endpoint.host().clone(),
            rewrite_host: false,
        }
    }

    /// Sends the endpoint's own authority as `Host`. Default: what the client asked for.
    #[must_use]
    pub const fn rewrite_host(mut self, rewrite: bool) -> Self {
        self.rewrite_host = rewrite;
        self
    }

    fn aim<B>(&self, request: &mut Request<B>) {
        if self.rewrite_host {
            request
                .headers_mut()
                .insert(header::HOST, self.host.clone());
        } else if !request.headers().contains_key(header::HOST) {
            // HTTP/2 carries the host in the authority of the URI; HTTP/1 needs the header.
            let asked = request
                .uri()
                .authority()
                .map(|asked| without_user(asked).unwrap_or(asked.as_str()))
                .and_then(|asked| HeaderValue::from_str(asked).ok());
            request
                .headers_mut()
                .insert(header::HOST, asked.unwrap_or_else(|| self.host.clone()));
        }
        let mut parts = uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        let path = request.uri().path_and_query().cloned();
        parts.path_and_query = path.or_else(|| Some(uri::PathAndQuery::from_static("/")));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

impl<S> Layer<S> for OriginLayer {
    type Service = Aimed<S>;
    fn layer(&self, inner: S) -> Aimed<S> {
        Aimed {
            inner,
            origin: self.clone(),
        }
    }
}

/// The service of [`OriginLayer`].
#[derive(Clone, Debug)]
pub struct Aimed<S> {
    inner: S,
    origin: OriginLayer,
}

impl<S> Aimed<S> {
    /// The service that is aimed.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Aimed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        self.origin.aim(&mut request);
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_kept_unless_it_is_to_be_rewritten() {
        let endpoint = Endpoint::new("http://10.0.0.1:81").unwrap();
        let aim = |rewrite: bool, request: http::request::Builder| {
            let mut request = request.body(()).unwrap();
            OriginLayer::new(&endpoint)
                .rewrite_host(rewrite)
                .aim(&mut request);
            (
                request.uri().path().to_owned(),
                request.headers()["host"].to_str().unwrap().to_owned(),
            )
        };
        let asked = || Request::get("/a?b").header("host", "shop.example");
        assert_eq!(aim(false, asked()), ("/a".into(), "shop.example".into()));
        assert_eq!(aim(true, asked()), ("/a".into(), "10.0.0.1:81".into()));
        assert_eq!(
            aim(false, Request::get("http://h2.example/a")).1,
            "h2.example"
        );
        assert_eq!(aim(false, Request::get("/")).1, "10.0.0.1:81");
        // RFC 9110, 4.2.4: nobody else is to have them.
        let asked = Request::get("http://ann:secret@h2.example:8/a");
        assert_eq!(aim(false, asked).1, "h2.example:8");
    }
}
