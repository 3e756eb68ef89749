//! What holds, and who said it.

use std::fmt::Write as _;

use super::{
    path::{self, Step},
    printable::is_unprintable,
    scalar,
    secrecy::{self, HIDDEN},
    tree::Tree,
    value::{Node, Value},
};

impl Tree {
    /// The whole as YAML, with the origin of each value in a comment:
    /// `listen: 127.0.0.1:8080  # flag --listen`. For reading; where something is hidden it does not load.
    ///
    /// Hidden as `***` are values whose key, or a key above them, looks like that of a secret (`password`,
    /// `db_secret`, `token`, `api_key`), values at the paths in `redact` and below, and the user and
    /// password of URLs. Safe for a terminal.
    #[must_use]
    pub fn render(&self, redact: &[&str]) -> String {
        let redact: Vec<_> = redact.iter().map(|path| path::parse(path)).collect();
        self.render_steps(&|steps| redact.iter().any(|hidden| hidden.as_slice() == steps))
    }

    /// [`render`](Self::render), hiding the values at the paths for which `redact` says so and below.
    #[must_use]
    pub fn render_with(&self, redact: impl Fn(&str) -> bool) -> String {
        self.render_steps(&|steps| redact(&path::write(steps)))
    }

    fn render_steps(&self, redact: &dyn Fn(&[Step]) -> bool) -> String {
        let mut renderer = Renderer {
            out: String::new(),
            steps: Vec::new(),
            redact,
        };
        renderer.block(self.root(), 0, false);
        renderer.out
    }
}

struct Renderer<'a> {
    out: String,
    steps: Vec<Step>,
    redact: &'a dyn Fn(&[Step]) -> bool,
}

impl Renderer<'_> {
    /// The entries or items of a container, each on lines of its own.
    fn block(&mut self, node: &Node, depth: usize, hidden: bool) {
        match &node.value {
            Value::Map(map) => {
                for entry in map {
                    self.steps.push(Step::Key(entry.key.clone()));
                    let secret = secrecy::is_secret(&entry.key);
                    // `key: {header: x-user}` tells how to make a key and is none.
                    let names_a_key =
                        secret && entry.key.ends_with("key") && entry.node.as_map().is_some();
                    let hidden = hidden || secret && !names_a_key || (self.redact)(&self.steps);
                    self.indent(depth);
                    text(&mut self.out, &entry.key);
                    self.out.push(':');
                    self.node(&entry.node, depth, hidden);
                    self.steps.pop();
                }
            }
            Value::List(items) => {
                for (n, item) in items.iter().enumerate() {
                    self.steps.push(Step::Index(n));
                    let hidden = hidden || (self.redact)(&self.steps);
                    self.indent(depth);
                    self.out.push('-');
                    self.node(item, depth, hidden);
                    self.steps.pop();
                }
            }
            _ => {}
        }
    }

    /// What stands behind a key or a dash.
    fn node(&mut self, node: &Node, depth: usize, hidden: bool) {
        match &node.value {
            Value::Map(map) if !map.is_empty() => {
                self.out.push('\n');
                return self.block(node, depth + 1, hidden);
            }
            Value::List(items) if !items.is_empty() => {
                self.out.push('\n');
                return self.block(node, depth + 1, hidden);
            }
            _ => {}
        }
        self.out.push(' ');
        match &node.value {
            Value::Map(_) => self.out.push_str("{}"),
            Value::List(_) => self.out.push_str("[]"),
            Value::Null => self.out.push_str("null"),
            Value::Bool(b) => self.out.push_str(if *b { "true" } else { "false" }),
            // A number may be a PIN.
            _ if hidden => self.out.push_str(HIDDEN),
            Value::Int(n) => _ = write!(self.out, "{n}"),
            Value::Float(n) => float(&mut self.out, *n),
            Value::Str(s) => text(&mut self.out, &secrecy::without_userinfo(s)),
        }
        // Writing to a String does not fail.
        _ = writeln!(self.out, "  # {}", node.origin);
    }

    fn indent(&mut self, depth: usize) {
        self.out.extend(std::iter::repeat_n("  ", depth));
    }
}

fn float(out: &mut String, n: f64) {
    _ = if n.is_nan() {
        write!(out, ".nan")
    } else if n.is_infinite() {
        write!(out, "{}.inf", if n < 0.0 { "-" } else { "" })
    } else {
        write!(out, "{n:?}")
    };
}

/// A text as a scalar, in quotes where it would be read as something else without them.
fn text(out: &mut String, text: &str) {
    let starts = |c: char| !(c.is_alphanumeric() || matches!(c, '/' | '_' | '.' | '$'));
    let inside =
        |c: char| is_unprintable(c) || matches!(c, '"' | '\\' | '#' | '{' | '}' | '[' | ']' | ',');
    let plain = !text.is_empty()
        && !text.starts_with(starts)
        && !text.contains(inside)
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !text.starts_with("...")
        && matches!(scalar::resolve(text), Value::Str(_));
    if plain {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_unprintable(c) => _ = write!(out, "\\U{:08x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Format, Loader, Source},
        *,
    };

    #[test]
    fn the_whole_is_shown_with_its_origins() {
        let file = "gateway:\n  listen: 0.0.0.0:80\n  hosts: []\nroutes:\n- path: /a\n  weights: [1, 0.5]\n\
                    - path: 'yes: no'\nempty: {}\nnothing: ~\nodd key!: \"5\"\ncontrol: \"a\\e[2Jb\"\n";
        let tree = Loader::new()
            .text("g.yaml", Format::Yaml, file)
            .env("CHASSIS", [("CHASSIS__GATEWAY__WORKERS", "4")])
            .set("gateway.listen", "127.0.0.1:8080", Source::flag("--listen"))
            .load()
            .unwrap();
        assert_eq!(
            tree.render(&[]),
            r#"gateway:
  listen: 127.0.0.1:8080  # flag --listen
  hosts: []  # g.yaml:3:10
  workers: 4  # environment CHASSIS__GATEWAY__WORKERS
routes:
  -
    path: /a  # g.yaml:5:9
    weights:
      - 1  # g.yaml:6:13
      - 0.5  # g.yaml:6:16
  -
    path: "yes: no"  # g.yaml:7:9
empty: {}  # g.yaml:8:8
nothing: null  # g.yaml:9:10
odd key!: "5"  # g.yaml:10:11
control: "a\U0000001b[2Jb"  # g.yaml:11:10
"#
        );
    }

    #[test]
    fn secrets_are_hidden() {
        let file = "db_password: a\ntokens: {alice: b, bob: [c, 4]}\napi_key: 5\nkey: {header: x-user}\n\
                    password_file: /run/x\nurl: redis://me:pw@host/0\nother: {deep: e, x: f}\nl: [g, h]\n\
                    token_check: true\nallow_key: true\n";
        let tree = Loader::new().text("g", Format::Yaml, file).load().unwrap();
        let shown = tree.render(&["other.deep", "l[1]"]);
        let lines: Vec<_> = shown
            .lines()
            .filter_map(|line| Some(line.split_once("  #")?.0.trim()))
            .collect();
        assert_eq!(
            lines,
            [
                "db_password: ***",
                "alice: ***",
                "- ***",
                "- ***",
                "api_key: ***",
                "header: x-user",
                "password_file: /run/x",
                "url: redis://***@host/0",
                "deep: ***",
                "x: f",
                "- g",
                "- ***",
                "token_check: true",
                "allow_key: true",
            ]
        );
        let shown = tree.render_with(|path| path == "other");
        assert!(
            shown.contains("deep: ***") && shown.contains("x: ***") && shown.contains("- h"),
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_is_yaml_with_the_same_values(
            key in "[a-zA-Z: #'\"\n\\-é]{0,8}|.{0,8}", value in "[a-z0-9: #'\"\n\\-@~,.é]{0,12}|.{0,12}",
        ) {
            prop_assume!(!secrecy::is_secret(&key) && !value.contains("://"));
            let escaped = |s: &str| s.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect::<String>();
            let file = format!("\"{}\": [\"{}\"]", escaped(&key), escaped(&value));
            let tree = Loader::new().text("g", Format::Yaml, file).load().unwrap();
            let shown = tree.render(&[]);
            prop_assert!(!shown.chars().any(|c| is_unprintable(c) && c != '\n'));
            let again = Loader::new().text("g", Format::Yaml, shown.clone()).load().unwrap();
            let list = &again.root().as_map().unwrap().get(&key).unwrap().node.value;
            prop_assert!(matches!(list, Value::List(l) if l[0].value == Value::Str(value)), "{}", shown);
        }
    }
}
