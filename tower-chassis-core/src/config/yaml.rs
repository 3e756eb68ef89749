//! YAML into the tree, from the events of the parser.
//!
//! The parser decides what is YAML; what a scalar means, which keys are allowed and how large a document
//! may grow is decided here and pinned by tests. Nothing recurses: a deep document is refused, not
//! followed.

use std::{collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{
    budget::Budget,
    fault::Fault,
    path::{self, Step},
    tag,
    value::{Map, Node, Origin, Source, Value},
};

/// Reads one document. An empty text is `Null`.
///
/// Faults that leave the rest readable (a key that stands twice, a tag) are collected beside the tree;
/// one that does not (syntax, budget) stands alone.
pub(super) fn parse(source: &Source, text: &str) -> Result<(Node, Vec<Fault>), Fault> {
    read(source, text, false)
}

/// Reads a list as it may stand in a variable or behind a flag; its items keep their text.
pub(super) fn parse_inline(source: &Source, text: &str) -> Option<Vec<Node>> {
    let (node, faults) = read(source, text, true).ok()?;
    match node.value {
        Value::List(items) if faults.is_empty() => Some(items),
        _ => None,
    }
}

fn read(source: &Source, text: &str, inline: bool) -> Result<(Node, Vec<Fault>), Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        source,
        inline,
        frames: Vec::new(),
        anchors: HashMap::new(),
        budget: Budget::default(),
        root: None,
        documents: 0,
        faults: Vec::new(),
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = error.marker();
            let origin = Origin::at(source.clone(), at.line(), at.col() + 1);
            Fault::new(origin, "", format!("syntax error: {}", error.info()))
        })?;
        builder.event(event, span)?;
    }
    let empty = Node::new(Value::Null, Origin::at(source.clone(), 1, 1));
    Ok((builder.root.unwrap_or(empty), builder.faults))
}

struct Builder<'a> {
    source: &'a Source,
    inline: bool,
    frames: Vec<Frame>,
    anchors: HashMap<usize, Done>,
    budget: Budget,
    root: Option<Node>,
    documents: usize,
    faults: Vec<Fault>,
}

/// A list or a map that is still open.
struct Frame {
    origin: Origin,
    anchor: usize,
    size: usize,
    height: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map {
        map: Map,
        key: Option<Key>,
        merges: Vec<Node>,
    },
}

struct Key {
    text: Arc<str>,
    origin: Origin,
    role: Role,
}

#[derive(PartialEq)]
enum Role {
    Plain,
    /// `<<`
    Merge,
    /// A list or a map as a key: reported, and its value is dropped.
    Refused,
}

/// A complete node with what it costs to have it once more.
#[derive(Clone)]
struct Done {
    node: Node,
    /// The text of a scalar, and whether it stands without quotes.
    scalar: Option<(Arc<str>, bool)>,
    size: usize,
    height: usize,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let origin = Origin::at(self.source.clone(), span.start.line(), span.start.col() + 1);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Fault::new(
                        origin,
                        "",
                        "a second document begins here; only one is allowed",
                    ));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.budget.spend(1).map_err(|m| self.fault(&origin, m))?;
                let plain = style == ScalarStyle::Plain;
                // Nothing stands where a value is left out; its key is the place to look at.
                let origin = match self.frames.last().map(|f| &f.kind) {
                    Some(Kind::Map { key: Some(key), .. }) if plain && text.is_empty() => {
                        key.origin.clone()
                    }
                    _ => origin,
                };
                let (value, wrong) = tag::scalar(&text, plain, tag.as_deref());
                self.report(&origin, wrong);
                let mut node = Node::new(value, origin);
                node.text = self.inline.then(|| text.as_ref().into());
                let scalar = Some((text.as_ref().into(), plain && tag.is_none()));
                self.finish(
                    anchor,
                    Done {
                        node,
                        scalar,
                        size: 1,
                        height: 0,
                    },
                )?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.report(&origin, tag::container(tag.as_deref(), "seq"));
                self.open(origin, anchor, Kind::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.report(&origin, tag::container(tag.as_deref(), "map"));
                self.open(
                    origin,
                    anchor,
                    Kind::Map {
                        map: Map::new(),
                        key: None,
                        merges: Vec::new(),
                    },
                )?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(anchor) => self.alias(anchor, &origin)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(&mut self, origin: Origin, anchor: usize, kind: Kind) -> Result<(), Fault> {
        self.budget.spend(1).map_err(|m| self.fault(&origin, m))?;
        self.budget
            .depth(self.frames.len() + 1)
            .map_err(|m| self.fault(&origin, m))?;
        self.frames.push(Frame {
            origin,
            anchor,
            size: 1,
            height: 0,
            kind,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(frame) = self.frames.pop() else {
            return Ok(());
        };
        let value = match frame.kind {
            Kind::List(items) => Value::List(items),
            Kind::Map {
                mut map, merges, ..
            } => {
                for entry in merges.into_iter().flat_map(merged_entries) {
                    // What the map says itself wins, then the first merged map that says it.
                    if map.get(&entry.key).is_none() {
                        map.insert(entry.key, entry.key_origin, entry.node);
                    }
                }
                Value::Map(map)
            }
        };
        let node = Node::new(value, frame.origin);
        self.finish(
            frame.anchor,
            Done {
                node,
                scalar: None,
                size: frame.size,
                height: frame.height + 1,
            },
        )
    }

    fn alias(&mut self, anchor: usize, origin: &Origin) -> Result<(), Fault> {
        // The parser knows every anchor; the ones missing here are not complete yet.
        let Some(done) = self.anchors.get(&anchor) else {
            return Err(self.fault(origin, "this alias stands inside of what it names"));
        };
        // Before the copy is made, not after.
        let fits = self.budget.depth(self.frames.len() + done.height);
        fits.and_then(|()| self.budget.spend(done.size))
            .map_err(|m| self.fault(origin, m))?;
        let done = done.clone();
        self.deliver(done);
        Ok(())
    }

    fn finish(&mut self, anchor: usize, done: Done) -> Result<(), Fault> {
        if anchor > 0 {
            // The copy kept for the aliases counts too: anchors may be nested.
            self.budget
                .spend(done.size)
                .map_err(|m| self.fault(&done.node.origin, m))?;
            self.anchors.insert(anchor, done.clone());
        }
        self.deliver(done);
        Ok(())
    }

    /// Puts a node where it belongs: it is the root, an item, a key or a value.
    fn deliver(&mut self, done: Done) {
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(done.node);
            return;
        };
        frame.size += done.size;
        frame.height = frame.height.max(done.height);
        let (map, key, merges) = match &mut frame.kind {
            Kind::List(items) => return items.push(done.node),
            Kind::Map { map, key, merges } => (map, key, merges),
        };
        let Some(Key { text, origin, role }) = key.take() else {
            let refused = done.scalar.is_none().then(|| {
                (
                    done.node.origin.clone(),
                    format!("a key must be a text, not {}", done.node.value.kind()),
                )
            });
            *key = Some(Key::of(done));
            if let Some((origin, message)) = refused {
                let fault = Fault::new(origin, path::write(&self.steps(false)), message);
                self.faults.push(fault);
            }
            return;
        };
        match role {
            Role::Refused => {}
            Role::Merge if is_mergeable(&done.node.value) => merges.push(done.node),
            Role::Merge => {
                let message = format!(
                    "<< wants a map or a list of maps, not {}",
                    done.node.value.kind()
                );
                self.report(&done.node.origin, Some(message));
            }
            Role::Plain => match map.get(&text) {
                None => map.insert(text, origin, done.node),
                Some(first) => {
                    let line = first.key_origin.line.unwrap_or_default();
                    let mut steps = self.steps(false);
                    steps.push(Step::Key(text));
                    let message = format!("duplicate key, first at line {line}");
                    self.faults
                        .push(Fault::new(origin, path::write(&steps), message));
                }
            },
        }
    }

    /// Where the builder stands; with the key or index of what comes next, or without.
    fn steps(&self, with_last: bool) -> Vec<Step> {
        let frames = if with_last {
            &self.frames[..]
        } else {
            self.frames.split_last().map_or(&[][..], |(_, f)| f)
        };
        let step = |frame: &Frame| match &frame.kind {
            Kind::List(items) => Some(Step::Index(items.len())),
            Kind::Map { key, .. } => key.as_ref().map(|key| Step::Key(Arc::clone(&key.text))),
        };
        frames.iter().filter_map(step).collect()
    }

    fn fault(&self, origin: &Origin, message: impl Into<String>) -> Fault {
        Fault::new(origin.clone(), path::write(&self.steps(true)), message)
    }

    fn report(&mut self, origin: &Origin, message: Option<String>) {
        if let Some(message) = message {
            let fault = self.fault(origin, message);
            self.faults.push(fault);
        }
    }
}

impl Key {
    fn of(done: Done) -> Self {
        let (text, role) = match done.scalar {
            Some((text, true)) if &*text == "<<" => (text, Role::Merge),
            Some((text, _)) => (text, Role::Plain),
            None => ("".into(), Role::Refused),
        };
        Self {
            text,
            origin: done.node.origin,
            role,
        }
    }
}

fn is_mergeable(value: &Value) -> bool {
    match value {
        Value::Map(_) => true,
        Value::List(items) => items.iter().all(|item| matches!(item.value, Value::Map(_))),
        _ => false,
    }
}

fn merged_entries(node: Node) -> Vec<super::Entry> {
    match node.value {
        Value::Map(map) => map.into_iter().collect(),
        Value::List(items) => items.into_iter().flat_map(merged_entries).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
