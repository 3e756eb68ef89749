use proptest::prelude::*;

use super::*;

fn read(text: &str) -> (Node, Vec<String>) {
    let (node, faults) = parse(&Source::file("g.yaml"), text).unwrap();
    (node, faults.iter().map(ToString::to_string).collect())
}

fn fatal(text: &str) -> String {
    parse(&Source::file("g.yaml"), text)
        .unwrap_err()
        .to_string()
}

/// The tree without its places.
fn shape(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".into(),
        Value::List(items) => format!(
            "[{}]",
            items.iter().map(shape).collect::<Vec<_>>().join(", ")
        ),
        Value::Map(map) => {
            let entry = |e: &super::super::Entry| format!("{}: {}", e.key, shape(&e.node));
            format!(
                "{{{}}}",
                map.iter().map(entry).collect::<Vec<_>>().join(", ")
            )
        }
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(n) => format!("{n:?}"),
        Value::Str(text) => format!("{text:?}"),
    }
}

#[test]
fn documents_become_trees() {
    for (text, tree) in [
        ("", "null"),
        ("# nothing\n", "null"),
        ("---\n", "null"),
        (
            "a: 1\nb: [x, 'y', 1.5]\nc: {d: ~}\n",
            r#"{a: 1, b: ["x", "y", 1.5], c: {d: null}}"#,
        ),
        ("{\"a\": true, \"b\": [1, null]}", "{a: true, b: [1, null]}"),
        (
            "a: \"1\"\nb: '~'\nc: \"\"\nd: |\n  5\n",
            r#"{a: "1", b: "~", c: "", d: "5\n"}"#,
        ),
        (
            "a: yes\nb: no\nc: 010\nd: 0o10\n",
            r#"{a: "yes", b: "no", c: 10, d: 8}"#,
        ),
        (
            "8080: a\ntrue: b\n010: c\n~: d\n",
            r#"{8080: "a", true: "b", 010: "c", ~: "d"}"#,
        ),
        (
            "a: !!str 5\nb: ! 5\nc: !!float 5\nd: !!int \"5\"\n",
            r#"{a: "5", b: "5", c: 5.0, d: 5}"#,
        ),
        ("\u{feff}a: 1", "{a: 1}"),
        ("a:\n- 1\n-\n  b: 2\n", "{a: [1, {b: 2}]}"),
    ] {
        let (node, faults) = read(text);
        assert_eq!((shape(&node).as_str(), faults.len()), (tree, 0), "{text}");
    }
}

#[test]
fn anchors_and_merges_are_written_out() {
    for (text, tree) in [
        ("a: &x 1\nb: *x\n", "{a: 1, b: 1}"),
        ("a: &x {k: 1}\nb: *x\n", "{a: {k: 1}, b: {k: 1}}"),
        ("a: &x k\n*x : 2\n", r#"{a: "k", k: 2}"#),
        (
            "a: &x {k: 1, l: 2}\nb: {k: 3, <<: *x}\n",
            "{a: {k: 1, l: 2}, b: {k: 3, l: 2}}",
        ),
        (
            "a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}\n",
            "{a: {k: 1, l: 2}, b: {k: 3, l: 2}}",
        ),
        ("b: {<<: [{k: 1}, {k: 2, l: 3}]}\n", "{b: {k: 1, l: 3}}"),
        ("b: {'<<': 1}\n", "{b: {<<: 1}}"),
        ("a: &x 1\nb: &x 2\nc: *x\n", "{a: 1, b: 2, c: 2}"),
    ] {
        let (node, faults) = read(text);
        assert_eq!((shape(&node).as_str(), faults.len()), (tree, 0), "{text}");
    }
}

#[test]
fn values_and_keys_know_their_place() {
    let (node, _) = read("a: 1\nü:\n  b:\n  - x\n  - {c: \"y\"}\n  empty:\nlast: 1\n");
    let map = |node: &Node, key: &str| {
        let entry = node.as_map().unwrap().get(key).unwrap().clone();
        (
            entry.key_origin.to_string(),
            entry.node.origin.to_string(),
            entry.node,
        )
    };
    let (key, value, inner) = map(&node, "ü");
    assert_eq!((key.as_str(), value.as_str()), ("g.yaml:2:1", "g.yaml:3:3"));
    let (key, value, _) = map(&inner, "empty");
    assert_eq!((key.as_str(), value.as_str()), ("g.yaml:6:3", "g.yaml:6:3"));
    let Value::List(items) = map(&inner, "b").2.value else {
        panic!()
    };
    assert_eq!(items[0].origin.to_string(), "g.yaml:4:5");
    let (key, value, _) = map(&items[1], "c");
    assert_eq!((key.as_str(), value.as_str()), ("g.yaml:5:6", "g.yaml:5:9"));
}

#[test]
fn faults_that_leave_the_rest_readable_are_collected() {
    for (text, all) in [
        (
            "s:\n  a: 1\n  b: 2\n  a: 3\nt: 1\nt: 2\n",
            &[
                "g.yaml:4:3: s.a: duplicate key, first at line 2",
                "g.yaml:6:1: t: duplicate key, first at line 5",
            ][..],
        ),
        (
            "l:\n- x: 1\n  x: 2\n",
            &["g.yaml:3:3: l[0].x: duplicate key, first at line 2"],
        ),
        (
            "1: a\n'1': b\n",
            &["g.yaml:2:1: 1: duplicate key, first at line 1"],
        ),
        (
            "a: {[x]: 1, b: 2}\n",
            &["g.yaml:1:5: a: a key must be a text, not a list"],
        ),
        ("a: !secret x\n", &["g.yaml:1:4: a: unknown tag !secret"]),
        ("a: !!set {x}\n", &["g.yaml:1:4: a: unknown tag !!set"]),
        (
            "a: !!int x\n",
            &["g.yaml:1:4: a: not what its tag !!int says"],
        ),
        (
            "a: {<<: 1}\n",
            &["g.yaml:1:9: a: << wants a map or a list of maps, not an integer"],
        ),
    ] {
        let (_, faults) = read(text);
        assert_eq!(faults, all, "{text}");
    }
    let (node, _) = read("a: {[x]: 1, b: 2, b: 3}\n");
    assert_eq!(shape(&node), "{a: {b: 2}}");
}

#[test]
fn what_cannot_be_read_stands_alone() {
    for (text, fault) in [
        (
            "a: 1\n---\nb: 2\n",
            "g.yaml:2:1: a second document begins here; only one is allowed",
        ),
        (
            "a: &x [*x]\n",
            "g.yaml:1:8: a[0]: this alias stands inside of what it names",
        ),
        (
            "a: *nope\n",
            "g.yaml:1:4: syntax error: while parsing node, found unknown anchor",
        ),
        (
            "a: 1\n b: 2\n",
            "g.yaml:2:3: syntax error: mapping values are not allowed in this context",
        ),
        (
            "a: \"x\n",
            "g.yaml:1:4: syntax error: while scanning a quoted scalar, found unexpected end of stream",
        ),
        (
            "a: [1, 2\nb: 1\n",
            "g.yaml:2:2: syntax error: illegal placement of ':' indicator",
        ),
        (
            "a:\n\t- b\n",
            "g.yaml:2:2: syntax error: tabs disallowed within this context (block indentation)",
        ),
    ] {
        assert_eq!(fatal(text), fault, "{text}");
    }
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (n, name) in ('b'..='k').enumerate() {
        let last = char::from(b'a' + u8::try_from(n).unwrap());
        bomb += &format!(
            "{name}: &{name} [{}]\n",
            vec![format!("*{last}"); 10].join(", ")
        );
    }
    assert_eq!(
        fatal(&bomb),
        "g.yaml:5:32: e[6]: more than 100000 values, aliases counted where they are used"
    );
    // Ten thousand honest values are no bomb.
    let (_, faults) = read(&format!("a: [{}]", "1, ".repeat(10_000)));
    assert!(faults.is_empty());
}

#[test]
fn depth_has_an_end() {
    let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    assert!(read(&nested(64)).1.is_empty());
    assert!(
        fatal(&nested(65)).starts_with("g.yaml:1:65: [0][0]"),
        "{}",
        fatal(&nested(65))
    );
    assert!(fatal(&nested(65)).ends_with("[0]: nested deeper than 64"));
    // The parser has a limit of its own, and looks further ahead.
    assert_eq!(
        fatal(&nested(1_000_000)),
        "g.yaml:1:256: syntax error: recursion limit exceeded"
    );
    // Each alias is one deeper than the last, while the text stays flat.
    let mut chain = "a0: &a0 [x]\n".to_owned();
    for n in 1..80 {
        chain += &format!("a{n}: &a{n} [*a{}]\n", n - 1);
    }
    assert!(
        fatal(&chain).contains("nested deeper than 64"),
        "{}",
        fatal(&chain)
    );
    let block: String = (0..100).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert!(fatal(&block).contains("nested deeper than 64"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_a_tree_or_a_fault(text in "([ \\-?:,\\[\\]{}#&*!|>'\"%@`~<\n\t\r.a-c0-9\\\\é]|<<: |- |&a |\\*a |---\n|: |\n  ){0,60}|.{0,60}") {
        let _ = parse(&Source::Default, &text);
        let _ = parse_inline(&Source::Default, &text);
    }
}
