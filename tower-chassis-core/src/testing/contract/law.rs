use std::fmt;

macro_rules! laws {
    ($($(#[$doc:meta])* $law:ident = $text:literal,)+) => {
        /// What a layer must do, whatever its job is. The text of each is what a report says.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        #[non_exhaustive]
        pub enum Law {
            $($(#[$doc])* $law,)+
        }

        impl Law {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$law),+];

            /// The law in a line.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$law => $text,)+
                }
            }
        }
    };
}

laws! {
    /// Reading the state (`held`, `reads`) never waits for a call: an admin page must answer while calls hang.
    /// Read on a thread of its own, for five seconds at most.
    ReadsGoOn = "a handle can be read while a call is pending",
    /// `call` uses the very instance of the inner service whose `poll_ready` said yes, and each call its own yes.
    /// Layers that clone the inner service in `call` break it; the cure is to swap the ready one out.
    ReadiedIsCalled = "the instance that was readied is the one that is called",
    /// What `poll_ready` reserved belongs to one instance. A clone asks the inner service again.
    CloneStartsUnready = "a clone starts unready",
    /// `poll_ready` may be called any number of times after it was ready, and reserves once.
    RepeatedReady = "repeated `poll_ready` leaks nothing",
    /// A service that was made ready and is dropped without a call gives back what it reserved.
    DroppedReady = "what readiness reserved is released when the service is dropped",
    /// The caller may go away at any time: at each poll of the call, everything is given back.
    DroppedFuture = "what a call holds is released when its future is dropped",
    /// A caller may drop a response unread or half-read; until-end layers give back what they hold then.
    DroppedBody = "what a call holds is released when its body is dropped",
    /// An error of the inner service, in its future or its readiness, leaves nothing behind.
    InnerError = "what a call holds is released when the inner service fails",
    /// A panic in the inner `poll_ready`, `call` or future leaves nothing behind.
    InnerPanic = "what a call holds is released when the inner service panics",
    /// Who returns `Pending` has not woken its own task, or the task burns a core.
    SelfWake = "nothing wakes itself and returns `Pending`",
    /// Of many tasks that wait, each is woken in its time: no lost wakeup.
    AllWaitersWake = "all that wait are woken",
    /// A task that stops waiting leaves the queue, and a wakeup that it got goes to the next.
    WaiterGivesUp = "one that gives up waiting does not take a wakeup with it",
    /// A future may move to another task between polls; the waker of its last poll is the one that counts.
    LatestWaker = "the waker of the last poll is woken",
    /// `layer()` called many times shares the state, as axum calls it once per route: the same script over two
    /// services has the same outcomes as over one. Services without a layer share it among clones.
    SharedState = "state is shared by all services of a layer",
    /// A call that hangs does not stop others, up to the limit that the case declares.
    CallsGoOn = "calls on clones go on while one is pending",
    /// Never more calls in the inner service than the limit that the case declares.
    LimitHolds = "never more calls than the limit",
    /// Whoever handles an error finds the inner one in its chain of sources. A layer that answers instead of
    /// failing (`answers()`) answers.
    ErrorIsKept = "the inner error is kept in `source()`",
    /// An error from `poll_ready` means that the service is broken for good, so a refusal comes from `call`.
    RefusesInCall = "`poll_ready` fails only if the inner service's did",
    /// A future that is over is not polled again: most panic.
    NotPolledAfterEnd = "an inner future that is over is left alone",
    /// One call is one inner call. Only for cases that declare it (`calls_once()`).
    CallsOnce = "one call is one inner call",
    /// Frames arrive as they come, and trailers arrive.
    BodyPasses = "the frames and trailers of a body pass as they come",
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
