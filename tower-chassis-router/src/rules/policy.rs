//! Rules that are valid by construction.

use std::{collections::HashMap, error::Error, fmt, sync::Arc};

use http::{HeaderMap, HeaderName, Method};
use tower_chassis_core::{
    invocation::Subset,
    live::{Invalid, Validate},
};

use super::{
    rule::{Destination, HeaderMatch, Matches, Rule, ValueMatch},
    share::Shares,
};
use crate::{
    expression::Expression,
    percent::{Unit, eat, units},
};

/// What one expression may take when compiled.
const EXPRESSION_LIMIT: usize = 10 << 10;

/// Compiled [`Rule`]s. A clone is one reference count.
#[derive(Clone, Debug)]
pub struct TrafficPolicy {
    rules: Arc<[Compiled]>,
}

#[derive(Debug)]
struct Compiled {
    name: Arc<str>,
    headers: Vec<(HeaderName, Test)>,
    methods: Vec<Method>,
    path_prefix: Vec<Unit>,
    shares: Shares,
    subsets: Vec<Arc<Subset>>,
}

/// A [`ValueMatch`], compiled.
#[derive(Debug)]
pub(crate) enum Test {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Regex(Expression),
    Present,
}

impl Validate for TrafficPolicy {}

impl TrafficPolicy {
    /// Compiles `rules`, of which the first that matches a request wins. Policies with different seeds
    /// begin with different destinations; give each process its own.
    ///
    /// # Errors
    ///
    /// Every fault, with its place.
    ///
    /// ```
    /// use tower_chassis_router::rules::{Destination, HeaderMatch, Rule, TrafficPolicy};
    ///
    /// let rule = Rule::new("canary", [Destination::new([("version", "2")], 0)])
    ///     .header(HeaderMatch::regex("x-user", "[0-9"));
    /// let invalid = TrafficPolicy::new(vec![rule], 1).unwrap_err();
    /// let fields: Vec<_> = invalid.iter().map(|fault| fault.field()).collect();
    /// assert_eq!(fields, ["rules[0].matches.headers[0].value", "rules[0].to"]);
    /// ```
    pub fn new(rules: Vec<Rule>, seed: u64) -> Result<Self, InvalidRules> {
        let mut faults = Faults::default();
        let mut names = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            if rule.name.is_empty() {
                faults.push(format!("rules[{index}].name"), "must not be empty");
            } else if let Some(first) = names.insert(rule.name.clone(), index) {
                faults.push(
                    format!("rules[{index}].name"),
                    format!("must not be that of rules[{first}]"),
                );
            }
        }
        let compiled: Vec<_> = rules
            .into_iter()
            .enumerate()
            .filter_map(|(index, rule)| {
                compile(rule, &format!("rules[{index}]"), seed, &mut faults)
            })
            .collect();
        if faults.0.is_empty() {
            Ok(Self {
                rules: compiled.into(),
            })
        } else {
            Err(InvalidRules(faults.0))
        }
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are no rules: all requests go to the whole service.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The name of a rule.
    #[must_use]
    pub fn name(&self, rule: usize) -> Option<&str> {
        self.rules.get(rule).map(|rule| &*rule.name)
    }

    /// The first rule that matches a request.
    #[must_use]
    pub fn matching(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<usize> {
        self.rules
            .iter()
            .position(|rule| rule.matches(method, path, headers))
    }

    /// The destination that a rule chooses for the `turn`th request that it matches.
    #[must_use]
    pub fn choose(&self, rule: usize, turn: u64) -> Option<&Arc<Subset>> {
        let rule = self.rules.get(rule)?;
        rule.subsets.get(rule.shares.pick(turn))
    }
}

impl Compiled {
    fn matches(&self, method: &Method, path: &str, headers: &HeaderMap) -> bool {
        let below = |prefix: &[Unit]| {
            let path = path.as_bytes();
            eat(path, 0, path.len(), prefix)
                .is_some_and(|rest| matches!(path.get(rest), None | Some(b'/')))
        };
        (self.methods.is_empty() || self.methods.contains(method))
            && (self.path_prefix.is_empty() || below(&self.path_prefix))
            && self.headers.iter().all(|(name, test)| {
                headers
                    .get_all(name)
                    .iter()
                    .any(|value| test.accepts(value.as_bytes()))
            })
    }
}

impl Test {
    pub(crate) fn new(value: ValueMatch) -> Result<Self, regex::Error> {
        Ok(match value {
            ValueMatch::Exact(value) => Self::Exact(value.into_bytes().into()),
            ValueMatch::Prefix(value) => Self::Prefix(value.into_bytes().into()),
            ValueMatch::Present => Self::Present,
            ValueMatch::Regex(expression) => {
                Self::Regex(Expression::new(&expression, EXPRESSION_LIMIT)?)
            }
        })
    }

    pub(crate) fn accepts(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => **wanted == *value,
            Self::Prefix(wanted) => value.starts_with(wanted),
            Self::Regex(expression) => expression.matches(value),
            Self::Present => true,
        }
    }
}

fn compile(rule: Rule, at: &str, seed: u64, faults: &mut Faults) -> Option<Compiled> {
    let Rule {
        name,
        matches:
            Matches {
                headers,
                methods,
                path_prefix,
            },
        to,
        on_empty,
    } = rule;
    let headers = headers
        .into_iter()
        .enumerate()
        .filter_map(|(index, header)| {
            compile_header(header, &format!("{at}.matches.headers[{index}]"), faults)
        })
        .collect();
    if path_prefix
        .as_ref()
        .is_some_and(|prefix| !prefix.starts_with('/'))
    {
        faults.push(format!("{at}.matches.path_prefix"), "must start with `/`");
    }
    let path_prefix = path_prefix.unwrap_or_default();
    check_tags(&to, at, faults);
    // Rules of one policy should not all begin alike.
    let seed = name.bytes().fold(seed, |seed, byte| {
        seed.rotate_left(5).wrapping_add(u64::from(byte))
    });
    let shares = Shares::new(to.iter().map(|destination| destination.weight), seed);
    if shares.is_none() {
        faults.push(
            format!("{at}.to"),
            "must have weights that add up to more than 0",
        );
    }
    Some(Compiled {
        name: name.into(),
        headers,
        methods,
        path_prefix: units(path_prefix.strip_suffix('/').unwrap_or(&path_prefix)).collect(),
        shares: shares?,
        subsets: to
            .into_iter()
            .map(|destination| Arc::new(Subset::new(destination.tags, on_empty)))
            .collect(),
    })
}

fn compile_header(
    header: HeaderMatch,
    at: &str,
    faults: &mut Faults,
) -> Option<(HeaderName, Test)> {
    let name = HeaderName::try_from(header.name)
        .map_err(|_| faults.push(format!("{at}.name"), "must be the name of a header"))
        .ok();
    let test = Test::new(header.value)
        .map_err(|error| {
            faults.push(
                format!("{at}.value"),
                format!("must be a small expression: {error}"),
            )
        })
        .ok();
    Some((name?, test?))
}

fn check_tags(to: &[Destination], at: &str, faults: &mut Faults) {
    let sorted = |destination: &Destination| {
        let mut tags = destination.tags.clone();
        tags.sort_unstable();
        tags
    };
    let mut known = HashMap::new();
    for (index, destination) in to.iter().enumerate() {
        let tags = sorted(destination);
        if let Some(pair) = tags
            .windows(2)
            .find(|pair| pair.first().map(|tag| &tag.0) == pair.last().map(|tag| &tag.0))
        {
            let name = pair.first().map_or("", |tag| &tag.0);
            faults.push(
                format!("{at}.to[{index}].tags"),
                format!("must not have `{name}` twice"),
            );
        }
        if let Some(first) = known.insert(tags, index) {
            faults.push(
                format!("{at}.to[{index}].tags"),
                format!("must not be those of {at}.to[{first}]"),
            );
        }
    }
}

#[derive(Default)]
struct Faults(Vec<Invalid>);

impl Faults {
    fn push(&mut self, field: String, why: impl Into<std::borrow::Cow<'static, str>>) {
        self.0.push(Invalid::new(field, why));
    }
}

/// Everything that is wrong with a list of rules. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidRules(Vec<Invalid>);

impl InvalidRules {
    /// The faults. Fields are written as in `rules[1].to[0].tags`, counted from 0.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Invalid> {
        self.0.iter()
    }
}

impl fmt::Display for InvalidRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl Error for InvalidRules {}
