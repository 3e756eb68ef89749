//! Variables and flags: values without a file around them.

use std::{
    ffi::{OsStr, OsString},
    sync::Arc,
};

use super::{
    budget::Budget,
    fault::Fault,
    path::{self, Step},
    scalar,
    value::{Map, Node, Origin, Source, Value},
    yaml,
};

/// One value and where it goes.
#[derive(Clone)]
pub(super) struct Setting {
    /// The keys from the root, or why there are none.
    keys: Result<Vec<Arc<str>>, String>,
    /// The text, or why there is none.
    text: Result<String, String>,
    pub(super) source: Source,
}

impl Setting {
    /// A value at a path of keys.
    pub(super) fn at_path(path: &str, text: String, source: Source) -> Self {
        let key = |step| match step {
            Step::Key(key) => Ok(key),
            Step::Index(_) => Err(format!("{path}: an item of a list cannot be set by itself")),
        };
        let keys = match path::parse(path) {
            steps if steps.is_empty() => Err("a value needs a path".to_owned()),
            steps => steps.into_iter().map(key).collect(),
        };
        Self {
            keys: keys.and_then(bounded),
            text: Ok(text),
            source,
        }
    }
}

/// The settings among `vars`, by name, so that no result depends on the order of an environment.
pub(super) fn settings<K: AsRef<OsStr>, V: Into<OsString>>(
    prefix: &str,
    vars: impl IntoIterator<Item = (K, V)>,
) -> Vec<Setting> {
    let ours = |(name, value): (K, V)| {
        let name = name.as_ref().to_str()?;
        let rest = name.strip_prefix(prefix)?.strip_prefix("__")?;
        let keys: Vec<Arc<str>> = rest
            .split("__")
            .map(|key| key.to_lowercase().into())
            .collect();
        let keys = if keys.iter().any(|key| key.is_empty()) {
            Err("a level has no name; two underscores stand between two names".to_owned())
        } else {
            bounded(keys)
        };
        let text = value
            .into()
            .into_string()
            .map_err(|_| "not UTF-8".to_owned());
        Some((
            name.to_owned(),
            Setting {
                keys,
                text,
                source: Source::env(name),
            },
        ))
    };
    let mut all: Vec<_> = vars.into_iter().filter_map(ours).collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all.into_iter().map(|(_, setting)| setting).collect()
}

fn bounded(keys: Vec<Arc<str>>) -> Result<Vec<Arc<str>>, String> {
    Budget::default().depth(keys.len()).map(|()| keys)
}

/// The tree of some settings. Two that contradict each other are a fault.
pub(super) fn tree(settings: &[Setting]) -> (Node, Vec<Fault>) {
    let mut root = Map::new();
    let mut faults = Vec::new();
    for setting in settings {
        let origin = Origin::new(setting.source.clone());
        match (&setting.keys, &setting.text) {
            (Ok(keys), Ok(text)) => {
                if let Err(fault) = insert(&mut root, keys, text, &origin) {
                    faults.push(fault);
                }
            }
            (Ok(keys), Err(message)) => faults.push(Fault::new(origin, shown(keys), message)),
            (Err(message), _) => faults.push(Fault::new(origin, "", message)),
        }
    }
    let origin = settings
        .first()
        .map_or(Source::Default, |setting| setting.source.clone());
    (Node::new(Value::Map(root), Origin::new(origin)), faults)
}

fn insert(root: &mut Map, keys: &[Arc<str>], text: &str, origin: &Origin) -> Result<(), Fault> {
    let Some((last, above)) = keys.split_last() else {
        return Ok(());
    };
    let contradicts =
        |other: &Origin| Fault::new(origin.clone(), shown(keys), format!("contradicts {other}"));
    let mut map = root;
    for key in above {
        if map.get(key).is_none() {
            map.insert(
                Arc::clone(key),
                origin.clone(),
                Node::new(Value::Map(Map::new()), origin.clone()),
            );
        }
        map = match map.entry_mut(key).map(|entry| &mut entry.node) {
            Some(Node {
                value: Value::Map(inner),
                ..
            }) => inner,
            Some(node) => return Err(contradicts(&node.origin)),
            // It was put there three lines above.
            None => return Ok(()),
        };
    }
    match map.get(last) {
        Some(entry) => Err(contradicts(&entry.node.origin)),
        None => {
            map.insert(Arc::clone(last), origin.clone(), node(text, origin));
            Ok(())
        }
    }
}

/// A text that nobody could have quoted: it is a number for whoever wants one, and itself for whoever
/// wants a string.
fn node(text: &str, origin: &Origin) -> Node {
    let trimmed = text.trim();
    let list = (trimmed.starts_with('[') && trimmed.ends_with(']'))
        .then(|| yaml::parse_inline(&origin.source, trimmed))
        .flatten();
    let value = match list {
        Some(items) => Value::List(items.into_iter().map(without_lines).collect()),
        None => match scalar::resolve(trimmed) {
            Value::Str(_) => Value::Str(text.to_owned()),
            value => value,
        },
    };
    let mut node = Node::new(value, origin.clone());
    node.text = Some(text.into());
    node
}

/// A variable is one line, and nobody counts its columns.
fn without_lines(mut node: Node) -> Node {
    node.origin.line = None;
    node.origin.column = None;
    node.value = match node.value {
        Value::List(items) => Value::List(items.into_iter().map(without_lines).collect()),
        Value::Map(map) => {
            let mut plain = Map::new();
            for entry in map {
                plain.insert(
                    entry.key,
                    Origin::new(entry.key_origin.source),
                    without_lines(entry.node),
                );
            }
            Value::Map(plain)
        }
        value => value,
    };
    node
}

fn shown(keys: &[Arc<str>]) -> String {
    let steps: Vec<_> = keys.iter().map(|key| Step::Key(Arc::clone(key))).collect();
    path::write(&steps)
}
