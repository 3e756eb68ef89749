//! What is wrong with a configuration, all of it at once.

use std::{fmt, io, path::PathBuf};

use super::{
    printable::Printable,
    value::{Origin, Source},
};

/// One thing that is wrong, where it stands, and what would be right.
///
/// Displays on one line, safe for a terminal:
/// `gateway.yaml:12:5: services.shop.breaker.failure_rat: unknown key; did you mean "failure_rate"?`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Fault {
    /// Where it stands.
    pub origin: Origin,
    /// The value: `services.shop.retry.attempts`, `routes[2].path`; empty for the whole.
    pub path: String,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What to do instead, if there is an obvious thing.
    pub suggestion: Option<String>,
}

impl Fault {
    /// A fault of the value at `path`.
    #[must_use]
    pub fn new(origin: Origin, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            origin,
            path: path.into(),
            message: message.into(),
            suggestion: None,
        }
    }

    /// Says what to do instead.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", Printable(&self.path))?;
        }
        write!(f, "{}", Printable(&self.message))?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {}", Printable(suggestion)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

/// All that is wrong: by source, line and column, nothing twice.
///
/// Displays one fault per line, without a line break at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// `Ok` if nothing is wrong.
    ///
    /// # Errors
    ///
    /// The faults themselves, if there are any.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        let mut all: Vec<_> = faults.into_iter().collect();
        // Stable: what stands at one place stays in the order in which it was found.
        all.sort_by(|a, b| a.origin.cmp(&b.origin));
        let mut seen = std::collections::HashSet::new();
        all.retain(|fault| seen.insert(fault.clone()));
        Self(all)
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Why a configuration did not load.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// A file is missing, cannot be read, is larger than 16 MiB or has an ending that names no format.
    #[non_exhaustive]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everything could be read, and something in it is wrong.
    Faults(Faults),
}

impl LoadError {
    /// What a command should exit with: 2 for a file that cannot be read, 1 for faults.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreadable { .. } => 2,
            Self::Faults(_) => 1,
        }
    }

    /// The faults, if everything could be read.
    #[must_use]
    pub fn faults(&self) -> Option<&Faults> {
        match self {
            Self::Faults(faults) => Some(faults),
            Self::Unreadable { .. } => None,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => {
                write!(
                    f,
                    "{}: {}",
                    Source::file(path),
                    Printable(&source.to_string())
                )
            }
            Self::Faults(faults) => faults.fmt(f),
        }
    }
}

// The message of the system is in ours already, so `source()` stays empty: a chain printed in full
// would say it twice.
impl std::error::Error for LoadError {}

impl From<Faults> for LoadError {
    fn from(faults: Faults) -> Self {
        Self::Faults(faults)
    }
}

impl From<Fault> for LoadError {
    fn from(fault: Fault) -> Self {
        Self::Faults(fault.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: &str, line: usize) -> Origin {
        Origin::at(Source::file(file), line, 1)
    }

    #[test]
    fn faults_stand_by_file_and_line_and_once() {
        let faults: Faults = [
            Fault::new(
                Origin::new(Source::flag("--listen")),
                "gateway.listen",
                "invalid",
            ),
            Fault::new(at("b.yaml", 1), "x", "bad"),
            Fault::new(at("a.yaml", 10), "y", "bad"),
            Fault::new(at("a.yaml", 9), "z", "unknown key").suggest("did you mean \"y\"?"),
            Fault::new(at("b.yaml", 1), "x", "bad"),
        ]
        .into_iter()
        .collect();
        assert_eq!(
            faults.to_string(),
            "a.yaml:9:1: z: unknown key; did you mean \"y\"?\n\
             a.yaml:10:1: y: bad\n\
             b.yaml:1:1: x: bad\n\
             flag --listen: gateway.listen: invalid"
        );
    }

    #[test]
    fn a_fault_is_one_line_whatever_it_holds() {
        let fault = Fault::new(at("a.yaml", 1), "a\nb", "no\u{1b}[2J").suggest("x\ry");
        assert_eq!(fault.to_string(), "a.yaml:1:1: a\\nb: no\\u{1b}[2J; x\\ry");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_a_fault() {
        let source = io::Error::new(io::ErrorKind::NotFound, "not there");
        let error = LoadError::Unreadable {
            path: "g.yaml".into(),
            source,
        };
        assert_eq!(
            (error.to_string().as_str(), error.exit_code()),
            ("g.yaml: not there", 2)
        );
        let error = LoadError::from(Fault::new(at("g.yaml", 3), "", "bad"));
        assert_eq!(
            (error.to_string().as_str(), error.exit_code()),
            ("g.yaml:3:1: bad", 1)
        );
    }
}
