//! Records every call: one that finds no place for its record waits at the door.

mod future;
mod layer;
mod service;

use std::fmt;

use tokio::{sync::mpsc::OwnedPermit, time::Instant};
use tower_chassis_core::{Verdict, settle::Observe};

pub use self::{future::LosslessAuditFuture, layer::LosslessAuditLayer, service::LosslessAudit};
use super::{AuditRecord, state::Kept};

/// A place for a record, and what is kept for it. Dropped, the place is free again.
pub struct LosslessTicket {
    kept: Box<Kept>,
    place: OwnedPermit<AuditRecord>,
}

impl Observe for LosslessTicket {
    fn data(&mut self, bytes: usize) {
        self.kept.data(bytes);
    }
    fn done(self, verdict: Verdict, now: Instant) {
        let place = self.place;
        self.kept.done(verdict, now, |record| {
            drop(place.send(record));
            true
        });
    }
}

impl fmt::Debug for LosslessTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LosslessTicket").finish_non_exhaustive()
    }
}
