//! The merged configuration.

use std::fmt;

use super::{
    fault::{Fault, Faults},
    nearest::nearest,
    path::{self, Step},
    value::{Node, Origin, Source, Value},
};

/// All layers merged; every value still knows which layer it is from.
///
/// `Debug` hides what [`render`](Self::render) hides; that of a [`Node`] does not.
#[derive(Clone, PartialEq)]
pub struct Tree {
    root: Node,
}

impl Tree {
    pub(super) fn new(root: Node) -> Self {
        Self { root }
    }

    /// The whole: a map.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The value at `path`: `services.shop.retry.attempts`, `routes[2].path`, `services."a.b".url`.
    /// The empty path is the whole.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        path::parse(path)
            .iter()
            .try_fold(&self.root, |node, step| Some(child(node, step)?.0))
    }

    /// Where the value at `path` stands, or what is nearest above it if nobody said it.
    ///
    /// For a map or a list under a key that is the key.
    #[must_use]
    pub fn origin_of(&self, path: &str) -> &Origin {
        self.origin_at(&path::parse(path))
    }

    pub(super) fn origin_at(&self, steps: &[Step]) -> &Origin {
        let mut node = &self.root;
        let mut origin = &node.origin;
        for step in steps {
            let Some((inner, key)) = child(node, step) else {
                break;
            };
            node = inner;
            // A block begins at its first key, a line too late for whoever looks for its name.
            origin = match node.value {
                Value::Map(_) | Value::List(_) => key.unwrap_or(&node.origin),
                _ => &node.origin,
            };
        }
        origin
    }

    /// A fault of the value at `path`, standing where [`origin_of`](Self::origin_of) says.
    #[must_use]
    pub fn fault_at(&self, path: &str, message: impl Into<String>) -> Fault {
        Fault::new(self.origin_of(path).clone(), path, message)
    }

    /// Begins a check of what types cannot say: ranges, names that must exist.
    pub fn check(&self) -> Checker<'_> {
        Checker {
            tree: self,
            faults: Vec::new(),
        }
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tree").field(&self.render(&[])).finish()
    }
}

impl Default for Tree {
    /// The tree of no layer at all.
    fn default() -> Self {
        Self::new(Node::new(
            Value::Map(super::Map::new()),
            Origin::new(Source::Default),
        ))
    }
}

/// What a step leads to, and where its key stands if it has one.
pub(super) fn child<'a>(node: &'a Node, step: &Step) -> Option<(&'a Node, Option<&'a Origin>)> {
    match (step, &node.value) {
        (Step::Key(key), Value::Map(map)) => map
            .get(key)
            .map(|entry| (&entry.node, Some(&entry.key_origin))),
        (Step::Index(n), Value::List(items)) => Some((items.get(*n)?, None)),
        _ => None,
    }
}

/// Collects the faults that the owner of a configuration finds.
///
/// ```
/// # use tower_chassis_core::config::{Faults, Format, Loader};
/// # let tree = Loader::new().text("gateway.yaml", Format::Yaml, "breaker:\n  failure_rate: 7\n").load().unwrap();
/// let mut check = tree.check();
/// check.fault("breaker.failure_rate", "must be above 0 and at most 1");
/// let faults = check.finish().unwrap_err();
/// assert_eq!(faults.to_string(), "gateway.yaml:2:17: breaker.failure_rate: must be above 0 and at most 1");
/// ```
#[derive(Debug)]
#[must_use = "the faults are in it until `finish` is called"]
pub struct Checker<'a> {
    tree: &'a Tree,
    faults: Vec<Fault>,
}

impl Checker<'_> {
    /// The value at `path` is wrong.
    pub fn fault(&mut self, path: &str, message: impl Into<String>) {
        self.faults.push(self.tree.fault_at(path, message));
    }

    /// The value at `path` is wrong, and there is an obvious remedy.
    pub fn fault_with(
        &mut self,
        path: &str,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        self.faults
            .push(self.tree.fault_at(path, message).suggest(suggestion));
    }

    /// The value at `path` names a `what` that does not exist:
    /// `unknown service "shpo"; did you mean "shop"?`
    pub fn dangling<'c>(
        &mut self,
        path: &str,
        what: &str,
        name: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) {
        let mut fault = self
            .tree
            .fault_at(path, format!("unknown {what} \"{name}\""));
        fault.suggestion = did_you_mean(name, candidates);
        self.faults.push(fault);
    }

    /// Whether nothing was wrong so far.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// Ends the check.
    ///
    /// # Errors
    ///
    /// All that was collected, if it was anything.
    pub fn finish(self) -> Result<(), Faults> {
        self.faults.into_iter().collect::<Faults>().into_result()
    }
}

pub(super) fn did_you_mean<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    nearest(name, candidates).map(|near| format!("did you mean \"{near}\"?"))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Format, Loader},
        *,
    };

    fn tree() -> Tree {
        let text = "services:\n  shop:\n    retry:\n      attempts: 3\n  a.b:\n    url: x\nroutes:\n- to: shop\n- to: shpo\n";
        Loader::new()
            .text("g.yaml", Format::Yaml, text)
            .load()
            .unwrap()
    }

    #[test]
    fn a_path_finds_its_value_and_its_place() {
        let tree = tree();
        assert_eq!(
            tree.get("services.shop.retry.attempts").unwrap().value,
            Value::Int(3)
        );
        assert_eq!(
            tree.get("routes[1].to").unwrap().value,
            Value::Str("shpo".into())
        );
        assert_eq!(
            tree.get("services.\"a.b\".url").unwrap().value,
            Value::Str("x".into())
        );
        assert!(
            tree.get("").is_some()
                && tree.get("routes[2]").is_none()
                && tree.get("routes.to").is_none()
        );
        for (path, place) in [
            ("services.shop.retry.attempts", "g.yaml:4:17"),
            ("services.shop.retry", "g.yaml:3:5"),
            ("services.shop.retry.backoff.base", "g.yaml:3:5"),
            ("services.shop.url", "g.yaml:2:3"),
            ("routes[1]", "g.yaml:9:3"),
            ("routes[7].to", "g.yaml:7:1"),
            ("nothing", "g.yaml:1:1"),
            ("", "g.yaml:1:1"),
        ] {
            assert_eq!(tree.origin_of(path).to_string(), place, "{path}");
        }
    }

    #[test]
    fn a_check_reports_all_it_found() {
        let tree = tree();
        assert_eq!(tree.check().finish(), Ok(()));
        let mut check = tree.check();
        check.dangling("routes[1].to", "service", "shpo", ["shop", "a.b"]);
        check.dangling("routes[0].to", "service", "zzz", ["shop"]);
        check.fault("services.shop.retry.attempts", "must be at most 2");
        check.fault_with("services.shop.url", "missing required key", "add a url");
        assert!(!check.is_clean());
        assert_eq!(
            check.finish().unwrap_err().to_string(),
            "g.yaml:2:3: services.shop.url: missing required key; add a url\n\
             g.yaml:4:17: services.shop.retry.attempts: must be at most 2\n\
             g.yaml:8:7: routes[0].to: unknown service \"zzz\"\n\
             g.yaml:9:7: routes[1].to: unknown service \"shpo\"; did you mean \"shop\"?"
        );
    }
}
