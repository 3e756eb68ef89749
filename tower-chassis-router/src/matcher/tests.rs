//! Precedence, as tables and against an enumerator that shares no code with the matcher.

use http::Method;
use proptest::prelude::*;

use super::{Captures, Matcher, Outcome};
use crate::pattern::Pattern;

/// A table of `METHOD pattern` (`*` for any method), each with its index as value.
fn table(routes: &[&str]) -> Matcher<usize> {
    let mut matcher = Matcher::new();
    for (index, route) in routes.iter().enumerate() {
        let (method, pattern) = route.split_once(' ').unwrap();
        let method = (method != "*").then(|| method.parse().unwrap());
        let _ = matcher.insert(&Pattern::parse(pattern).unwrap(), method, index);
    }
    matcher
}

/// The route that serves a request, or `404`, or `405` and what is allowed.
fn served(routes: &[&str], request: &str) -> String {
    let matcher = table(routes);
    let (method, path) = request.split_once(' ').unwrap();
    match matcher.find(&method.parse().unwrap(), path, 0, &mut Captures::new()) {
        Outcome::Found { value } => routes[*value].to_owned(),
        Outcome::NotFound => "404".to_owned(),
        Outcome::MethodNotAllowed => format!("405 {}", matcher.allow(path, 0)),
    }
}

#[test]
fn static_then_expression_then_parameter_then_catch_all() {
    let routes = [
        "GET /x/*",
        "GET /x/{p}",
        "GET /x/{p}-z",
        "GET /x/{p:[a-m]+}",
        "GET /x/{p:[a-f]+}m",
        "GET /x/pre*",
        "GET /x/abc",
    ];
    for (path, expected) in [
        ("/x/abc", "GET /x/abc"),
        ("/x/prefix", "GET /x/pre*"),
        ("/x/abm", "GET /x/{p:[a-f]+}m"),
        ("/x/kl", "GET /x/{p:[a-m]+}"),
        ("/x/q-z", "GET /x/{p}-z"),
        ("/x/q", "GET /x/{p}"),
        ("/x/", "GET /x/*"),
        ("/x/q/r", "GET /x/*"),
        ("/x", "404"),
    ] {
        assert_eq!(served(&routes, &format!("GET {path}")), expected, "{path}");
    }
}

#[test]
fn precedence_is_decided_from_the_left() {
    let routes = ["GET /{a}/b", "GET /a/{b}", "GET /a/*", "GET /{a}/{b}"];
    assert_eq!(served(&routes, "GET /a/b"), "GET /a/{b}");
    assert_eq!(served(&routes, "GET /x/b"), "GET /{a}/b");
    assert_eq!(served(&routes, "GET /a/b/c"), "GET /a/*");
    assert_eq!(served(&routes, "GET /x/y"), "GET /{a}/{b}");
}

#[test]
fn a_dead_end_is_left_again() {
    let routes = ["GET /a/{x}/c", "GET /{y}/b/d", "GET /*"];
    assert_eq!(served(&routes, "GET /a/b/d"), "GET /{y}/b/d");
    assert_eq!(served(&routes, "GET /a/b/e"), "GET /*");
}

#[test]
fn equal_kinds_go_by_registration() {
    for routes in [
        ["GET /{a:[a-z]+}", "GET /{b:[a-y]+}"],
        ["GET /{b:[a-y]+}", "GET /{a:[a-z]+}"],
    ] {
        assert_eq!(served(&routes, "GET /x"), routes[0]);
    }
    for routes in [
        ["GET /{a}-{b}", "GET /{a}.{b}"],
        ["GET /{a}.{b}", "GET /{a}-{b}"],
    ] {
        assert_eq!(served(&routes, "GET /x-y.z"), routes[0]);
    }
    // chi moves only one expression without a tail to the end, so that the order changes with a third
    // route.
    let routes = ["GET /{a:[a-z]+}", "GET /{b:[a-y]+}", "GET /{c:[a-x]+}-c"];
    assert_eq!(served(&routes, "GET /x"), routes[0]);
}

#[test]
fn the_more_specific_text_inside_of_a_segment_goes_first() {
    let routes = [
        "GET /{x}",
        "GET /user-{id}",
        "GET /user-admin-{id}",
        "GET /{a}-{b}z",
        "GET /{a}-z",
    ];
    assert_eq!(served(&routes, "GET /user-admin-1"), "GET /user-admin-{id}");
    assert_eq!(served(&routes, "GET /user-1"), "GET /user-{id}");
    assert_eq!(served(&routes, "GET /1-2-z"), "GET /{a}-z");
    assert_eq!(served(&routes, "GET /1-2z"), "GET /{a}-{b}z");
    assert_eq!(served(&routes, "GET /plain"), "GET /{x}");
}

#[test]
fn a_route_without_the_method_is_passed_by() {
    let routes = ["GET /users/me", "PUT /users/{id}", "DELETE /users/*"];
    assert_eq!(served(&routes, "PUT /users/me"), "PUT /users/{id}");
    assert_eq!(
        served(&routes, "POST /users/me"),
        "405 DELETE, GET, HEAD, PUT"
    );
    assert_eq!(served(&routes, "POST /users/7"), "405 DELETE, PUT");
    assert_eq!(served(&routes, "PUT /users/me/x"), "405 DELETE");
    assert_eq!(served(&routes, "PUT /other"), "404");
}

#[test]
fn any_serves_what_nothing_else_does() {
    let routes = ["* /a", "GET /a", "PURGE /b"];
    assert_eq!(served(&routes, "GET /a"), "GET /a");
    assert_eq!(served(&routes, "HEAD /a"), "GET /a");
    assert_eq!(served(&routes, "POST /a"), "* /a");
    assert_eq!(served(&routes, "BREW /a"), "* /a");
    assert_eq!(served(&routes, "PURGE /b"), "PURGE /b");
    assert_eq!(served(&routes, "BREW /b"), "405 PURGE");
    assert_eq!(served(&routes, "purge /b"), "405 PURGE");
}

#[test]
fn get_answers_head_unless_told_otherwise() {
    assert_eq!(served(&["GET /a"], "HEAD /a"), "GET /a");
    assert_eq!(served(&["GET /a", "HEAD /a"], "HEAD /a"), "HEAD /a");
    assert_eq!(served(&["GET /a"], "OPTIONS /a"), "405 GET, HEAD");
    let mut strict = Matcher::new().implicit_head(false);
    strict
        .insert(&Pattern::parse("/a").unwrap(), Some(Method::GET), ())
        .unwrap();
    assert_eq!(
        strict.find(&Method::HEAD, "/a", 0, &mut Captures::new()),
        Outcome::MethodNotAllowed
    );
    assert_eq!(strict.allow("/a", 0), "GET");
}

#[test]
fn names_do_not_make_a_place() {
    let mut matcher = Matcher::new();
    let [id, slug] = ["/p/{id}", "/p/{slug}"].map(|text| Pattern::parse(text).unwrap());
    matcher.insert(&id, Some(Method::GET), 1).unwrap();
    matcher.insert(&slug, Some(Method::POST), 2).unwrap();
    assert_eq!(matcher.insert(&slug, Some(Method::GET), 3), Err(&1));
    matcher.insert(&slug, None, 4).unwrap();
    assert_eq!(matcher.insert(&id, None, 5), Err(&4));
}

#[test]
fn captures_of_passed_routes_are_forgotten() {
    let matcher = table(&["GET /{a}/x/{b}", "POST /{c}/x/{d}", "PUT /{e}/{f}/*"]);
    let mut captures = Captures::new();
    assert_eq!(
        matcher.find(&Method::PUT, "/1/x/3", 0, &mut captures),
        Outcome::Found { value: &2 }
    );
    assert_eq!((captures.len(), captures.get(2)), (3, Some((5, 6))));
    captures.truncate(0);
    assert_eq!(
        matcher.find(&Method::PATCH, "/1/x/3", 0, &mut captures),
        Outcome::MethodNotAllowed
    );
    assert!(captures.is_empty());
}

#[test]
fn a_path_that_is_too_long_for_http_is_not_found() {
    let path = format!("/{}", "x".repeat(70_000));
    assert_eq!(
        table(&["GET /{x}"]).find(&Method::GET, &path, 0, &mut Captures::new()),
        Outcome::NotFound
    );
}

/// Precedence by its definition: the patterns in depth-first order of the trie of their tokens, each
/// asked by a regular expression over the whole path.
mod naive {
    use regex::Regex;

    #[derive(Clone, PartialEq, Debug)]
    enum Step {
        Byte(u8),
        Regex(String, Option<u8>),
        Param(Option<u8>),
        Rest,
    }

    fn steps(pattern: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut rest = pattern;
        while let Some(first) = rest.bytes().next() {
            if first == b'*' {
                steps.push(Step::Rest);
                rest = &rest[1..];
            } else if first == b'{' {
                // The generator writes no braces into expressions.
                let (inside, after) = rest[1..].split_once('}').unwrap();
                let tail = after.bytes().next().filter(|byte| *byte != b'/');
                steps.push(match inside.split_once(':') {
                    Some((_, expression)) => Step::Regex(expression.to_owned(), tail),
                    None => Step::Param(tail),
                });
                rest = after;
            } else {
                steps.push(Step::Byte(first));
                rest = &rest[1..];
            }
        }
        steps
    }

    /// The indices of `patterns` in the order in which they are to be tried.
    pub(super) fn order(patterns: &[&str]) -> Vec<usize> {
        let all: Vec<_> = patterns.iter().map(|pattern| steps(pattern)).collect();
        let mut order = Vec::new();
        visit(&all, (0..all.len()).collect(), 0, &mut order);
        order
    }

    fn visit(all: &[Vec<Step>], here: Vec<usize>, depth: usize, order: &mut Vec<usize>) {
        order.extend(
            here.iter()
                .copied()
                .filter(|index| all[*index].len() == depth),
        );
        let here: Vec<_> = here
            .into_iter()
            .filter(|index| all[*index].len() > depth)
            .collect();
        let kinds: [fn(&Step) -> bool; 6] = [
            |step| matches!(step, Step::Byte(_)),
            |step| matches!(step, Step::Regex(_, Some(_))),
            |step| matches!(step, Step::Regex(_, None)),
            |step| matches!(step, Step::Param(Some(_))),
            |step| matches!(step, Step::Param(None)),
            |step| matches!(step, Step::Rest),
        ];
        for kind in kinds {
            let mut edges: Vec<&Step> = Vec::new();
            for index in &here {
                let step = &all[*index][depth];
                if kind(step) && !edges.contains(&step) {
                    edges.push(step);
                }
            }
            for edge in edges {
                let below = here
                    .iter()
                    .copied()
                    .filter(|index| all[*index][depth] == *edge)
                    .collect();
                visit(all, below, depth + 1, order);
            }
        }
    }

    /// A pattern as one expression over the whole path, and whether it ends with a parameter.
    pub(super) fn compile(pattern: &str) -> (Regex, bool) {
        let steps = steps(pattern);
        let mut text = String::from("^");
        for (index, step) in steps.iter().enumerate() {
            let last = index + 1 == steps.len();
            match step {
                Step::Byte(byte) => text.push_str(&regex::escape(&char::from(*byte).to_string())),
                Step::Regex(expression, _) => text.push_str(&format!("((?:{expression}))")),
                Step::Param(_) if last => text.push_str("([^/]+)"),
                Step::Param(_) => text.push_str("([^/]*?)"),
                Step::Rest => text.push_str("(.*)"),
            }
        }
        text.push('$');
        let parameter = matches!(steps.last(), Some(Step::Param(_) | Step::Regex(..)));
        (Regex::new(&text).unwrap(), parameter)
    }

    /// What `path` captures.
    pub(super) fn captured(
        (pattern, parameter): &(Regex, bool),
        path: &str,
    ) -> Option<Vec<(usize, usize)>> {
        let found = pattern.captures(path)?;
        let ranges: Vec<_> = (1..found.len())
            .map(|group| found.get(group).unwrap())
            .map(|group| (group.start(), group.end()))
            .collect();
        // A parameter that ends the pattern takes at least one byte.
        let empty = ranges.last().is_some_and(|(start, end)| start == end);
        (!(*parameter && empty)).then_some(ranges)
    }
}

/// Few letters and few shapes, so that many patterns match one path.
fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ab]{1,2}",
        2 => Just("{}".to_owned()),
        2 => prop_oneof![Just("{:[a]+}"), Just("{:[ab]+}"), Just("{:b?a*}")].prop_map(str::to_owned),
        2 => "[ab-]".prop_map(|text| format!("{{:[ab]+}}{text}")),
        2 => "[ab-]".prop_map(|text| format!("{{}}{text}")),
        1 => "[ab]".prop_map(|text| format!("{text}{{}}")),
        1 => "[ab]".prop_map(|text| format!("{text}{{:[ab]+}}")),
        1 => "[ab-]".prop_map(|text| format!("{{}}{text}{{}}")),
        1 => "[ab-]{2}".prop_map(|text| format!("{{}}-{{}}{text}")),
        1 => Just(String::new()),
    ]
}

/// A pattern; holes get the names that they need not to repeat themselves.
fn pattern() -> impl Strategy<Value = String> {
    let end = prop_oneof![6 => Just(""), 1 => Just("/*"), 1 => Just("b*")];
    (proptest::collection::vec(segment(), 1..3), end).prop_filter_map(
        "a wildcard behind a hole",
        |(segments, end)| {
            let mut text = format!("/{}{end}", segments.join("/"));
            for name in ["p", "q", "r", "s", "t", "u"] {
                text = match text.find("{}").into_iter().chain(text.find("{:")).min() {
                    Some(at) => format!("{}{name}{}", &text[..=at], &text[at + 1..]),
                    None => text,
                };
            }
            Pattern::parse(&text).is_ok().then_some(text)
        },
    )
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[ab]{0,3}|[ab]-[ab]|[ab-]{1,4}", 1..3)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn agrees_with_the_naive_enumerator(
        routes in proptest::collection::vec((pattern(), prop_oneof![Just("GET"), Just("PUT")]), 1..10),
        paths in proptest::collection::vec(path(), 8),
    ) {
        let lines: Vec<_> = routes.iter().map(|(pattern, method)| format!("{method} {pattern}")).collect();
        let matcher = table(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let patterns: Vec<_> = routes.iter().map(|(pattern, _)| pattern.as_str()).collect();
        // Names do not make a place: of the routes of one shape and method, the first is in the table.
        let nameless: Vec<String> = patterns.iter().map(|pattern| pattern.replace(['p', 'q', 'r', 's', 't', 'u'], "")).collect();
        let nameless: Vec<_> = nameless.iter().map(String::as_str).collect();
        let order = naive::order(&nameless);
        let compiled: Vec<_> = nameless.iter().map(|pattern| naive::compile(pattern)).collect();
        for path in &paths {
            let matching: Vec<_> = order.iter().filter(|index| naive::captured(&compiled[**index], path).is_some()).collect();
            let mut captures = Captures::new();
            match matcher.find(&Method::GET, path, 0, &mut captures) {
                Outcome::Found { value } => {
                    let expected = matching.iter().find(|index| routes[***index].1 == "GET");
                    prop_assert_eq!(expected, Some(&value), "{} in {:?}", path, lines);
                    let ranges: Vec<_> = (0..captures.len()).filter_map(|index| captures.get(index)).collect();
                    prop_assert_eq!(Some(ranges), naive::captured(&compiled[*value], path), "{} in {}", path, patterns[*value]);
                }
                Outcome::MethodNotAllowed => {
                    prop_assert!(!matching.is_empty(), "{} in {:?}", path, lines);
                    prop_assert!(matching.iter().all(|index| routes[**index].1 == "PUT"), "{} in {:?}", path, lines);
                    prop_assert_eq!(matcher.allow(path, 0), "PUT");
                }
                Outcome::NotFound => prop_assert!(matching.is_empty(), "{} in {:?}", path, lines),
            }
        }
    }
}
