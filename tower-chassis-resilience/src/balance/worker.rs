use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tower_chassis_core::{boxed::BoxFuture, discover, events::Event};

use super::{
    MakeEndpoint,
    outlier::Outlier,
    pick::Pick,
    service::Shared,
    snapshot::{Builder, Snapshot},
};

/// How soon old sets are looked at first; the wait doubles while clones that are not called hold them.
const FIRST_SWEEP: Duration = Duration::from_secs(1);
const LAST_SWEEP: Duration = Duration::from_secs(60);

/// Applies what discovery says to its balancer. Ends when the last balancer is gone.
///
/// A future: [`spawn`](Worker::spawn) it, or poll it wherever tasks are supervised. Without it the balancer
/// works on with the endpoints that it was made of.
#[must_use = "the set of endpoints changes only while the worker is polled"]
pub struct Worker(BoxFuture<'static, ()>);

impl Worker {
    pub(super) fn new<S, P, M>(
        watch: watch::Receiver<discover::Snapshot>,
        gone: oneshot::Receiver<Infallible>,
        builder: Option<Builder<M>>,
        shared: Weak<Shared<S, P>>,
    ) -> Self
    where
        S: Clone + Send + Sync + 'static,
        P: Pick,
        M: FnMut(&MakeEndpoint<'_>) -> S + Send + 'static,
    {
        Self(Box::pin(async move {
            if let Some(builder) = builder {
                run(watch, gone, builder, shared).await;
            }
        }))
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
    Changed,
    SourceGone,
    /// The picker wants another table.
    Picker,
    Sweep,
    Outlier,
    End,
}

async fn run<S, P, M>(
    mut watch: watch::Receiver<discover::Snapshot>,
    mut gone: oneshot::Receiver<Infallible>,
    mut builder: Builder<M>,
    shared: Weak<Shared<S, P>>,
) where
    S: Clone + Send + Sync + 'static,
    P: Pick,
    M: FnMut(&MakeEndpoint<'_>) -> S + Send + 'static,
{
    let Some(first) = shared.upgrade() else {
        return;
    };
    report(&first, first.load().services.len());
    let outlier = Arc::clone(&first.outlier);
    let mut alarm = judge(&first);
    drop(first);
    // Sets that are not in force. A clone that was not called since may hold one: if it dropped the last
    // reference, a call would pay for the drop of all its endpoints.
    let mut old: Vec<Arc<Snapshot<S, P::Table>>> = Vec::new();
    let mut wait = FIRST_SWEEP;
    let mut source = true;
    let mut picker = shared
        .upgrade()
        .and_then(|shared| shared.picker.0.changes());
    loop {
        let sweep = (!old.is_empty()).then_some(wait);
        let timers = (sweep, alarm);
        match next(&mut watch, &mut gone, source, &mut picker, &outlier, timers).await {
            Next::End => return,
            Next::SourceGone => source = false,
            Next::Sweep => wait = (wait * 2).min(LAST_SWEEP),
            Next::Outlier => {
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                alarm = judge(&shared);
            }
            turn @ (Next::Changed | Next::Picker) => {
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                let found = watch.borrow_and_update().clone();
                let snapshot = builder.next(Some(&shared.load()), &found, &shared.picker.0);
                let count = snapshot.services.len();
                old.push(shared.publish(snapshot));
                if matches!(turn, Next::Changed) {
                    report(&shared, count);
                }
                alarm = judge(&shared);
                wait = FIRST_SWEEP;
            }
        }
        old.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }
}

/// Judges the endpoints. When to do so next.
fn judge<S, P: Pick>(shared: &Shared<S, P>) -> Option<Instant> {
    let (reports, changed, next) = shared
        .outlier
        .round(shared.load().plan.states(), Instant::now());
    if changed {
        // Who waits may have a better choice now.
        shared.changed.notify_waiters();
    }
    for report in reports {
        shared.about.turned(report);
    }
    next
}

fn report<S, P: Pick>(shared: &Shared<S, P>, count: usize) {
    shared
        .about
        .emit(|| Event::endpoints(shared.about.name(), count));
}

async fn next(
    watch: &mut watch::Receiver<discover::Snapshot>,
    gone: &mut oneshot::Receiver<Infallible>,
    source: bool,
    picker: &mut Option<watch::Receiver<()>>,
    outlier: &Outlier,
    (sweep, alarm): (Option<Duration>, Option<Instant>),
) -> Next {
    let mut changed = pin!(watch.changed());
    let mut other = pin!(async {
        let said = match picker {
            Some(changes) => changes.changed().await.is_ok(),
            None => false,
        };
        if !said {
            // Who can say nothing more is not asked again.
            std::future::pending::<()>().await;
        }
    });
    let mut sweep = pin!(async {
        match sweep {
            Some(wait) => sleep(wait).await,
            None => std::future::pending().await,
        }
    });
    let mut bell = pin!(outlier.bell.notified());
    let mut alarm = pin!(async {
        match alarm {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    });
    poll_fn(|cx| {
        if Pin::new(&mut *gone).poll(cx).is_ready() {
            return Poll::Ready(Next::End);
        }
        if source && let Poll::Ready(changed) = changed.as_mut().poll(cx) {
            return Poll::Ready(if changed.is_ok() {
                Next::Changed
            } else {
                Next::SourceGone
            });
        }
        if other.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Next::Picker);
        }
        if bell.as_mut().poll(cx).is_ready() || alarm.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Next::Outlier);
        }
        sweep.as_mut().poll(cx).map(|()| Next::Sweep)
    })
    .await
}
