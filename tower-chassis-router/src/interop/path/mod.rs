//! What the path captured, as a type of the user's.

mod deserializer;

use std::{
    error::Error,
    fmt,
    ops::{Deref, DerefMut},
};

use axum_core::extract::FromRequestParts;
use http::{Request, StatusCode, request::Parts};
use serde::de::{self, DeserializeOwned};
use tower_chassis_core::Body;

use self::deserializer::Captured;
use crate::{
    extract::{Extract, MatchedTemplate},
    params::Params,
    response::IntoResponse,
    router::Match,
};

/// The captures of the path, deserialized: for our handlers, and for those of axum on our routes.
///
/// | `T` | takes |
/// |---|---|
/// | a number, `String`, `char`, `bool`, an enum of units | the only capture |
/// | a tuple | all captures, from the left |
/// | a struct, a `HashMap` | captures by name; where nested routers use one name, the innermost |
/// | `Vec<(String, String)>` | all names and values |
///
/// What the [host](crate::Router::host) and the prefixes of nested routers captured is among them, and goes first. Where
/// a handler shall not care what is around it, take a struct, or [`Params`].
///
/// Values are percent-decoded. What cannot be deserialized is `400 Bad Request`, a type that does not fit the
/// pattern `500 Internal Server Error`.
///
/// It is used as axum's `Path`, which cannot work here: it reads a type that is private to axum, and answers 500 ("No
/// paths parameters found for matched route") on a route that is not axum's. If you see that, import this one.
///
/// ```
/// use tower_chassis_core::Body;
/// use tower_chassis_router::{Path, Router, get};
///
/// #[derive(serde::Deserialize)]
/// struct Article { year: u16, slug: String }
///
/// async fn article(Path(Article { year, slug }): Path<Article>) -> String {
///     format!("{slug} of {year}")
/// }
///
/// # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
/// let app = Router::<Body>::new().route("/{year}/{slug}", get(article)).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<T> Deref for Path<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Path<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: DeserializeOwned> Path<T> {
    fn of(params: &Params) -> Result<Self, PathError> {
        T::deserialize(Captured(params)).map(Self)
    }
}

impl<B, T: DeserializeOwned> Extract<B> for Path<T> {
    type Needs = ();
    type Refusal = PathError;

    fn extract(req: &mut Request<B>, matched: Match<'_>, (): &()) -> Result<Self, PathError> {
        Self::of(&matched.params(req))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = PathError;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, PathError> {
        Self::of(params(head)?)
    }
}

/// The captures of the path as they stand in it, with their escapes: names and values, in axum's handlers on our
/// routes. In our own take [`Params`].
#[derive(Clone, Debug)]
pub struct RawPathParams(Params);

impl RawPathParams {
    /// All captures from the left.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RawPathParams {
    type Rejection = PathError;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, PathError> {
        params(head).cloned().map(Self)
    }
}

/// In axum's handlers on our routes.
impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = PathError;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, PathError> {
        params(head).cloned()
    }
}

/// In axum's handlers on our routes.
impl<S: Send + Sync> FromRequestParts<S> for MatchedTemplate {
    type Rejection = PathError;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, PathError> {
        params(head).map(|params| Self(params.route()))
    }
}

fn params(head: &Parts) -> Result<&Params, PathError> {
    let params = head.extensions.get();
    params.ok_or(PathError {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        message: "no route of tower-chassis-router matched this request".into(),
    })
}

/// Why a [`Path`] could not be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathError {
    status: StatusCode,
    message: Box<str>,
}

impl PathError {
    fn new(message: impl fmt::Display) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.to_string().into(),
        }
    }

    fn misfit(message: impl fmt::Display) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Self::new(message)
        }
    }

    /// The same, said of one parameter.
    fn of(self, name: &str) -> Self {
        Self {
            status: self.status,
            ..Self::new(format_args!("path parameter `{name}`: {self}"))
        }
    }

    /// Whether the type does not fit the pattern of the route: a fault of the program.
    #[must_use]
    pub fn is_misfit(&self) -> bool {
        self.status.is_server_error()
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for PathError {}

impl de::Error for PathError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message)
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::misfit(format_args!(
            "a path parameter is {found}, and {expected} is wanted"
        ))
    }

    fn invalid_length(len: usize, expected: &dyn de::Expected) -> Self {
        Self::misfit(format_args!(
            "the route captures {len} values, {expected} is wanted"
        ))
    }

    fn unknown_field(field: &str, _: &'static [&'static str]) -> Self {
        Self::misfit(format_args!(
            "path parameter `{field}` is captured by this route, and not wanted"
        ))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::misfit(format_args!(
            "path parameter `{field}` is not captured by this route"
        ))
    }
}

impl IntoResponse for PathError {
    fn into_response(self) -> http::Response<Body> {
        (self.status, String::from(self.message)).into_response()
    }
}

impl axum_core::response::IntoResponse for PathError {
    fn into_response(self) -> axum_core::response::Response {
        let answer = (self.status, String::from(self.message));
        axum_core::response::IntoResponse::into_response(answer)
    }
}
