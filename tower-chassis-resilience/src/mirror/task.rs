//! A copy under way.

use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use tokio::{runtime::Handle, time::timeout};
use tower_chassis_core::{BoxError, Carrier, Deadline, Invocation, Verdict, clock};
use tower_service::Service;

use super::{
    Shadow,
    config::MirrorPolicy,
    shared::{Leash, Outcome, Permit},
    tap::{Discard, Tap},
};

/// What a copy is sent with.
pub(super) struct Errand<M> {
    pub(super) shadow: Arc<M>,
    pub(super) policy: Arc<MirrorPolicy>,
    pub(super) permit: Permit,
    pub(super) leash: Option<Arc<Leash>>,
}

impl<M: Send + Sync + 'static> Errand<M> {
    /// Sends the copy on a task of its own; nobody waits for it.
    pub(super) fn run<T, Req>(self, copy: Option<T::Copy>)
    where
        T: Tap<Req> + Discard<M::Response>,
        M: Service<T::Copy> + Clone,
        M::Future: Send,
        M::Response: Send,
        M::Error: Into<BoxError> + Send,
    {
        let Some(copy) = copy else {
            self.permit.end(Outcome::Skipped);
            return;
        };
        let Ok(runtime) = Handle::try_current() else {
            self.permit.end(Outcome::Dropped);
            return;
        };
        self.permit.sent();
        let copy = prepared::<T, Req>(copy, &self.policy);
        runtime.spawn(async move {
            let Self {
                shadow,
                policy,
                permit,
                leash,
            } = self;
            let core = Arc::clone(permit.core());
            let outcome = {
                let stop = core.stop.notified();
                if core.is_stopped() {
                    return;
                }
                let cut = async {
                    match &leash {
                        Some(leash) => leash.is_cut().await,
                        None => pending().await,
                    }
                };
                let limit = policy.config().drain_limit;
                let work = timeout(
                    policy.config().timeout,
                    send::<T, M, T::Copy>(&shadow, copy, limit),
                );
                let (mut stop, mut cut, mut work) = (pin!(stop), pin!(cut), pin!(work));
                poll_fn(|cx| {
                    if stop.as_mut().poll(cx).is_ready() || cut.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Outcome::Aborted);
                    }
                    let done = work.as_mut().poll(cx);
                    done.map(|done| done.unwrap_or(Outcome::Timeout))
                })
                .await
            };
            permit.end(outcome);
        });
    }
}

/// The service is cloned here, on the task, so that nothing of it can delay or break the call.
async fn send<D, M, C>(shadow: &M, copy: C, limit: usize) -> Outcome
where
    D: Discard<M::Response>,
    M: Service<C> + Clone,
    M::Error: Into<BoxError>,
{
    let mut shadow = shadow.clone();
    let ready = poll_fn(|cx| shadow.poll_ready(cx)).await;
    let result = match ready {
        Ok(()) => clock::entered(|_| shadow.call(copy)).await,
        Err(error) => Err(error),
    };
    let verdict = match &result {
        Ok(response) => D::verdict(response),
        Err(_) => Verdict::FAILURE,
    };
    let whole = match result {
        Ok(response) => D::discard(response, limit).await,
        Err(_) => false,
    };
    if whole && verdict.is_success() {
        Outcome::Ok
    } else {
        Outcome::Failed
    }
}

/// The copy as it goes out: marked, with an invocation and a deadline of its own, so that nothing of it is written
/// where the call looks.
fn prepared<T: Tap<Req>, Req>(mut copy: T::Copy, policy: &MirrorPolicy) -> T::Copy {
    let config = policy.config();
    let now = clock::now();
    let mut own = Invocation::new(now);
    own.limit_deadline(Deadline::after(now, config.timeout));
    if let Some(call) = copy.invocation() {
        if let Some(id) = call.request_id() {
            own.set_request_id(Arc::clone(id));
        }
        if let Some(trace) = call.trace() {
            own.set_trace(trace, call.trace_state().cloned());
        }
        if let Some(service) = call.service() {
            own.set_service(service.into());
        }
        if let Some(client) = call.client() {
            own.set_client(client);
        }
    }
    let extensions = copy.extensions_mut();
    extensions.insert(own);
    extensions.insert(Shadow);
    // Where the protocol carries nothing, the extension says it in this process.
    copy.set_meta("x-chassis-shadow", "1".into());
    if !config.host_suffix.is_empty() {
        T::rename(&mut copy, &config.host_suffix);
    }
    copy
}
