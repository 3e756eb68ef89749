//! One rule, read.

use http::Method;
use tower_chassis_core::{Class, live::Invalid};

use super::config::{AuditRule, class};
use crate::fault::class_index;

#[derive(Clone, Debug)]
pub(super) struct Rule {
    routes: Vec<Box<str>>,
    methods: Vec<Method>,
    /// A bit for each; all of them for none.
    classes: u8,
    record: bool,
}

impl Rule {
    pub(super) fn read(nth: usize, rule: &AuditRule) -> Result<Self, Invalid> {
        let fault = |list: &str, at: usize, why: String| {
            Invalid::new(format!("rules[{nth}].{list}[{at}]"), why)
        };
        let mut methods = Vec::new();
        for (at, method) in rule.methods.iter().enumerate() {
            let read = Method::from_bytes(method.as_bytes());
            let read =
                read.map_err(|_| fault("methods", at, format!("is no method: {method:?}")))?;
            methods.push(read);
        }
        let mut classes = 0;
        for (at, name) in rule.classes.iter().enumerate() {
            let Some(class) = class(name) else {
                return Err(fault("classes", at, format!("is no class: {name:?}")));
            };
            classes |= 1 << class;
        }
        Ok(Self {
            routes: rule
                .routes
                .iter()
                .map(|route| route.as_str().into())
                .collect(),
            methods,
            classes: if classes == 0 { u8::MAX } else { classes },
            record: rule.record,
        })
    }

    pub(super) const fn records(&self) -> bool {
        self.record
    }

    pub(super) fn fits_method(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    pub(super) fn fits(&self, method: &Method, route: Option<&str>, class: Class) -> bool {
        let fits_route = || match route {
            Some(route) => self
                .routes
                .iter()
                .any(|glob| fits(glob.as_bytes(), route.as_bytes())),
            None => self.routes.iter().any(|glob| **glob == *"*"),
        };
        self.classes & 1 << class_index(class) != 0
            && self.fits_method(method)
            && (self.routes.is_empty() || fits_route())
    }
}

/// Whether a text fits a glob whose stars are anything. Goes back to the last star only, so it takes the product of
/// the two lengths at the most.
fn fits(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star = None;
    while from < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if *byte == text[from] => (at, from) = (at + 1, from + 1),
            _ => {
                let Some((star_at, taken)) = star else {
                    return false;
                };
                star = Some((star_at, taken + 1));
                (at, from) = (star_at + 1, taken + 1);
            }
        }
    }
    glob[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a glob means, without a thought for how long it takes.
    fn means(glob: &[u8], text: &[u8]) -> bool {
        match (glob, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| means(rest, &text[at..])),
            ([a, glob @ ..], [b, text @ ..]) if a == b => means(glob, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_glob_fits_what_it_means(glob in "[ab*/]{0,8}", text in "[ab/]{0,10}") {
            prop_assert_eq!(fits(glob.as_bytes(), text.as_bytes()), means(glob.as_bytes(), text.as_bytes()));
        }
    }
}
