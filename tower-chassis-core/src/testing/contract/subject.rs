use std::{
    any::Any,
    future::Future,
    marker::PhantomData,
    mem::size_of,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::Response;
use http_body_util::BodyExt;
use tower_service::Service;

use crate::BoxError;

type AnyBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError>>>;

/// A response, as the suite sees it.
pub struct Answer {
    pub(super) summary: String,
    pub(super) body: Option<AnyBody>,
    /// What else came may hold something as well.
    pub(super) rest: Box<dyn Any>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

/// A response that the suite can take apart. `impl Reply for MyResponse {}` for one without a body.
pub trait Reply: Sized + 'static {
    /// Takes it apart.
    fn into_answer(self) -> Answer {
        Answer {
            summary: "answered".to_owned(),
            body: None,
            rest: Box::new(self),
        }
    }
}

impl Reply for () {}
impl Reply for u32 {}
impl Reply for u64 {}
impl Reply for usize {}
impl Reply for String {}
impl Reply for &'static str {}
impl Reply for Bytes {}

impl<B> Reply for Response<B>
where
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
{
    fn into_answer(self) -> Answer {
        let (parts, body) = self.into_parts();
        let body = body
            .map_frame(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
            .map_err(Into::into);
        Answer {
            summary: format!("answered {}", parts.status.as_u16()),
            body: Some(Box::pin(body)),
            rest: Box::new(parts),
        }
    }
}

pub(super) type AnyCall = Pin<Box<dyn Future<Output = Result<Answer, BoxError>>>>;

/// A service whose types are erased, so that the laws are compiled once.
pub(super) trait Subject {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>;
    fn call(&mut self) -> AnyCall;
    fn duplicate(&self) -> Box<dyn Subject>;
    fn future_size(&self) -> usize;
}

pub(super) struct Erased<S, Req> {
    service: S,
    request: Arc<dyn Fn() -> Req>,
    _request: PhantomData<fn(Req)>,
}

impl<S, Req> Erased<S, Req> {
    pub(super) fn boxed(service: S, request: &Arc<dyn Fn() -> Req>) -> Box<dyn Subject>
    where
        Self: Subject + 'static,
    {
        Box::new(Self {
            service,
            request: Arc::clone(request),
            _request: PhantomData,
        })
    }
}

impl<S, Req> Subject for Erased<S, Req>
where
    S: Service<Req> + Clone + 'static,
    S::Response: Reply,
    S::Error: Into<BoxError>,
    S::Future: 'static,
    Req: 'static,
{
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self) -> AnyCall {
        // Not an async block: `call` itself must run now.
        let future = self.service.call((self.request)());
        Box::pin(async move { future.await.map(Reply::into_answer).map_err(Into::into) })
    }

    fn duplicate(&self) -> Box<dyn Subject> {
        Self::boxed(self.service.clone(), &self.request)
    }

    fn future_size(&self) -> usize {
        size_of::<S::Future>()
    }
}
