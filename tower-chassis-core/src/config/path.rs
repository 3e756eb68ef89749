//! The path of a value: `services.shop.retry.attempts`, `routes[2].path`.

use std::{fmt::Write as _, sync::Arc};

/// One step from a container to what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Key(Arc<str>),
    Index(usize),
}

/// Writes a path. A key that would be read differently stands in quotes: `services."a.b".url`.
pub(super) fn write(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        match step {
            // Writing to a String does not fail.
            Step::Index(n) => _ = write!(out, "[{n}]"),
            Step::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                let odd = |c: char| matches!(c, '.' | '[' | ']' | '"') || c.is_whitespace();
                if !key.is_empty() && !key.contains(odd) {
                    out.push_str(key);
                } else {
                    let inner = key.replace('\\', "\\\\").replace('"', "\\\"");
                    _ = write!(out, "\"{inner}\"");
                }
            }
        }
    }
    out
}

/// Reads a path. Every text is one: what cannot be an index or a quoted key is a plain key.
pub(super) fn parse(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some((n, after)) = index(rest) {
            steps.push(Step::Index(n));
            rest = after.strip_prefix('.').unwrap_or(after);
            continue;
        }
        let (key, after) = quoted(rest).unwrap_or_else(|| plain(rest));
        steps.push(Step::Key(key.into()));
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    steps
}

fn index(text: &str) -> Option<(usize, &str)> {
    let (digits, after) = text.strip_prefix('[')?.split_once(']')?;
    // A sign would parse as well.
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, after))
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut key = String::new();
    let mut chars = text.strip_prefix('"')?.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((key, text.get(at + 2..)?)),
            '\\' => key.push(chars.next()?.1),
            c => key.push(c),
        }
    }
    None
}

fn plain(text: &str) -> (String, &str) {
    let ends = |(at, c): (usize, char)| match c {
        '.' => Some(at),
        // An index right at the beginning was taken before.
        '[' => text.get(at..).and_then(index).map(|_| at),
        _ => None,
    };
    let end = text.char_indices().find_map(ends).unwrap_or(text.len());
    let (key, after) = text.split_at(end);
    (key.to_owned(), after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(k: &str) -> Step {
        Step::Key(k.into())
    }

    #[test]
    fn paths_read_as_they_are_written() {
        for (text, steps) in [
            ("", vec![]),
            (
                "services.shop.retry",
                vec![key("services"), key("shop"), key("retry")],
            ),
            (
                "routes[2].path",
                vec![key("routes"), Step::Index(2), key("path")],
            ),
            ("m[1][0]", vec![key("m"), Step::Index(1), Step::Index(0)]),
            (
                "services.\"a.b\".url",
                vec![key("services"), key("a.b"), key("url")],
            ),
            (
                "routes./api/*.to",
                vec![key("routes"), key("/api/*"), key("to")],
            ),
            ("\"say \\\"hi\\\"\"", vec![key("say \"hi\"")]),
        ] {
            assert_eq!(parse(text), steps, "{text}");
            assert_eq!(write(&steps), text);
        }
        assert_eq!(parse("[::1]"), [key("[::1]")]);
        assert_eq!(parse("\"open"), [key("\"open")]);
    }

    proptest! {
        #[test]
        fn any_path_survives(keys in prop::collection::vec(
            prop_oneof![".{0,6}".prop_map(|k| Step::Key(k.into())), (0..9usize).prop_map(Step::Index)], 0..5)) {
            prop_assert_eq!(parse(&write(&keys)), keys);
        }

        #[test]
        fn any_text_is_a_path(text in ".*") {
            parse(&text);
        }
    }
}
