mod calls;
mod golden;
mod outlier;
mod picking;
mod set;
mod spread;
mod waiting;

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use http::{Request, Response};
use tokio::sync::{Semaphore, watch};
use tower_chassis_core::{
    Body, BoxError, Carrier, Endpoint, Gate, Kind, Rejection, discover, invocation::Subset,
};
use tower_service::Service;

use super::*;

fn endpoint(id: &str) -> Endpoint {
    Endpoint::new(&format!("http://{id}:80"))
        .unwrap()
        .with_id(id)
}

/// The endpoint services that a balancer made, driven by hand.
#[derive(Clone, Default)]
struct Fakes(Arc<Mutex<HashMap<String, Fake>>>);

/// The service of one endpoint. All clones are one.
#[derive(Clone)]
struct Fake {
    endpoint: Endpoint,
    gate: Gate,
    state: Arc<FakeState>,
    /// Counts the instances.
    _live: Arc<()>,
}

struct FakeState {
    ready: AtomicBool,
    broken: AtomicBool,
    polls: AtomicUsize,
    calls: AtomicUsize,
    wakers: Mutex<Vec<Waker>>,
    /// A call takes one to answer.
    answers: Semaphore,
    status: Mutex<u16>,
}

impl Fakes {
    fn get(&self, id: &str) -> Fake {
        self.0.lock().unwrap()[id].clone()
    }

    fn make(&self) -> impl FnMut(&MakeEndpoint<'_>) -> Fake + Send + 'static {
        let fakes = self.clone();
        move |make| {
            let fake = Fake {
                endpoint: make.endpoint().clone(),
                gate: make.gate().clone(),
                state: Arc::new(FakeState {
                    ready: AtomicBool::new(true),
                    broken: AtomicBool::new(false),
                    polls: AtomicUsize::new(0),
                    calls: AtomicUsize::new(0),
                    wakers: Mutex::default(),
                    answers: Semaphore::new(Semaphore::MAX_PERMITS),
                    status: Mutex::new(200),
                }),
                _live: Arc::new(()),
            };
            fakes
                .0
                .lock()
                .unwrap()
                .insert(make.endpoint().id().to_string(), fake.clone());
            fake
        }
    }

    fn calls(&self, id: &str) -> usize {
        self.get(id).state.calls.load(SeqCst)
    }
}

impl Fake {
    fn set_ready(&self, ready: bool) {
        self.state.ready.store(ready, SeqCst);
        if ready {
            self.state
                .wakers
                .lock()
                .unwrap()
                .drain(..)
                .for_each(Waker::wake);
        }
    }

    fn polls(&self) -> usize {
        self.state.polls.load(SeqCst)
    }

    /// Calls wait from now on, until they are answered.
    fn hold(&self) {
        self.state.answers.forget_permits(usize::MAX);
    }

    fn answer(&self, calls: usize) {
        self.state.answers.add_permits(calls);
    }
}

impl Service<Request<()>> for Fake {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.state.polls.fetch_add(1, SeqCst);
        if self.state.broken.load(SeqCst) {
            return Poll::Ready(Err(Rejection::new(Kind::Unreachable, "client").into()));
        }
        if self.state.ready.load(SeqCst) {
            return Poll::Ready(Ok(()));
        }
        self.state.wakers.lock().unwrap().push(cx.waker().clone());
        Poll::Pending
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        self.state.calls.fetch_add(1, SeqCst);
        let (state, id) = (Arc::clone(&self.state), self.endpoint.id().to_string());
        Box::pin(async move {
            state.answers.acquire().await?.forget();
            let status = *state.status.lock().unwrap();
            match status {
                0 => Err("broken".into()),
                1 => panic!("planted"),
                status => Ok(Response::builder().status(status).body(Body::from(id))?),
            }
        })
    }
}

type Source = watch::Sender<discover::Snapshot>;

/// A balancer over fakes, its worker spawned.
fn balance<P: Pick>(
    endpoints: impl IntoIterator<Item = Endpoint>,
    picker: P,
) -> (Balance<Fake, P>, Source, Fakes) {
    let (source, fakes) = (
        Source::new(endpoints.into_iter().collect()),
        Fakes::default(),
    );
    let (balance, worker) = Balance::new(source.subscribe(), fakes.make(), picker);
    worker.spawn();
    (balance, source, fakes)
}

fn set(source: &Source, endpoints: impl IntoIterator<Item = Endpoint>) {
    source.send_replace(endpoints.into_iter().collect());
}

/// Lets the worker run.
async fn settle() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

fn request() -> Request<()> {
    Request::new(())
}

fn request_to(subset: Subset) -> Request<()> {
    let mut request = request();
    request.invocation_mut().set_subset(Some(Arc::new(subset)));
    request
}

/// A future polled by hand.
struct Hand<F: Future> {
    future: Pin<Box<F>>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl<F: Future> Hand<F> {
    fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            woken: Arc::default(),
        }
    }

    fn poll(&mut self) -> Poll<F::Output> {
        let waker = Waker::from(Arc::clone(&self.woken));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// How often it was woken since the last look.
    fn wakes(&self) -> usize {
        self.woken.0.swap(0, SeqCst)
    }
}

fn rejection<T>(result: &Result<T, BoxError>) -> Option<&Rejection> {
    result
        .as_ref()
        .err()
        .and_then(|error| Rejection::find(&**error))
}

fn pending(handle: &BalanceHandle) -> u32 {
    handle.endpoints().iter().map(|status| status.pending).sum()
}
