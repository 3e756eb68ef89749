use tokio::time::Instant;
use tower_chassis_core::{Carrier, Deadline, Invocation, Kind, Rejection};

use super::{DeadlineConfig, dialect};

/// Which end of a hop a layer is at: [`Accept`] or [`Propagate`].
pub trait Side: Clone + sealed::Find {}

impl Side for Accept {}
impl Side for Propagate {}

mod sealed {
    use super::{Carrier, Deadline, DeadlineConfig, Instant, Rejection};

    pub trait Find {
        /// When a call that begins at `now` is ended. Its deadline is written where it belongs.
        fn find<Req: Carrier>(
            &self,
            request: &mut Req,
            bounds: &DeadlineConfig,
            now: Instant,
        ) -> Result<Deadline, Rejection>;

        /// Whether the call is ended then.
        fn ends(&self) -> bool {
            true
        }
    }
}

/// The server's end: believes what arrives, within bounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accept {
    pub(super) trust_envoy: bool,
}

impl sealed::Find for Accept {
    fn find<Req: Carrier>(
        &self,
        request: &mut Req,
        bounds: &DeadlineConfig,
        now: Instant,
    ) -> Result<Deadline, Rejection> {
        let told = dialect::read(request, self.trust_envoy)
            .map_err(|why| Rejection::new(Kind::BadRequest, "deadline").because(why))?;
        let invocation = invocation(request, now);
        // From when it arrived: what it waited for since is part of its time.
        let from = invocation.start();
        let told = told.map(|left| Deadline::after(from, left));
        let deadline = bounded(invocation.deadline(), told, bounds, from);
        invocation.limit_deadline(deadline);
        match deadline.remaining(now) {
            Some(_) => Ok(deadline),
            None => Err(passed()),
        }
    }
}

/// The client's end: tells the next hop what is left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Propagate {
    /// It tells, and does not end the call.
    pub(super) tells_only: bool,
}

impl sealed::Find for Propagate {
    fn find<Req: Carrier>(
        &self,
        request: &mut Req,
        bounds: &DeadlineConfig,
        now: Instant,
    ) -> Result<Deadline, Rejection> {
        // What the caller wrote itself, or passes on; what cannot be read is overwritten.
        let told = dialect::read(request, false).ok().flatten();
        let grpc = request.is_grpc();
        let invocation = invocation(request, now);
        let own = invocation.deadline();
        // A layer of ours further out may have written it for this very call: that is no nearer.
        let promised = own.map(|own| {
            let left = own.remaining(now).unwrap_or_default();
            dialect::promise(left, grpc)
        });
        let told = told
            .filter(|told| promised.is_none_or(|promised| *told < promised))
            .map(|told| Deadline::after(now, told));
        let deadline = bounded(own, told, bounds, now);
        invocation.limit_deadline(deadline);
        // Not later than promised: a transport that reads what was written (tonic's) would end the call first, with
        // an error of its own.
        deadline
            .remaining(now)
            .and_then(|left| dialect::write(request, left, grpc))
            .map(|promise| Deadline::after(now, promise))
            .ok_or_else(passed)
    }

    fn ends(&self) -> bool {
        !self.tells_only
    }
}

/// The nearer one of the call's `own` and the one that it was `told`, or else the default; at most the maximum.
fn bounded(
    own: Option<Deadline>,
    told: Option<Deadline>,
    bounds: &DeadlineConfig,
    from: Instant,
) -> Deadline {
    let asked = match (own, told) {
        (Some(own), Some(told)) => Some(own.min(told)),
        (own, told) => own.or(told),
    };
    asked
        .unwrap_or_else(|| Deadline::after(from, bounds.default))
        .min(Deadline::after(from, bounds.max))
}

fn invocation<Req: Carrier>(request: &mut Req, now: Instant) -> &mut Invocation {
    let extensions = request.extensions_mut();
    extensions.get_or_insert_with(|| Invocation::new(now))
}

#[cold]
fn passed() -> Rejection {
    Rejection::new(Kind::DeadlineExceeded, "deadline")
}
