/// Why a limit is what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It was not changed yet.
    Start,
    /// It was used, and the service as fast as ever.
    Grew,
    /// Calls waited in the service.
    Latency,
    /// The service was slower whatever the limit: what it had been lowered to came back.
    Baseline,
    /// A call timed out or was answered that the service is overloaded.
    Overloaded,
    /// It was far above what was in flight in the last ten minutes.
    Unused,
    /// The settings were changed.
    Configured,
    /// It was [forced](super::AdaptiveHandle::force).
    Forced,
    /// A forced limit was given free, or its time was over.
    Released,
}

impl Reason {
    /// The name in events: `grew`, `latency`, `baseline`, `overloaded`, `unused`, `configured`, `forced`, `released`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Grew => "grew",
            Self::Latency => "latency",
            Self::Baseline => "baseline",
            Self::Overloaded => "overloaded",
            Self::Unused => "unused",
            Self::Configured => "configured",
            Self::Forced => "forced",
            Self::Released => "released",
        }
    }
}
