//! The grammar as a table: each rule, what it takes and what it does not.

use super::{Pattern, PatternErrorKind as Kind};
use crate::matcher::Captures;

/// What `path` captures, `None` if it does not match.
fn captured(pattern: &str, path: &str) -> Option<Vec<String>> {
    let pattern = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{error}"));
    let mut captures = Captures::new();
    let matched = pattern.matches(path, 0, &mut captures);
    let all = (0..captures.len())
        .filter_map(|index| captures.get(index))
        .map(|(from, to)| path[from..to].to_owned());
    let all: Vec<_> = all.collect();
    assert!(
        matched || all.is_empty(),
        "{pattern:?} leaves captures of {path}"
    );
    matched.then_some(all)
}

#[test]
fn what_patterns_match() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("/", "/", &[]),
        ("/a", "/a", &[]),
        ("/a/", "/a/", &[]),
        ("/a/b", "/a/b", &[]),
        // parameters
        ("/users/{id}", "/users/7", &["7"]),
        ("/users/{id}", "/users/a.b-c", &["a.b-c"]),
        ("/users/{id}/", "/users/7/", &["7"]),
        ("/users/{x}/{y}/{z}", "/users///c", &["", "", "c"]),
        ("/{a}/{b}", "/x/y", &["x", "y"]),
        // inside of a segment
        ("/img-{id}.png", "/img-3.png", &["3"]),
        ("/img-{id}.png", "/img-.png", &[""]),
        ("/img-{id}.png", "/img-a.png.png", &["a.png"]),
        ("/@{user}", "/@bob", &["bob"]),
        ("/{id}:run", "/a:b:run", &["a:b"]),
        ("/{file}.{ext}", "/photos.tar.gz", &["photos", "tar.gz"]),
        ("/{a}-{b}-{c}", "/1-2-3-4", &["1", "2", "3-4"]),
        ("/v{major}.{minor}", "/v1.2", &["1", "2"]),
        ("/{a}-{b}", "/-x", &["", "x"]),
        // expressions
        ("/{id:[0-9]+}", "/42", &["42"]),
        ("/{id:^[0-9]+$}", "/42", &["42"]),
        ("/{y:[0-9]{4}}", "/2024", &["2024"]),
        ("/{x:cat|dog}", "/dog", &["dog"]),
        ("/{p:[0-9]*}/test", "//test", &[""]),
        ("/{any:}", "/x y", &["x y"]),
        ("/v{n:[0-9]+}.json", "/v3.json", &["3"]),
        ("/{name:[a-z ]+}", "/a%20b", &["a%20b"]),
        ("/{name:\\p{L}+}", "/stra%C3%9Fe", &["stra%C3%9Fe"]),
        ("/{date:\\d{4}-\\d{2}}", "/2024-05", &["2024-05"]),
        // catch-alls
        ("/*", "/", &[""]),
        ("/*", "/a/b", &["a/b"]),
        ("/files/*", "/files/", &[""]),
        ("/files/*", "/files//a", &["/a"]),
        ("/files/{*rest}", "/files/a/b", &["a/b"]),
        ("/api*", "/api", &[""]),
        ("/api*", "/apix/y", &["x/y"]),
        ("/{id}/*", "/7/a/b", &["7", "a/b"]),
        ("/{id}-*", "/7-a-b/c", &["7", "a-b/c"]),
        // escapes
        ("/a b/{x}", "/a%20b/c", &["c"]),
        ("/a%20b", "/a%20b", &[]),
        ("/~user", "/%7Euser", &[]),
        ("/caf\u{e9}", "/caf%c3%a9", &[]),
        ("/{a}-{b}", "/x%2Dy", &["x", "y"]),
        ("/{x}", "/a%2Fb", &["a%2Fb"]),
        ("/a%2fb", "/a%2Fb", &[]),
        ("/100%", "/100%", &[]),
        ("/100%", "/100%25", &[]),
        // expressions beside others
        ("/{a:x-y|x}-{b}", "/x-y-z", &["x", "y-z"]),
        (
            "/{date:\\d{4}-\\d{2}}-{slug}",
            "/2024-05-a-b",
            &["2024-05", "a-b"],
        ),
        ("/{a}-{b:^[0-9]*$}", "/x-y-7", &["x-y", "7"]),
        ("/{a:x+}-*", "/xx-y/z", &["xx", "y/z"]),
        ("/{a:\\p{L}+}-{b}", "/stra%C3%9Fe-1", &["stra%C3%9Fe", "1"]),
        ("/{a:[a/]+}-{b:%}", "/a%2fa-%25", &["a%2fa", "%25"]),
    ];
    for (pattern, path, expected) in cases {
        assert_eq!(
            captured(pattern, path).as_deref(),
            Some(&expected.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..]),
            "{pattern} {path}"
        );
    }
}

#[test]
fn what_patterns_do_not_match() {
    for (pattern, path) in [
        ("/a", "/a/"),
        ("/a/", "/a"),
        ("/a", "//a"),
        ("/a", "/A"),
        ("/a", "/ab"),
        ("/a", ""),
        ("/", ""),
        ("/", "*"),
        ("/*", "*"),
        // parameters
        ("/users/{id}", "/users/"),
        ("/users/{id}", "/users"),
        ("/users/{id}", "/users/7/"),
        ("/users/{id}", "/users/7/x"),
        ("/pre{id}", "/pre"),
        ("/{a}-{b}", "/x-"),
        ("/{a}-{b}", "/x"),
        ("/{a}.{b}", "/x/y.z"),
        ("/img-{id}.png", "/img-a/b.png"),
        // An expression is asked about the empty value, too (chi forgets to, and accepts these).
        ("/{x:.+}/foo", "//foo"),
        ("/v/{n:[0-9]+}abc", "/v/abc"),
        ("/foo-{s:[a-z]{2,3}}.json", "/foo-.json"),
        ("/x/{p:[0-9]*}", "/x/"),
        // It is anchored as a whole (chi accepts these).
        ("/{x:cat|dog}", "/catx"),
        ("/{x:cat|dog}", "/xdog"),
        // It never spans a slash (chi lets it, where something but a slash follows).
        ("/{p:.+}.json", "/a/b.json"),
        ("/{id:\\d+}", "/٣"),
        // catch-alls
        ("/files/*", "/files"),
        ("/api*", "/ap"),
        ("/{id}-*", "/a/b-c"),
        // escapes
        ("/a/b", "/a%2Fb"),
        ("/a:b", "/a%3Ab"),
        ("/{id}/x", "/a%2Fx"),
    ] {
        assert_eq!(captured(pattern, path), None, "{pattern} {path}");
    }
}

#[test]
fn a_rest_without_bytes_is_a_slash() {
    let mut captures = Captures::new();
    let matches = |pattern: &str, path: &str, at, captures: &mut Captures| {
        Pattern::parse(pattern).unwrap().matches(path, at, captures)
    };
    assert!(matches("/", "/api", 4, &mut captures));
    assert!(matches("/*", "/api", 4, &mut captures));
    assert!(!matches("/{id}", "/api", 4, &mut captures));
    assert!(!matches("/api", "/api", 4, &mut captures));
    assert!(matches("/x", "/api/x", 4, &mut captures));
}

#[test]
fn names_come_in_the_order_of_the_text() {
    let names = |pattern| {
        Pattern::parse(pattern)
            .unwrap()
            .names()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(names("/{b}/{a:x+}/*"), ["b", "a", "*"]);
    assert_eq!(names("/{b}/{*rest}"), ["b", "rest"]);
    assert_eq!(names("/{a b:x:y}"), ["a b"]);
}

#[test]
fn every_fault_has_its_place() {
    let duplicate = |name: &str| Kind::DuplicateParam { name: name.into() };
    let cases = [
        ("", Kind::EmptyPattern, 0),
        ("users", Kind::NoLeadingSlash, 0),
        ("{id}", Kind::NoLeadingSlash, 0),
        ("/a/{id", Kind::UnclosedParam, 3),
        ("/a/{id:[0-9]{4}", Kind::UnclosedParam, 3),
        ("/a}", Kind::UnopenedParam, 2),
        ("/*/a", Kind::WildcardNotLast, 1),
        ("/a*b", Kind::WildcardNotLast, 2),
        ("/**", Kind::WildcardNotLast, 1),
        ("/{*rest}/a", Kind::WildcardNotLast, 1),
        ("/{id}/x/{id}", duplicate("id"), 8),
        ("/{id}/{*id}", duplicate("id"), 6),
        ("/{}", Kind::EmptyParamName, 1),
        ("/{:[0-9]+}", Kind::EmptyParamName, 1),
        ("/{*}", Kind::EmptyParamName, 1),
        ("/{a/b}", Kind::InvalidParamName, 1),
        ("/{{a}}", Kind::InvalidParamName, 1),
        // Not a name with an expression in it, and no expression either.
        ("/{*a:[0-9]+}", Kind::InvalidParamName, 1),
        ("/{a}{b}", Kind::AdjacentParams, 4),
        ("/{a}*", Kind::AdjacentParams, 4),
        ("/{a:[0-9]{4}}*", Kind::AdjacentParams, 13),
        ("/{a:\\bx}-{b}", Kind::RegexBoundary, 1),
        ("/{a}-{b:(?m)x$}", Kind::RegexBoundary, 5),
        ("/{a:x\\B}-*", Kind::RegexBoundary, 1),
    ];
    for (pattern, kind, offset) in cases {
        let error = Pattern::parse(pattern).expect_err(pattern);
        assert_eq!(
            (error.kind(), error.offset(), error.pattern()),
            (&kind, offset, pattern)
        );
    }
}

#[test]
fn a_faulty_expression_says_why() {
    let error = Pattern::parse("/users/{id:[0-9}").unwrap_err();
    assert!(matches!(error.kind(), Kind::InvalidRegex { .. }));
    assert_eq!(error.offset(), 11);
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("unclosed character class")
    );
    assert!(
        Pattern::parse("/{id:(?:\\p{L}{100}){100}}").is_err(),
        "too large"
    );
}

#[test]
fn the_caret_counts_characters() {
    let error = Pattern::parse("/caf\u{e9}/{a}{b}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "nothing separates this from the parameter before it\n  /caf\u{e9}/{a}{b}\n           ^"
    );
}
