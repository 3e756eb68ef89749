use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::{
    ServerConfig,
    body::Received,
    connection::{InFlight, Shared},
};
use crate::{
    Body, BoxError, Invocation, Kind, Rejection, rescue,
    upgrade::{self, Switched},
    verdict::is_grpc,
};

/// One connection's view of the user's service.
pub(super) struct PerConnection<S> {
    pub(super) service: S,
    pub(super) limits: Arc<ServerConfig>,
    pub(super) shared: Shared,
    pub(super) peer: Option<SocketAddr>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for PerConnection<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Response = Response<Answer<B>>;
    type Error = BoxError;
    type Future = CallFuture<S>;

    fn call(&self, request: Request<Incoming>) -> CallFuture<S> {
        let mut in_flight = self.shared.request();
        if request.extensions().get::<OnUpgrade>().is_some() {
            self.shared.offer_switch();
        }
        let grpc = is_grpc(request.headers());
        let content = Content {
            http2: request.version() == Version::HTTP_2,
            head: *request.method() == Method::HEAD,
        };
        let state = match self.refuse(&request) {
            Some(status) => State::Refused {
                answer: Some(status),
            },
            None => {
                let service = self.service.clone();
                State::Readying {
                    service,
                    request: Some(self.receive(request, &mut in_flight)),
                }
            }
        };
        CallFuture {
            state,
            in_flight: Some(in_flight),
            grpc,
            content,
        }
    }
}

impl<S> PerConnection<S> {
    /// What can be refused by looking at the head.
    fn refuse(&self, request: &Request<Incoming>) -> Option<Response<Bytes>> {
        let uri = request.uri();
        let uri_len = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
        // RFC 9112, 3.2: one Host, and in HTTP/1.1 at least one. Who believes which of two is how requests are
        // smuggled past a router.
        let hosts = request.headers().get_all(header::HOST).iter().count();
        let status = if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
            StatusCode::BAD_REQUEST
        } else if uri_len as u64 > self.limits.max_uri {
            StatusCode::URI_TOO_LONG
        } else if head_len(request.headers()) > self.limits.max_head {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        } else if http_body::Body::size_hint(request.body()).lower() > self.limits.max_body {
            self.shared.linger();
            let rejection = Rejection::new(Kind::BodyTooLarge, "server");
            return Some(rescue::answer(&rejection, is_grpc(request.headers())));
        } else {
            return None;
        };
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(header::CONNECTION, http::HeaderValue::from_static("close"));
        Some(response)
    }

    fn receive(&self, request: Request<Incoming>, in_flight: &mut InFlight) -> Request<Body> {
        let (limit, stall) = (self.limits.max_body, self.limits.body_read_timeout);
        let mut invocation = Invocation::new(Instant::now());
        let mut request = request.map(|body| {
            if http_body::Body::is_end_stream(&body) {
                Body::empty()
            } else {
                in_flight.beside(invocation.upload());
                Body::new(Received::new(
                    body,
                    limit,
                    stall,
                    self.shared.clone(),
                    invocation.upload(),
                ))
            }
        });
        if let Some(peer) = self.peer {
            invocation.set_client(peer);
        }
        request.extensions_mut().insert(invocation);
        request
    }
}

fn head_len(headers: &HeaderMap) -> u64 {
    // ": " and the line's end count as they do on the wire.
    headers
        .iter()
        .map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64)
        .sum()
}

pin_project! {
    pub(super) struct CallFuture<S>
    where
        S: Service<Request<Body>>,
    {
        #[pin]
        state: State<S, S::Future>,
        in_flight: Option<InFlight>,
        grpc: bool,
        content: Content,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F> {
        Readying { service: S, request: Option<Request<Body>> },
        Called { #[pin] future: F },
        Refused { answer: Option<Response<Bytes>> },
    }
}

impl<S, B> Future for CallFuture<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: http_body::Body,
{
    type Output = Result<Response<Answer<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let made = loop {
            match this.state.as_mut().project() {
                StateProj::Readying { service, request } => {
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        break rescue::answer(&*error.into(), *this.grpc);
                    }
                    let Some(request) = request.take() else {
                        return Poll::Pending;
                    };
                    let future = service.call(request);
                    this.state.set(State::Called { future });
                }
                StateProj::Called { future } => match ready!(future.poll(cx)) {
                    Ok(mut response) => {
                        let in_flight = this.in_flight.take();
                        if upgrade::is_switch(&response)
                            && let Some(tickets) = Switched::take(response.extensions_mut())
                            && let Some(in_flight) = &in_flight
                        {
                            in_flight.switched(tickets);
                        }
                        let response = response.map(|body| Repr::Theirs { body });
                        return Poll::Ready(Ok(this.content.answer(response, in_flight)));
                    }
                    // hyper would close the connection without a word.
                    Err(error) => break rescue::answer(&*error.into(), *this.grpc),
                },
                StateProj::Refused { answer } => match answer.take() {
                    Some(answer) => break answer,
                    None => return Poll::Pending,
                },
            }
        };
        let in_flight = this.in_flight.take();
        let made = made.map(|bytes| Repr::Ours { bytes });
        Poll::Ready(Ok(this.content.answer(made, in_flight)))
    }
}

/// Which answers have no content, whatever body they have (RFC 9110, 6.4.1). hyper sees to that for HTTP/1 alone.
#[derive(Clone, Copy)]
struct Content {
    http2: bool,
    /// The request is a `HEAD`.
    head: bool,
}

impl Content {
    fn answer<B>(
        self,
        mut response: Response<Repr<B>>,
        in_flight: Option<InFlight>,
    ) -> Response<Answer<B>>
    where
        B: http_body::Body,
    {
        let without = matches!(
            response.status(),
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        let bare = self.http2 && (self.head || without);
        // A `HEAD` tells how long the body would have been.
        if let Some(length @ 1..) = response.body().size_hint().exact()
            && bare
            && !without
        {
            let headers = response.headers_mut();
            headers
                .entry(header::CONTENT_LENGTH)
                .or_insert(length.into());
        }
        response.map(|repr| Answer {
            repr,
            in_flight,
            bare,
        })
    }
}

pin_project! {
    /// The response's body; the request is in flight until it is dropped.
    pub(super) struct Answer<B> {
        #[pin]
        repr: Repr<B>,
        in_flight: Option<InFlight>,
        // Nothing of it is sent.
        bare: bool,
    }
}

pin_project! {
    #[project = ReprProj]
    enum Repr<B> {
        Theirs { #[pin] body: B },
        Ours { bytes: Bytes },
    }
}

impl<B> http_body::Body for Answer<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if *this.bare {
            return Poll::Ready(None);
        }
        if let Some(in_flight) = this.in_flight {
            in_flight.asked();
        }
        match this.repr.project() {
            ReprProj::Theirs { body } => {
                let frame = ready!(body.poll_frame(cx)).map(|frame| frame.map_err(Into::into));
                if let (Some(Ok(_)), Some(in_flight)) = (&frame, this.in_flight) {
                    in_flight.gave();
                }
                Poll::Ready(frame)
            }
            ReprProj::Ours { bytes } if bytes.is_empty() => Poll::Ready(None),
            ReprProj::Ours { bytes } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bare
            || match &self.repr {
                Repr::Theirs { body } => body.is_end_stream(),
                Repr::Ours { bytes } => bytes.is_empty(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        if self.bare {
            return SizeHint::with_exact(0);
        }
        self.repr.size_hint()
    }
}

impl<B: http_body::Body> Repr<B> {
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Theirs { body } => body.size_hint(),
            Self::Ours { bytes } => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
