use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_chassis_core::{
    Class, Events, Gate, Kind, Live, Rejection, Respond, Verdict, cause,
    events::Event,
    settle::{Observe, UntilEnd, UntilHead},
    verdict::{Auto, ByFn},
    wire::{Admit, Gated},
};
use tower_layer::Layer;

use super::{
    BreakerHandle, BreakerPolicy,
    circuit::Circuit,
    state::{Change, Pass, State},
};

/// The service of a [`BreakerLayer`].
pub type Breaker<S, J = UntilHead<Auto>> = Gated<S, Admission, J>;

/// Guards services with one circuit. See the [module](super) page.
///
/// The state is the layer's: what is layered or cloned twice shares it. `J` judges the calls.
pub struct BreakerLayer<J = UntilHead<Auto>> {
    shared: Arc<Shared>,
    settle: J,
}

/// What a layer, its services, their calls and its handles share.
pub(super) struct Shared {
    pub(super) circuit: Circuit,
    pub(super) live: Live<BreakerPolicy>,
    setup: Setup,
}

/// What is settled before the first call.
#[derive(Clone)]
struct Setup {
    name: Arc<str>,
    events: Events,
    gate: Option<Gate>,
    seed: Option<u64>,
}

impl Shared {
    fn new(live: Live<BreakerPolicy>, setup: Setup) -> Arc<Self> {
        let shared = Arc::new(Self::unbound(live, setup));
        shared
            .live
            .bind(&shared, |shared, policy| shared.circuit.apply(policy));
        shared
    }

    fn unbound(live: Live<BreakerPolicy>, setup: Setup) -> Self {
        let circuit = Circuit::new(&live.load(), Instant::now(), setup.gate.clone(), setup.seed);
        Self {
            circuit,
            live,
            setup,
        }
    }

    /// The same settings with a circuit of its own and no gate.
    pub(super) fn fresh(&self) -> Arc<Self> {
        Self::new(self.live.clone(), self.without_gate())
    }

    /// The circuit of a key, which hears of changes through the set of all keys.
    pub(super) fn of_key(&self) -> Arc<Self> {
        Arc::new(Self::unbound(self.live.clone(), self.without_gate()))
    }

    fn without_gate(&self) -> Setup {
        Setup {
            gate: None,
            ..self.setup.clone()
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.setup.name
    }

    pub(super) fn report(&self, change: Option<Change>) {
        let Some(Change {
            to,
            reason,
            open_for,
        }) = change
        else {
            return;
        };
        let (name, events) = (self.name(), &self.setup.events);
        events.emit(|| Event::breaker(Arc::clone(name), to.as_str(), reason, open_for));
        if let (State::Open, Some(shut_for), Some(_)) = (to, open_for, &self.setup.gate) {
            events.emit(|| Event::ejected(Arc::clone(name), reason, shut_for));
        }
    }

    fn finish(&self, pass: Pass, class: Class, now: Instant) {
        self.report(self.circuit.finish(pass, class, now));
    }

    #[cold]
    fn refuse(&self, wait: Duration) -> Rejection {
        self.setup
            .events
            .emit(|| Event::refused_by("breaker", Arc::clone(self.name()), Kind::CircuitOpen));
        Rejection::new(Kind::CircuitOpen, "breaker").after(wait)
    }
}

impl BreakerLayer {
    /// A breaker that judges calls at their head. A [`Live`] policy can be changed from outside.
    pub fn new(policy: impl Into<Live<BreakerPolicy>>) -> Self {
        let setup = Setup {
            name: Arc::from("breaker"),
            events: Events::none(),
            gate: None,
            seed: None,
        };
        Self {
            shared: Shared::new(policy.into(), setup),
            settle: UntilHead::default(),
        }
    }
}

impl<C> BreakerLayer<UntilHead<C>> {
    /// Judges calls at the end of their body, where gRPC says how a call went and where a body
    /// breaks.
    #[must_use]
    pub fn until_end(self) -> BreakerLayer<UntilEnd<C>> {
        BreakerLayer {
            shared: self.shared,
            settle: self.settle.until_end(),
        }
    }

    /// Judges calls by `classify`.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> BreakerLayer<UntilHead<D>> {
        BreakerLayer {
            shared: self.shared,
            settle: self.settle.classify(classify),
        }
    }

    /// Judges calls by a closure.
    #[must_use]
    pub fn classify_fn<F, Res, Err>(self, f: F) -> BreakerLayer<UntilHead<ByFn<F>>>
    where
        F: Fn(Result<&Res, &Err>) -> Verdict,
    {
        BreakerLayer {
            shared: self.shared,
            settle: self.settle.classify_fn(f),
        }
    }
}

impl<J> BreakerLayer<J> {
    /// Names it in events and handles: an endpoint, a service. Default `breaker`.
    ///
    /// This and the setters below are for the set-up: they begin with a new, closed circuit, and
    /// services that were layered before keep the old one.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.set_up(|setup| setup.name = name)
    }

    /// Reports transitions, refusals and, with a [gate](Self::gate), ejections. Default: to nobody.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// Keeps `gate` shut while every call would be refused, so that a balancer passes the service
    /// over.
    ///
    /// It is shut for the open time, and while all probes of a half-open circuit are under way. It
    /// opens by itself when its time comes. A gate belongs to one breaker.
    #[must_use]
    pub fn gate(self, gate: Gate) -> Self {
        self.set_up(|setup| setup.gate = Some(gate))
    }

    /// Seeds the jitter of open times, for tests that must repeat.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.set_up(|setup| setup.seed = Some(seed))
    }

    /// Answers its own refusals by the table at [`Kind`] instead of failing with them, and passes errors from
    /// inside on: the error type is that of the inner service. To be said last; for HTTP and gRPC.
    #[must_use]
    pub fn respond(self) -> BreakerLayer<Respond<J>> {
        BreakerLayer {
            shared: self.shared,
            settle: Respond::new(self.settle),
        }
    }

    /// The same settings with a state of its own and no gate.
    #[must_use]
    pub fn fresh(&self) -> Self
    where
        J: Clone,
    {
        Self {
            shared: self.shared.fresh(),
            settle: self.settle.clone(),
        }
    }

    pub(super) fn into_parts(self) -> (Arc<Shared>, J) {
        (self.shared, self.settle)
    }

    /// Reads the state, resets it, changes the settings.
    #[must_use]
    pub fn handle(&self) -> BreakerHandle {
        BreakerHandle(Arc::clone(&self.shared))
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.shared.setup.clone();
        change(&mut setup);
        Self {
            shared: Shared::new(self.shared.live.clone(), setup),
            settle: self.settle,
        }
    }
}

impl<J: Clone> Clone for BreakerLayer<J> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            settle: self.settle.clone(),
        }
    }
}

impl<J> fmt::Debug for BreakerLayer<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerLayer")
            .field("name", self.shared.name())
            .field("state", &self.shared.circuit.state())
            .finish_non_exhaustive()
    }
}

impl<S, J: Clone> Layer<S> for BreakerLayer<J> {
    type Service = Breaker<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(
            inner,
            Admission(Arc::clone(&self.shared)),
            self.settle.clone(),
        )
    }
}

/// Lets calls through a circuit: the policy of [`Breaker`].
#[derive(Clone)]
pub struct Admission(Arc<Shared>);

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Admission")
            .field(self.0.name())
            .field(&self.0.circuit.state())
            .finish()
    }
}

impl<Req> Admit<Req> for Admission {
    type Ticket = Ticket;

    fn admit(&self, _: &mut Req, now: Instant) -> Result<Ticket, Rejection> {
        admit(&self.0, now)
    }

    fn shut(&self) -> bool {
        let circuit = &self.0.circuit;
        !circuit.is_closed() && circuit.refuses_for(Instant::now()).is_some()
    }

    fn too_early(&self) -> Rejection {
        self.0.refuse(Duration::ZERO)
    }
}

pub(super) fn admit(shared: &Arc<Shared>, now: Instant) -> Result<Ticket, Rejection> {
    let (admitted, change) = shared.circuit.admit(now);
    // The ticket first: a listener may panic.
    let ticket = admitted.map(|pass| Ticket {
        shared: Arc::clone(shared),
        pass,
        ended: false,
    });
    if change.is_some() {
        shared.report(change);
    }
    ticket.map_err(|wait| shared.refuse(wait))
}

/// A call that passed. Dropped unfinished it gives a probe's permit back.
pub struct Ticket {
    shared: Arc<Shared>,
    pass: Pass,
    ended: bool,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket")
            .field(self.shared.name())
            .field(&self.pass)
            .finish()
    }
}

impl Observe for Ticket {
    fn head(&mut self, verdict: Verdict, now: Instant) {
        if verdict.is_success() {
            self.shared.circuit.head(&mut self.pass, now);
        }
    }

    fn done(mut self, verdict: Verdict, now: Instant) {
        self.ended = true;
        self.shared.finish(self.pass, verdict.class(), now);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.ended {
            self.shared
                .finish(self.pass, cause::of_drop().class(), Instant::now());
        }
    }
}
