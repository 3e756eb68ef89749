//! The tree that every format becomes: values that know where they came from.

use std::{collections::HashMap, fmt, path::Path, sync::Arc};

use super::printable::Printable;

/// Who said it.
///
/// The order of the variants is not the order of precedence; see [`Loader`](super::Loader) for that.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// A file, by the path that the user gave.
    File(Arc<Path>),
    /// A text with a name, such as a key of a configuration centre.
    Named(Arc<str>),
    /// A variable of the environment.
    Env(Arc<str>),
    /// A flag of the command line, dashes included.
    Flag(Arc<str>),
    /// Nobody: what holds when nothing else was said.
    Default,
}

impl Source {
    /// The file at `path`.
    #[must_use]
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self::File(path.as_ref().into())
    }

    /// A text called `name`.
    #[must_use]
    pub fn named(name: impl AsRef<str>) -> Self {
        Self::Named(name.as_ref().into())
    }

    /// The variable `name`.
    #[must_use]
    pub fn env(name: impl AsRef<str>) -> Self {
        Self::Env(name.as_ref().into())
    }

    /// The flag `name`, as it is written: `--listen`.
    #[must_use]
    pub fn flag(name: impl AsRef<str>) -> Self {
        Self::Flag(name.as_ref().into())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", Printable(&path.to_string_lossy())),
            Self::Named(name) => write!(f, "{}", Printable(name)),
            Self::Env(name) => write!(f, "environment {}", Printable(name)),
            Self::Flag(name) => write!(f, "flag {}", Printable(name)),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Where a value or a key stands.
///
/// Displays as `gateway.yaml:12:5`, `environment CHASSIS__GATEWAY__LISTEN`, `flag --listen` or `default`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Origin {
    /// Who said it.
    pub source: Source,
    /// The line in the source, from 1; `None` where the source has no lines.
    pub line: Option<u32>,
    /// The column in that line in characters, from 1.
    pub column: Option<u32>,
}

impl Origin {
    /// A source as a whole.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self {
            source,
            line: None,
            column: None,
        }
    }

    /// A place in a source; both counts begin at 1.
    #[must_use]
    pub fn at(source: Source, line: usize, column: usize) -> Self {
        let narrow = |n: usize| Some(u32::try_from(n).unwrap_or(u32::MAX));
        Self {
            source,
            line: narrow(line),
            column: narrow(column),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        for n in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{n}")?;
        }
        Ok(())
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it stands.
    pub origin: Origin,
    /// The text as it was written, kept where nobody could have quoted it (environment and flags):
    /// whoever wants a string gets this, even if it reads as a number.
    pub(super) text: Option<Box<str>>,
}

impl Node {
    /// A value at a place.
    #[must_use]
    pub fn new(value: Value, origin: Origin) -> Self {
        Self {
            value,
            origin,
            text: None,
        }
    }

    /// The map, if it is one.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing: `null`, `~`, or a key with nothing behind it.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer. What does not fit 64 bits with a sign is a fault of the text.
    Int(i64),
    /// A floating point number, infinities and NaN included.
    Float(f64),
    /// A text.
    Str(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order in which it was written.
    Map(Map),
}

impl Value {
    /// What kind of value this is, in the words of a fault: `a map`, `a list`, `a string`, …
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Str(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// A key with its place, and what stands behind it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// Where the key stands.
    pub key_origin: Origin,
    /// What stands behind it.
    pub node: Node,
}

/// Keys in the order in which they were written, each once.
#[derive(Clone, Debug, Default)]
pub struct Map {
    entries: Vec<Entry>,
    // Without it a file of n keys in one map would cost n².
    index: HashMap<Arc<str>, usize>,
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Map {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// The entry of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(*self.index.get(key)?)
    }

    /// The entry of `key`, to be changed; its key must stay.
    pub(super) fn entry_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.entries.get_mut(*self.index.get(key)?)
    }

    /// Appends a key, or sets the one that is there (it keeps its position and takes the new origin).
    pub fn insert(&mut self, key: impl Into<Arc<str>>, key_origin: Origin, node: Node) {
        let entry = Entry {
            key: key.into(),
            key_origin,
            node,
        };
        if let Some(old) = self
            .index
            .get(&entry.key)
            .and_then(|&at| self.entries.get_mut(at))
        {
            *old = entry;
            return;
        }
        self.index
            .insert(Arc::clone(&entry.key), self.entries.len());
        self.entries.push(entry);
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Map {
    type Item = Entry;
    type IntoIter = std::vec::IntoIter<Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_reads_as_the_user_knows_it() {
        for (origin, text) in [
            (
                Origin::at(Source::file("gateway.yaml"), 12, 5),
                "gateway.yaml:12:5",
            ),
            (
                Origin::new(Source::env("CHASSIS__GATEWAY__LISTEN")),
                "environment CHASSIS__GATEWAY__LISTEN",
            ),
            (Origin::new(Source::flag("--listen")), "flag --listen"),
            (
                Origin::at(Source::named("centre/shop"), 1, 2),
                "centre/shop:1:2",
            ),
            (Origin::new(Source::Default), "default"),
            (
                Origin::new(Source::file("evil\u{1b}[2J.yaml")),
                "evil\\u{1b}[2J.yaml",
            ),
        ] {
            assert_eq!(origin.to_string(), text);
        }
    }

    #[test]
    fn a_key_is_there_once_and_keeps_its_position() {
        let place = || Origin::new(Source::Default);
        let mut map = Map::new();
        for (key, n) in [("a", 1), ("b", 2), ("a", 3)] {
            map.insert(key, place(), Node::new(Value::Int(n), place()));
        }
        let all: Vec<_> = map.iter().map(|e| (&*e.key, &e.node.value)).collect();
        assert_eq!(all, [("a", &Value::Int(3)), ("b", &Value::Int(2))]);
    }
}
