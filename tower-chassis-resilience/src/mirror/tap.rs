//! How the copy of a request is made.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    net::Ipv4Addr,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, header, uri::Authority};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_chassis_core::{Carrier, Invocation, Verdict, verdict::Outcome};

use crate::retry::Cloned;

/// How the copy of a request is made, and when it can be sent.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot copy `{Req}` for a mirror",
    note = "without more, `MirrorLayer` copies the body of an `http::Request` while it is read; `.clone_request()` is for requests of your own that are `Clone` and a `Carrier`"
)]
pub trait Tap<Req>: Clone {
    /// What the service itself is called with.
    type Request;
    /// What the shadow is called with.
    type Copy: Carrier + Send + 'static;

    /// A request that is not mirrored.
    fn plain(&self, request: Req) -> Self::Request;

    /// A request whose copy goes to `start` as soon as it is whole. A body above `limit` bytes is not kept.
    fn tap(&self, request: Req, limit: usize, start: Start<Self::Copy>) -> Self::Request;

    /// Puts `suffix` after the name of the host.
    fn rename(copy: &mut Self::Copy, suffix: &str) {
        let _ = (copy, suffix);
    }
}

/// What becomes of the answer of a shadow.
pub trait Discard<Res> {
    /// What it says.
    fn verdict(response: &Res) -> Verdict;
    /// Reads up to `limit` bytes of it and drops it. False if it broke.
    fn discard(response: Res, limit: usize) -> impl Future<Output = bool> + Send;
}

type Launch<C> = Box<dyn FnOnce(Option<C>) + Send + Sync>;

/// Sends a copy off. Dropped before, there is none.
pub struct Start<C>(Option<Launch<C>>);

impl<C> Start<C> {
    pub(super) fn new(launch: impl FnOnce(Option<C>) + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(launch)))
    }

    /// The copy is whole.
    pub fn start(mut self, copy: C) {
        if let Some(launch) = self.0.take() {
            launch(Some(copy));
        }
    }
}

impl<C> Drop for Start<C> {
    fn drop(&mut self) {
        if let Some(launch) = self.0.take() {
            launch(None);
        }
    }
}

impl<C> fmt::Debug for Start<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Start")
    }
}

impl<Req: Carrier + Clone + Send + 'static> Tap<Req> for Cloned {
    type Request = Req;
    type Copy = Req;

    fn plain(&self, request: Req) -> Req {
        request
    }
    fn tap(&self, request: Req, _: usize, start: Start<Req>) -> Req {
        let mut copy = request.clone();
        if copy.detach() {
            start.start(copy);
        }
        request
    }
}

impl<Res: Send> Discard<Res> for Cloned {
    fn verdict(_: &Res) -> Verdict {
        Verdict::SUCCESS
    }
    async fn discard(response: Res, _: usize) -> bool {
        drop(response);
        true
    }
}

/// Copies the body of an HTTP request while it is read. The default.
///
/// A request without a body is copied at once; one with a body when the last of it was read. A body that is longer than
/// the limit, breaks, or is not read to its end passes, and has no copy. Of the extensions the copy has the
/// [`Invocation`] alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tee;

impl<B: Body> Tap<Request<B>> for Tee {
    type Request = Request<MirrorBody<B>>;
    type Copy = Request<tower_chassis_core::Body>;

    fn plain(&self, request: Request<B>) -> Self::Request {
        request.map(MirrorBody::plain)
    }

    fn tap(&self, request: Request<B>, limit: usize, start: Start<Self::Copy>) -> Self::Request {
        let body = request.body();
        if body.size_hint().lower() > limit as u64 {
            return self.plain(request);
        }
        let Some(head) = copy_of(&request) else {
            return self.plain(request);
        };
        if body.is_end_stream() {
            start.start(head.map(|()| tower_chassis_core::Body::empty()));
            return self.plain(request);
        }
        let reel = Box::new(Reel {
            head,
            kept: Kept::Nothing,
            len: 0,
            limit,
            exact: body.size_hint().exact(),
            start,
        });
        request.map(|body| MirrorBody {
            body,
            reel: Some(reel),
        })
    }

    fn rename(copy: &mut Self::Copy, suffix: &str) {
        if let Some(host) = copy.headers().get(header::HOST)
            && let Some(host) = host.to_str().ok().and_then(|host| renamed(host, suffix))
            && let Ok(host) = host.parse()
        {
            copy.headers_mut().insert(header::HOST, host);
        }
        if let Some(host) = copy.uri().authority()
            && let Some(host) = renamed(host.as_str(), suffix)
            && let Ok(host) = host.parse::<Authority>()
        {
            let mut parts = copy.uri().clone().into_parts();
            parts.authority = Some(host);
            if let Ok(uri) = parts.try_into() {
                *copy.uri_mut() = uri;
            }
        }
    }
}

impl<B> Discard<Response<B>> for Tee
where
    B: Body + Send,
    B::Data: Send,
{
    fn verdict(response: &Response<B>) -> Verdict {
        response.verdict()
    }
    async fn discard(response: Response<B>, limit: usize) -> bool {
        let mut body = pin!(response.into_body());
        let mut left = limit;
        while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let Ok(frame) = frame else { return false };
            let read = frame.data_ref().map_or(0, Buf::remaining);
            match left.checked_sub(read) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        true
    }
}

/// The head of a request, if there may be a copy of it.
fn copy_of<B>(request: &Request<B>) -> Option<Request<()>> {
    let mut copy = Request::new(());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    *copy.version_mut() = request.version();
    copy.headers_mut().clone_from(request.headers());
    if let Some(invocation) = request.extensions().get::<Invocation>() {
        copy.extensions_mut().insert(invocation.clone());
    }
    copy.detach().then_some(copy)
}

/// `shop-shadow:80` for `shop:80`; nothing for an address.
fn renamed(host: &str, suffix: &str) -> Option<String> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port)),
        Some(_) => return None,
        None => (host, None),
    };
    if name.is_empty() || name.contains(['[', '@']) || name.parse::<Ipv4Addr>().is_ok() {
        return None;
    }
    Some(match port {
        Some(port) => format!("{name}{suffix}:{port}"),
        None => format!("{name}{suffix}"),
    })
}

/// What was read of a body.
struct Reel {
    head: Request<()>,
    kept: Kept,
    len: usize,
    limit: usize,
    exact: Option<u64>,
    start: Start<Request<tower_chassis_core::Body>>,
}

enum Kept {
    Nothing,
    /// One frame: no copy.
    One(Bytes),
    /// Small frames may hold large buffers alive, so they are copied together.
    More(BytesMut),
}

impl Reel {
    /// False if it is too long.
    fn push(&mut self, bytes: &Bytes) -> bool {
        if bytes.is_empty() {
            return true;
        }
        if bytes.len() > self.limit - self.len {
            return false;
        }
        self.len += bytes.len();
        self.kept = match std::mem::replace(&mut self.kept, Kept::Nothing) {
            Kept::Nothing => Kept::One(bytes.clone()),
            Kept::One(first) => {
                let mut all = BytesMut::with_capacity(self.len);
                all.extend_from_slice(&first);
                all.extend_from_slice(bytes);
                Kept::More(all)
            }
            Kept::More(mut all) => {
                all.extend_from_slice(bytes);
                Kept::More(all)
            }
        };
        true
    }

    fn finish(self, trailers: Option<HeaderMap>) {
        let bytes = match self.kept {
            Kept::Nothing => Bytes::new(),
            Kept::One(bytes) => bytes,
            Kept::More(all) => all.freeze(),
        };
        let body = match trailers {
            None => tower_chassis_core::Body::full(bytes),
            trailers => tower_chassis_core::Body::new(Whole { bytes, trailers }),
        };
        self.start.start(self.head.map(|()| body));
    }
}

/// A body that is all there, with trailers.
struct Whole {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        Poll::Ready(
            self.trailers
                .take()
                .map(|trailers| Ok(Frame::trailers(trailers))),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && self.trailers.is_none()
    }
}

pin_project! {
    /// The body of a request under [`Tee`]: the caller's own, of which a copy is kept where it is mirrored.
    ///
    /// Its data are [`Bytes`]; a body of other data is copied.
    pub struct MirrorBody<B> {
        #[pin]
        body: B,
        reel: Option<Box<Reel>>,
    }

    impl<B> PinnedDrop for MirrorBody<B> {
        fn drop(this: Pin<&mut Self>) {
            // hyper drops a body of known length after its last byte, without asking for its end.
            if let Some(reel) = this.project().reel.take()
                && reel.exact == Some(reel.len as u64)
            {
                reel.finish(None);
            }
        }
    }
}

impl<B> MirrorBody<B> {
    const fn plain(body: B) -> Self {
        Self { body, reel: None }
    }
}

impl<B: Body> Body for MirrorBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let to_bytes =
            |frame: Frame<B::Data>| frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
        let frame = ready!(this.body.as_mut().poll_frame(cx)).map(|frame| frame.map(to_bytes));
        let Some(mut reel) = this.reel.take() else {
            return Poll::Ready(frame);
        };
        match &frame {
            None => reel.finish(None),
            Some(Err(_)) => {}
            Some(Ok(frame)) => match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => {
                    if reel.push(data) {
                        if this.body.is_end_stream() {
                            reel.finish(None);
                        } else {
                            *this.reel = Some(reel);
                        }
                    }
                }
                (_, trailers) => reel.finish(trailers.cloned()),
            },
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// Without what is in it: bodies are no business of a log.
impl<B> fmt::Debug for MirrorBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorBody")
            .field("is_mirrored", &self.reel.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_the_suffix_and_addresses_do_not() {
        for (host, wanted) in [
            ("shop", Some("shop-shadow")),
            ("shop.local:80", Some("shop.local-shadow:80")),
            ("10.0.0.1", None),
            ("10.0.0.1:80", None),
            ("[::1]:80", None),
            ("[::1]", None),
            ("user@shop", None),
            ("", None),
            (":80", None),
        ] {
            assert_eq!(renamed(host, "-shadow").as_deref(), wanted, "{host}");
        }
    }
}
