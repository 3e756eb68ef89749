//! What a connection keeps for a call that switched protocols.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use crate::{Verdict, cause, upgrade::Switched};

const NEVER: u8 = 0;
const OFFERED: u8 = 1;
const CUT: u8 = 2;

/// Whether a connection may speak another protocol, and the tickets of the call that made it so.
#[derive(Debug, Default)]
pub(super) struct Switch {
    state: AtomicU8,
    /// Locked when a call switches and when its connection ends.
    tickets: Mutex<Option<Switched>>,
}

impl Switch {
    /// A request came that may switch. Before its answer, so that whoever gets the bytes finds it said.
    pub(super) fn offer(&self) {
        if self.state.load(Relaxed) == NEVER {
            self.state.store(OFFERED, Relaxed);
        }
    }

    pub(super) fn is_offered(&self) -> bool {
        self.state.load(Relaxed) != NEVER
    }

    pub(super) fn is_cut(&self) -> bool {
        self.state.load(Relaxed) == CUT
    }

    /// Keeps tickets until the connection ends.
    pub(super) fn hold(&self, tickets: Switched) {
        *self.tickets.lock().unwrap_or_else(PoisonError::into_inner) = Some(tickets);
    }

    /// The connection has ended, and the call with it.
    pub(super) fn end(&self) {
        // Tickets are the code of others, so not under the lock.
        let tickets = self
            .tickets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(tickets);
    }

    /// We end the connection: its reads and writes fail from here on.
    pub(super) fn cut(&self) {
        self.state.store(CUT, Relaxed);
        cause::drop_with(Verdict::CANCELLED, || self.end());
    }
}
