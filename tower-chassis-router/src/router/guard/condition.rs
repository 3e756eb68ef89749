//! What a request must have in its headers and its query.

use std::{borrow::Cow, fmt};

use http::{HeaderName, Request};

use crate::{
    percent,
    rules::{HeaderMatch, Test, ValueMatch},
};

/// What a request must have for [`Router::when`](crate::Router::when): headers, parameters of the query, or
/// several of these at once.
///
/// ```
/// use tower_chassis_core::Body;
/// use tower_chassis_router::{Condition, Router, get, rules::{HeaderMatch, ValueMatch}};
///
/// # fn main() -> Result<(), tower_chassis_router::BuildErrors> {
/// let beta = Condition::header(HeaderMatch::prefix("accept", "application/vnd.shop.v2"))
///     .and(Condition::query("beta", ValueMatch::Present));
/// let app = Router::<Body>::new()
///     .when(beta, Router::new().route("/items", get(|| async { "the new list" })))
///     .route("/items", get(|| async { "the list" }))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Header(HeaderMatch),
    Query { name: String, value: ValueMatch },
}

impl Condition {
    /// The request has this header. Of several values, one must do.
    #[must_use]
    pub fn header(header: HeaderMatch) -> Self {
        Self(vec![Term::Header(header)])
    }

    /// The query has a parameter of this name and value, both decoded as a form's are. Of several, one must do.
    #[must_use]
    pub fn query(name: impl Into<String>, value: ValueMatch) -> Self {
        let name = name.into();
        Self(vec![Term::Query { name, value }])
    }

    /// Both this and the other.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.0.iter().enumerate() {
            let (what, name, value) = match term {
                Term::Header(header) => ("header", &header.name, &header.value),
                Term::Query { name, value } => ("query", name, value),
            };
            write!(f, "{}{what} {name}", if index == 0 { "" } else { " and " })?;
            match value {
                ValueMatch::Exact(value) => write!(f, "={value}")?,
                ValueMatch::Prefix(value) => write!(f, "={value}*")?,
                ValueMatch::Regex(value) => write!(f, "~{value}")?,
                ValueMatch::Present => {}
            }
        }
        Ok(())
    }
}

/// A [`Condition`], compiled.
pub(super) struct Compiled(Vec<(Field, Test)>);

pub(super) enum Field {
    Header(HeaderName),
    Query(Box<[u8]>),
}

impl Compiled {
    pub(super) fn new(condition: Condition) -> Result<Self, Box<str>> {
        let compile = |value: ValueMatch| {
            Test::new(value).map_err(|error| -> Box<str> {
                format!("must be a small expression: {error}").into()
            })
        };
        let terms = condition.0.into_iter().map(|term| match term {
            Term::Header(header) => match HeaderName::try_from(&header.name) {
                Ok(name) => Ok((Field::Header(name), compile(header.value)?)),
                Err(_) => Err(format!("`{}` is no name of a header", header.name).into()),
            },
            Term::Query { name, value } => {
                let name = name.into_bytes().into_boxed_slice();
                Ok((Field::Query(name), compile(value)?))
            }
        });
        terms.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn holds<T>(&self, req: &Request<T>) -> bool {
        self.0.iter().all(|(field, test)| match field {
            Field::Header(name) => {
                let mut values = req.headers().get_all(name).iter();
                values.any(|value| test.accepts(value.as_bytes()))
            }
            Field::Query(name) => {
                let mut pairs = req.uri().query().unwrap_or_default().split('&');
                pairs.any(|pair| {
                    let (known, value) = pair.split_once('=').unwrap_or((pair, ""));
                    *form(known) == **name && test.accepts(&form(value))
                })
            }
        })
    }
}

/// Decodes a part of a form: escapes, and `+` for a space.
fn form(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        Cow::Owned(percent::decode(text.replace('+', "%20").as_bytes()).into_owned())
    } else {
        percent::decode(text.as_bytes())
    }
}
