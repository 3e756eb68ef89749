//! From the name of a route to a path.

use std::{collections::HashMap, error::Error, fmt, panic::Location, sync::Arc};

use super::listing::join;
use crate::{
    matcher::Captures,
    pattern::Pattern,
    percent::{self, unit},
};

/// The named routes of a router.
#[derive(Default)]
pub(super) struct Urls(HashMap<Arc<str>, Named>);

struct Named {
    location: &'static Location<'static>,
    levels: Vec<Level>,
}

/// The path of a route inside of one router, or a prefix.
#[derive(Clone)]
pub(super) struct Level {
    pattern: Pattern,
    parts: Arc<[Part]>,
}

enum Part {
    /// As it stands in a path.
    Text(String),
    Value {
        name: Box<str>,
        catch_all: bool,
    },
}

impl Level {
    pub(super) fn new(pattern: &Pattern) -> Self {
        Self {
            pattern: pattern.clone(),
            parts: parts(pattern.as_str()).into(),
        }
    }

    fn render(&self, route: &str, given: &mut Given<'_>) -> Result<String, UrlError> {
        let error = |reason| UrlError::new(route, reason);
        let mut path = String::new();
        let mut captures = Vec::new();
        for part in &*self.parts {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Value { name, catch_all } => {
                    let value = given
                        .take(name)
                        .ok_or_else(|| error(Reason::Missing(name.clone())))?;
                    let start = path.len();
                    encode(value, *catch_all, &mut path);
                    captures.push((start, path.len()));
                }
            }
        }
        let dots = |segment: &str| matches!(&*percent::decode(segment.as_bytes()), b"." | b"..");
        let mut found = Captures::new();
        if path.split('/').any(dots) || !self.pattern.matches(&path, 0, &mut found) {
            return Err(error(Reason::Mismatch(self.pattern.as_str().into())));
        }
        let same = captures
            .iter()
            .enumerate()
            .all(|(index, range)| found.get(index) == Some(*range));
        if same {
            Ok(path)
        } else {
            Err(error(Reason::Mismatch(self.pattern.as_str().into())))
        }
    }
}

impl Urls {
    /// The place that has the name already, if one has.
    pub(super) fn add(
        &mut self,
        name: &Arc<str>,
        location: &'static Location<'static>,
        levels: Vec<Level>,
    ) -> Result<(), &'static Location<'static>> {
        if let Some(first) = self.0.get(name) {
            return Err(first.location);
        }
        self.0.insert(Arc::clone(name), Named { location, levels });
        Ok(())
    }

    pub(super) fn url<'v>(
        &self,
        name: &str,
        values: impl IntoIterator<Item = (&'v str, &'v str)>,
    ) -> Result<String, UrlError> {
        let Some(named) = self.0.get(name) else {
            return Err(UrlError::new(name, Reason::UnknownRoute));
        };
        let mut given = Given(
            values
                .into_iter()
                .map(|(key, value)| (key, value, false))
                .collect(),
        );
        let mut path = String::new();
        for level in &named.levels {
            path = join(&path, &level.render(name, &mut given)?);
        }
        if let Some((unused, ..)) = given.0.iter().find(|(_, _, used)| !used) {
            return Err(UrlError::new(name, Reason::Unexpected((*unused).into())));
        }
        // As a reference it would be a host (RFC 3986, 4.2).
        if path.starts_with("//") {
            return Err(UrlError::new(name, Reason::Mismatch(path.into())));
        }
        Ok(path)
    }
}

/// The values that are given, and whether they were used.
struct Given<'v>(Vec<(&'v str, &'v str, bool)>);

impl<'v> Given<'v> {
    /// The first value of a name that is still unused, or else its last.
    fn take(&mut self, name: &str) -> Option<&'v str> {
        let known = |entry: &(&str, &str, bool)| entry.0 == name;
        let fresh = self.0.iter().position(|entry| known(entry) && !entry.2);
        let index = fresh.or_else(|| self.0.iter().rposition(known))?;
        let entry = self.0.get_mut(index)?;
        entry.2 = true;
        Some(entry.1)
    }
}

fn parts(pattern: &str) -> Vec<Part> {
    let bytes = pattern.as_bytes();
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let (inside, taken) = match byte {
            b'*' => ("*", 1),
            b'{' => {
                let close = closing_brace(bytes, at);
                (
                    pattern.get(at + 1..close).unwrap_or_default(),
                    close + 1 - at,
                )
            }
            _ => {
                let Some((unit, taken)) = unit(bytes, at) else {
                    break;
                };
                push_octet((unit & 0xff) as u8, unit < 0x100, &mut text);
                at += taken;
                continue;
            }
        };
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        let (catch_all, name) = match inside.strip_prefix('*') {
            Some("") => (true, "*"),
            Some(name) => (true, name),
            None => (
                false,
                inside.split_once(':').map_or(inside, |(name, _)| name),
            ),
        };
        let name = name.into();
        parts.push(Part::Value { name, catch_all });
        at += taken;
    }
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    parts
}

/// The pattern was read once: its braces balance.
fn closing_brace(bytes: &[u8], open: usize) -> usize {
    let mut depth = 0usize;
    let rest = bytes.iter().enumerate().skip(open);
    for (at, byte) in rest {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

fn encode(value: &str, catch_all: bool, path: &mut String) {
    for byte in value.bytes() {
        let itself = match byte {
            b'%' => false,
            b'/' => catch_all,
            byte => unit(&[byte], 0).is_some_and(|(unit, _)| unit < 0x100),
        };
        push_octet(byte, itself, path);
    }
}

fn push_octet(byte: u8, itself: bool, path: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if itself {
        path.push(char::from(byte));
        return;
    }
    let digit = |nibble: u8| {
        HEX.get(usize::from(nibble))
            .map_or('0', |digit| char::from(*digit))
    };
    path.extend(['%', digit(byte >> 4), digit(byte & 15)]);
}

/// Why a URL could not be built. See [`RouteService::url`](super::RouteService::url).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UrlError {
    route: Box<str>,
    reason: Reason,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Reason {
    UnknownRoute,
    Missing(Box<str>),
    Unexpected(Box<str>),
    Mismatch(Box<str>),
}

impl UrlError {
    fn new(route: &str, reason: Reason) -> Self {
        Self {
            route: route.into(),
            reason,
        }
    }

    /// The name of the route.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The parameter that is missing, or that the route has not.
    #[must_use]
    pub fn parameter(&self) -> Option<&str> {
        match &self.reason {
            Reason::Missing(name) | Reason::Unexpected(name) => Some(name),
            _ => None,
        }
    }

    /// Whether no route has the name.
    #[must_use]
    pub fn is_unknown_route(&self) -> bool {
        matches!(self.reason, Reason::UnknownRoute)
    }

    /// Whether a parameter of the route was not given.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.reason, Reason::Missing(_))
    }

    /// Whether a parameter was given that the route has not.
    #[must_use]
    pub fn is_unexpected(&self) -> bool {
        matches!(self.reason, Reason::Unexpected(_))
    }

    /// Whether the route would not capture what was given: an expression refuses it, it is empty, it holds the
    /// text that ends it, it is `.` or `..`, which a client takes for another path, or the whole would begin with
    /// `//`, which a client takes for a host.
    #[must_use]
    pub fn is_mismatch(&self) -> bool {
        matches!(self.reason, Reason::Mismatch(_))
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = &self.route;
        match &self.reason {
            Reason::UnknownRoute => write!(f, "no route is named `{route}`"),
            Reason::Missing(name) => write!(f, "route `{route}` needs a parameter `{name}`"),
            Reason::Unexpected(name) => write!(f, "route `{route}` has no parameter `{name}`"),
            Reason::Mismatch(pattern) => {
                write!(
                    f,
                    "`{pattern}` of route `{route}` would not capture these values"
                )
            }
        }
    }
}

impl Error for UrlError {}
