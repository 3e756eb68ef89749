use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::last::{Last, Serves};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Phase {
    Serving,
    Announced,
    Closing,
    Forced,
}

/// Says when to stop. Clones share it; several servers may follow one.
#[derive(Clone)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    /// What upgraded connections look at before each read and write.
    forced: Arc<AtomicBool>,
    last: Arc<Last>,
}

/// How a server ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
#[non_exhaustive]
pub enum Drained {
    /// Every request in flight was answered, every upgraded connection was closed.
    Clean,
    /// Connections were cut, upgraded ones among them: the limit had passed, or the drain was forced.
    CutShort,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// Serving.
    #[must_use]
    pub fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Serving),
            forced: Arc::default(),
            last: Arc::default(),
        }
    }

    /// Announces the end: readiness is refused from now on, the listeners close after the delay.
    pub fn start(&self) {
        self.advance(Phase::Announced);
    }

    /// Ends the delay: listeners close now.
    pub fn hurry(&self) {
        self.advance(Phase::Closing);
    }

    /// Cuts what is still in flight.
    pub fn force(&self) {
        self.forced.store(true, Relaxed);
        self.advance(Phase::Forced);
    }

    /// Whether the end was announced.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() > Phase::Serving
    }

    /// Resolves when the end is announced, at once when it was: a handler of a websocket or of another long
    /// stream says goodbye then, and the drain need not cut it. Cancel safe.
    pub async fn announced(&self) {
        self.reached(Phase::Announced).await;
    }

    /// Runs `work` when the last of the servers that follow this drain has ended, before its
    /// [`serve`](super::Bound::serve) returns: what telemetry still has to send, what a log still has to write. By then
    /// every call has ended, or was cut.
    ///
    /// All of it runs at once, each piece as a task of its own, and is dropped after `within`. What is said when the last server
    /// has ended already never runs, nor does it where the future of that server is dropped.
    pub fn finally(&self, within: Duration, work: impl Future<Output = ()> + Send + 'static) {
        self.last.add(within, Box::pin(work));
    }

    /// A server begins.
    pub(super) fn serves(&self) -> Serves {
        Last::serves(&self.last)
    }

    pub(super) fn is_forced(&self) -> bool {
        self.forced.load(Relaxed)
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let forward = *phase < to;
            *phase = (*phase).max(to);
            forward
        });
    }

    pub(super) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Resolves when the drain has come to `phase`. Cancel safe.
    pub(super) async fn reached(&self, phase: Phase) {
        // The sender is ours, so the channel cannot be closed.
        let _ = self.watch().wait_for(|now| *now >= phase).await;
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Drain").field(&*self.phase.borrow()).finish()
    }
}
