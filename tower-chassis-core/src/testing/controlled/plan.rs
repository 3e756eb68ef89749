use std::{error::Error, fmt, time::Duration};

/// What a [`ControlledService`](super::ControlledService) does with a call: answers, unless set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Plan {
    pub(super) wait: Wait,
    pub(super) end: End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    Polls(usize),
    Released,
    Time(Duration),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Answer,
    Error,
    Panic,
    PanicInCall,
}

impl Plan {
    const fn at_once(end: End) -> Self {
        Self {
            wait: Wait::Polls(0),
            end,
        }
    }

    /// Answers.
    pub const fn answer() -> Self {
        Self::at_once(End::Answer)
    }

    /// Fails with a [`Marked`] error.
    pub const fn error() -> Self {
        Self::at_once(End::Error)
    }

    /// Panics in the future. Without a line on the terminal: the panic hook is not run.
    pub const fn panic() -> Self {
        Self::at_once(End::Panic)
    }

    /// Panics in `call`, before there is a future.
    pub const fn panic_in_call() -> Self {
        Self::at_once(End::PanicInCall)
    }

    /// Pending until [released](super::Control::release).
    pub const fn held(mut self) -> Self {
        self.wait = Wait::Released;
        self
    }

    /// Pending for `polls` polls. It does not wake itself: [`nudge`](super::Control::nudge) wakes.
    pub const fn after_polls(mut self, polls: usize) -> Self {
        self.wait = Wait::Polls(polls);
        self
    }

    /// Pending for `time` of tokio's clock.
    pub const fn after(mut self, time: Duration) -> Self {
        self.wait = Wait::Time(time);
        self
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self::answer()
    }
}

/// The error of a [`ControlledService`](super::ControlledService), to be found again in a chain of sources.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marked {
    /// Which call failed, counted from one; 0 if readiness did.
    pub call: usize,
}

impl Marked {
    /// The marked error in the chain of sources of `error`.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            // An io::Error's `source` is that of the error it wraps, which would be passed over.
            next = match error
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref)
            {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        None
    }
}

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.call {
            0 => f.write_str("planted: readiness failed"),
            call => write!(f, "planted: call {call} failed"),
        }
    }
}

impl Error for Marked {}
