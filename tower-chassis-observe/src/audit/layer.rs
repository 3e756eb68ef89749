//! Records what there is room for.

use std::{fmt, sync::Arc, time::SystemTime};

use http::{Extensions, HeaderMap, Request};
use tokio::time::Instant;
use tower_chassis_core::{
    Live, Verdict,
    settle::{Observe, UntilEnd},
    verdict::Auto,
    wire::Start,
};

use super::{
    AuditHandle, AuditPolicy, AuditSink,
    state::{Kept, Setup, State},
};
use crate::access_log::redact::Redact;

observer_layer! {
    /// Records calls when they are over. What the sink has no room for is lost, and counted. See the [module](super).
    AuditLayer, Audit, AuditPolicy, AuditHandle,
    /// The service of [`AuditLayer`].
    AuditService
}

impl AuditLayer {
    /// Gives a record of every call that `policy` wants to `sink`. A [`Live`] policy can be changed from outside.
    pub fn new(policy: impl Into<Live<AuditPolicy>>, sink: impl AuditSink) -> Self {
        let setup = Setup::new(Arc::new(sink));
        Self {
            policy: Audit(State::new(policy.into(), setup)),
            settle: UntilEnd::new(Auto),
        }
    }
}

impl<J> AuditLayer<J> {
    /// Says who a call comes from, where nothing further in
    /// [has found out](tower_chassis_core::Invocation::set_principal). If it panics, nobody knows. To be said before the
    /// layer is used.
    pub fn principal(
        self,
        find: impl Fn(&HeaderMap, &Extensions) -> Option<Arc<str>> + Send + Sync + 'static,
    ) -> Self {
        let policy = Audit(
            self.policy
                .0
                .with(|setup| setup.principal = Some(Arc::new(find))),
        );
        Self { policy, ..self }
    }

    /// What of a header is secret; also of those that are named in the policy. To be said before the layer is used.
    pub fn redact(self, redact: Redact) -> Self {
        let policy = Audit(self.policy.0.with(|setup| setup.redact = redact));
        Self { policy, ..self }
    }

    /// Another clock for `time`, for tests. To be said before the layer is used.
    pub fn clock(self, clock: fn() -> SystemTime) -> Self {
        let policy = Audit(self.policy.0.with(|setup| setup.clock = clock));
        Self { policy, ..self }
    }
}

/// The policy of [`AuditLayer`].
#[derive(Clone, Debug)]
pub struct Audit(Arc<State>);

impl Audit {
    fn handle(&self) -> AuditHandle {
        AuditHandle(Arc::clone(&self.0))
    }

    fn fresh(&self) -> Self {
        Self(self.0.with(|_| {}))
    }

    fn with_policy(&self, live: Live<AuditPolicy>) -> Self {
        Self(State::new(live, self.0.setup.clone()))
    }
}

impl<B> Start<Request<B>> for Audit {
    type Ticket = Option<AuditTicket>;
    fn start(&self, request: &mut Request<B>, now: Instant) -> Self::Ticket {
        let kept = Kept::of(&self.0, request, now)?;
        Some(AuditTicket {
            kept,
            sink: Arc::clone(&self.0.setup.sink),
        })
    }
}

/// What [`Audit`] holds for the length of a call.
pub struct AuditTicket {
    kept: Box<Kept>,
    sink: Arc<dyn AuditSink>,
}

impl Observe for AuditTicket {
    fn data(&mut self, bytes: usize) {
        self.kept.data(bytes);
    }
    fn done(self, verdict: Verdict, now: Instant) {
        let sink = self.sink;
        self.kept.done(verdict, now, |record| sink.put(record));
    }
}

impl fmt::Debug for AuditTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditTicket").finish_non_exhaustive()
    }
}
