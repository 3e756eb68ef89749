//! TOML into the tree.

use toml_edit::{Array, Document, Item, Key, TableLike, Value as Toml};

use super::{
    budget::Budget,
    fault::Fault,
    path::{self, Step},
    value::{Map, Node, Origin, Source, Value},
};

/// Reads a document. Dates and times become their text. A fault stands alone.
pub(super) fn parse(source: &Source, text: &str) -> Result<Node, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = Lines::new(source, text);
    let document = Document::parse(text).map_err(|error| {
        let origin = lines.origin(error.span().map_or(0, |span| span.start));
        Fault::new(
            origin,
            "",
            format!("syntax error: {}", error.message().trim()),
        )
    })?;
    let mut reader = Reader {
        lines,
        budget: Budget::default(),
        steps: Vec::new(),
    };
    let origin = reader.lines.origin(0);
    let map = reader.table(document.as_table(), &origin)?;
    Ok(Node::new(Value::Map(map), origin))
}

/// From bytes to lines and columns.
struct Lines<'a> {
    source: &'a Source,
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(source: &'a Source, text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            source,
            text,
            starts,
        }
    }

    fn origin(&self, byte: usize) -> Origin {
        let line = self.starts.partition_point(|&start| start <= byte);
        let start = self
            .starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        let column = self
            .text
            .get(start..byte)
            .map_or(0, |before| before.chars().count());
        Origin::at(self.source.clone(), line, column + 1)
    }
}

struct Reader<'a> {
    lines: Lines<'a>,
    budget: Budget,
    steps: Vec<Step>,
}

impl Reader<'_> {
    fn enter(&mut self, origin: &Origin) -> Result<(), Fault> {
        let fits = self
            .budget
            .depth(self.steps.len() + 1)
            .and_then(|()| self.budget.spend(1));
        fits.map_err(|message| Fault::new(origin.clone(), path::write(&self.steps), message))
    }

    fn table(&mut self, table: &dyn TableLike, origin: &Origin) -> Result<Map, Fault> {
        self.enter(origin)?;
        let mut map = Map::new();
        for (name, item) in table.iter() {
            let at = table.key(name).and_then(Key::span).or_else(|| item.span());
            let key_origin =
                at.map_or_else(|| origin.clone(), |span| self.lines.origin(span.start));
            self.steps.push(Step::Key(name.into()));
            if let Some(node) = self.item(item, &key_origin)? {
                map.insert(name, key_origin, node);
            }
            self.steps.pop();
        }
        Ok(map)
    }

    /// `None` for an item that is not there: the library can say so, the parser does not.
    fn item(&mut self, item: &Item, key: &Origin) -> Result<Option<Node>, Fault> {
        Ok(Some(match item {
            Item::None => return Ok(None),
            Item::Value(value) => self.value(value, key)?,
            Item::Table(table) => Node::new(Value::Map(self.table(table, key)?), key.clone()),
            Item::ArrayOfTables(tables) => {
                self.enter(key)?;
                let mut items = Vec::new();
                for (n, table) in tables.iter().enumerate() {
                    let origin = table
                        .span()
                        .map_or_else(|| key.clone(), |span| self.lines.origin(span.start));
                    self.steps.push(Step::Index(n));
                    items.push(Node::new(Value::Map(self.table(table, &origin)?), origin));
                    self.steps.pop();
                }
                Node::new(Value::List(items), key.clone())
            }
        }))
    }

    fn value(&mut self, value: &Toml, key: &Origin) -> Result<Node, Fault> {
        let origin = value
            .span()
            .map_or_else(|| key.clone(), |span| self.lines.origin(span.start));
        let value = match value {
            Toml::Array(array) => Value::List(self.array(array, &origin)?),
            Toml::InlineTable(table) => Value::Map(self.table(table, &origin)?),
            scalar => {
                self.enter(&origin)?;
                match scalar {
                    Toml::String(text) => Value::Str(text.value().clone()),
                    Toml::Integer(n) => Value::Int(*n.value()),
                    Toml::Float(n) => Value::Float(*n.value()),
                    Toml::Boolean(b) => Value::Bool(*b.value()),
                    other => Value::Str(
                        other
                            .as_datetime()
                            .map(ToString::to_string)
                            .unwrap_or_default(),
                    ),
                }
            }
        };
        Ok(Node::new(value, origin))
    }

    fn array(&mut self, array: &Array, origin: &Origin) -> Result<Vec<Node>, Fault> {
        self.enter(origin)?;
        let mut items = Vec::new();
        for (n, value) in array.iter().enumerate() {
            self.steps.push(Step::Index(n));
            items.push(self.value(value, origin)?);
            self.steps.pop();
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Node, String> {
        parse(&Source::file("g.toml"), text).map_err(|fault| fault.to_string())
    }

    fn at<'a>(node: &'a Node, keys: &[&str]) -> &'a Node {
        keys.iter().fold(node, |node, key| {
            &node.as_map().unwrap().get(key).unwrap().node
        })
    }

    #[test]
    fn values_know_their_place() {
        let text = "title = \"a\"\n\n[gateway]\nlisten = \"x\"\n  port = 80\nratio.max = 0.5\nday = 2024-05-01\n\
                    list = [1, true]\ninline = { a = 1 }\n\n[[routes]]\npath = \"/a\"\n[[routes]]\npath = \"/b\"\n";
        let root = read(text).unwrap();
        for (keys, value, place) in [
            (&["title"][..], Value::Str("a".into()), "g.toml:1:9"),
            (
                &["gateway", "listen"],
                Value::Str("x".into()),
                "g.toml:4:10",
            ),
            (&["gateway", "port"], Value::Int(80), "g.toml:5:10"),
            (
                &["gateway", "ratio", "max"],
                Value::Float(0.5),
                "g.toml:6:13",
            ),
            (
                &["gateway", "day"],
                Value::Str("2024-05-01".into()),
                "g.toml:7:7",
            ),
            (&["gateway", "inline", "a"], Value::Int(1), "g.toml:9:16"),
        ] {
            let node = at(&root, keys);
            assert_eq!(
                (&node.value, node.origin.to_string().as_str()),
                (&value, place),
                "{keys:?}"
            );
        }
        let key = root.as_map().unwrap().get("gateway").unwrap();
        assert_eq!(key.key_origin.to_string(), "g.toml:3:2");
        let Value::List(items) = &at(&root, &["gateway", "list"]).value else {
            panic!()
        };
        assert_eq!(items[1].origin.to_string(), "g.toml:8:12");
        let Value::List(routes) = &at(&root, &["routes"]).value else {
            panic!()
        };
        assert_eq!(at(&routes[1], &["path"]).origin.to_string(), "g.toml:14:8");
    }

    #[test]
    fn columns_count_characters() {
        let root = read("a = { \"ä\u{1f600}\" = 1, b = 2 }\r\nc = 3").unwrap();
        assert_eq!(at(&root, &["a", "b"]).origin.to_string(), "g.toml:1:21");
        assert_eq!(at(&root, &["c"]).origin.to_string(), "g.toml:2:5");
    }

    #[test]
    fn what_is_no_toml_stands_alone() {
        for (text, fault) in [
            ("a = 1\na = 2\n", "g.toml:2:1: syntax error: duplicate key"),
            (
                "a = 1\nb =\n",
                "g.toml:2:4: syntax error: string values must be quoted, expected literal string",
            ),
            (
                "[a\n",
                "g.toml:1:3: syntax error: unclosed table, expected `]`",
            ),
        ] {
            assert_eq!(read(text), Err(fault.to_owned()), "{text}");
        }
        let deep = format!("a = {}1{}", "[".repeat(70), "]".repeat(70));
        let fault = read(&deep).unwrap_err();
        assert!(fault.contains("nested deeper than 64"), "{fault}");
        let fault = read(&format!(
            "a = {}1{}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        ))
        .unwrap_err();
        assert!(fault.starts_with("g.toml:1:"), "{fault}");
        let fault = read(&format!("a = [{}]", "1,".repeat(100_001))).unwrap_err();
        assert!(fault.contains("more than 100000 values"), "{fault}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_tree_or_a_fault(text in "[\\[\\]{}=.,\"'#a-c0-9\\-: \n\r\\\\é]{0,60}|.{0,60}") {
            let _ = read(&text);
        }
    }
}
