use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};
use tower_chassis_core::boxed::BoxFuture;

use super::directory::{Directory, Settings};

/// Runs the workers of all upstreams, and evicts those that nobody calls. Ends when the last clone of the
/// directory and its last call are gone.
///
/// A future: [`spawn`](Worker::spawn) it, or poll it inside a tokio runtime wherever tasks are supervised; dropped, it
/// ends the workers. Without it upstreams are built and called, but stay with the endpoints that they were built of.
#[must_use = "endpoints change and upstreams are evicted only while the worker is polled"]
pub struct Worker(BoxFuture<'static, ()>);

impl Worker {
    pub(super) fn new<Req: 'static, Res: 'static>(
        directory: Weak<Directory<Req, Res>>,
        settings: Arc<Settings>,
        workers: mpsc::UnboundedReceiver<BoxFuture<'static, ()>>,
    ) -> Self
    where
        Directory<Req, Res>: Send + Sync,
    {
        Self(Box::pin(run(directory, settings, workers)))
    }

    /// Runs it on the current tokio runtime.
    ///
    /// # Panics
    /// Outside a runtime, as `tokio::spawn` does.
    pub fn spawn(self) -> JoinHandle<()> {
        tokio::spawn(self)
    }
}

impl Future for Worker {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

enum Next {
    Built(BoxFuture<'static, ()>),
    Settings,
    Round,
    Gone,
}

async fn run<Req, Res>(
    directory: Weak<Directory<Req, Res>>,
    settings: Arc<Settings>,
    mut workers: mpsc::UnboundedReceiver<BoxFuture<'static, ()>>,
) {
    let mut running = JoinSet::new();
    let mut began = Instant::now();
    let mut timer = pin!(sleep_until(began + settings.round()));
    loop {
        let next = {
            let mut changed = pin!(settings.changed.notified());
            poll_fn(|cx| {
                while let Poll::Ready(Some(ended)) = running.poll_join_next(cx) {
                    if let Err(error) = ended {
                        tracing::error!(%error, "the worker of an upstream ended");
                    }
                }
                if let Poll::Ready(built) = workers.poll_recv(cx) {
                    return Poll::Ready(built.map_or(Next::Gone, Next::Built));
                }
                if changed.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Next::Settings);
                }
                timer.as_mut().poll(cx).map(|()| Next::Round)
            })
            .await
        };
        match next {
            Next::Built(worker) => {
                running.spawn(worker);
            }
            Next::Settings => {
                timer.as_mut().reset(began + settings.round());
                if let Some(directory) = directory.upgrade() {
                    directory.shrink();
                }
            }
            Next::Round => {
                began = Instant::now();
                timer.as_mut().reset(began + settings.round());
                if let Some(directory) = directory.upgrade() {
                    directory.turn();
                }
            }
            Next::Gone => break,
        }
    }
    // Calls in flight may still need theirs.
    while running.join_next().await.is_some() {}
}
