use std::{
    any::Any,
    convert::Infallible,
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};
use tower_chassis_core::{
    Carrier, Events, Live, Rejection, Respond, clock, discover,
    events::Event,
    refusal::{IsGrpc, Refusal},
    settle::{Settle, UntilEnd, UntilHead},
    verdict::{Auto, ByFn},
};
use tower_service::Service;

use super::{
    BalanceHandle, MakeEndpoint, Picker, Worker,
    future::{Attempt, ResponseFuture},
    outlier::{Outlier, OutlierPolicy, Report},
    pick::{Pick, Rng},
    snapshot::{Builder, Plan, Snapshot},
};

/// One service out of many endpoints. See the [module](super) page.
pub struct Balance<S, P: Pick = Picker, J = UntilHead<Auto>> {
    shared: Arc<Shared<S, P>>,
    /// The set that this clone saw last: looking whether it is still in force costs one load.
    /// A clone starts without: one that is never called must not keep old endpoints alive.
    cached: Option<Arc<Snapshot<S, P::Table>>>,
    settle: J,
}

/// What all clones share. Read on every call, written by the worker only; the picker has lines of its own.
pub(super) struct Shared<S, P: Pick> {
    version: AtomicU64,
    current: ArcSwap<Snapshot<S, P::Table>>,
    /// Wakes the calls that wait for an endpoint.
    pub(super) changed: Arc<Notify>,
    pub(super) about: About,
    /// Dropped with the last balancer, which ends the worker.
    _alive: oneshot::Sender<Infallible>,
    pub(super) outlier: Arc<Outlier>,
    pub(super) picker: Line<P>,
}

#[repr(align(128))]
pub(super) struct Line<T>(pub(super) T);

/// Who the balancer is and to whom it reports.
#[derive(Default)]
pub(super) struct About {
    name: OnceLock<Arc<str>>,
    events: OnceLock<Events>,
    /// What is read is offered.
    offered: OnceLock<()>,
}

impl About {
    pub(super) fn name(&self) -> Arc<str> {
        self.name.get().map_or_else(|| Arc::from(""), Arc::clone)
    }

    pub(super) fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(events) = self.events.get() {
            events.emit(event);
        }
    }

    pub(super) fn turned(&self, report: Report) {
        let Report {
            id,
            to,
            reason,
            lasts,
        } = report;
        self.emit(|| Event::endpoint_turned(self.name(), id, to, reason, lasts));
    }

    pub(super) fn refused(&self, rejection: Rejection) -> Rejection {
        let (layer, kind) = (rejection.layer(), rejection.kind());
        self.emit(|| match self.name.get() {
            Some(name) => Event::refused_by(layer, Arc::clone(name), kind),
            None => Event::refused(layer, kind),
        });
        rejection
    }
}

impl<S, P: Pick> Shared<S, P> {
    pub(super) fn load(&self) -> Arc<Snapshot<S, P::Table>> {
        self.current.load_full()
    }

    /// Puts a set in force and hands back the one before.
    pub(super) fn publish(&self, snapshot: Snapshot<S, P::Table>) -> Arc<Snapshot<S, P::Table>> {
        let version = snapshot.version;
        let old = self.current.swap(Arc::new(snapshot));
        // After the set, so that who reads this version finds it or a later one.
        self.version.store(version, Ordering::Release);
        self.changed.notify_waiters();
        old
    }
}

impl<S, P> Balance<S, P>
where
    S: Clone + Send + Sync + 'static,
    P: Pick,
{
    /// A balancer over the endpoints of `watch`, each served by what `make` makes of it.
    ///
    /// What the watch holds now is in force at once; changes are applied by the [`Worker`], which must be
    /// [spawned](Worker::spawn) or polled. `make` is called for an endpoint whose id is new or whose address
    /// changed.
    pub fn new<M>(
        mut watch: watch::Receiver<discover::Snapshot>,
        make: M,
        picker: P,
    ) -> (Self, Worker)
    where
        M: FnMut(&MakeEndpoint<'_>) -> S + Send + 'static,
    {
        let found = watch.borrow_and_update().clone();
        let (alive, gone) = oneshot::channel();
        let mut builder = None;
        let shared = Arc::new_cyclic(|shared: &Weak<Shared<S, P>>| {
            let shared: Weak<dyn Any + Send + Sync> = shared.clone();
            let builder = builder.insert(Builder::new(make, shared));
            let snapshot = builder.next(None, &found, &picker);
            Shared {
                outlier: Arc::clone(&snapshot.plan.outlier),
                version: AtomicU64::new(snapshot.version),
                current: ArcSwap::from_pointee(snapshot),
                changed: Arc::default(),
                about: About::default(),
                _alive: alive,
                picker: Line(picker),
            }
        });
        let worker = Worker::new(watch, gone, builder, Arc::downgrade(&shared));
        (
            Self {
                cached: None,
                shared,
                settle: UntilHead::default(),
            },
            worker,
        )
    }
}

impl<S, P> Shared<S, P>
where
    S: Send + Sync + 'static,
    P: Pick,
{
    /// Offers what is read, once it is known whose it is and to whom.
    fn offer(self: &Arc<Self>) {
        let About {
            name,
            events,
            offered,
        } = &self.about;
        let (Some(name), Some(events)) = (name.get(), events.get()) else {
            return;
        };
        if offered.set(()).is_err() {
            return;
        }
        let endpoints = |state, count: fn(&Plan, Instant) -> usize| {
            let read = move |shared: &Self| count(&shared.load().plan, Instant::now()) as f64;
            let (name, label) = (Arc::clone(name), ("state", state));
            events.gauge_in("chassis_balance_endpoints", name, label, self, read);
        };
        endpoints("open", Plan::open);
        endpoints("shut", |plan, now| plan.entries.len() - plan.open(now));
    }
}

impl<S, P, J> Balance<S, P, J>
where
    S: Send + Sync + 'static,
    P: Pick,
{
    /// Names the service in events and on the handle. For all clones; the first name stays.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let _ = self.shared.about.name.set(name.into());
        self.shared.offer();
        self
    }

    /// Passes over endpoints that do worse than the others, as `policy` says; not done by default. Needs the
    /// [`Worker`]. For all clones; the last one said is in force.
    #[must_use]
    pub fn outlier(self, policy: impl Into<Live<OutlierPolicy>>) -> Self {
        let apply = |outlier: &Outlier, policy: &OutlierPolicy| outlier.apply(policy);
        policy.into().bind(&self.shared.outlier, apply);
        self
    }

    /// Seeds the dice of outlier detection: what is enforced in part, and how much longer an ejection lasts.
    #[must_use]
    pub fn outlier_seed(self, seed: u64) -> Self {
        self.shared.outlier.seed(seed);
        self
    }

    /// Reports changes of the set, of endpoints and refusals to `events`, and offers the gauge `chassis_balance_endpoints` of a
    /// balancer that is [named](Self::named). For all clones; the first one stays.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        let _ = self.shared.about.events.set(events);
        self.shared.offer();
        self
    }
}

impl<S, P: Pick, J> Balance<S, P, J> {
    /// Answers its own refusals by the table at [`Kind`](tower_chassis_core::Kind) instead of failing with them,
    /// and passes errors of endpoints on: the error type is theirs. To be said last; for HTTP and gRPC.
    #[must_use]
    pub fn respond(self) -> Balance<S, P, Respond<J>> {
        self.settled_by(Respond::new)
    }

    fn settled_by<K>(self, change: impl FnOnce(J) -> K) -> Balance<S, P, K> {
        Balance {
            shared: self.shared,
            cached: self.cached,
            settle: change(self.settle),
        }
    }
}

impl<S, P, J> Balance<S, P, J>
where
    S: Send + Sync + 'static,
    P: Pick,
{
    /// A view of the endpoints, for an admin page. Does not keep the balancer alive.
    #[must_use]
    pub fn handle(&self) -> BalanceHandle {
        BalanceHandle::new(&self.shared)
    }
}

impl<S, P: Pick, C> Balance<S, P, UntilHead<C>> {
    /// A call counts as in flight until its body ended, and fails if the body does.
    #[must_use]
    pub fn until_end(self) -> Balance<S, P, UntilEnd<C>> {
        self.settled_by(UntilHead::until_end)
    }

    /// Another judge.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> Balance<S, P, UntilHead<D>> {
        self.settled_by(|settle| settle.classify(classify))
    }

    /// A closure as judge.
    #[must_use]
    pub fn classify_fn<F>(self, f: F) -> Balance<S, P, UntilHead<ByFn<F>>> {
        self.settled_by(|settle| settle.classify_fn(f))
    }
}

impl<S, P: Pick, J: Clone> Clone for Balance<S, P, J> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            cached: None,
            settle: self.settle.clone(),
        }
    }
}

impl<S, P: Pick, J> fmt::Debug for Balance<S, P, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = self.shared.load().services.len();
        f.debug_struct("Balance")
            .field("service", &self.shared.about.name())
            .field("endpoints", &endpoints)
            .finish()
    }
}

/// What an endpoint answers, once it is judged.
pub(super) type Settled<S, J, Req> = <J as Settle<
    <S as Service<Req>>::Response,
    <S as Service<Req>>::Error,
>>::Response<super::Ticket>;

impl<S, P, J, Req> Service<Req> for Balance<S, P, J>
where
    Req: Carrier,
    S: Service<Req> + Clone + Send + Sync + 'static,
    P: Pick,
    J: Settle<S::Response, S::Error> + IsGrpc<Req> + Refusal<Settled<S, J, Req>, S::Error>,
{
    type Response = <J as Refusal<Settled<S, J, Req>, S::Error>>::Response;
    type Error = <J as Refusal<Settled<S, J, Req>, S::Error>>::Error;
    type Future = ResponseFuture<S, Req, P, J>;

    /// Always ready: which endpoint must be ready is known when it is picked, in the future.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let now = clock::entered(|now| now);
        let version = self.shared.version.load(Ordering::Acquire);
        let cached = self
            .cached
            .take()
            .filter(|cached| cached.version == version);
        let cached = self
            .cached
            .insert(cached.unwrap_or_else(|| self.shared.load()));
        let (plan, picker) = (&cached.plan, &self.shared.picker.0);
        let (invocation, hash) = (request.invocation(), picker.hash(&request));
        let index = plan.choose(
            (picker, &cached.table),
            hash,
            invocation,
            &[],
            now,
            &mut Rng::new(),
        );
        match index.and_then(|index| Attempt::new(cached, index, invocation, now)) {
            Some(attempt) => ResponseFuture::new(request, attempt, self.settle.clone()),
            None => {
                let rejection = self.shared.about.refused(plan.refusal(invocation, now));
                ResponseFuture::refused(rejection, J::is_grpc(&request), self.settle.clone())
            }
        }
    }
}
