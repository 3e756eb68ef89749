use std::{borrow::Cow, fmt};

/// How a check came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Status {
    /// Well.
    Up,
    /// It works, and not as it should. Answers as up does.
    Degraded(Cow<'static, str>),
    /// It does not work.
    Down(Cow<'static, str>),
}

impl Status {
    /// It works, and not as it should.
    pub fn degraded(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Degraded(why.into())
    }

    /// It does not work.
    pub fn down(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Down(why.into())
    }

    /// `up`, `degraded` or `down`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded(_) => "degraded",
            Self::Down(_) => "down",
        }
    }

    /// Why it is not up.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Up => None,
            Self::Degraded(why) | Self::Down(why) => Some(why),
        }
    }

    /// Whether it does not work.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        matches!(self, Self::Down(_))
    }

    /// 1 up, 0.5 degraded, 0 down.
    pub(super) const fn value(&self) -> f64 {
        match self {
            Self::Up => 1.0,
            Self::Degraded(_) => 0.5,
            Self::Down(_) => 0.0,
        }
    }
}

/// Up, or down with the error's text.
impl<E: fmt::Display> From<Result<(), E>> for Status {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Up,
            Err(error) => Self::Down(error.to_string().into()),
        }
    }
}

impl From<bool> for Status {
    fn from(up: bool) -> Self {
        if up { Self::Up } else { Self::down("down") }
    }
}
