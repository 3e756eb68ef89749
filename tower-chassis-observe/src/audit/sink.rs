//! Where records go.

use tokio::sync::mpsc::Sender;

use super::AuditRecord;
use crate::output::Output;

/// Takes records. It is called on the task of the call, so it must not wait; a panic of it is a record that is lost.
///
/// An [`Output`] writes them as lines of JSON, a [`Sender`] hands them to a task, a closure does what it likes.
pub trait AuditSink: Send + Sync + 'static {
    /// Takes a record; false if there is no room for it, and it is lost.
    fn put(&self, record: AuditRecord) -> bool;
}

impl AuditSink for Output {
    fn put(&self, record: AuditRecord) -> bool {
        self.line(&record.to_json())
    }
}

impl AuditSink for Sender<AuditRecord> {
    fn put(&self, record: AuditRecord) -> bool {
        self.try_send(record).is_ok()
    }
}

impl<F: Fn(AuditRecord) -> bool + Send + Sync + 'static> AuditSink for F {
    fn put(&self, record: AuditRecord) -> bool {
        self(record)
    }
}
