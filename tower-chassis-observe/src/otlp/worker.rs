//! What sends, on a task of its own.

use std::{
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::sleep,
};
use tower_chassis_core::boxed::BoxFuture;

use super::{
    deliver::{Exporter, Signal},
    handle::Shared,
    message::{Item, Points, Spans, batches},
};

/// Says that everything is to be sent now; it is answered when that was done.
pub(super) struct Command {
    /// Whether it is the last one.
    pub(super) stop: bool,
    pub(super) done: oneshot::Sender<()>,
}

/// Sends what [`Otlp`](super::Otlp) collects: a future to be spawned, on any runtime of tokio, also one with a single
/// thread.
///
/// It ends after [`Otlp::shutdown`](super::Otlp::shutdown), or when everything that could send by it is gone: handles, layers
/// and their services. Dropped before, what waits is counted as lost.
#[must_use = "nothing is sent unless it is spawned"]
pub struct Worker {
    tasks: Vec<BoxFuture<'static, ()>>,
    abort: BoxFuture<'static, ()>,
    shared: Arc<Shared>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, tasks: Vec<BoxFuture<'static, ()>>) -> Self {
        let aborted = Arc::clone(&shared);
        Self {
            tasks,
            abort: Box::pin(async move { aborted.abort.notified().await }),
            shared,
        }
    }
}

impl Future for Worker {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // What the client does is not itself to be sent.
        let _quiet = opentelemetry::Context::enter_telemetry_suppressed_scope();
        if !this.tasks.is_empty() && this.abort.as_mut().poll(cx).is_ready() {
            this.shared.cut();
            this.tasks.clear();
        }
        this.tasks
            .retain_mut(|task| task.as_mut().poll(cx).is_pending());
        if !this.tasks.is_empty() {
            return Poll::Pending;
        }
        this.shared.close();
        Poll::Ready(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.tasks.is_empty() {
            self.shared.close();
            return;
        }
        let before = self.shared.lost();
        self.shared.cut();
        // First what is being sent, so that nothing counts any more.
        self.tasks.clear();
        self.shared.close();
        tracing::warn!(
            target: "tower_chassis::otlp",
            lost = self.shared.lost().saturating_sub(before),
            "what sends telemetry was dropped before its shutdown: nothing is sent any more",
        );
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

enum Woken {
    /// It is time.
    Due,
    /// A batch is full.
    Full,
    /// Everything, now.
    Told(Command),
    /// Everything, and then there is nobody any more.
    Alone,
}

async fn woken(
    commands: &mut mpsc::Receiver<Command>,
    bell: Option<&Notify>,
    mut due: Pin<&mut tokio::time::Sleep>,
) -> Woken {
    let mut rings = pin!(async {
        match bell {
            Some(bell) => bell.notified().await,
            None => std::future::pending().await,
        }
    });
    poll_fn(|cx| {
        if let Poll::Ready(command) = commands.poll_recv(cx) {
            return Poll::Ready(command.map_or(Woken::Alone, Woken::Told));
        }
        if due.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Woken::Due);
        }
        rings.as_mut().poll(cx).map(|()| Woken::Full)
    })
    .await
}

/// Sends spans.
pub(super) async fn spans(
    shared: Arc<Shared>,
    mut items: mpsc::Receiver<Item>,
    mut commands: mpsc::Receiver<Command>,
    mut exporter: Exporter<Spans>,
) {
    let Some(queue) = &shared.queue else { return };
    let config = shared.policy.config();
    let size = config.batch as usize;
    let mut due = pin!(sleep(config.every));
    let mut batch = Vec::with_capacity(size);
    loop {
        let woken = woken(&mut commands, Some(&queue.bell), due.as_mut()).await;
        queue.heard();
        // What was there; what comes meanwhile is for the next time.
        let mut left = items.len();
        if matches!(woken, Woken::Full) {
            left -= left % size;
        } else {
            due.set(sleep(config.every));
        }
        while left > 0 {
            while batch.len() < size.min(left) {
                match items.try_recv() {
                    Ok(item) => batch.push(item),
                    Err(_) => break,
                }
            }
            if batch.is_empty() {
                break;
            }
            left = left.saturating_sub(batch.len());
            exporter.deliver(&batch).await;
            batch.clear();
        }
        shared.report();
        if finished(woken) {
            return;
        }
    }
}

/// Sends metrics.
pub(super) async fn metrics(
    shared: Arc<Shared>,
    mut commands: mpsc::Receiver<Command>,
    mut exporter: Exporter<Points>,
) {
    let every = shared.policy.config().metrics_every;
    let mut due = pin!(sleep(every));
    loop {
        let woken = woken(&mut commands, None, due.as_mut()).await;
        due.set(sleep(every));
        shared.report();
        for snapshot in read(&shared) {
            for batch in batches(&snapshot) {
                shared.points.offered(Points::count(&batch));
                exporter.deliver(&batch).await;
            }
        }
        shared.report();
        if finished(woken) {
            return;
        }
    }
}

/// Answers who asked; whether it was for the last time.
fn finished(woken: Woken) -> bool {
    match woken {
        Woken::Told(command) => {
            // Who asked may have left.
            let _ = command.done.send(());
            command.stop
        }
        Woken::Alone => true,
        Woken::Due | Woken::Full => false,
    }
}

/// Reads what is to be sent. The sources are the user's code: they run outside of the lock, and a panic of one is its own.
fn read(shared: &Shared) -> Vec<crate::registry::Snapshot> {
    let lock = || {
        shared
            .sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    let mut sources = std::mem::take(&mut *lock());
    let read = sources
        .iter_mut()
        .filter_map(|source| {
            let read = catch_unwind(AssertUnwindSafe(source));
            if read.is_err() {
                tracing::error!(target: "tower_chassis::otlp", "a source of metrics panicked");
            }
            read.ok()
        })
        .collect();
    let mut now = lock();
    sources.append(&mut now);
    *now = sources;
    read
}

/// How long who has waited too long waits for the worker to stop.
pub(super) const AFTER: Duration = Duration::from_millis(100);
