//! The service at the core of every scenario: it does as it is told and remembers what reached it.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tower::Service;
use tower_chassis::{Body, BoxError, Kind, Rejection};

/// What the next calls get.
#[derive(Clone, Debug, Default)]
pub enum Answer {
    /// 200, at once.
    #[default]
    Good,
    /// 503, at once.
    Bad,
    /// 200, after a time.
    Late(Duration),
    /// 200 or 503, when it is let go.
    Held(Arc<Semaphore>, bool),
    /// Nothing, ever.
    Never,
    /// An error: the connection broke after the request was sent.
    Reset,
    /// A panic.
    Panic,
    /// A panic before there is a future.
    PanicInCall,
    /// 503 for the first attempt at each path, 200 for the others.
    FirstBad,
    /// An error for the first attempt at each path, 200 for the others.
    FirstReset,
    /// 200 and 503 in turn.
    Mixed,
}

/// Clones are one service.
#[derive(Clone, Debug, Default)]
pub struct Script(Arc<State>);

#[derive(Debug, Default)]
struct State {
    answer: Mutex<Answer>,
    calls: AtomicUsize,
    last: Mutex<Option<(Uri, Instant)>>,
    /// The longest time between two attempts at one path.
    longest: Mutex<Duration>,
    /// Each response holds one.
    alive: Arc<()>,
}

/// Calls that wait to be let go.
#[derive(Debug)]
pub struct Hold(Arc<Semaphore>);

impl Hold {
    /// Lets one go.
    pub fn release(&self) {
        self.0.add_permits(1);
    }
}

#[derive(Clone)]
struct Alive(#[expect(dead_code, reason = "its count is what is read")] Arc<()>);

impl Script {
    /// What calls get from now on.
    pub fn answer(&self, answer: Answer) {
        *self.0.answer.lock().unwrap() = answer;
    }

    /// Calls wait from now on, to be answered well or badly.
    pub fn hold(&self, good: bool) -> Hold {
        let hold = Arc::new(Semaphore::new(0));
        self.answer(Answer::Held(Arc::clone(&hold), good));
        Hold(hold)
    }

    /// How many calls reached it.
    pub fn calls(&self) -> usize {
        self.0.calls.load(SeqCst)
    }

    /// Lets other tasks run until so many calls reached it.
    pub async fn reached(&self, calls: usize) {
        while self.calls() < calls {
            tokio::task::yield_now().await;
        }
    }

    /// How many of its responses somebody still holds.
    pub fn alive(&self) -> usize {
        Arc::strong_count(&self.0.alive) - 1
    }

    /// The longest time between two attempts at one path.
    pub fn longest_wait(&self) -> Duration {
        *self.0.longest.lock().unwrap()
    }

    /// Whether the path is another one than that of the call before.
    fn is_first(&self, uri: &Uri) -> bool {
        let now = Instant::now();
        let mut last = self.0.last.lock().unwrap();
        let first = match &*last {
            Some((path, at)) if path == uri => {
                let mut longest = self.0.longest.lock().unwrap();
                *longest = now.duration_since(*at).max(*longest);
                false
            }
            _ => true,
        };
        *last = Some((uri.clone(), now));
        first
    }

    fn response(&self, good: bool) -> Response<Body> {
        let mut response = Response::new(Body::full("answer"));
        *response.status_mut() = if good { 200 } else { 503 }.try_into().unwrap();
        let alive = Alive(Arc::clone(&self.0.alive));
        response.extensions_mut().insert(alive);
        response
    }
}

impl<B> Service<Request<B>> for Script {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let number = self.0.calls.fetch_add(1, SeqCst);
        let first = self.is_first(request.uri());
        let answer = self.0.answer.lock().unwrap().clone();
        assert!(!matches!(answer, Answer::PanicInCall), "planted");
        let script = self.clone();
        Box::pin(async move {
            let good = match answer {
                Answer::Good => true,
                Answer::Bad => false,
                Answer::Late(time) => {
                    sleep(time).await;
                    true
                }
                Answer::Held(hold, good) => {
                    hold.acquire().await?.forget();
                    good
                }
                Answer::Never => match std::future::pending::<Infallible>().await {},
                Answer::FirstReset if !first => true,
                Answer::Reset | Answer::FirstReset => {
                    return Err(Rejection::new(Kind::Reset, "script").into());
                }
                Answer::Panic | Answer::PanicInCall => panic!("planted"),
                Answer::FirstBad => !first,
                Answer::Mixed => number.is_multiple_of(2),
            };
            Ok(script.response(good))
        })
    }
}
