//! What an operator may say over the head of a breaker.

/// Whether a breaker decides by itself, or what was said in its place by [`BreakerHandle::force`](super::BreakerHandle::force).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[non_exhaustive]
pub enum Mode {
    /// It decides by itself.
    #[default]
    Auto,
    /// It refuses every call.
    ForcedOpen,
    /// Calls pass and are counted; it does not open.
    ForcedClosed,
    /// Calls pass and are not counted.
    Disabled,
    /// Calls pass and are counted; where it would open, it only says so.
    ObserveOnly,
}

impl Mode {
    /// The name in events and metrics: `auto`, `forced-open`, `forced-closed`, `disabled`, `observe-only`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::ForcedOpen => "forced-open",
            Self::ForcedClosed => "forced-closed",
            Self::Disabled => "disabled",
            Self::ObserveOnly => "observe-only",
        }
    }
}
