use std::{fmt, str::FromStr, sync::Arc};

use tower_chassis_core::{Carrier, live::Invalid};
use twox_hash::XxHash64;

use super::threshold::PER_CLASS;

/// The metadatum that a [trusted](super::ShedLayer::trusted) caller says the priority of its call in.
pub const PRIORITY: &str = "x-chassis-priority";

/// How much a call matters, in five classes: the lower ones are refused first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum PriorityClass {
    /// Nobody waits for it: prefetching, a batch that runs again tomorrow.
    VeryLow,
    /// Can be left out: a recommendation, a thumbnail.
    Low,
    /// What is not said otherwise.
    #[default]
    Normal,
    /// A user would see that it failed: the page, the cart.
    High,
    /// Never refused below the pressure [`highest`](super::ShedConfig::highest): health checks, payment, the operator.
    VeryHigh,
}

impl PriorityClass {
    /// All five, the lowest first.
    pub const ALL: [Self; 5] = [
        Self::VeryLow,
        Self::Low,
        Self::Normal,
        Self::High,
        Self::VeryHigh,
    ];

    /// As it is written in configurations and metadata: `very-low`, ….
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VeryLow => "very-low",
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::VeryHigh => "very-high",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// The threshold that refuses all classes below: 0, 100, …, 400.
impl From<PriorityClass> for u16 {
    fn from(class: PriorityClass) -> Self {
        class as Self * PER_CLASS as Self
    }
}

impl fmt::Display for PriorityClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The priority of a call: a [class](PriorityClass), and within it a level from 0 to 99.
///
/// Without more said, each call draws its level, so that a class is refused in part before the next one is. With
/// [`user`](Self::user) it is that of the user: the same for each of its calls, also on another instance, so that a
/// page of twenty calls is not torn, and who tries again gains nothing. With [`level`](Self::level) it is what you
/// say.
///
/// ```
/// use tower_chassis_resilience::shed::{Priority, PriorityClass};
///
/// let priority = Priority::HIGH.user("alice");
/// assert_eq!(priority.class(), PriorityClass::High);
/// assert_eq!("low:30".parse(), Ok(Priority::LOW.level(30)));
/// assert_eq!(Priority::LOW.level(30).to_string(), "low:30");
/// assert!("lowest".parse::<Priority>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Priority {
    class: PriorityClass,
    pub(super) level: Level,
}

/// Where in its class a call is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Level {
    /// Somewhere.
    #[default]
    Drawn,
    Exact(u8),
    /// Where this hash is, with the salt of the day.
    User(u64),
}

impl Priority {
    /// [`PriorityClass::VeryLow`].
    pub const VERY_LOW: Self = Self::new(PriorityClass::VeryLow);
    /// [`PriorityClass::Low`].
    pub const LOW: Self = Self::new(PriorityClass::Low);
    /// [`PriorityClass::Normal`].
    pub const NORMAL: Self = Self::new(PriorityClass::Normal);
    /// [`PriorityClass::High`].
    pub const HIGH: Self = Self::new(PriorityClass::High);
    /// [`PriorityClass::VeryHigh`].
    pub const VERY_HIGH: Self = Self::new(PriorityClass::VeryHigh);

    /// Of this class, at a level that each call draws.
    #[must_use]
    pub const fn new(class: PriorityClass) -> Self {
        Self {
            class,
            level: Level::Drawn,
        }
    }

    /// At this level, 0 to 99; what is above is 99.
    #[must_use]
    pub const fn level(self, level: u8) -> Self {
        let most = PER_CLASS as u8 - 1;
        let level = if level > most { most } else { level };
        Self {
            class: self.class,
            level: Level::Exact(level),
        }
    }

    /// At the level of a user: the name of an account, a tenant, a session. Hashed with XXH64, whatever the length.
    ///
    /// The level depends on the [seed](super::ShedLayer::seed) and, unless [`rotate`](super::ShedConfig::rotate) is 0,
    /// on the day: nobody is always the first to be refused.
    #[must_use]
    pub fn user(self, user: impl AsRef<[u8]>) -> Self {
        Self {
            class: self.class,
            level: Level::User(XxHash64::oneshot(0, user.as_ref())),
        }
    }

    /// Its class.
    #[must_use]
    pub const fn class(self) -> PriorityClass {
        self.class
    }
}

impl From<PriorityClass> for Priority {
    fn from(class: PriorityClass) -> Self {
        Self::new(class)
    }
}

/// As in the metadatum [`PRIORITY`]: the class, and if it is known the level (`high`, `high:42`).
impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Exact(level) => write!(f, "{}:{level}", self.class),
            Level::Drawn | Level::User(_) => fmt::Display::fmt(&self.class, f),
        }
    }
}

impl FromStr for Priority {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            Invalid::new(
                "priority",
                "must be very-low, low, normal, high or very-high, or one with a level from 0 to 99 (high:42)",
            )
        };
        let (class, level) = match text.trim().split_once(':') {
            Some((class, level)) => (class, Some(level)),
            None => (text.trim(), None),
        };
        let mut classes = PriorityClass::ALL.into_iter();
        let class = classes.find(|known| known.as_str() == class);
        let priority = Self::new(class.ok_or_else(wrong)?);
        match level.map(str::parse::<u8>) {
            None => Ok(priority),
            Some(Ok(level)) if usize::from(level) < PER_CLASS => Ok(priority.level(level)),
            Some(_) => Err(wrong()),
        }
    }
}

/// Says how much a request matters. Made by [`priority`](super::ShedLayer::priority) and
/// [`trusted`](super::ShedLayer::trusted).
#[diagnostic::on_unimplemented(
    message = "the priority of a `{Req}` is not known here",
    label = "this layer asks for it",
    note = "the closure of `.priority(…)` takes `&{Req}`; `.trusted(…)` also needs `{Req}: Carrier`"
)]
pub trait PriorityOf<Req>: sealed::Sealed {
    /// The priority; none where no call is refused by it.
    fn priority_of(&self, request: &Req) -> Option<Priority>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::NoPriority {}
    impl<F> Sealed for super::ByFn<F> {}
    impl<P, T> Sealed for super::Trusted<P, T> {}
}

/// All calls are the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPriority;

impl<Req> PriorityOf<Req> for NoPriority {
    #[inline]
    fn priority_of(&self, _: &Req) -> Option<Priority> {
        None
    }
}

/// A closure says.
pub struct ByFn<F>(pub(super) F);

impl<F> fmt::Debug for ByFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByFn").finish_non_exhaustive()
    }
}

impl<Req, F: Fn(&Req) -> Priority> PriorityOf<Req> for ByFn<F> {
    #[inline]
    fn priority_of(&self, request: &Req) -> Option<Priority> {
        Some((self.0)(request))
    }
}

/// The caller says, where it is trusted.
pub struct Trusted<P, T> {
    pub(super) trusted: T,
    pub(super) otherwise: Arc<P>,
}

impl<P, T> fmt::Debug for Trusted<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trusted").finish_non_exhaustive()
    }
}

impl<Req, P, T> PriorityOf<Req> for Trusted<P, T>
where
    Req: Carrier,
    P: PriorityOf<Req>,
    T: Fn(&Req) -> bool,
{
    fn priority_of(&self, request: &Req) -> Option<Priority> {
        // Whether it is trusted is asked of few: most say nothing.
        let said = request.meta(PRIORITY).map(str::parse);
        match said {
            Some(Ok(priority)) if (self.trusted)(request) => Some(priority),
            _ => {
                let otherwise = self.otherwise.priority_of(request);
                Some(otherwise.unwrap_or_default())
            }
        }
    }
}
