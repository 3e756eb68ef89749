use std::fmt;

use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Phase {
    Serving,
    Announced,
    Closing,
    Forced,
}

/// Says when to stop. Clones share it; several servers may follow one.
#[derive(Clone)]
pub struct Drain(watch::Sender<Phase>);

/// How a server ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
#[non_exhaustive]
pub enum Drained {
    /// Every request in flight was answered.
    Clean,
    /// Connections were cut: the limit had passed, or the drain was forced.
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
        Self(watch::Sender::new(Phase::Serving))
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
        self.advance(Phase::Forced);
    }

    /// Whether the end was announced.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() > Phase::Serving
    }

    fn advance(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let forward = *phase < to;
            *phase = (*phase).max(to);
            forward
        });
    }

    pub(super) fn watch(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }

    /// Resolves when the drain has come to `phase`. Cancel safe.
    pub(super) async fn reached(&self, phase: Phase) {
        // The sender is ours, so the channel cannot be closed.
        let _ = self.watch().wait_for(|now| *now >= phase).await;
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Drain").field(&*self.0.borrow()).finish()
    }
}
