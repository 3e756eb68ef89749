use std::{any::Any, fmt, sync::Arc, time::Duration};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Law,
    subject::{Erased, Reply, Subject},
};
use crate::{
    Body, BoxError,
    testing::{Control, ControlledService, Marked},
};

/// A step of a script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Step {
    /// A call that the inner service answers.
    Succeed,
    /// A call that the inner service fails.
    Fail,
    /// A call that the inner service holds.
    Hold,
    /// All that are held are answered.
    Release,
    /// All that are held are dropped.
    Drop,
    /// Time goes by.
    Wait(Duration),
}

/// A layer with what the suite must know about it: what [`contract`](super::contract) makes anew for each scene.
pub struct Case {
    pub(super) service: Box<dyn Fn() -> Box<dyn Subject>>,
    /// Of the inner service; set by `contract_service` where there is no layer.
    pub(super) control: Option<Control>,
    pub(super) is_layer: bool,
    pub(super) limit: Option<usize>,
    pub(super) held: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    pub(super) reads: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    pub(super) answers: bool,
    pub(super) once: bool,
    pub(super) before: Vec<Step>,
    pub(super) script: Option<Vec<Step>>,
    pub(super) skipped: Vec<(Law, String)>,
    pub(super) kept: Vec<Box<dyn Any>>,
}

fn request() -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = http::Uri::from_static("http://contract.test/");
    request
}

impl Case {
    /// A layer over HTTP: `GET http://contract.test/` without a body, answered 200 with a body of two frames.
    #[must_use]
    pub fn new<L, R>(layer: L) -> Self
    where
        L: Layer<ControlledService> + 'static,
        L::Service: Service<Request<Body>, Response = R> + Clone + 'static,
        R: Reply,
        <L::Service as Service<Request<Body>>>::Error: Into<BoxError>,
        <L::Service as Service<Request<Body>>>::Future: 'static,
    {
        Self::with(layer, ControlledService::new(), request)
    }

    /// A layer over any protocol: `inner` says what is answered, `request` makes the requests.
    ///
    /// ```
    /// use tower_chassis_core::{BoxError, testing::{Case, ControlledService, contract}};
    ///
    /// contract(|| {
    ///     let inner: ControlledService<u32, BoxError> = ControlledService::answering(|| 7);
    ///     Case::with(tower::layer::util::Identity::new(), inner, || "how many?")
    /// })
    /// .assert();
    /// ```
    #[must_use]
    pub fn with<L, Res, E, Req, R>(
        layer: L,
        inner: ControlledService<Res, E>,
        request: impl Fn() -> Req + 'static,
    ) -> Self
    where
        L: Layer<ControlledService<Res, E>> + 'static,
        L::Service: Service<Req, Response = R> + Clone + 'static,
        R: Reply,
        <L::Service as Service<Req>>::Error: Into<BoxError>,
        <L::Service as Service<Req>>::Future: 'static,
        E: From<Marked> + 'static,
        Res: 'static,
        Req: 'static,
    {
        let control = inner.control();
        let request: Arc<dyn Fn() -> Req> = Arc::new(request);
        let service = move || Erased::boxed(layer.layer(inner.clone()), &request);
        Self::of(Box::new(service), Some(control))
    }

    /// A service over HTTP without a layer, for [`contract_service`](super::contract_service).
    #[must_use]
    pub fn service<S, R>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = R> + Clone + 'static,
        R: Reply,
        S::Error: Into<BoxError>,
        S::Future: 'static,
    {
        Self::service_with(service, request)
    }

    /// A service over any protocol without a layer, for [`contract_service`](super::contract_service).
    #[must_use]
    pub fn service_with<S, Req, R>(service: S, request: impl Fn() -> Req + 'static) -> Self
    where
        S: Service<Req, Response = R> + Clone + 'static,
        R: Reply,
        S::Error: Into<BoxError>,
        S::Future: 'static,
        Req: 'static,
    {
        let request: Arc<dyn Fn() -> Req> = Arc::new(request);
        let service = move || Erased::boxed(service.clone(), &request);
        Self::of(Box::new(service), None)
    }

    fn of(service: Box<dyn Fn() -> Box<dyn Subject>>, control: Option<Control>) -> Self {
        Self {
            service,
            is_layer: control.is_some(),
            control,
            limit: None,
            held: None,
            reads: None,
            answers: false,
            once: false,
            before: Vec::new(),
            script: None,
            skipped: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// At most so many calls are in the inner service at once, in the state in which the case begins.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// What the layer holds for its calls, read by its handle: permits, calls in flight, queue, budget, probes.
    /// After every scene it must be as it was before, so leave out what is only counted.
    #[must_use]
    pub fn held<T: fmt::Debug>(mut self, held: impl Fn() -> T + Send + Sync + 'static) -> Self {
        self.held = Some(Arc::new(move || format!("{:?}", held())));
        self
    }

    /// What else the layer's handle shows: counts, a state, settings. It must be the same over one service as over
    /// two, and must not wait for a call; it need not be after a call as it was before.
    #[must_use]
    pub fn reads<T: fmt::Debug>(mut self, reads: impl Fn() -> T + Send + Sync + 'static) -> Self {
        self.reads = Some(Arc::new(move || format!("{:?}", reads())));
        self
    }

    /// Errors of the inner service become answers, as `RescueLayer` makes them.
    #[must_use]
    pub fn answers(mut self) -> Self {
        self.answers = true;
        self
    }

    /// Each call that succeeds makes one call of the inner service.
    #[must_use]
    pub fn calls_once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Runs `steps` first, so that the laws are tried in the state that they lead to: half-open, for example.
    #[must_use]
    pub fn before(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.before = steps.into_iter().collect();
        self
    }

    /// The script of [`Law::SharedState`] and [`Law::RefusesInCall`], in place of the common one: successes, one
    /// call more held than the limit allows, thirty failures, successes, a second, successes.
    #[must_use]
    pub fn script(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.script = Some(steps.into_iter().collect());
        self
    }

    /// Does not try `law`; the report says why.
    #[must_use]
    pub fn skip(mut self, law: Law, why: impl Into<String>) -> Self {
        self.skipped.push((law, why.into()));
        self
    }

    /// Keeps `thing` alive as long as the case.
    #[must_use]
    pub fn keep(mut self, thing: impl Any) -> Self {
        self.kept.push(Box::new(thing));
        self
    }

    pub(super) fn script_steps(&self) -> Vec<Step> {
        self.script.clone().unwrap_or_else(|| {
            let mut steps = vec![Step::Succeed; 3];
            steps.extend(vec![Step::Hold; self.limit.unwrap_or(3) + 1]);
            steps.push(Step::Release);
            steps.extend(vec![Step::Fail; 30]);
            steps.extend(vec![Step::Succeed; 3]);
            steps.push(Step::Wait(Duration::from_secs(1)));
            steps.extend(vec![Step::Succeed; 3]);
            steps
        })
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("limit", &self.limit)
            .field("before", &self.before)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}
