//! What is wrong with a description of routes.

use std::{error::Error, fmt, panic::Location, sync::Arc};

use http::Method;

use crate::{extract::Missing, pattern::PatternError};

/// Where something was registered, and as what.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) location: &'static Location<'static>,
    pub(super) template: Arc<str>,
}

impl Place {
    /// Whether both are the same call.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.location == other.location && self.template == other.template
    }
}

/// Everything that is wrong with a router, from [`Router::build`](super::Router::build). Never empty.
///
/// ```
/// use tower_chassis_core::Body;
/// use tower_chassis_router::{Router, get};
///
/// let faults = Router::<Body>::new()
///     .route("/users/{id", get(|| async { "open" }))
///     .route("/p/{id}", get(|| async { "one" }))
///     .route("/p/{slug}", get(|| async { "two" }))
///     .build()
///     .unwrap_err();
/// assert_eq!(faults.iter().count(), 2);
/// assert!(faults.to_string().starts_with("2 faults in the routes\n"));
/// ```
#[derive(Clone, Debug)]
pub struct BuildErrors(Vec<BuildError>);

impl BuildErrors {
    pub(super) const fn new(errors: Vec<BuildError>) -> Self {
        Self(errors)
    }

    /// The faults, in the order of registration.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &BuildError> {
        self.0.iter()
    }
}

impl fmt::Display for BuildErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 fault in the routes")?,
            count => write!(f, "{count} faults in the routes")?,
        }
        self.0.iter().try_for_each(|error| {
            write!(f, "\n{error}")?;
            // A list has no source of its own to say it.
            let reason = error.source().map(ToString::to_string);
            match reason.as_deref().and_then(|reason| reason.lines().last()) {
                Some(reason) => write!(f, "\n  {reason}"),
                None => Ok(()),
            }
        })
    }
}

impl Error for BuildErrors {}

/// One fault in a description of routes, with the place in the program that registered it.
#[derive(Clone, Debug)]
pub struct BuildError {
    kind: Kind,
    location: &'static Location<'static>,
}

#[derive(Clone, Debug)]
enum Kind {
    Pattern(PatternError),
    Conflict {
        method: Option<Method>,
        template: Arc<str>,
        first: Place,
    },
    Mount {
        template: Arc<str>,
        first: Place,
    },
    Fallback {
        which: &'static str,
        first: &'static Location<'static>,
    },
    Name {
        name: Arc<str>,
        first: &'static Location<'static>,
    },
    State {
        state: &'static str,
        what: Box<str>,
    },
    Condition {
        condition: Arc<str>,
        why: Box<str>,
    },
}

impl BuildError {
    pub(super) const fn pattern(error: PatternError, location: &'static Location<'static>) -> Self {
        Self {
            kind: Kind::Pattern(error),
            location,
        }
    }

    pub(super) fn conflict(method: Option<Method>, second: Place, first: Place) -> Self {
        Self {
            kind: Kind::Conflict {
                method,
                template: second.template,
                first,
            },
            location: second.location,
        }
    }

    pub(super) fn mount(second: Place, first: Place) -> Self {
        Self {
            kind: Kind::Mount {
                template: second.template,
                first,
            },
            location: second.location,
        }
    }

    pub(super) const fn fallback(
        which: &'static str,
        second: &'static Location<'static>,
        first: &'static Location<'static>,
    ) -> Self {
        Self {
            kind: Kind::Fallback { which, first },
            location: second,
        }
    }

    pub(super) const fn name(
        name: Arc<str>,
        second: &'static Location<'static>,
        first: &'static Location<'static>,
    ) -> Self {
        Self {
            kind: Kind::Name { name, first },
            location: second,
        }
    }

    pub(super) fn state(
        missing: Missing,
        what: impl Into<Box<str>>,
        location: &'static Location<'static>,
    ) -> Self {
        Self {
            kind: Kind::State {
                state: missing.0,
                what: what.into(),
            },
            location,
        }
    }

    pub(super) fn condition(place: Place, why: Box<str>) -> Self {
        Self {
            kind: Kind::Condition {
                condition: place.template,
                why,
            },
            location: place.location,
        }
    }

    /// The call that registered it. Of two calls that conflict, the later.
    #[must_use]
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// The earlier of two calls that conflict.
    #[must_use]
    pub fn first_location(&self) -> Option<&'static Location<'static>> {
        match &self.kind {
            Kind::Pattern(_) | Kind::State { .. } | Kind::Condition { .. } => None,
            Kind::Conflict { first, .. } | Kind::Mount { first, .. } => Some(first.location),
            Kind::Fallback { first, .. } | Kind::Name { first, .. } => Some(first),
        }
    }

    /// What is wrong with the pattern, if that is the fault.
    #[must_use]
    pub fn pattern_error(&self) -> Option<&PatternError> {
        match &self.kind {
            Kind::Pattern(error) => Some(error),
            _ => None,
        }
    }

    /// Whether one method, or a fallback, was registered twice at one place.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self.kind, Kind::Conflict { .. } | Kind::Fallback { .. })
    }

    /// Whether a mount and a route, two mounts, or two routers of one host or condition, claim one place.
    #[must_use]
    pub fn is_mount_conflict(&self) -> bool {
        matches!(self.kind, Kind::Mount { .. })
    }

    /// Whether two routes have one [name](super::MethodRouter::name).
    #[must_use]
    pub fn is_name_conflict(&self) -> bool {
        matches!(self.kind, Kind::Name { .. })
    }

    /// Whether a handler takes a [`State`](crate::State) that no router around it has.
    #[must_use]
    pub fn is_missing_state(&self) -> bool {
        matches!(self.kind, Kind::State { .. })
    }

    /// Whether a [`Condition`](super::Condition) names no header, or has an expression that cannot be compiled.
    #[must_use]
    pub fn is_bad_condition(&self) -> bool {
        matches!(self.kind, Kind::Condition { .. })
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.location)?;
        match &self.kind {
            Kind::Pattern(error) => write!(f, "{error}"),
            Kind::Conflict {
                method,
                template,
                first,
            } => {
                let method = method.as_ref().map_or("any method of", Method::as_str);
                write!(
                    f,
                    "{method} {template} is registered twice, first as {} at {}",
                    first.template, first.location
                )
            }
            Kind::Mount { template, first } => {
                write!(
                    f,
                    "{template} is taken by {}, registered at {}",
                    first.template, first.location
                )
            }
            Kind::Fallback { which, first } => {
                write!(f, "there is a {which} already, registered at {first}")
            }
            Kind::Name { name, first } => {
                write!(f, "a route is named `{name}` already, at {first}")
            }
            Kind::State { state, what } => write!(
                f,
                "{what} needs `State<{state}>`, and no router around it has one; \
                 `with_state` gives it"
            ),
            Kind::Condition { condition, why } => write!(f, "condition `{condition}`: {why}"),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.pattern_error().and_then(Error::source)
    }
}
