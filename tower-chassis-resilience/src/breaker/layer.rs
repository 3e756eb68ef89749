use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_chassis_core::{
    Class, Events, Gate, Kind, Live, Rejection, Respond, Verdict, cause, clock,
    events::Event,
    settle::{Observe, UntilEnd, UntilHead},
    striped::{Hold, Striped},
    verdict::{Auto, ByFn},
    wire::{Admit, Gated},
};
use tower_layer::Layer;

use super::{
    BreakerHandle, BreakerPolicy, Mode,
    circuit::Circuit,
    state::{Change, Pass, State},
};

/// The service of a [`BreakerLayer`].
pub type Breaker<S, J = UntilHead<Auto>> = Gated<S, Admission, J>;

/// Guards services with one circuit. See the [module](super) page.
///
/// The state is the layer's: what is layered or cloned twice shares it. `J` judges the calls.
pub struct BreakerLayer<J = UntilHead<Auto>> {
    shared: Striped<Shared>,
    settle: J,
}

/// What a layer, its services, their calls and its handles share.
pub struct Shared {
    pub(super) circuit: Circuit,
    pub(super) live: Live<BreakerPolicy>,
    /// Whether an answer may ask to be left alone.
    asks: AtomicBool,
    setup: Setup,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("name", self.name())
            .finish_non_exhaustive()
    }
}

/// How long a verdict asks that the service be left alone.
type TripOn = Arc<dyn Fn(Verdict) -> Option<Duration> + Send + Sync>;

/// What is settled before the first call.
#[derive(Clone)]
struct Setup {
    name: Arc<str>,
    events: Events,
    gate: Option<Gate>,
    seed: Option<u64>,
    trip_on: Option<TripOn>,
}

impl Shared {
    fn new(live: Live<BreakerPolicy>, setup: Setup) -> Arc<Self> {
        let shared = Arc::new(Self::unbound(live, setup));
        shared
            .live
            .bind(&shared, |shared, policy| shared.apply(policy));
        shared
    }

    fn unbound(live: Live<BreakerPolicy>, setup: Setup) -> Self {
        let policy = live.load();
        let circuit = Circuit::new(&policy, Instant::now(), setup.gate.clone(), setup.seed);
        Self {
            circuit,
            asks: AtomicBool::new(policy.config().open_on_retry_after),
            live,
            setup,
        }
    }

    pub(super) fn apply(&self, policy: &BreakerPolicy) {
        self.asks
            .store(policy.config().open_on_retry_after, Relaxed);
        self.circuit.apply(policy);
    }

    /// The same settings with a circuit of its own and no gate.
    pub(super) fn fresh(&self) -> Arc<Self> {
        Self::new(self.live.clone(), self.without_gate())
    }

    /// The circuit of a key, which hears of changes through the set of all keys. What is forced on this one is on it.
    pub(super) fn of_key(&self) -> Arc<Self> {
        let new = Self::unbound(self.live.clone(), self.without_gate());
        let now = Instant::now();
        let (mode, left) = self.circuit.mode(now);
        if mode != Mode::Auto {
            new.circuit.force(mode, left, true, now);
        }
        Arc::new(new)
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
        let Some(change) = change else { return };
        let (name, events) = (self.name(), &self.setup.events);
        let (reason, open_for) = (change.reason, change.open_for);
        if change.would {
            events.emit(|| Event::breaker_would_open(Arc::clone(name), reason, open_for));
            return;
        }
        if change.released {
            self.report_mode(Mode::Auto, None);
        }
        events.emit(|| Event::breaker(Arc::clone(name), change.to.as_str(), reason, open_for));
        if let (State::Open, Some(shut_for), Some(_)) = (change.to, open_for, &self.setup.gate) {
            events.emit(|| Event::ejected(Arc::clone(name), reason, shut_for));
        }
    }

    fn report_mode(&self, mode: Mode, lasts: Option<Duration>) {
        let name = self.name();
        self.setup
            .events
            .emit(|| Event::breaker_forced(Arc::clone(name), mode.as_str(), lasts));
    }

    pub(super) fn force(&self, mode: Mode, lasts: Option<Duration>, inherited: bool) {
        let change = self.circuit.force(mode, lasts, inherited, Instant::now());
        self.report_mode(mode, lasts);
        self.report(change);
    }

    pub(super) fn reset(&self) {
        let now = Instant::now();
        let (mode, _) = self.circuit.mode(now);
        let change = self.circuit.reset(now);
        if mode != Mode::Auto {
            self.report_mode(Mode::Auto, None);
        }
        self.report(change);
    }

    pub(super) fn is_forced_open(&self, now: Instant) -> bool {
        self.circuit.state() == State::Open && self.circuit.mode(now).0 == Mode::ForcedOpen
    }

    /// How long a call that ended so asks that the service be left alone.
    fn asked(&self, verdict: Verdict) -> Option<Duration> {
        let by_answer = match verdict.retry_after() {
            Some(_) if verdict.is_success() || !self.asks.load(Relaxed) => None,
            asked => asked,
        };
        let by_closure = self.setup.trip_on.as_ref().and_then(|ask| ask(verdict));
        by_answer.max(by_closure).filter(|asked| !asked.is_zero())
    }

    #[cold]
    fn refuse(&self, wait: Duration) -> Rejection {
        self.setup
            .events
            .emit(|| Event::refused_by("breaker", Arc::clone(self.name()), Kind::CircuitOpen));
        let rejection = Rejection::new(Kind::CircuitOpen, "breaker");
        match wait {
            // Nobody knows when.
            Duration::MAX => rejection,
            wait => rejection.after(wait),
        }
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
            trip_on: None,
        };
        Self {
            shared: Striped::of_arc(Shared::new(policy.into(), setup)),
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
    /// It is shut for the open time, while it is forced open, and while all probes of a half-open circuit are under way. It
    /// opens by itself when its time comes. A gate belongs to one breaker.
    #[must_use]
    pub fn gate(self, gate: Gate) -> Self {
        self.set_up(|setup| setup.gate = Some(gate))
    }

    /// Opens for as long as `ask` says of a call's verdict, 5 minutes at the most, whatever the rules say. Where a rule
    /// opens it as well, the longer time holds.
    ///
    /// It is not asked about calls that were cancelled or that a layer inside refused. For `Retry-After` and its kin
    /// there is [`open_on_retry_after`](super::BreakerConfig::open_on_retry_after).
    #[must_use]
    pub fn trip_on(
        self,
        ask: impl Fn(Verdict) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.set_up(|setup| setup.trip_on = Some(Arc::new(ask)))
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
            shared: Striped::of_arc(self.shared.fresh()),
            settle: self.settle.clone(),
        }
    }

    pub(super) fn into_parts(self) -> (Striped<Shared>, J) {
        (self.shared, self.settle)
    }

    /// Reads the state, resets it, changes the settings.
    #[must_use]
    pub fn handle(&self) -> BreakerHandle {
        BreakerHandle(Arc::clone(self.shared.arc()))
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.shared.setup.clone();
        change(&mut setup);
        Self {
            shared: Striped::of_arc(Shared::new(self.shared.live.clone(), setup)),
            settle: self.settle,
        }
    }
}

impl<J: Clone> Clone for BreakerLayer<J> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.keep(),
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
        let admission = Admission(self.shared.keep());
        Gated::new(inner, admission, self.settle.clone())
    }
}

/// Lets calls through a circuit: the policy of [`Breaker`].
#[derive(Clone)]
pub struct Admission(Striped<Shared>);

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

    #[inline]
    fn admit(&self, _: &mut Req, now: Instant) -> Result<Ticket, Box<Rejection>> {
        match self.0.circuit.admit_closed(now) {
            Some(pass) => Ok(Ticket::new(self.0.hold(), pass)),
            None => admit_unclosed(self.0.hold(), now),
        }
    }

    #[inline]
    fn shut(&self) -> bool {
        let circuit = &self.0.circuit;
        !circuit.is_closed() && circuit.refuses_for(Instant::now()).is_some()
    }

    fn too_early(&self) -> Rejection {
        self.0.refuse(Duration::ZERO)
    }
}

/// What a call holds a circuit by: a [`Hold`], or the `Arc` of that of a key.
pub trait Held: Deref<Target = Shared> + Send + 'static {}

impl Held for Hold<Shared> {}

impl Held for Arc<Shared> {}

/// Lets a call pass, or refuses it.
pub(super) fn admit<H: Held>(held: H, now: Instant) -> Result<Ticket<H>, Box<Rejection>> {
    match held.circuit.admit_closed(now) {
        Some(pass) => Ok(Ticket::new(held, pass)),
        None => admit_unclosed(held, now),
    }
}

#[cold]
#[inline(never)]
fn admit_unclosed<H: Held>(held: H, now: Instant) -> Result<Ticket<H>, Box<Rejection>> {
    let (admitted, change) = held.circuit.admit(now);
    match admitted {
        Ok(pass) => {
            // The ticket first: a listener may panic.
            let ticket = Ticket::new(held, pass);
            ticket.held.report(change);
            Ok(ticket)
        }
        Err(wait) => {
            held.report(change);
            Err(Box::new(held.refuse(wait)))
        }
    }
}

/// A call that passed. Dropped unfinished it gives a probe's permit back.
pub struct Ticket<H: Held = Hold<Shared>> {
    held: H,
    pass: Pass,
}

impl<H: Held> Ticket<H> {
    #[inline]
    const fn new(held: H, pass: Pass) -> Self {
        Self { held, pass }
    }

    /// The head has come and the call is over, and there is more to it than one call more.
    #[inline(never)]
    fn ended_slowly(mut self, verdict: Verdict, now: Instant) {
        self.head(verdict, now);
        self.finish(verdict, now);
    }

    fn finish(&mut self, verdict: Verdict, now: Instant) {
        let counts = !matches!(verdict.class(), Class::Cancelled | Class::Refused);
        // The user's code first: it may panic, and then the pass is handed back on the way out.
        let asked = counts.then(|| self.held.asked(verdict)).flatten();
        let pass = self.pass;
        self.pass.spend();
        let circuit = &self.held.circuit;
        let at = if now > circuit.epoch {
            circuit.since(now)
        } else if verdict.is_success() && asked.is_none() {
            pass.began
        } else {
            circuit.since(clock::now())
        };
        let change = circuit.finish(pass, verdict.class(), asked, at);
        if change.is_some() {
            self.held.report(change);
        }
    }

    #[cold]
    #[inline(never)]
    fn left(&self) {
        let circuit = &self.held.circuit;
        let (class, now) = (cause::of_drop().class(), circuit.since(clock::now()));
        self.held
            .report(circuit.finish(self.pass, class, None, now));
    }
}

impl<H: Held> fmt::Debug for Ticket<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket")
            .field(self.held.name())
            .field(&self.pass)
            .finish()
    }
}

impl<H: Held> Observe for Ticket<H> {
    fn head(&mut self, verdict: Verdict, now: Instant) {
        let good = verdict.is_success();
        self.held.circuit.head(&mut self.pass, good, now);
    }

    fn data(&mut self, _: usize) {
        self.pass.waited();
    }

    #[inline]
    fn within<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        self.pass.polled();
        poll()
    }

    /// No reading for a success in the first poll: it ended when it began, to within a bucket. What is no success
    /// reads the clock when it is told.
    #[inline]
    fn now(&self) -> Instant {
        let circuit = &self.held.circuit;
        if self.pass.is_at_once() && !circuit.judges_slowness() {
            circuit.epoch
        } else {
            clock::now()
        }
    }

    fn done(mut self, verdict: Verdict, now: Instant) {
        self.finish(verdict, now);
    }

    /// Always inlined, or the ticket is written to memory in other pieces than it was just read in.
    #[inline(always)]
    fn done_at_head(mut self, verdict: Verdict, now: Instant) {
        let held = &*self.held;
        let plain = verdict.is_success() && held.setup.trip_on.is_none();
        if plain && held.circuit.finish_at_once(self.pass) {
            self.pass.spend();
        } else {
            self.ended_slowly(verdict, now);
        }
    }
}

impl<H: Held> Drop for Ticket<H> {
    #[inline]
    fn drop(&mut self) {
        if self.pass.is_counted() {
            self.left();
        }
    }
}
