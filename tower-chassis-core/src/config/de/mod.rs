//! From the tree to a type, with every fault and not only the first.
//!
//! serde stops at the first error. So the tree is read again and again: an error is recorded, what caused
//! it is left out, and what the type makes of the rest shows the next one. Nothing is copied; what is
//! left out is a mark beside the tree.
//!
//! - An unknown key is left out.
//! - A value of a wrong type, or one that its type refuses, is left out, so that the default of its field
//!   holds. If it has none, the field is missing, which is a consequence and no fault.
//! - A field that is missing gets a stand-in, so that the next missing one shows. Where no stand-in
//!   pleases the type, what holds the field is left out as a whole.
//! - What a type says about a whole in which something is wrong already ("min above max") may be a
//!   consequence. It is not reported, and the whole is left out.
//!
//! Every round marks something that was not marked before, so there is an end.

mod access;
mod error;
mod marks;
mod node;
mod stand_in;

use serde::de::DeserializeOwned;

use self::{
    error::{Error, Kind},
    marks::Marks,
    node::NodeDe,
};
use super::{
    fault::{Fault, Faults},
    path::{self, Step},
    secrecy,
    tree::{self, Tree, did_you_mean},
    value::{Node, Origin, Value},
};

/// Nobody reads more at once, and each costs a walk over the tree.
const MAX_FAULTS: usize = 100;

/// A fault costs a few rounds for its consequences, never this many.
const MAX_ROUNDS: usize = 10_000;

/// A list of accepted names longer than this helps nobody.
const MAX_LISTED: usize = 8;

impl Tree {
    /// Reads the tree as a `T`.
    ///
    /// A type that should refuse unknown keys says so: `#[serde(deny_unknown_fields)]`. `null` and an empty
    /// section are an empty map or list where one is wanted. Inside of `#[serde(flatten)]`, `untagged` and
    /// internally tagged types serde forgets where it stands; a fault there carries the path of the whole.
    ///
    /// # Errors
    ///
    /// All faults, not only the first, though at most a hundred.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, Faults> {
        deserialize(self)
    }

    /// Reads what can be read of the tree as a `T`, and says what was wrong with the rest.
    ///
    /// With faults the value is for finding more of them, for nothing else: what was wrong is left out or
    /// stands as its type's default, lists that held a faulty item are shorter, and a required key that is
    /// missing or wrong has a value that was made up. So a further fault may be a consequence: do not report
    /// one at or below the path of a fault, nor a name that dangles because what it names was left out.
    pub fn deserialize_partly<T: DeserializeOwned>(&self) -> (Option<T>, Faults) {
        partly(self)
    }
}

pub(super) fn deserialize<T: DeserializeOwned>(tree: &Tree) -> Result<T, Faults> {
    match partly(tree) {
        (Some(value), faults) if faults.is_empty() => Ok(value),
        (_, faults) => Err(faults),
    }
}

fn partly<T: DeserializeOwned>(tree: &Tree) -> (Option<T>, Faults) {
    let mut run = Run {
        tree,
        marks: Marks::default(),
        faults: Vec::new(),
        at: Vec::new(),
    };
    let mut read = None;
    for _ in 0..MAX_ROUNDS {
        match T::deserialize(NodeDe::new(tree.root(), &run.marks)) {
            Ok(value) => {
                read = Some(value);
                break;
            }
            Err(error) if run.faults.len() >= MAX_FAULTS => {
                drop(error);
                let message = format!("more than {MAX_FAULTS} faults; the rest was not looked at");
                run.faults
                    .push(Fault::new(Origin::new(super::Source::Default), "", message));
                break;
            }
            Err(error) => {
                if !run.learn(error) {
                    break;
                }
            }
        }
    }
    (read, run.faults.into_iter().collect())
}

struct Run<'a> {
    tree: &'a Tree,
    marks: Marks,
    faults: Vec<Fault>,
    /// The paths of the faults.
    at: Vec<Vec<Step>>,
}

impl<'a> Run<'a> {
    /// Records what an error says unless it is a consequence, and marks what caused it. `false` if nothing
    /// can be learned from another round.
    fn learn(&mut self, error: Error) -> bool {
        let Error {
            kind,
            mut steps,
            stand_in,
            on_key,
        } = error;
        steps.reverse();
        if stand_in {
            // The last step is the stand-in itself.
            let Some(Step::Key(field)) = steps.pop() else {
                return false;
            };
            let Some(whole) = self.node(&steps) else {
                return false;
            };
            return self.marks.next_stand_in(whole, &field) || self.leave_out(&steps);
        }
        match kind {
            Kind::Missing(field) => self.missing(field, steps),
            Kind::UnknownField { field, accepted } => self.unknown_field(&field, accepted, steps),
            kind => {
                let consequence =
                    kind.may_be_consequence() && self.at.iter().any(|at| at.starts_with(&steps));
                if !consequence {
                    let origin = self.origin_of(&kind, on_key, &steps);
                    let (message, suggestion) = self.words(&kind, &steps);
                    self.record(origin, steps.clone(), message, suggestion);
                }
                self.leave_out(&steps)
            }
        }
    }

    fn missing(&mut self, field: &'static str, steps: Vec<Step>) -> bool {
        let Some(whole) = self.node(&steps) else {
            return self.leave_out(&steps);
        };
        if self.marks.has_stand_in(whole, field) {
            return self.leave_out(&steps);
        }
        let left_out = whole.as_map().is_some_and(|map| map.get(field).is_some());
        if !left_out && !self.marks.was_meant(whole, field) {
            let origin = self.tree.origin_at(&steps).clone();
            let mut at = steps;
            at.push(Step::Key(field.into()));
            self.record(origin, at, "missing required key".to_owned(), None);
        }
        self.marks.stand_in(whole, field);
        true
    }

    fn unknown_field(
        &mut self,
        field: &str,
        accepted: &'static [&'static str],
        mut steps: Vec<Step>,
    ) -> bool {
        let whole = self.node(&steps);
        let entry = whole.and_then(|node| node.as_map()?.get(field));
        let (Some(whole), Some(entry)) = (whole, entry) else {
            // Serde named a key of something that it had read before: the whole is all we can point at.
            let origin = self.tree.origin_at(&steps).clone();
            let message = format!("unknown key \"{field}\"");
            self.record(
                origin,
                steps.clone(),
                message,
                advice(field, accepted, "accepted keys"),
            );
            return self.leave_out(&steps);
        };
        if let Some(meant) = super::nearest(field, accepted.iter().copied()) {
            self.marks.meant(whole, meant);
        }
        steps.push(Step::Key(field.into()));
        let suggestion = advice(field, accepted, "accepted keys");
        self.record(
            entry.key_origin.clone(),
            steps.clone(),
            "unknown key".to_owned(),
            suggestion,
        );
        self.leave_out(&steps)
    }

    fn record(
        &mut self,
        origin: Origin,
        steps: Vec<Step>,
        message: String,
        suggestion: Option<String>,
    ) {
        let mut fault = Fault::new(origin, path::write(&steps), message);
        fault.suggestion = suggestion;
        self.faults.push(fault);
        self.at.push(steps);
    }

    /// Leaves out the value at a path, or what holds it if that is as near as the path leads.
    fn leave_out(&mut self, steps: &[Step]) -> bool {
        let mut node = self.tree.root();
        let mut deepest = None;
        for step in steps {
            let Some((inner, _)) = tree::child(node, step) else {
                break;
            };
            node = inner;
            deepest = Some(node);
        }
        // Without the root there is nothing to read.
        deepest.is_some_and(|node| self.marks.leave_out(node))
    }

    fn node(&self, steps: &[Step]) -> Option<&'a Node> {
        steps.iter().try_fold(self.tree.root(), |node, step| {
            Some(tree::child(node, step)?.0)
        })
    }

    fn origin_of(&self, kind: &Kind, on_key: bool, steps: &[Step]) -> Origin {
        let above = || {
            let (last, above) = steps.split_last()?;
            tree::child(self.node(above)?, last)?.1
        };
        let variant = || {
            let map = self.node(steps)?.as_map()?;
            map.iter()
                .find(|entry| !self.marks.is_left_out(&entry.node))
                .map(|entry| &entry.key_origin)
        };
        let found = match kind {
            _ if on_key => above(),
            Kind::UnknownVariant { .. } => variant(),
            // The value itself is what is wrong, so the place of the value and not of its key.
            Kind::Type { .. } => self.node(steps).map(|node| &node.origin),
            _ => None,
        };
        found.unwrap_or_else(|| self.tree.origin_at(steps)).clone()
    }

    fn words(&self, kind: &Kind, steps: &[Step]) -> (String, Option<String>) {
        // What opens a door is in a header of any name.
        let hides = |key: &str| secrecy::is_secret(key) || key == "headers";
        let secret = steps
            .iter()
            .any(|step| matches!(step, Step::Key(key) if hides(key)));
        match kind {
            Kind::Type { found, expected } => {
                let quotes = expected == "a string" && found.is_unquoted();
                let suggestion = quotes.then(|| "put it in quotes".to_owned());
                (
                    format!("expected {expected}, found {}", found.words(secret)),
                    suggestion,
                )
            }
            Kind::UnknownVariant { .. } if secret => ("unknown value".to_owned(), None),
            Kind::UnknownVariant { variant, accepted } => {
                let shown = error::quoted(variant);
                (
                    format!("unknown value {shown}"),
                    advice(variant, accepted, "accepted values"),
                )
            }
            Kind::Custom(message) if secret => {
                // A type may quote what it refuses.
                let text = self
                    .node(steps)
                    .and_then(|node| match (&node.value, &node.text) {
                        (_, Some(text)) => Some(text.to_string()),
                        (Value::Str(text), _) => Some(text.clone()),
                        (Value::Bool(b), _) => Some(b.to_string()),
                        (Value::Int(n), _) => Some(n.to_string()),
                        (Value::Float(n), _) => Some(n.to_string()),
                        _ => None,
                    });
                let quotes = text.is_none_or(|text| text.is_empty() || message.contains(&text));
                (
                    if quotes {
                        "invalid value".to_owned()
                    } else {
                        message.clone()
                    },
                    None,
                )
            }
            Kind::Custom(message) => (message.clone(), None),
            Kind::Missing(field) => (format!("missing required key \"{field}\""), None),
            Kind::UnknownField { field, .. } => (format!("unknown key \"{field}\""), None),
        }
    }
}

/// The nearest right name, or all of them if they are few.
fn advice(name: &str, accepted: &[&str], what: &str) -> Option<String> {
    did_you_mean(name, accepted.iter().copied()).or_else(|| {
        let few = (1..=MAX_LISTED).contains(&accepted.len());
        few.then(|| format!("{what}: {}", accepted.join(", ")))
    })
}

#[cfg(test)]
mod tests;
