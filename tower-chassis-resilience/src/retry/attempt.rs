//! Which attempt a request is, told to the next service and believed of a caller.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_chassis_core::{Carrier, Invocation};
use tower_layer::Layer;
use tower_service::Service;

/// The metadatum with the number of an attempt on its way to the next service: `x-chassis-attempt`. Absent on the first.
pub const ATTEMPT: &str = "x-chassis-attempt";

/// Says that a request is attempt `number`, if that is not the first.
pub(crate) fn tell<Req: Carrier>(request: &mut Req, number: u32) {
    if number > 1 {
        request.set_meta(ATTEMPT, number.to_string().into());
    }
}

/// Says which attempt of our caller a first attempt serves, so that the next service knows it too.
pub(crate) fn tell_served<Req: Carrier>(request: &mut Req) {
    let served = request.invocation().map_or(1, Invocation::caller_attempt);
    tell(request, served);
}

/// Believes callers that say which of their attempts a call serves, so that a retry below does not multiply theirs.
///
/// For a server that knows its callers. What one says in [`ATTEMPT`] becomes the
/// [`caller_attempt`](Invocation::caller_attempt) of the call, if the closure trusts it; nobody else is believed, and what
/// is no number from 2 on says nothing. Put it outside of what makes calls, and inside of what makes the
/// [`Invocation`], which is made here for a retry that has none.
///
/// ```
/// use std::net::IpAddr;
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_chassis_core::{Body, BoxError, Carrier, Invocation};
/// use tower_chassis_resilience::retry::CallerAttemptLayer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// // The peer of the connection, which nobody outside can choose, and not what a header says.
/// fn is_ours(request: &Request<Body>) -> bool {
///     let client = request.invocation().and_then(Invocation::client);
///     client.is_some_and(|client| matches!(client.ip(), IpAddr::V4(ip) if ip.is_private()))
/// }
/// let service = ServiceBuilder::new()
///     .layer(CallerAttemptLayer::trusting(is_ours))
///     .service(service_fn(async |incoming: Request<Body>| {
///         let mut request = Request::get("/stock").body(Body::empty())?;
///         // A call that is made to serve this one: a retry does not try it again.
///         if let Some(invocation) = incoming.invocation() {
///             invocation.carry(&mut request);
///         }
///         Ok::<_, BoxError>(Response::new(request.invocation().map(Invocation::caller_attempt)))
///     }));
/// # let mut request = Request::get("/").header("x-chassis-attempt", "2").body(Body::empty())?;
/// # request.invocation_mut().set_client("10.0.0.7:4711".parse()?);
/// assert_eq!(service.oneshot(request).await?.into_body(), Some(2));
/// # Ok(())
/// # }
/// ```
///
/// Holds nothing, refuses nothing, and adds nothing to the future; a call costs the look at one metadatum.
#[must_use]
pub struct CallerAttemptLayer<T> {
    trusted: Arc<T>,
}

impl<T> CallerAttemptLayer<T> {
    /// Believes those whom `trusted` trusts. It is asked of requests that say something only.
    ///
    /// Trust a network, a certificate or a signature, and no header field that everybody can send. Who is believed wrongly
    /// can do no more than have its own calls not tried again.
    pub fn trusting<Req>(trusted: T) -> Self
    where
        T: Fn(&Req) -> bool + Send + Sync + 'static,
    {
        Self {
            trusted: Arc::new(trusted),
        }
    }
}

impl<T> Clone for CallerAttemptLayer<T> {
    fn clone(&self) -> Self {
        Self {
            trusted: Arc::clone(&self.trusted),
        }
    }
}

impl<T> fmt::Debug for CallerAttemptLayer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerAttemptLayer").finish_non_exhaustive()
    }
}

impl<S, T> Layer<S> for CallerAttemptLayer<T> {
    type Service = CallerAttempt<S, T>;

    fn layer(&self, inner: S) -> Self::Service {
        CallerAttempt {
            inner,
            trusted: Arc::clone(&self.trusted),
        }
    }
}

/// The service of [`CallerAttemptLayer`].
pub struct CallerAttempt<S, T> {
    inner: S,
    trusted: Arc<T>,
}

impl<S: Clone, T> Clone for CallerAttempt<S, T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            trusted: Arc::clone(&self.trusted),
        }
    }
}

impl<S: fmt::Debug, T> fmt::Debug for CallerAttempt<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerAttempt")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, T, Req> Service<Req> for CallerAttempt<S, T>
where
    S: Service<Req>,
    T: Fn(&Req) -> bool,
    Req: Carrier,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Req) -> S::Future {
        if let Some(number) = request.meta(ATTEMPT).and_then(number)
            && (self.trusted)(&request)
        {
            let invocation = request.invocation_mut();
            let number = number.max(invocation.caller_attempt());
            invocation.set_caller_attempt(number);
        }
        self.inner.call(request)
    }
}

/// From 2 on; more than fits is as many as fit.
fn number(text: &str) -> Option<u32> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = text.parse().unwrap_or(u32::MAX);
    (number > 1).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Request;
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// What a request says, and what its call knows of it.
    async fn known(said: Option<&str>, trusted: bool) -> Option<u32> {
        let layer = CallerAttemptLayer::trusting(move |_: &Request<()>| trusted);
        let service = layer.layer(service_fn(async |request: Request<()>| {
            Ok::<_, Infallible>(request.invocation().map(Invocation::caller_attempt))
        }));
        let mut request = Request::new(());
        if let Some(said) = said {
            request.headers_mut().insert(ATTEMPT, said.parse().unwrap());
        }
        service.oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn a_caller_is_believed_where_it_is_trusted() {
        for (said, number) in [
            (None, None),
            (Some("1"), None),
            (Some("2"), Some(2)),
            (Some(" 3 "), Some(3)),
            (Some("99999999999"), Some(u32::MAX)),
            (Some("0"), None),
            (Some("-2"), None),
            (Some("+2"), None),
            (Some("2.0"), None),
            (Some(""), None),
            (Some("two"), None),
        ] {
            assert_eq!(known(said, true).await, number, "{said:?}");
            assert_eq!(known(said, false).await, None, "{said:?}");
        }
    }

    #[tokio::test]
    async fn what_is_known_already_is_not_made_less() {
        let layer = CallerAttemptLayer::trusting(|_: &Request<()>| true).clone();
        let service = layer.layer(service_fn(async |request: Request<()>| {
            Ok::<_, Infallible>(request.invocation().map(Invocation::caller_attempt))
        }));
        let mut request = Request::get("/").header(ATTEMPT, "2").body(()).unwrap();
        request.invocation_mut().set_caller_attempt(4);
        assert_eq!(service.oneshot(request).await.unwrap(), Some(4));
    }
}
