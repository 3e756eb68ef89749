use std::{fmt, sync::Arc, time::SystemTime};

use http::{Extensions, HeaderMap};
use tokio::sync::mpsc::Sender;
use tower_chassis_core::{
    Events, Live, Respond,
    settle::{UntilEnd, UntilHead},
    verdict::{Auto, ByFn},
};
use tower_layer::Layer;

use super::{
    super::{
        AuditHandle, AuditPolicy, AuditRecord,
        state::{Setup, State},
    },
    LosslessAudit,
};
use crate::access_log::redact::Redact;

/// Records calls when they are over, and loses none: the place for the record is taken before the call is made, and a call
/// that finds none waits for it, up to [`max_wait`](super::super::AuditConfig::max_wait) and its deadline, and is
/// refused then. See the [module](super::super).
#[must_use]
pub struct LosslessAuditLayer<J = UntilEnd<Auto>> {
    shared: Shared,
    settle: J,
}

/// What the services of a layer share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) state: Arc<State>,
    pub(super) places: Sender<AuditRecord>,
    pub(super) events: Events,
}

impl LosslessAuditLayer {
    /// Sends a record of every call that `policy` wants to `places`, which is as long as there are places. When its
    /// receiver is gone, every such call is refused.
    pub fn new(policy: impl Into<Live<AuditPolicy>>, places: Sender<AuditRecord>) -> Self {
        let setup = Setup::new(Arc::new(places.clone()));
        Self {
            shared: Shared {
                state: State::new(policy.into(), setup),
                places,
                events: Events::none(),
            },
            settle: UntilEnd::new(Auto),
        }
    }
}

impl<J> LosslessAuditLayer<J> {
    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        let state = self.shared.state.with(change);
        let shared = Shared {
            state,
            ..self.shared
        };
        Self { shared, ..self }
    }

    /// Says who a call comes from, where nothing further in
    /// [has found out](tower_chassis_core::Invocation::set_principal). If it panics, nobody knows. To be said before the
    /// layer is used.
    pub fn principal(
        self,
        find: impl Fn(&HeaderMap, &Extensions) -> Option<Arc<str>> + Send + Sync + 'static,
    ) -> Self {
        self.set_up(|setup| setup.principal = Some(Arc::new(find)))
    }

    /// What of a header is secret; also of those that are named in the policy. To be said before the layer is used.
    pub fn redact(self, redact: Redact) -> Self {
        self.set_up(|setup| setup.redact = redact)
    }

    /// Another clock for `time`, for tests. To be said before the layer is used.
    pub fn clock(self, clock: fn() -> SystemTime) -> Self {
        self.set_up(|setup| setup.clock = clock)
    }

    /// Reports refusals. Default: to nobody.
    pub fn events(self, events: Events) -> Self {
        let shared = Shared {
            events,
            ..self.shared
        };
        Self { shared, ..self }
    }

    /// Answers its own refusals by the table at [`Kind`](tower_chassis_core::Kind) instead of failing with them, and
    /// passes errors from inside on. To be said last.
    pub fn respond(self) -> LosslessAuditLayer<Respond<J>> {
        LosslessAuditLayer {
            shared: self.shared,
            settle: Respond::new(self.settle),
        }
    }

    /// The same settings and places, with counts of its own.
    pub fn fresh(&self) -> Self
    where
        J: Clone,
    {
        let shared = Shared {
            state: self.shared.state.with(|_| {}),
            ..self.shared.clone()
        };
        Self {
            shared,
            settle: self.settle.clone(),
        }
    }

    /// Counts records and changes the settings.
    #[must_use]
    pub fn handle(&self) -> AuditHandle {
        AuditHandle(Arc::clone(&self.shared.state))
    }
}

impl<C> LosslessAuditLayer<UntilEnd<C>> {
    /// Judges at the head, and leaves the type of the response as it is.
    pub fn until_head(self) -> LosslessAuditLayer<UntilHead<C>> {
        LosslessAuditLayer {
            shared: self.shared,
            settle: self.settle.until_head(),
        }
    }
    /// Another judge.
    pub fn classify<D>(self, classify: D) -> LosslessAuditLayer<UntilEnd<D>> {
        LosslessAuditLayer {
            shared: self.shared,
            settle: self.settle.classify(classify),
        }
    }
    /// A closure as judge.
    pub fn classify_fn<F>(self, f: F) -> LosslessAuditLayer<UntilEnd<ByFn<F>>> {
        LosslessAuditLayer {
            shared: self.shared,
            settle: self.settle.classify_fn(f),
        }
    }
}

impl<J: Clone> Clone for LosslessAuditLayer<J> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            settle: self.settle.clone(),
        }
    }
}

impl<J> fmt::Debug for LosslessAuditLayer<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LosslessAuditLayer")
            .field("policy", &self.shared.state.live)
            .field("free", &self.shared.places.capacity())
            .finish_non_exhaustive()
    }
}

impl<S, J: Clone> Layer<S> for LosslessAuditLayer<J> {
    type Service = LosslessAudit<S, J>;
    fn layer(&self, inner: S) -> Self::Service {
        LosslessAudit::new(inner, self.shared.clone(), self.settle.clone())
    }
}
