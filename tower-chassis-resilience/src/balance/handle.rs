use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;
use tower_chassis_core::{Endpoint, Gate};

use super::{Load, pick::Pick, service::Shared};

const LONGEST_EJECTION: Duration = Duration::from_secs(24 * 3_600);

/// A view of a balancer's endpoints, for an admin page. Clones see the same; none keeps the balancer alive.
#[derive(Clone)]
pub struct BalanceHandle(Weak<dyn View>);

/// An endpoint as it is now.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Its id, address, weight (of all entries with that id) and tags.
    pub endpoint: Endpoint,
    /// Whether its gate is open.
    pub open: bool,
    /// How long its gate stays shut, where that is known.
    pub opens_in: Option<Duration>,
    /// Calls that chose it and are not over.
    pub pending: u32,
    /// Its latency as it counts now; `None` before the first call ended.
    pub latency: Option<Duration>,
    /// Calls that were handed to its service.
    pub attempts: u64,
    /// Calls that it failed.
    pub failures: u64,
    /// How long it is still passed over as an outlier; `None` where it is not.
    pub ejected_for: Option<Duration>,
    /// How often it was ejected.
    pub ejections: u32,
}

impl EndpointStatus {
    pub(super) fn new(
        endpoint: &Endpoint,
        gate: &Gate,
        load: &Load,
        (ejected_for, ejections): (Option<Duration>, u32),
        now: Instant,
    ) -> Self {
        Self {
            ejected_for,
            ejections,
            endpoint: endpoint.clone(),
            open: gate.is_open(now),
            opens_in: gate.opens_in(now),
            pending: load.pending(),
            latency: load.latency(now),
            attempts: load.attempts(),
            failures: load.failures(),
        }
    }
}

trait View: Send + Sync {
    fn name(&self) -> Arc<str>;
    fn endpoints(&self, now: Instant) -> Vec<EndpointStatus>;
    fn len(&self) -> usize;
    fn available(&self, now: Instant) -> usize;
    fn eject(&self, id: &str, lasts: Duration, now: Instant) -> bool;
    fn readmit(&self, id: &str) -> bool;
}

impl<S, P> View for Shared<S, P>
where
    S: Send + Sync,
    P: Pick,
{
    fn name(&self) -> Arc<str> {
        self.about.name()
    }

    fn endpoints(&self, now: Instant) -> Vec<EndpointStatus> {
        self.load().plan.status(now)
    }

    fn len(&self) -> usize {
        self.load().services.len()
    }

    fn available(&self, now: Instant) -> usize {
        self.load().plan.open(now)
    }

    fn eject(&self, id: &str, lasts: Duration, now: Instant) -> bool {
        let set = self.load();
        let report = set
            .plan
            .state(id)
            .map(|state| self.outlier.force(state, lasts, now));
        report.map(|report| self.about.turned(report)).is_some()
    }

    fn readmit(&self, id: &str) -> bool {
        let set = self.load();
        let report = set
            .plan
            .state(id)
            .and_then(|state| self.outlier.pardon(state));
        self.changed.notify_waiters();
        report.map(|report| self.about.turned(report)).is_some()
    }
}

impl BalanceHandle {
    pub(super) fn new<S: Send + Sync + 'static, P: Pick>(shared: &Arc<Shared<S, P>>) -> Self {
        let view: Weak<Shared<S, P>> = Arc::downgrade(shared);
        Self(view)
    }

    /// The name of the service; empty if it has none, or its balancer is gone.
    #[must_use]
    pub fn service(&self) -> Arc<str> {
        self.0
            .upgrade()
            .map_or_else(|| Arc::from(""), |view| view.name())
    }

    /// All endpoints, in the order of discovery; none once the balancer is gone.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.0
            .upgrade()
            .map_or_else(Vec::new, |view| view.endpoints(Instant::now()))
    }

    /// How many endpoints there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.upgrade().map_or(0, |view| view.len())
    }

    /// How many endpoints may be called now: those with an open gate. None once the balancer is gone.
    #[must_use]
    pub fn available(&self) -> usize {
        self.0
            .upgrade()
            .map_or(0, |view| view.available(Instant::now()))
    }

    /// Passes an endpoint over for `lasts`, up to a day, whatever outlier detection says of it and of the share that may
    /// be out. It still serves what no other endpoint can. False where no endpoint has the id.
    ///
    /// The [`Worker`](super::Worker) readmits it.
    pub fn eject(&self, id: &str, lasts: Duration) -> bool {
        let lasts = lasts.min(LONGEST_EJECTION);
        self.0
            .upgrade()
            .is_some_and(|view| view.eject(id, lasts, Instant::now()))
    }

    /// Readmits an endpoint that was ejected, by [`eject`](Self::eject) or as an outlier. It gets one call at a time
    /// until the first good answer, and then more and more. False where the endpoint is not ejected.
    pub fn readmit(&self, id: &str) -> bool {
        self.0.upgrade().is_some_and(|view| view.readmit(id))
    }

    /// Whether there is no endpoint.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for BalanceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceHandle")
            .field("service", &self.service())
            .field("endpoints", &self.len())
            .finish()
    }
}
