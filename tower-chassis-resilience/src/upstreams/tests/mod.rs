mod bounds;
mod building;
mod calls;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tokio::{sync::Semaphore, task::JoinHandle};
use tower::ServiceExt;
use tower_chassis_core::{
    Body, BoxError, Endpoint, Kind, Live, Rejection,
    discover::{Board, Snapshot},
};

use super::*;
use crate::balance::{Balance, Picker};

type Answer = Result<Response<Body>, BoxError>;

fn endpoint(address: &str) -> Endpoint {
    Endpoint::new(address).unwrap()
}

fn of(name: &str) -> Request<Body> {
    let uri = format!("http://{name}/");
    Request::get(uri).body(Body::empty()).unwrap()
}

fn kind(answer: &Answer) -> Option<Kind> {
    let error = answer.as_ref().err()?;
    Some(Rejection::find(&**error)?.kind())
}

/// What the stacks of a test share.
struct Bench {
    board: Board,
    made: AtomicUsize,
    /// Stacks that are alive.
    stacks: Arc<()>,
    /// How many times `make` is to panic.
    panics: AtomicUsize,
    /// A call takes one to answer, where `held`.
    answers: Semaphore,
    held: AtomicBool,
    policy: Live<UpstreamsPolicy>,
}

impl Bench {
    fn new(config: UpstreamsConfig) -> Arc<Self> {
        Arc::new(Self {
            board: Board::new(Snapshot::unknown()),
            made: AtomicUsize::new(0),
            stacks: Arc::default(),
            panics: AtomicUsize::new(0),
            answers: Semaphore::new(0),
            held: AtomicBool::new(false),
            policy: Live::new(config.try_into().unwrap()),
        })
    }

    fn know(&self, name: &str) {
        let snapshot = Snapshot::sure([endpoint("http://10.0.0.1:80")]);
        self.board.set(name, snapshot);
    }

    fn made(&self) -> usize {
        self.made.load(SeqCst)
    }

    fn alive(&self) -> usize {
        Arc::strong_count(&self.stacks) - 1
    }

    fn start(self: &Arc<Self>) -> (Directory, JoinHandle<()>) {
        let (upstreams, worker) = self.upstreams();
        (upstreams, worker.spawn())
    }

    fn upstreams(self: &Arc<Self>) -> (Directory, Worker) {
        let bench = Arc::clone(self);
        let make = move |upstream: &Upstream<'_>| bench.make(upstream);
        Upstreams::new(self.board.clone(), make, self.policy.clone())
    }

    fn make(self: &Arc<Self>, upstream: &Upstream<'_>) -> Built<Request<Body>, Response<Body>> {
        self.made.fetch_add(1, SeqCst);
        let panics = self
            .panics
            .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        assert!(panics.is_err(), "make panics as it was told to");
        let bench = Arc::clone(self);
        let (balance, worker) = Balance::new(
            upstream.watch(),
            move |made| {
                let address = made.endpoint().address().to_string();
                let (bench, alive) = (Arc::clone(&bench), Arc::clone(&bench.stacks));
                tower::service_fn(move |_: Request<Body>| {
                    let (bench, address) = (Arc::clone(&bench), address.clone());
                    let alive = Arc::clone(&alive);
                    async move {
                        if bench.held.load(SeqCst) {
                            bench.answers.acquire().await?.forget();
                        }
                        drop(alive);
                        Ok::<_, BoxError>(Response::new(Body::from(address)))
                    }
                })
            },
            Picker::default(),
        );
        let handle = balance.handle();
        Built::new(balance).worker(worker).balance(handle)
    }
}

type Directory = Upstreams<Request<Body>, Response<Body>>;

async fn call(upstreams: &Directory, name: &str) -> Answer {
    upstreams.clone().oneshot(of(name)).await
}

/// Polls once.
fn poll(call: &mut Pin<Box<impl Future<Output = Answer>>>) -> Poll<Answer> {
    call.as_mut()
        .poll(&mut Context::from_waker(std::task::Waker::noop()))
}

/// Lets the other tasks run until none can go on.
async fn settle() {
    tokio::time::sleep(Duration::from_micros(1)).await;
}
