use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;
use tower_chassis_core::{BoxError, clock, events::Event};
use tower_service::Service;

use super::{
    FaultFuture,
    future::Faulted,
    kinds::{Abort, BodyPlan, Plan},
    protocol::{AnyProtocol, Mark, Protocol},
    rules::{Facts, Rule},
    shared::Shared,
    switch::Seen,
    view::{ByCarrier, View},
};

/// The service of [`FaultLayer`](super::FaultLayer).
pub struct Fault<S, V = ByCarrier, P = AnyProtocol> {
    inner: S,
    shared: Arc<Shared>,
    view: V,
    protocol: std::marker::PhantomData<fn() -> P>,
}

impl<S, V, P> Fault<S, V, P> {
    pub(super) const fn new(inner: S, shared: Arc<Shared>, view: V) -> Self {
        Self {
            inner,
            shared,
            view,
            protocol: std::marker::PhantomData,
        }
    }
}

impl<S: Clone, V: Clone, P> Clone for Fault<S, V, P> {
    fn clone(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        Self::new(self.inner.clone(), shared, self.view.clone())
    }
}

impl<S: fmt::Debug, V, P> fmt::Debug for Fault<S, V, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// What is to happen to a call.
struct Sentence {
    plan: Plan,
    mark: Mark,
}

impl<S, V, P> Fault<S, V, P> {
    /// What the rules say of a request, and a place among the calls under a fault.
    fn judge<Req>(&self, seen: Seen, request: &Req, now: Instant) -> Option<Sentence>
    where
        S: Service<Req>,
        V: View<Req>,
        P: Protocol<Req, S::Response, S::Error>,
    {
        let compiled = self.shared.compiled();
        if !compiled.is_armed(now) {
            self.shared.disarm(seen);
            return None;
        }
        let path = P::path(request).or_else(|| self.view.path(request));
        if path.is_some_and(|path| compiled.is_excluded(path)) || self.view.is_excluded(request) {
            return None;
        }
        let meta = |name: &str| self.view.meta(request, name);
        let also = |rule: &str| self.view.matches(rule, request);
        let operation = self.view.operation(request);
        let facts = Facts {
            operation: &operation,
            service: self.view.service(request),
            path,
            meta: &meta,
            also: &also,
        };
        let asked = compiled
            .asked(&meta, now)
            .filter(|_| self.view.is_trusted(request));
        let (rule, doses) = match asked {
            Some((rule, doses)) => (rule, Some(doses)),
            None => (compiled.find(&facts, now)?, None),
        };
        let attempt = self.view.attempt(request);
        let turn;
        let id = self.view.id(request);
        let id = match &id {
            Some(id) => id.as_bytes(),
            None => {
                turn = self.shared.turn().to_le_bytes();
                &turn
            }
        };
        let mut plan = match &doses {
            Some(doses) => compiled.plan_asked(rule, doses, id, attempt),
            None => compiled.plan(rule, id, attempt),
        };
        if !P::BODIES {
            plan.body = BodyPlan::default();
        }
        if plan.is_none() {
            return None;
        }
        let active = self.shared.enter()?;
        self.report(rule, &plan);
        let mark = Mark {
            rule: Arc::clone(&rule.id),
            header: rule.mark.clone(),
            grpc: P::is_grpc(request),
            body: plan.body,
            active: Some(active),
        };
        Some(Sentence { plan, mark })
    }

    fn report(&self, rule: &Rule, plan: &Plan) {
        rule.count();
        let kinds = [
            (plan.delay.is_some(), "delay"),
            (plan.abort.is_some(), "abort"),
            // What fails has no body.
            (
                plan.abort.is_none() && plan.body.throttle.is_some(),
                "throttle",
            ),
            (
                plan.abort.is_none() && plan.body.truncate.is_some(),
                "truncate",
            ),
        ];
        for (_, fault) in kinds.into_iter().filter(|(hit, _)| *hit) {
            let rule = || Event::fault_injected(Arc::clone(&rule.id), fault);
            self.shared.setup.events.emit(rule);
        }
    }

    /// Begins a call under a fault.
    fn serve<Req>(
        &mut self,
        sentence: Sentence,
        request: Req,
        now: Instant,
    ) -> Faulted<S, S::Future, Req>
    where
        S: Service<Req> + Clone,
        V: View<Req>,
    {
        let Sentence { plan, mark } = sentence;
        match (plan.delay, plan.abort) {
            (None, None) => Faulted::calling(self.inner.call(request), mark),
            (None, Some(abort)) if abort != Abort::Hang => {
                // What was reserved for a call that is not made goes back.
                self.inner = self.inner.clone();
                Faulted::failing(abort, mark)
            }
            (delay, abort) => {
                let clone = self.inner.clone();
                let readied = mem::replace(&mut self.inner, clone);
                let deadline = self.view.deadline(&request);
                let end = delay.map(|delay| now + delay);
                // A hang begins with the call: it has no end, and nothing comes after it.
                let (end, abort) = match abort {
                    Some(Abort::Hang) => (None, None),
                    abort => (end, abort),
                };
                let killed = self.shared.killed();
                Faulted::waiting((readied, request), end, abort, deadline, mark, killed)
            }
        }
    }
}

impl<S, V, P, Req> Service<Req> for Fault<S, V, P>
where
    S: Service<Req> + Clone,
    V: View<Req>,
    P: Protocol<Req, S::Response, S::Error>,
{
    type Response = P::Response;
    type Error = BoxError;
    type Future = FaultFuture<S, Req, P>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(P::error)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let Some(seen) = self.shared.armed() else {
            return FaultFuture::alone(self.inner.call(request));
        };
        clock::entered(|now| match self.judge(seen, &request, now) {
            None => FaultFuture::alone(self.inner.call(request)),
            Some(sentence) => FaultFuture::faulted(self.serve(sentence, request, now)),
        })
    }
}
