//! One layer over another.

use super::value::{Node, Source, Value};

/// Puts `over` on top: maps merge by key, everything else replaces. `null` replaces too, so that a layer
/// can take a section away.
///
/// A map that is merged stays where it was first opened, unless that was a default: whoever looks for it
/// looks into a file.
pub(super) fn merge(base: &mut Node, over: Node) {
    // Both trees are bounded in depth by whoever read them.
    match (&mut base.value, over) {
        (
            Value::Map(below),
            Node {
                value: Value::Map(above),
                origin,
                ..
            },
        ) => {
            if base.origin.source == Source::Default {
                base.origin = origin;
            }
            for entry in above {
                match below.entry_mut(&entry.key) {
                    Some(old) if old.node.as_map().is_some() && entry.node.as_map().is_some() => {
                        if old.key_origin.source == Source::Default {
                            old.key_origin = entry.key_origin;
                        }
                        merge(&mut old.node, entry.node);
                    }
                    _ => below.insert(entry.key, entry.key_origin, entry.node),
                }
            }
        }
        (_, over) => *base = over,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::yaml, *};

    fn merged(layers: &[&str]) -> Vec<(String, String)> {
        let mut trees = layers.iter().zip('a'..).map(|(text, name)| {
            yaml::parse(&Source::named(name.to_string()), text)
                .unwrap()
                .0
        });
        let mut base = trees.next().unwrap();
        trees.for_each(|over| merge(&mut base, over));
        let mut leaves = Vec::new();
        collect(&base, &mut String::new(), &mut leaves);
        leaves
    }

    fn collect(node: &Node, path: &mut String, leaves: &mut Vec<(String, String)>) {
        match node.as_map() {
            Some(map) if !map.is_empty() => {
                for entry in map {
                    collect(&entry.node, &mut format!("{path}/{}", entry.key), leaves);
                }
            }
            _ => leaves.push((path.clone(), format!("{:?} {}", node.value, node.origin))),
        }
    }

    #[test]
    fn maps_merge_and_the_rest_replaces() {
        for (layers, leaves) in [
            (
                &["a: 1\nb: 2", "b: 3\nc: 4"][..],
                &["/a Int(1) a:1:4", "/b Int(3) b:1:4", "/c Int(4) b:2:4"][..],
            ),
            (
                &["m: {x: 1, y: 2}", "m: {y: 3}"],
                &["/m/x Int(1) a:1:8", "/m/y Int(3) b:1:8"],
            ),
            (&["m: {x: 1}", "m: 5"], &["/m Int(5) b:1:4"]),
            (&["m: 5", "m: {x: 1}"], &["/m/x Int(1) b:1:8"]),
            (&["m: {x: 1}", "m: ~"], &["/m Null b:1:4"]),
            (&["m: {x: 1}", "m: {}", "m: {x: 2}"], &["/m/x Int(2) c:1:8"]),
        ] {
            let got: Vec<_> = merged(layers)
                .into_iter()
                .map(|(path, leaf)| format!("{path} {leaf}"))
                .collect();
            assert_eq!(got, leaves, "{layers:?}");
        }
        let lists = merged(&["l: [1, 2, 3]", "l: [4]"]);
        assert!(
            lists[0].1.ends_with("b:1:4") && !lists[0].1.contains("Int(1)"),
            "{lists:?}"
        );
    }
}
