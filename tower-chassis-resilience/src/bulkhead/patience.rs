use tokio::time::Instant;
use tower_chassis_core::{Carrier, Deadline, Invocation};

/// Until when the caller of a request waits for its answer: what a [`BulkheadLayer`](super::BulkheadLayer) asks
/// before a call has to wait, and at no other time.
#[diagnostic::on_unimplemented(
    message = "a `{Req}` carries no deadline",
    label = "this bulkhead asks for one",
    note = "leave `.deadlines()` out, or implement `Carrier`"
)]
pub trait Patience<Req> {
    /// The deadline, if there is one.
    fn deadline(request: &Req) -> Option<Instant>;
}

/// Nobody is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDeadlines;

impl<Req> Patience<Req> for NoDeadlines {
    fn deadline(_: &Req) -> Option<Instant> {
        None
    }
}

/// That of the [`Invocation`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadlines;

impl<Req: Carrier> Patience<Req> for Deadlines {
    fn deadline(request: &Req) -> Option<Instant> {
        let deadline = request.invocation().and_then(Invocation::deadline);
        deadline.map(Deadline::instant)
    }
}
