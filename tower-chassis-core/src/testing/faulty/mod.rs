//! A layer that breaks the [laws](super::Law), one at a time and each in one way.
//!
//! [`LimitLayer`] is a right concurrency limit: it reserves a permit in `poll_ready`, takes it into the call, and
//! gives it back at the end of the body. [`LimitLayer::with`] plants one [`Flaw`] in it. So the code of each flaw
//! stands beside what is right, and as the layer without one passes the suite, what the suite finds is the flaw.
//!
//! For tests of the suite and for readers: it takes a lock and clones wakers, as a layer for use must not.

mod body;
mod future;
mod permits;
mod service;

use std::sync::Arc;

use tower_layer::Layer;

use self::permits::Permits;
pub use self::{body::LimitBody, future::LimitFuture, service::Limit};
use super::Law;

macro_rules! flaws {
    ($($(#[$doc:meta])* $flaw:ident => $law:ident,)+) => {
        /// One way of being wrong.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum Flaw {
            $($(#[$doc])* $flaw,)+
        }

        impl Flaw {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$flaw),+];

            /// The law that it breaks.
            #[must_use]
            pub const fn law(self) -> Law {
                match self {
                    $(Self::$flaw => Law::$law,)+
                }
            }
        }
    };
}

flaws! {
    /// The handle waits until no call is in flight.
    BlockingHandle => ReadsGoOn,
    /// `call` clones the inner service and calls the clone.
    CallsAClone => ReadiedIsCalled,
    /// A clone of a ready service takes the inner one for ready, too.
    ClonesReadiness => CloneStartsUnready,
    /// Each `poll_ready` reserves another permit.
    ReservesAgain => RepeatedReady,
    /// The permit of a service that is dropped ready stays taken.
    LeaksWhenReady => DroppedReady,
    /// The permit of a call that is dropped before its first poll stays taken.
    LeaksUnpolled => DroppedFuture,
    /// The permit of a call that is dropped at its second poll or later stays taken.
    LeaksWhenDropped => DroppedFuture,
    /// The permit of a response that is dropped unread stays taken.
    LeaksUnread => DroppedBody,
    /// The permit of a response that is dropped after its first frame stays taken.
    LeaksHalfRead => DroppedBody,
    /// The permit of a response whose body breaks stays taken.
    LeaksBroken => DroppedBody,
    /// The permit of a call that fails stays taken.
    LeaksOnError => InnerError,
    /// The permit that was reserved stays taken when the inner readiness fails.
    LeaksOnReadyError => InnerError,
    /// The permit of a call whose future panics stays taken.
    LeaksOnPanic => InnerPanic,
    /// The permit of a call whose inner `call` panics stays taken.
    LeaksOnPanicInCall => InnerPanic,
    /// The permit that was reserved stays taken when the inner `poll_ready` panics.
    LeaksOnReadyPanic => InnerPanic,
    /// Who waits for a permit wakes itself.
    Spins => SelfWake,
    /// Who waits for the inner service wakes itself.
    SpinsInCall => SelfWake,
    /// Who waits for the inner service has a task that wakes it at once.
    SpinsByTask => SelfWake,
    /// Who waits for the inner service looks again every millisecond.
    Ticks => SelfWake,
    /// Of those that wait for a permit, only the last is remembered.
    OneWaker => AllWaitersWake,
    /// A permit wakes one that waits, who may have gone.
    WakesTheGone => WaiterGivesUp,
    /// The inner future is always polled with the waker of the first poll.
    FirstWaker => LatestWaker,
    /// Who waits for a permit is woken where it first waited.
    FirstPlace => LatestWaker,
    /// Each service of the layer has its own permits.
    PrivateState => SharedState,
    /// One permit less than the limit.
    OneLess => CallsGoOn,
    /// `poll_ready` looks whether there is a permit, `call` takes one without looking.
    LooksFirst => LimitHolds,
    /// Errors are replaced by a text.
    ForgetsSource => ErrorIsKept,
    /// A refusal comes from `poll_ready`.
    RefusesInReady => RefusesInCall,
    /// An inner future that was ready is polled once more.
    PollsAgain => NotPolledAfterEnd,
    /// The inner service is called twice, each time made ready.
    CallsTwice => CallsOnce,
    /// Trailers are lost.
    LosesTrailers => BodyPasses,
    /// The first frame is kept until the second is there.
    HoldsFrames => BodyPasses,
}

/// Lets so many calls in at once; others wait in `poll_ready`. See the [module](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct LimitLayer {
    permits: Arc<Permits>,
    flaw: Option<Flaw>,
}

impl LimitLayer {
    /// A right one.
    pub fn new(limit: usize) -> Self {
        Self {
            permits: Permits::new(limit, None),
            flaw: None,
        }
    }

    /// One with a flaw.
    pub fn with(limit: usize, flaw: Flaw) -> Self {
        Self {
            permits: Permits::new(limit, Some(flaw)),
            flaw: Some(flaw),
        }
    }

    /// Reads how many permits are taken.
    #[must_use]
    pub fn handle(&self) -> LimitHandle {
        LimitHandle(Arc::clone(&self.permits))
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limit<S>;

    fn layer(&self, inner: S) -> Limit<S> {
        let permits = if self.flaw == Some(Flaw::PrivateState) {
            self.permits.private()
        } else {
            Arc::clone(&self.permits)
        };
        Limit::new(inner, permits, self.flaw)
    }
}

/// A view of a [`LimitLayer`] and all of its services.
#[derive(Clone, Debug)]
pub struct LimitHandle(Arc<Permits>);

impl LimitHandle {
    /// How many permits are taken.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.0.in_use()
    }
}
