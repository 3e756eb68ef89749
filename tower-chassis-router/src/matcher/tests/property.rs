//! Generated tables and requests, answered by the trie and by the oracle.
//!
//! 10,000 requests; `CHASSIS_LONG=1` takes 1,000,000.

use fastrand::Rng;
use http::Method;

use super::oracle::{Answer, Oracle, accepts};
use crate::{
    matcher::{Captures, Matcher, Outcome, Verdict, canonical, find::start},
    pattern::Pattern,
};

const PATHS: usize = 16;

/// Few letters and few shapes, so that many patterns match one path.
const TEXTS: &[&str] = &[
    "a",
    "b",
    "ab",
    "ba",
    "aa",
    "a-b",
    "",
    "abababab",
    "abababababab",
    "%61",
    "%2Fa",
    "a:b",
    "\u{e9}",
];
const EXPRESSIONS: &[&str] = &[
    "[ab-]+", "[ab]*", ".+", ".*", "a+", "[ab]+", "b?a*", "[ab][ab]", "ab|a", "a|ab|b", "(?:ab)*",
    "[^a]*", "[a-]+", "a.?", "", "^a*$", "\\w", "[a:/]+", "\u{e9}?a", "(a|b-a)*",
];
const TAILS: &[&str] = &["a", "b", "-", "-a", "ab", ":", "%2F", ".", "b-"];
const VALUES: &[&str] = &[
    "a",
    "b",
    "ab",
    "aba",
    "a-b",
    "-",
    "",
    "aa",
    "a-b-a",
    "%61",
    "%2F",
    "a%2fb",
    "\u{e9}",
    "%C3%A9",
    "a:b",
    "a%3Ab",
    "%",
    "b.a",
    "ab-ab-ab-ab",
    "%2D",
];
const METHODS: &[&str] = &["GET", "GET", "GET", "GET", "PUT", "*", "PURGE", "HEAD"];
const ASKED: &[&str] = &[
    "GET", "GET", "GET", "GET", "PUT", "HEAD", "PURGE", "POST", "get",
];

fn pick<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.usize(..of.len())]
}

fn hole(rng: &mut Rng, names: &mut u8) -> String {
    *names += 1;
    let name = char::from(b'm' + *names);
    match rng.u8(..10) {
        0..5 => format!("{{{name}}}"),
        _ => format!("{{{name}:{}}}", pick(rng, EXPRESSIONS)),
    }
}

fn segment(rng: &mut Rng, names: &mut u8) -> String {
    let holes = match rng.u8(..20) {
        0..6 => 0,
        6..13 => 1,
        13..18 => 2,
        _ => 3,
    };
    if holes == 0 {
        return pick(rng, TEXTS).to_owned();
    }
    let mut text = String::new();
    if rng.u8(..3) == 0 {
        text.push_str(pick(rng, TEXTS));
    }
    for index in 0..holes {
        if index > 0 {
            text.push_str(pick(rng, TAILS));
        }
        text.push_str(&hole(rng, names));
    }
    if rng.u8(..3) == 0 {
        text.push_str(pick(rng, TAILS));
    }
    text
}

fn pattern(rng: &mut Rng) -> String {
    let mut names = 0;
    let mut text = String::new();
    for _ in 0..rng.usize(1..4) {
        text.push('/');
        text.push_str(&segment(rng, &mut names));
    }
    match rng.u8(..10) {
        0 => text.push_str("/*"),
        1 if !text.ends_with('}') => text.push('*'),
        2 => text.push_str("/{*rest}"),
        _ => {}
    }
    text
}

/// What a pattern could match: holes are filled with anything, but expressions mostly with what they accept.
fn filled(rng: &mut Rng, pattern: &str) -> String {
    let mut path = String::new();
    let mut rest = pattern;
    while let Some(char) = rest.chars().next() {
        if rest.starts_with("{*") || char == '*' {
            path.push_str(pick(rng, &["", "a", "a/b", "/", "%2f"]));
            break;
        }
        if char == '{' {
            // The generator writes no braces into expressions.
            let (inside, after) = rest.split_at(rest.find('}').unwrap());
            let expression = inside.split_once(':').map(|(_, text)| text);
            let fits = |value: &str| expression.is_none_or(|text| accepts(text, value.as_bytes()));
            let values = (0..8).map(|_| pick(rng, VALUES)).find(|value| fits(value));
            path.push_str(values.unwrap_or("a"));
            rest = &after[1..];
        } else {
            path.push(char);
            rest = &rest[char.len_utf8()..];
        }
    }
    path
}

/// A path, and perhaps the method of the route that it was made for.
fn path(rng: &mut Rng, patterns: &[String]) -> (String, Option<String>) {
    let mut method = None;
    let mut path = match rng.u8(..10) {
        0 => {
            let segments = (0..rng.usize(1..4)).map(|_| format!("/{}", pick(rng, VALUES)));
            segments.collect()
        }
        _ => {
            let line = &patterns[rng.usize(..patterns.len())];
            let (own, pattern) = line.split_once(' ').unwrap();
            method = Some(own.to_owned()).filter(|own| own != "*" && rng.bool());
            filled(rng, pattern)
        }
    };
    if rng.u8(..8) == 0 {
        let mut places = path
            .char_indices()
            .filter(|(at, _)| *at > 0)
            .map(|(at, _)| at);
        if let Some(at) = places.nth(rng.usize(..path.chars().count())) {
            match rng.u8(..4) {
                0 => drop(path.remove(at)),
                1 => path.insert_str(at, pick(rng, &["/", "a", "-", "%61"])),
                2 if path.as_bytes()[at].is_ascii() => {
                    let byte = path.as_bytes()[at];
                    path.replace_range(at..=at, &format!("%{byte:02x}"));
                }
                _ => path.truncate(at),
            }
        }
    }
    (path, method)
}

pub(super) fn matcher(lines: &[String], implicit_head: bool, strict: bool) -> Matcher<usize> {
    let mut matcher = Matcher::builder()
        .implicit_head(implicit_head)
        .strict(strict);
    for (index, line) in lines.iter().enumerate() {
        let (method, pattern) = line.split_once(' ').unwrap();
        let method = (method != "*").then(|| method.parse().unwrap());
        let pattern = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{error}"));
        let _ = matcher.insert(&pattern, method, index);
    }
    matcher.build()
}

pub(super) fn ask(matcher: &Matcher<usize>, method: &str, path: &str, at: usize) -> Answer {
    let mut captures = Captures::new();
    captures.push(7, 9);
    let answer = match matcher.find(&method.parse().unwrap(), path, at, &mut captures) {
        Outcome::Found { value } => {
            let ranges = (1..captures.len()).map(|index| captures.get(index).unwrap());
            return Answer::Route(*value, ranges.collect());
        }
        Outcome::MethodNotAllowed => Answer::Methods(matcher.allow(path, at)),
        Outcome::NotFound => {
            assert_eq!(matcher.allow(path, at), "");
            Answer::Nothing
        }
    };
    assert_eq!(captures.len(), 1, "captures are left behind");
    answer
}

struct Request {
    method: String,
    path: String,
    at: usize,
}

/// What differs for a table and a request.
fn difference(
    lines: &[String],
    request: &Request,
    implicit_head: bool,
    strict: bool,
) -> Option<String> {
    let matcher = matcher(lines, implicit_head, strict);
    let mut oracle = Oracle::new(lines);
    oracle.implicit_head = implicit_head;
    oracle.strict = strict;
    differs(lines, &matcher, &oracle, request)
}

fn differs(
    lines: &[String],
    matcher: &Matcher<usize>,
    oracle: &Oracle,
    request: &Request,
) -> Option<String> {
    let Request { method, path, at } = request;
    let expected = oracle.ask(method, path, *at);
    let found = ask(matcher, method, path, *at);
    let explained = matcher.explain(&method.parse().unwrap(), path, *at);
    let serving = explained
        .iter()
        .find(|tried| tried.verdict == Verdict::Serves);
    let agrees = match &expected {
        Answer::Route(route, captures) => {
            serving.map(|tried| tried.value) == Some(route)
                && alone(&lines[*route], path, *at).as_ref() == Some(captures)
        }
        Answer::Methods(_) => {
            serving.is_none()
                && explained
                    .iter()
                    .any(|tried| tried.verdict == Verdict::Method)
        }
        Answer::Nothing => {
            serving.is_none()
                && explained
                    .iter()
                    .all(|tried| tried.verdict != Verdict::Method)
        }
    };
    (expected != found || !agrees).then(|| {
        format!("{method} {path} from {at}: expected {expected:?}, found {found:?}, explained {explained:?}")
    })
}

/// What a pattern by itself captures.
fn alone(line: &str, path: &str, at: usize) -> Option<Vec<(usize, usize)>> {
    let pattern = Pattern::parse(line.split_once(' ').unwrap().1).unwrap();
    let mut captures = Captures::new();
    let matches = pattern.matches(path, at, &mut captures);
    let ranges = (0..captures.len()).map(|index| captures.get(index).unwrap());
    matches.then(|| ranges.collect())
}

/// Whether the first walk cannot decide.
fn backtracks(matcher: &Matcher<usize>, request: &Request) -> bool {
    let method: Method = request.method.parse().unwrap();
    let form = canonical(request.path.as_bytes(), request.at);
    let wanted = matcher.trie.wanted(&method);
    start(&form, request.at).is_some_and(|start| {
        let greedy = matcher
            .trie
            .greedy::<false>(wanted, &form, start, &mut Captures::new());
        greedy.is_err()
    })
}

#[derive(Default, Debug)]
struct Shares {
    requests: usize,
    hits: usize,
    backtracking: usize,
    not_allowed: usize,
    expressions: usize,
    several: usize,
    escapes: usize,
}

impl Shares {
    fn count(&mut self, lines: &[String], answer: &Answer, request: &Request, backtracks: bool) {
        self.requests += 1;
        self.backtracking += usize::from(backtracks);
        self.escapes += usize::from(request.path.contains('%'));
        match answer {
            Answer::Route(route, _) => {
                let line = &lines[*route];
                self.hits += 1;
                self.expressions += usize::from(
                    line.contains("{n:") || line.contains("{o:") || line.contains("{p:"),
                );
                let several = line
                    .split('/')
                    .any(|segment| segment.matches('{').count() > 1);
                self.several += usize::from(several);
            }
            Answer::Methods(_) => self.not_allowed += 1,
            Answer::Nothing => {}
        }
    }

    fn check(&self) {
        let least = [
            ("hits", self.hits, 30),
            ("backtracking", self.backtracking, 10),
            ("405", self.not_allowed, 5),
            ("expressions", self.expressions, 10),
            ("several parameters in a segment", self.several, 10),
            ("escapes", self.escapes, 5),
        ];
        for (name, count, least) in least {
            let share = count as f64 * 100.0 / self.requests as f64;
            println!("{share:5.1} % {name}");
            assert!(share >= f64::from(least), "{name}: {share} %");
        }
    }
}

#[test]
fn the_trie_answers_as_the_oracle() {
    let tables = match std::env::var_os("CHASSIS_LONG") {
        Some(_) => 1_000_000 / PATHS,
        None => 10_000 / PATHS,
    };
    let mut rng = Rng::with_seed(5);
    let mut shares = Shares::default();
    for _ in 0..tables {
        let mut lines: Vec<String> = Vec::new();
        let count = rng.usize(1..16);
        while lines.len() < count {
            let line = format!("{} {}", pick(&mut rng, METHODS), pattern(&mut rng));
            if Pattern::parse(line.split_once(' ').unwrap().1).is_ok() {
                lines.push(line);
            }
        }
        let (implicit_head, strict) = (rng.u8(..4) > 0, rng.u8(..8) == 0);
        let matcher = matcher(&lines, implicit_head, strict);
        let mut oracle = Oracle::new(&lines);
        oracle.implicit_head = implicit_head;
        oracle.strict = strict;
        for _ in 0..PATHS {
            let (path, method) = path(&mut rng, &lines);
            let prefix = match rng.u8(..8) {
                0 => "/mount",
                1 => "/m%",
                2 => "/%2f",
                _ => "",
            };
            let request = Request {
                method: method.unwrap_or_else(|| pick(&mut rng, ASKED).to_owned()),
                path: format!("{prefix}{path}"),
                at: prefix.len(),
            };
            if differs(&lines, &matcher, &oracle, &request).is_some() {
                panic!("{}", smallest(lines, &request, implicit_head, strict));
            }
            let answer = oracle.ask(&request.method, &request.path, request.at);
            shares.count(&lines, &answer, &request, backtracks(&matcher, &request));
        }
    }
    shares.check();
}

/// Leaves out routes as long as there is a difference.
fn smallest(
    mut lines: Vec<String>,
    request: &Request,
    implicit_head: bool,
    strict: bool,
) -> String {
    let mut at = 0;
    while at < lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(at);
        if difference(&fewer, request, implicit_head, strict).is_some() {
            lines = fewer;
        } else {
            at += 1;
        }
    }
    let difference = difference(&lines, request, implicit_head, strict);
    format!(
        "{}\nin {lines:#?}, strict: {strict}",
        difference.unwrap_or_default()
    )
}
