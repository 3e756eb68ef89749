//! Why a request goes where it goes.

use std::{fmt, sync::Arc};

use http::{Method, Request};

use super::{listing::shown, locate::Found};
use crate::matcher::Verdict;

/// What a router looked at for a request, in order, and what came of it: see
/// [`RouteService::explain`](super::RouteService::explain). It prints as a text for people.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    method: Method,
    target: String,
    steps: Vec<Step>,
    found: Found<'a>,
}

impl<'a> Explanation<'a> {
    pub(super) fn new(req: &Request<()>, steps: Vec<Step>, found: Found<'a>) -> Self {
        Self {
            method: req.method().clone(),
            target: req.uri().to_string(),
            steps,
            found,
        }
    }

    /// Everything that was looked at, in the order of precedence. What is in a nested router comes behind the place
    /// that led there.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What comes of the request.
    #[must_use]
    pub fn found(&self) -> &Found<'a> {
        &self.found
    }
}

/// One thing that a router looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    depth: usize,
    candidate: Arc<str>,
    methods: Vec<Option<Method>>,
    why: Why,
}

/// Why a candidate was taken or not.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Why {
    /// It serves the request.
    Serves,
    /// It is a nested router, or one for this host or condition, and decides from here on.
    Enters,
    /// It would do, but another goes first.
    Later,
    /// The request does not meet the condition, or is not for this host.
    Unmet,
    /// It has the path, but not the method.
    Method,
    /// This segment of the path does not match.
    Segment {
        /// Its number, from 1, in the part of the path that this router sees.
        number: usize,
        /// Its text.
        text: Box<str>,
    },
    /// The path ends before the pattern does.
    PathEnds,
    /// The path goes on where the pattern ends.
    PathContinues,
    /// Nothing had the path as it is, so it was tried in this spelling.
    Respelled {
        /// With or without the last slash.
        path: Box<str>,
    },
}

impl Step {
    /// How many routers lead to it.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.depth
    }

    /// A template, or a host or condition.
    #[must_use]
    pub fn candidate(&self) -> &str {
        &self.candidate
    }

    /// The methods of the place; `None` for any.
    #[must_use]
    pub fn methods(&self) -> &[Option<Method>] {
        &self.methods
    }

    /// What came of it.
    #[must_use]
    pub const fn why(&self) -> &Why {
        &self.why
    }
}

/// The steps of a search, as they are made.
#[derive(Debug, Default)]
pub(super) struct Trail {
    pub(super) depth: usize,
    pub(super) steps: Vec<Step>,
}

impl Trail {
    pub(super) fn push(&mut self, candidate: &Arc<str>, methods: Vec<Option<Method>>, why: Why) {
        self.steps.push(Step {
            depth: self.depth,
            candidate: Arc::clone(candidate),
            methods,
            why,
        });
    }
}

impl Why {
    /// What a matcher says of a place, for a router that sees `path`.
    pub(super) fn of(verdict: Verdict, path: &str) -> Self {
        match verdict {
            Verdict::Serves => Self::Serves,
            Verdict::Later => Self::Later,
            Verdict::Method => Self::Method,
            Verdict::PathEnds => Self::PathEnds,
            Verdict::PathContinues => Self::PathContinues,
            Verdict::Segment(index) => {
                let path = path.strip_prefix('/').unwrap_or(path);
                Self::Segment {
                    number: index + 1,
                    text: path.split('/').nth(index).unwrap_or_default().into(),
                }
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serves => f.write_str("serves it"),
            Self::Enters => f.write_str("decides from here on"),
            Self::Later => f.write_str("would do, but comes later"),
            Self::Unmet => f.write_str("is not what is asked for"),
            Self::Method => f.write_str("has not the method"),
            Self::Segment { number, text } => {
                write!(f, "segment {number}, `{}`, does not match", shown(text))
            }
            Self::PathEnds => f.write_str("the path ends too early"),
            Self::PathContinues => f.write_str("the path goes on"),
            Self::Respelled { path } => {
                write!(f, "nothing so far; the same for `{}`", shown(path))
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.why {
            Why::Serves | Why::Enters => "->",
            _ => "  ",
        };
        let candidate = shown(&self.candidate);
        write!(f, "{:1$}{mark} {candidate}", "", self.depth * 2)?;
        for (index, method) in self.methods.iter().enumerate() {
            let method = method.as_ref().map_or("*", Method::as_str);
            write!(f, "{}{method}", if index == 0 { " [" } else { " " })?;
        }
        f.write_str(if self.methods.is_empty() { "" } else { "]" })?;
        write!(f, ": {}", self.why)
    }
}

/// What differs in its first segment already is counted, not listed.
impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.method, shown(&self.target))?;
        let mut unlike = 0;
        let mut depth = 0;
        for step in &self.steps {
            if step.depth != depth {
                others(f, &mut unlike, depth)?;
                depth = step.depth;
            }
            if matches!(step.why, Why::Segment { number: 1, .. }) {
                unlike += 1;
            } else {
                writeln!(f, "{step}")?;
            }
        }
        others(f, &mut unlike, depth)?;
        match &self.found {
            Found::Route { route, params } => {
                write!(f, "= {route}")?;
                if let Some(name) = route.name() {
                    write!(f, " ({name})")?;
                }
                for (index, (name, value)) in params.iter().enumerate() {
                    let (mark, value) = (if index == 0 { ":" } else { "," }, shown(value));
                    write!(f, "{mark} {name} = {value}")?;
                }
                Ok(())
            }
            Found::Redirect { location } => write!(f, "= 308 to {}", shown(location)),
            Found::Options { allow } => write!(f, "= 204, allow: {allow}"),
            Found::MethodNotAllowed { allow } => write!(f, "= 405, allow: {allow}"),
            Found::NotFound => f.write_str("= 404"),
        }
    }
}

fn others(f: &mut fmt::Formatter<'_>, unlike: &mut usize, depth: usize) -> fmt::Result {
    match std::mem::take(unlike) {
        0 => Ok(()),
        count => writeln!(
            f,
            "{:1$}   {count} with another first segment",
            "",
            depth * 2
        ),
    }
}
