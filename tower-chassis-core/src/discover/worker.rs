use std::{
    collections::HashMap,
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use super::Board;
use crate::boxed::BoxFuture;

/// How long a name that nobody watches is still fed.
const IDLE: Duration = Duration::from_secs(60);

/// Does the work of a source. A future to be spawned.
#[must_use = "a source works only while its worker runs"]
pub struct Worker(BoxFuture<'static, ()>);

impl Worker {
    pub(super) fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Box::pin(work))
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Future for Worker {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// What ended first; the left one if both did.
pub(super) enum First<A, B> {
    Left(A),
    Right(B),
}

pub(super) async fn first<A: Future, B: Future>(left: A, right: B) -> First<A::Output, B::Output> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|cx| {
        if let Poll::Ready(value) = left.as_mut().poll(cx) {
            return Poll::Ready(First::Left(value));
        }
        right.as_mut().poll(cx).map(First::Right)
    })
    .await
}

/// Runs one feed for each name that is watched, and ends it some time after the last watcher went. Ends when
/// `alive` is closed.
pub(super) async fn feed_names<F>(
    board: Board,
    mut alive: watch::Receiver<()>,
    feed: impl Fn(Arc<str>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut asked = board.asked();
    let mut tasks = JoinSet::new();
    // By the board's own text: an entry that was forgotten and asked for again is another one.
    let mut running: HashMap<Arc<str>, AbortHandle> = HashMap::new();
    let mut sweep = tokio::time::Instant::now() + IDLE;
    loop {
        asked.borrow_and_update();
        for name in board.watched() {
            let same = |(running, _): (&Arc<str>, _)| Arc::ptr_eq(running, &name);
            if running.get_key_value(&name).is_some_and(same) {
                continue;
            }
            if let Some(old) = running.remove(&name) {
                old.abort();
            }
            let task = tasks.spawn(feed(Arc::clone(&name)));
            running.insert(name, task);
        }
        let changed = first(alive.changed(), asked.changed());
        match tokio::time::timeout_at(sweep, changed).await {
            Ok(First::Right(Ok(()))) => {}
            Ok(_) => return,
            Err(_) => {
                board.forget_unwatched();
                let kept: HashMap<_, _> = board.entries().into_iter().map(|n| (n, ())).collect();
                running.retain(|name, task| {
                    let there = kept
                        .get_key_value(name)
                        .is_some_and(|(entry, ())| Arc::ptr_eq(entry, name));
                    if !there {
                        task.abort();
                    }
                    there
                });
                sweep = tokio::time::Instant::now() + IDLE;
            }
        }
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(target: "tower_chassis::discover", "a source panicked: {error}");
            }
        }
    }
}
