//! The tags of YAML: those of the core schema, and no others.

use saphyr_parser::Tag;

use super::{scalar, value::Value};

/// The value of a scalar, and what is wrong with its tag.
pub(super) fn scalar(text: &str, plain: bool, tag: Option<&Tag>) -> (Value, Option<String>) {
    let untagged = || {
        if plain {
            scalar::resolve(text)
        } else {
            Value::Str(text.to_owned())
        }
    };
    let Some(tag) = tag else {
        return (untagged(), None);
    };
    if is_non_specific(tag) || is_core(tag, "str") {
        return (Value::Str(text.to_owned()), None);
    }
    if !tag.is_yaml_core_schema() {
        return (untagged(), Some(unknown(tag)));
    }
    let value = scalar::resolve(text);
    let fits = match (tag.suffix.as_str(), &value) {
        ("float", Value::Int(n)) => return (Value::Float(*n as f64), None),
        ("int", Value::Int(_))
        | ("float", Value::Float(_))
        | ("bool", Value::Bool(_))
        | ("null", Value::Null) => true,
        ("int" | "float" | "bool" | "null", _) => false,
        _ => return (untagged(), Some(unknown(tag))),
    };
    let wrong = || format!("not what its tag {} says", shown(tag));
    (value, (!fits).then(wrong))
}

/// What is wrong with the tag of a list (`seq`) or a map (`map`).
pub(super) fn container(tag: Option<&Tag>, name: &str) -> Option<String> {
    let tag = tag?;
    (!is_non_specific(tag) && !is_core(tag, name)).then(|| unknown(tag))
}

/// A lone `!`: whatever it looks like, it is a string.
fn is_non_specific(tag: &Tag) -> bool {
    tag.handle.is_empty() && tag.suffix == "!"
}

fn is_core(tag: &Tag, name: &str) -> bool {
    tag.is_yaml_core_schema() && tag.suffix == name
}

fn unknown(tag: &Tag) -> String {
    format!("unknown tag {}", shown(tag))
}

fn shown(tag: &Tag) -> String {
    if tag.is_yaml_core_schema() {
        format!("!!{}", tag.suffix)
    } else {
        format!("{}{}", tag.handle, tag.suffix)
    }
}
