//! What a path captured, for handlers and services.

use std::{borrow::Cow, error::Error, fmt, str::FromStr, sync::Arc};

use http::uri::PathAndQuery;

use crate::{
    matcher::Captures,
    percent,
    router::{HostCaptures, Table},
};

/// The captures of the path of a request.
///
/// A handler takes them as an argument; a tower service on a route finds them in the extensions of its
/// request, where the route captures anything. A catch-all is named `*`, unless it was given a name.
/// Where nested routers use the same name, the innermost wins.
///
/// Values are percent-decoded when they are asked for. `+` stays `+`.
///
/// ```
/// use tower_chassis_router::{Params, ParamError};
///
/// async fn order(params: Params) -> Result<String, ParamError> {
///     let id: u64 = params.parse("id")?; // answers 400 where it is no number
///     Ok(format!("order {id}"))
/// }
/// # let _ = tower_chassis_router::get::<tower_chassis_core::Body, _, _>(order);
/// ```
#[derive(Clone)]
#[doc(alias = "URLParam")]
pub struct Params {
    pub(crate) table: Arc<Table>,
    pub(crate) scope: Option<u32>,
    pub(crate) route: Option<u32>,
    pub(crate) host: Option<Arc<HostCaptures>>,
    pub(crate) path: Option<PathAndQuery>,
    pub(crate) captures: Captures,
    /// Where a router below goes on, on the way through a layer.
    pub(crate) at: Option<usize>,
}

impl Params {
    #[cfg(feature = "axum")]
    pub(crate) fn route(&self) -> Option<tower_chassis_core::invocation::MatchedRoute> {
        self.table.route(self.route?)
    }

    /// The template of the route. `None` in a layer and in a fallback.
    #[must_use]
    pub fn template(&self) -> Option<&str> {
        self.table.template(self.route?)
    }

    /// The decoded value of `name`. `None` if there is no such capture, or if it is no UTF-8 once
    /// decoded; see [`decode`](Self::decode) to tell these apart.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.decode(name).ok()
    }

    /// The decoded value of `name`.
    ///
    /// # Errors
    ///
    /// There is no such capture, or it is no UTF-8 once decoded.
    pub fn decode(&self, name: &str) -> Result<Cow<'_, str>, ParamError> {
        let raw = self
            .raw(name)
            .ok_or_else(|| ParamError::new(name, Reason::Missing))?;
        Self::decoded(name, raw)
    }

    pub(crate) fn decoded<'v>(name: &str, raw: &'v str) -> Result<Cow<'v, str>, ParamError> {
        match percent::decode(raw.as_bytes()) {
            Cow::Borrowed(_) => Ok(Cow::Borrowed(raw)),
            Cow::Owned(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Cow::Owned(text)),
                Err(_) => Err(ParamError::new(name, Reason::NotUtf8)),
            },
        }
    }

    /// The decoded value of `name` as a `T`.
    ///
    /// # Errors
    ///
    /// There is no such capture, it is no UTF-8 once decoded, or it is no `T`.
    pub fn parse<T>(&self, name: &str) -> Result<T, ParamError>
    where
        T: FromStr,
        T::Err: Into<tower_chassis_core::BoxError>,
    {
        self.decode(name)?
            .parse()
            .map_err(|error: T::Err| ParamError::new(name, Reason::Unparsable(error.into())))
    }

    /// The value of `name` as it stands in the path, with its escapes.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&str> {
        match self.names().iter().rposition(|known| **known == *name) {
            Some(index) => self.value(index),
            None => self.host.as_ref()?.get(name),
        }
    }

    /// All captures from the left, those of the host first, as name and raw value. Equal names of nested routers come more than
    /// once.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let path = self.names().iter().enumerate();
        let path = path.filter_map(|(index, name)| Some((&**name, self.value(index)?)));
        self.host.iter().flat_map(|host| host.iter()).chain(path)
    }

    /// How many captures there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.captures.len() + self.host.as_ref().map_or(0, |host| host.iter().len())
    }

    /// Whether nothing was captured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn names(&self) -> &[Arc<str>] {
        self.table.names(self.scope)
    }

    fn value(&self, index: usize) -> Option<&str> {
        let (start, end) = self.captures.get(index)?;
        self.path.as_ref()?.path().get(start..end)
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A capture that is not there or not what was asked for.
///
/// As a response it is `400 Bad Request`; a capture that no pattern has is a fault of the program, and
/// `500 Internal Server Error`.
#[derive(Debug)]
pub struct ParamError {
    name: Box<str>,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Missing,
    NotUtf8,
    Unparsable(tower_chassis_core::BoxError),
}

impl ParamError {
    fn new(name: &str, reason: Reason) -> Self {
        Self {
            name: name.into(),
            reason,
        }
    }

    /// The name that was asked for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether no pattern on the way captures this name.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.reason, Reason::Missing)
    }

    /// Whether the decoded value is no UTF-8.
    #[must_use]
    pub fn is_not_utf8(&self) -> bool {
        matches!(self.reason, Reason::NotUtf8)
    }

    /// Whether the value could not be parsed; the parser's error is the [source](Error::source).
    #[must_use]
    pub fn is_unparsable(&self) -> bool {
        matches!(self.reason, Reason::Unparsable(_))
    }
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.reason {
            Reason::Missing => "is not captured by this route",
            Reason::NotUtf8 => "is not UTF-8",
            Reason::Unparsable(_) => "is not valid",
        };
        write!(f, "path parameter `{}` {what}", self.name)
    }
}

impl Error for ParamError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.reason {
            Reason::Unparsable(error) => Some(&**error),
            _ => None,
        }
    }
}
