use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::mpsc;
use tower_chassis_core::{
    Body, BoxError, Events, Kind, Live, Rejection, discover::Discover, events::Event,
};
use tower_service::Service;

use super::{
    Built, Named, Upstream, UpstreamsHandle, UpstreamsPolicy, Worker,
    directory::{Directory, Settings},
    future::ResponseFuture,
};

/// All services by their names. See the [module](super) page.
pub struct Upstreams<Req, Res> {
    directory: Arc<Directory<Req, Res>>,
    events: Arc<OnceLock<Events>>,
}

impl<Req: 'static, Res: 'static> Upstreams<Req, Res> {
    /// A directory of what `discover` knows. `make` builds the stack of a name, at the first call of it; it is called by
    /// one call at a time per name, and again if it panicked.
    ///
    /// The [`Worker`] must be [spawned](Worker::spawn) or polled.
    pub fn new<D, M>(
        discover: D,
        make: M,
        policy: impl Into<Live<UpstreamsPolicy>>,
    ) -> (Self, Worker)
    where
        D: Discover + 'static,
        M: Fn(&Upstream<'_>) -> Built<Req, Res> + Send + Sync + 'static,
    {
        let settings = Arc::new(Settings::default());
        policy.into().bind(&settings, Settings::apply);
        let (sender, workers) = mpsc::unbounded_channel();
        let directory = Arc::new(Directory::new(
            Box::new(discover),
            Box::new(make),
            Arc::clone(&settings),
            sender,
        ));
        let worker = Worker::new(Arc::downgrade(&directory), settings, workers);
        let events = Arc::default();
        (Self { directory, events }, worker)
    }

    /// A view for an admin page. Does not keep the directory alive.
    #[must_use]
    pub fn handle(&self) -> UpstreamsHandle {
        UpstreamsHandle::new(&self.directory)
    }
}

impl<Req, Res> Upstreams<Req, Res> {
    /// How many names are being asked for.
    #[cfg(test)]
    pub(super) fn asked(&self) -> usize {
        self.directory.asked()
    }

    /// Reports refusals to `events`, without the names, which may be anybody's. For all clones; the first one stays.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        let _ = self.events.set(events);
        self
    }
}

fn refused(events: &OnceLock<Events>, rejection: Rejection) -> Rejection {
    if let Some(events) = events.get() {
        events.emit(|| Event::refused(rejection.layer(), rejection.kind()));
    }
    rejection
}

impl Upstreams<Request<Body>, Response<Body>> {
    /// The same for requests with other bodies: as a channel for the clients that tonic generates, for instance, whose
    /// origin is then `http://` and the name.
    #[must_use]
    pub fn for_body<B>(&self) -> ForBody<B> {
        ForBody {
            inner: self.clone(),
            body: PhantomData,
        }
    }
}

impl<Req, Res> Clone for Upstreams<Req, Res> {
    fn clone(&self) -> Self {
        Self {
            directory: Arc::clone(&self.directory),
            events: Arc::clone(&self.events),
        }
    }
}

impl<Req, Res> fmt::Debug for Upstreams<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams")
            .field("names", &self.directory.len())
            .finish()
    }
}

impl<Req, Res> Service<Req> for Upstreams<Req, Res>
where
    Req: Named + Send + 'static,
    Res: 'static,
{
    type Response = Res;
    type Error = BoxError;
    type Future = ResponseFuture<Res>;

    /// Always ready: whose readiness matters is known when the name is.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> ResponseFuture<Res> {
        let map = self.directory.built();
        let found = match request.upstream() {
            Some(name) => map.get(&*name).ok_or_else(|| name.into_owned()),
            None => {
                let rejection = Rejection::new(Kind::NoEndpoint, "upstreams");
                return ResponseFuture::refused(refused(&self.events, rejection));
            }
        };
        let name = match found {
            Ok(entry) => return ResponseFuture::called(self.directory.call(entry, request)),
            Err(name) => name,
        };
        drop(map);
        let (directory, events) = (Arc::clone(&self.directory), Arc::clone(&self.events));
        ResponseFuture::called(Box::pin(async move {
            let found = directory.find(&name).await;
            let stack = found.map_err(|rejection| refused(&events, rejection))?;
            let answer = stack.serve(request);
            // A call keeps alive what it needs, no more.
            drop((directory, events, name, stack));
            answer.await
        }))
    }
}

/// [`Upstreams`] for requests with another body. Made by [`Upstreams::for_body`].
pub struct ForBody<B> {
    inner: Upstreams<Request<Body>, Response<Body>>,
    body: PhantomData<fn(B)>,
}

impl<B> Clone for ForBody<B> {
    fn clone(&self) -> Self {
        self.inner.for_body()
    }
}

impl<B> fmt::Debug for ForBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<B> Service<Request<B>> for ForBody<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = ResponseFuture<Response<Body>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.inner.call(request.map(Body::new))
    }
}
