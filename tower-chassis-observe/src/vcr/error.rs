//! What can go wrong.

use std::{fmt, io, path::PathBuf};

use super::Recorded;

/// A cassette that cannot be read or written, or a call that it does not answer.
#[derive(Debug)]
pub struct VcrError(Reason);

#[derive(Debug)]
pub(super) enum Reason {
    Io(PathBuf, io::Error),
    NotACassette(PathBuf, serde_json::Error),
    Version(PathBuf, u32),
    NoCompression(PathBuf),
    Unmatched {
        asked: String,
        nearest: Option<String>,
        recorded: usize,
    },
    Failed(String),
    TooLarge(usize),
}

impl From<Reason> for VcrError {
    fn from(reason: Reason) -> Self {
        Self(reason)
    }
}

impl VcrError {
    pub(super) fn unmatched(
        asked: &Recorded,
        left: &[(usize, &Recorded)],
        recorded: usize,
    ) -> Self {
        let likeness = |one: &Recorded| {
            let same = |is: bool, weight: u32| if is { weight } else { 0 };
            same(one.url() == asked.url(), 4)
                + same(one.body() == asked.body(), 2)
                + same(one.method() == asked.method(), 1)
        };
        let nearest = left.iter().rev().max_by_key(|(_, one)| likeness(one));
        Self(Reason::Unmatched {
            asked: asked.to_string(),
            nearest: nearest.map(|(number, one)| {
                let differs: Vec<_> = [
                    ("method", one.method() == asked.method()),
                    ("URL", one.url() == asked.url()),
                    ("body", one.body() == asked.body()),
                ]
                .into_iter()
                .filter_map(|(what, same)| (!same).then_some(what))
                .collect();
                let differs = match &*differs {
                    [] => "the matcher refuses it".to_owned(),
                    some => format!("another {}", some.join(", another ")),
                };
                format!("call {} is {one} ({differs})", number + 1)
            }),
            recorded,
        })
    }

    /// Whether no recorded call that is left matches.
    #[must_use]
    pub fn is_unmatched(&self) -> bool {
        matches!(self.0, Reason::Unmatched { .. })
    }

    /// Whether the recorded call had failed.
    #[must_use]
    pub fn is_recorded_failure(&self) -> bool {
        matches!(self.0, Reason::Failed(_))
    }

    /// Whether a body was longer than the [limit](super::VcrLayer::body_limit).
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self.0, Reason::TooLarge(_))
    }

    /// Whether the file cannot be read or written.
    #[must_use]
    pub fn is_io(&self) -> bool {
        matches!(self.0, Reason::Io(..))
    }
}

impl fmt::Display for VcrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Io(path, _) => write!(f, "the cassette {} cannot be used", path.display()),
            Reason::NotACassette(path, _) => write!(f, "{} is no cassette", path.display()),
            Reason::Version(path, version) => write!(
                f,
                "{} is a cassette of version {version}, which is not known here: record it anew",
                path.display()
            ),
            Reason::NoCompression(path) => write!(
                f,
                "{} is compressed: that needs the feature `compress`",
                path.display()
            ),
            Reason::Unmatched {
                asked,
                nearest,
                recorded,
            } => {
                write!(f, "no recorded call that is left matches {asked}; ")?;
                match nearest {
                    Some(nearest) => write!(f, "the nearest, {nearest}"),
                    None => write!(f, "all {recorded} are used"),
                }
            }
            Reason::Failed(text) => write!(f, "the recorded call had failed: {text}"),
            Reason::TooLarge(limit) => {
                write!(f, "a body is longer than {limit} bytes and is not recorded")
            }
        }
    }
}

impl std::error::Error for VcrError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Reason::Io(_, error) => Some(error),
            Reason::NotACassette(_, error) => Some(error),
            _ => None,
        }
    }
}
