//! What the arguments of a handler are made from.

use std::{
    any::{Any, TypeId, type_name},
    convert::Infallible,
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use http::{HeaderMap, Method, Request, Uri, Version};
use tower_chassis_core::invocation::MatchedRoute;

use crate::{params::Params, response::IntoResponse, router::Match};

/// An argument of a handler, made from the head of a request and from how the request was matched.
///
/// | argument | is |
/// |---|---|
/// | [`Params`] | what the path (and the host) captured |
/// | [`State<T>`](State) | what [`Router::with_state`](crate::Router::with_state) was given |
/// | [`Method`], [`Uri`], [`Version`], [`HeaderMap`] | parts of the request, copied |
/// | [`MatchedTemplate`] | the template of the route |
/// | `Option<A>`, `Result<A, A::Refusal>` | another argument, without its refusal |
///
/// It never waits: a body is read by the handler.
///
/// ```
/// use http::{Request, StatusCode};
/// use tower_chassis_core::Body;
/// use tower_chassis_router::{Extract, Match, Router, State, get};
///
/// #[derive(Clone)]
/// struct Keys(&'static str);
///
/// struct Member;
///
/// impl<B> Extract<B> for Member {
///     type Needs = State<Keys>;
///     type Refusal = StatusCode;
///
///     fn extract(req: &mut Request<B>, _: Match<'_>, keys: &State<Keys>) -> Result<Self, StatusCode> {
///         match req.headers().get("authorization") {
///             Some(key) if key == keys.0.0 => Ok(Self),
///             _ => Err(StatusCode::UNAUTHORIZED),
///         }
///     }
/// }
///
/// # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
/// let app = Router::<Body>::new()
///     .route("/", get(|_: Member| async { "welcome" }))
///     .with_state(Keys("secret"))
///     .build()?;
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no argument of a handler",
    note = "take `Params`, `State<T>`, `Method`, `Uri`, `HeaderMap`, `MatchedTemplate`, or a type of your own that implements `Extract`",
    note = "`Request<B>` goes first or last; for extractors of axum, wrap the handler in `axum(…)`"
)]
pub trait Extract<B>: Sized {
    /// The state that it needs: `()`, a [`State<T>`](State), or a tuple of those. It is looked up once, by
    /// [`Router::build`](crate::Router::build), which reports what is missing.
    type Needs: Needs;

    /// What the client gets where the argument cannot be made.
    type Refusal: IntoResponse;

    /// Makes the argument.
    ///
    /// # Errors
    ///
    /// An answer for the client; the handler is not called.
    fn extract(
        req: &mut Request<B>,
        matched: Match<'_>,
        needs: &Self::Needs,
    ) -> Result<Self, Self::Refusal>;
}

/// What [`Router::with_state`](crate::Router::with_state) was given: a copy for each call, so an `Arc` or a
/// reference around what is large.
///
/// The innermost router that has a `T` gives it. A handler whose state nobody gives is a fault that
/// [`Router::build`](crate::Router::build) reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<T>(pub T);

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for State<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// The values that a router has for its handlers, one per type.
#[derive(Clone, Default)]
pub struct States(Vec<(TypeId, Arc<dyn Any + Send + Sync>)>);

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").finish_non_exhaustive()
    }
}

impl States {
    pub(crate) const NONE: Self = Self(Vec::new());

    pub(crate) fn set<T: Send + Sync + 'static>(&mut self, value: T) {
        let kind = TypeId::of::<T>();
        self.0.retain(|(known, _)| *known != kind);
        self.0.push((kind, Arc::new(value)));
    }

    /// Takes over what `outer` has and this has not.
    pub(crate) fn inherit(&mut self, outer: &Self) {
        for (kind, value) in &outer.0 {
            if self.0.iter().all(|(known, _)| known != kind) {
                self.0.push((*kind, Arc::clone(value)));
            }
        }
    }

    fn get<T: Clone + 'static>(&self) -> Result<T, Missing> {
        self.0
            .iter()
            .find_map(|(_, value)| value.downcast_ref::<T>())
            .cloned()
            .ok_or(Missing(type_name::<T>()))
    }
}

/// The type of a state that no router has.
#[derive(Clone, Copy, Debug)]
pub struct Missing(pub(crate) &'static str);

/// What a handler needs beyond the request: `()`, [`State<T>`](State), or a tuple of those.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be looked up in the states of a router",
    note = "`Extract::Needs` is `()`, `State<T>` of a `T: Clone + Send + Sync + 'static`, or a tuple of those"
)]
pub trait Needs: Clone + Sized + Send + Sync + 'static {
    #[doc(hidden)]
    fn find(states: &States) -> Result<Self, Missing>;
}

impl<T: Clone + Send + Sync + 'static> Needs for State<T> {
    fn find(states: &States) -> Result<Self, Missing> {
        states.get().map(Self)
    }
}

macro_rules! needs {
    ($($kind:ident),*) => {
        impl<$($kind: Needs),*> Needs for ($($kind,)*) {
            fn find(_states: &States) -> Result<Self, Missing> {
                Ok(($($kind::find(_states)?,)*))
            }
        }
    };
}

needs!();
needs!(A);
needs!(A, C);
needs!(A, C, D);
needs!(A, C, D, E);
needs!(A, C, D, E, F);
needs!(A, C, D, E, F, G);
needs!(A, C, D, E, F, G, H);
needs!(A, C, D, E, F, G, H, I);

impl<B> Extract<B> for Params {
    type Needs = ();
    type Refusal = Infallible;

    fn extract(req: &mut Request<B>, matched: Match<'_>, (): &()) -> Result<Self, Infallible> {
        Ok(matched.params(req))
    }
}

impl<B, T: Clone + Send + Sync + 'static> Extract<B> for State<T> {
    type Needs = Self;
    type Refusal = Infallible;

    fn extract(_: &mut Request<B>, _: Match<'_>, state: &Self) -> Result<Self, Infallible> {
        Ok(state.clone())
    }
}

macro_rules! parts {
    ($($kind:ty: $part:ident;)+) => {$(
        impl<B> Extract<B> for $kind {
            type Needs = ();
            type Refusal = Infallible;

            fn extract(req: &mut Request<B>, _: Match<'_>, (): &()) -> Result<Self, Infallible> {
                Ok(req.$part().clone())
            }
        }
    )+};
}

parts! {
    Method: method;
    Uri: uri;
    Version: version;
    HeaderMap: headers;
}

impl<B, A: Extract<B>> Extract<B> for Option<A> {
    type Needs = A::Needs;
    type Refusal = Infallible;

    fn extract(
        req: &mut Request<B>,
        matched: Match<'_>,
        needs: &A::Needs,
    ) -> Result<Self, Infallible> {
        Ok(A::extract(req, matched, needs).ok())
    }
}

impl<B, A: Extract<B>> Extract<B> for Result<A, A::Refusal> {
    type Needs = A::Needs;
    type Refusal = Infallible;

    fn extract(
        req: &mut Request<B>,
        matched: Match<'_>,
        needs: &A::Needs,
    ) -> Result<Self, Infallible> {
        Ok(A::extract(req, matched, needs))
    }
}

/// The template of the route that matched (`/users/{id}`), the prefixes of mounts included.
///
/// In a fallback there is none, and it is empty.
#[derive(Clone, Debug)]
#[doc(alias = "MatchedPath")]
#[doc(alias = "RoutePattern")]
pub struct MatchedTemplate(pub(crate) Option<MatchedRoute>);

impl MatchedTemplate {
    /// The template.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_ref().map_or("", MatchedRoute::template)
    }
}

impl Deref for MatchedTemplate {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for MatchedTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<B> Extract<B> for MatchedTemplate {
    type Needs = ();
    type Refusal = Infallible;

    fn extract(_: &mut Request<B>, matched: Match<'_>, (): &()) -> Result<Self, Infallible> {
        Ok(Self(matched.route()))
    }
}
