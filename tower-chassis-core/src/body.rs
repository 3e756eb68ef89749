//! The body of a response that a router or server of ours gives, and the words of bodies.

use std::{
    any::Any,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

#[doc(no_inline)]
pub use bytes::{Buf, Bytes};
#[doc(no_inline)]
pub use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::BoxError;

/// A body of any kind, at most 40 bytes, boxed only when its kind is not known here.
#[derive(Default)]
pub struct Body(Repr);

#[derive(Default)]
enum Repr {
    #[default]
    Empty,
    Full(Bytes),
    #[cfg(any(feature = "server", feature = "client"))]
    Incoming(hyper::body::Incoming),
    Boxed(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Repr::Empty)
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(if bytes.is_empty() {
            Repr::Empty
        } else {
            Repr::Full(bytes)
        })
    }

    /// Any body. Those of this crate, of `http-body-util` and of hyper are recognised, and one that has
    /// already ended is empty; others cost one box.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut slot = Some(body);
        let any: &mut dyn Any = &mut slot;
        if let Some(body) = any.downcast_mut::<Option<Self>>() {
            return body.take().unwrap_or_default();
        }
        if let Some(body) = any.downcast_mut::<Option<http_body_util::Full<Bytes>>>() {
            let bytes = body.take().and_then(|mut body| {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                match http_body::Body::poll_frame(Pin::new(&mut body), &mut cx) {
                    Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
                    _ => None,
                }
            });
            return bytes.map_or(Self::empty(), Self::full);
        }
        #[cfg(any(feature = "server", feature = "client"))]
        if let Some(body) = any.downcast_mut::<Option<hyper::body::Incoming>>() {
            return body.take().map_or(Self::empty(), Self::from);
        }
        match slot {
            Some(body) if !body.is_end_stream() => Self(Repr::Boxed(Box::pin(MapErr { body }))),
            _ => Self::empty(),
        }
    }
}

pin_project_lite::pin_project! {
    struct MapErr<B> {
        #[pin]
        body: B,
    }
}

impl<B> http_body::Body for MapErr<B>
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
        self.project().body.poll_frame(cx).map_err(Into::into)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Repr::Empty => Poll::Ready(None),
            Repr::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Repr::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            #[cfg(any(feature = "server", feature = "client"))]
            Repr::Incoming(body) => Poll::Ready(
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(Into::into)),
            ),
            Repr::Boxed(body) => Poll::Ready(ready!(body.as_mut().poll_frame(cx))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Repr::Empty => true,
            Repr::Full(_) => false,
            #[cfg(any(feature = "server", feature = "client"))]
            Repr::Incoming(body) => body.is_end_stream(),
            Repr::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Repr::Empty => SizeHint::with_exact(0),
            Repr::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            #[cfg(any(feature = "server", feature = "client"))]
            Repr::Incoming(body) => body.size_hint(),
            Repr::Boxed(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Repr::Empty => "Body(empty)",
            Repr::Full(_) => "Body(full)",
            #[cfg(any(feature = "server", feature = "client"))]
            Repr::Incoming(_) => "Body(incoming)",
            Repr::Boxed(_) => "Body(boxed)",
        })
    }
}

#[cfg(any(feature = "server", feature = "client"))]
impl From<hyper::body::Incoming> for Body {
    fn from(body: hyper::body::Incoming) -> Self {
        Self(if http_body::Body::is_end_stream(&body) {
            Repr::Empty
        } else {
            Repr::Incoming(body)
        })
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

macro_rules! from_bytes {
    ($($kind:ty),+) => {$(
        impl From<$kind> for Body {
            fn from(bytes: $kind) -> Self {
                Self::full(bytes)
            }
        }
    )+};
}

from_bytes!(Bytes, String, Vec<u8>, &'static str, &'static [u8]);

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::{BodyExt, Empty, Full};

    use super::*;

    #[test]
    fn stays_small() {
        assert!(size_of::<Body>() <= 40, "{}", size_of::<Body>());
    }

    #[tokio::test]
    async fn known_kinds_are_not_boxed() {
        assert_eq!(
            format!("{:?}", Body::new(Empty::<Bytes>::new())),
            "Body(empty)"
        );
        assert_eq!(
            format!("{:?}", Body::new(Full::new(Bytes::from("x")))),
            "Body(full)"
        );
        assert_eq!(format!("{:?}", Body::new(Body::full("x"))), "Body(full)");
        let unknown = Body::new(
            Full::new(Bytes::from("x"))
                .map_err(|never| match never {})
                .boxed(),
        );
        assert_eq!(format!("{unknown:?}"), "Body(boxed)");
        assert_eq!(unknown.size_hint().exact(), Some(1));
        assert_eq!(unknown.collect().await.unwrap().to_bytes(), "x");
    }
}
