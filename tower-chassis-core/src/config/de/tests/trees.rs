//! Any tree at all.

use proptest::prelude::*;

use super::{
    super::super::{Entry, Map, Source},
    *,
};

fn any_node() -> impl Strategy<Value = Node> {
    let place = || Origin::new(Source::Default);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(Value::Float),
        ".{0,5}".prop_map(Value::Str),
        prop::sample::select(vec!["127.0.0.1:80", "1s", "sticky", "least_loaded"])
            .prop_map(|s| Value::Str(s.into())),
    ];
    let key = prop_oneof![
        4 => prop::sample::select(vec![
            "listen", "services", "routes", "admin", "url", "breaker", "balance", "timeout", "limit", "password",
            "failure_rate", "calls", "sticky", "fixed", "header", "size", "path", "to", "weight", "a",
        ]).prop_map(str::to_owned),
        1 => ".{0,4}",
    ];
    leaf.prop_map(move |value| Node::new(value, place()))
        .prop_recursive(5, 60, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(move |items| Node::new(Value::List(items), place())),
                prop::collection::vec((key.clone(), inner), 0..6).prop_map(move |entries| {
                    let mut map = Map::new();
                    for (key, node) in entries {
                        map.insert(key, place(), node);
                    }
                    Node::new(Value::Map(map), place())
                }),
            ]
        })
}

proptest! {
    #[test]
    fn any_tree_is_read_to_an_end(root in any_node()) {
        let tree = Tree::new(root);
        if let Err(faults) = tree.deserialize::<Gateway>() {
            prop_assert!(!faults.is_empty());
            // Each is at a place of its own: nothing is said twice in other words.
            let mut paths: Vec<_> = faults.iter().map(|fault| &fault.path).collect();
            paths.sort();
            paths.dedup();
            prop_assert_eq!(paths.len(), faults.len(), "{}", faults);
        }
        let _ = tree.render(&[]);
    }
}

#[test]
fn entries_can_be_read_without_serde() {
    let tree = tree("a: 1\n");
    let keys: Vec<_> = tree
        .root()
        .as_map()
        .unwrap()
        .iter()
        .map(|Entry { key, .. }| key.to_string())
        .collect();
    assert_eq!(keys, ["a"]);
}
