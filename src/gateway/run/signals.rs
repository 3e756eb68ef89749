//! The signals that end the program.

use std::io;

use tower_chassis_core::server::Drain;

/// The two signals that end a program, and which of them came.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[derive(PartialEq, Eq)]
pub(super) enum Ending {
    Terminate,
    Interrupt,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn next(&mut self) -> Ending {
        tokio::select! {
            _ = self.terminate.recv() => Ending::Terminate,
            _ = self.interrupt.recv() => Ending::Interrupt,
        }
    }
}

/// The first signal drains, the second one cuts.
pub(super) async fn drain_on(mut signals: Signals, drain: Drain) {
    let first = signals.next().await;
    tracing::info!("draining");
    drain.start();
    if first == Ending::Interrupt {
        drain.hurry();
    }
    signals.next().await;
    tracing::warn!("forced: requests in flight are cut");
    drain.force();
}
