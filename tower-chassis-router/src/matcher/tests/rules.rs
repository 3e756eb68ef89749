//! Each rule of the module's page, by its number.

use super::{
    oracle::Answer,
    property::{ask, matcher},
};
use crate::{
    matcher::{Builder, Matcher, Verdict},
    pattern::Pattern,
};

/// The route that serves a request, or `404`, or `405` and what is allowed.
fn served(routes: &[&str], request: &str) -> String {
    answer(&table(routes, true, false), routes, request)
}

fn table(routes: &[&str], implicit_head: bool, strict: bool) -> Matcher<usize> {
    let lines: Vec<_> = routes.iter().map(ToString::to_string).collect();
    matcher(&lines, implicit_head, strict)
}

fn answer(matcher: &Matcher<usize>, routes: &[&str], request: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap();
    match ask(matcher, method, path, 0) {
        Answer::Route(route, _) => routes[route].to_owned(),
        Answer::Nothing => "404".to_owned(),
        Answer::Methods(allow) => format!("405 {allow}"),
    }
}

/// What a path captures of a single pattern, joined by spaces; `None` if it does not match.
fn captured(pattern: &str, path: &str) -> Option<String> {
    match ask(
        &table(&[&format!("GET {pattern}")], true, false),
        "GET",
        path,
        0,
    ) {
        Answer::Route(_, ranges) => {
            let texts: Vec<_> = ranges
                .iter()
                .map(|(start, end)| &path[*start..*end])
                .collect();
            Some(texts.join(" "))
        }
        _ => None,
    }
}

fn captures(cases: &[(&str, &str, &str)]) {
    for (pattern, path, expected) in cases {
        assert_eq!(
            captured(pattern, path).as_deref(),
            Some(*expected),
            "{pattern} {path}"
        );
    }
}

fn misses(cases: &[(&str, &str)]) {
    for (pattern, path) in cases {
        assert_eq!(captured(pattern, path), None, "{pattern} {path}");
    }
}

/// The page numbers the rules; each has a test that is named by it.
#[test]
fn every_rule_has_a_test() {
    let page = include_str!("../mod.rs");
    let tests = include_str!("rules.rs");
    let rules: Vec<&str> = page
        .split("* **R")
        .skip(1)
        .filter_map(|rest| rest.split_once("**"))
        .map(|(number, _)| number)
        .collect();
    assert!(rules.len() >= 19, "{rules:?}");
    for (index, number) in rules.iter().enumerate() {
        assert_eq!(number.parse(), Ok(index + 1), "the rules are numbered");
        assert!(
            tests.contains(&format!("\nfn r{number}_")),
            "R{number} has no test"
        );
    }
    let named = tests
        .lines()
        .filter_map(|line| line.strip_prefix("fn r")?.split_once('_'));
    for (number, rest) in named {
        assert!(
            rules.contains(&number),
            "there is no rule for r{number}_{rest}"
        );
    }
}

#[test]
fn r1_a_path_has_the_segments_of_its_pattern() {
    captures(&[
        ("/", "/", ""),
        ("/a/b", "/a/b", ""),
        ("/{a}/{b}", "/x/y", "x y"),
    ]);
    misses(&[
        ("/a", "/a/b"),
        ("/{a}/{b}", "/x"),
        ("/{a}", "/x/y"),
        ("/", ""),
        ("/", "*"),
        ("/*", "*"),
        ("/a", "a"),
    ]);
}

#[test]
fn r2_text_is_compared_byte_by_byte() {
    captures(&[("/a/", "/a/", ""), ("//a", "//a", "")]);
    misses(&[
        ("/a", "/a/"),
        ("/a/", "/a"),
        ("/a", "//a"),
        ("/a", "/A"),
        ("/a", "/ab"),
        ("/ab", "/a"),
    ]);
    for len in [7, 8, 9, 16, 63, 64, 65, 72, 73, 200] {
        let text = "x".repeat(len);
        let pattern = format!("/{text}/{{id}}/{text}");
        captures(&[(&pattern, &format!("/{text}/1/{text}"), "1")]);
        for place in [0, len / 2, len - 1] {
            let mut other = text.clone();
            other.replace_range(place..=place, "y");
            misses(&[
                (&pattern, &format!("/{other}/1/{text}")),
                (&pattern, &format!("/{text}/1/{other}")),
                (&pattern, &format!("/{text}/1/{text}x")),
            ]);
        }
    }
}

#[test]
fn r3_a_parameter_takes_a_segment() {
    captures(&[
        ("/users/{id}", "/users/a.b-c", "a.b-c"),
        ("/users/{id}/", "/users/7/", "7"),
        ("/@{user}", "/@bob", "bob"),
        ("/{file}.{ext}", "/photos.tar.gz", "photos tar.gz"),
    ]);
    misses(&[
        ("/users/{id}", "/users/7/x"),
        ("/{a}.{b}", "/x/y.z"),
        ("/img-{id}.png", "/img-a/b.png"),
    ]);
}

#[test]
fn r4_the_end_of_a_path_is_no_parameter() {
    captures(&[
        ("/users/{x}/{y}/{z}", "/users///c", "  c"),
        ("/img-{id}.png", "/img-.png", ""),
        ("/{a}-{b}", "/-x", " x"),
        ("/{p:[0-9]*}/test", "//test", ""),
        ("/{id}/", "//", ""),
    ]);
    misses(&[
        ("/users/{id}", "/users/"),
        ("/users/{id}", "/users"),
        ("/pre{id}", "/pre"),
        ("/{a}-{b}", "/x-"),
        ("/x/{p:[0-9]*}", "/x/"),
        ("/{a:a?}-{b}", "/a-"),
    ]);
}

/// chi anchors the text, not the expression; skips it for the empty value; and lets it span slashes.
#[test]
fn r5_an_expression_takes_a_whole_value() {
    captures(&[
        ("/{id:[0-9]+}", "/42", "42"),
        ("/{id:^[0-9]+$}", "/42", "42"),
        ("/{x:cat|dog}", "/dog", "dog"),
        ("/{any:}", "/x y", "x y"),
        ("/v{n:[0-9]+}.json", "/v3.json", "3"),
    ]);
    misses(&[
        ("/{x:cat|dog}", "/catx"),
        ("/{x:cat|dog}", "/xdog"),
        ("/{x:.+}/foo", "//foo"),
        ("/v/{n:[0-9]+}abc", "/v/abc"),
        ("/foo-{s:[a-z]{2,3}}.json", "/foo-.json"),
        ("/{p:.+}.json", "/a/b.json"),
        ("/{id:\\d+}", "/\u{663}"),
    ]);
}

/// chi looks for the first place of the byte behind a parameter, and gives up there.
#[test]
fn r6_all_places_of_a_text_are_tried() {
    captures(&[
        ("/f/{name}:run", "/f/a:b:run", "a:b"),
        ("/{a}-{b}-{c}", "/1-2-3-4", "1 2 3-4"),
        (
            "/{date:[0-9]{4}-[0-9]{2}}-{slug}",
            "/2024-05-a-b",
            "2024-05 a-b",
        ),
        ("/{a}-{b:[0-9]+}", "/x-y-7", "x-y 7"),
        ("/{a:x-y|x}-{b}", "/x-y-z", "x y-z"),
        ("/{a:x-y|x}-{b:z}", "/x-y-z", "x-y z"),
        ("/v{major:[0-9]+}.{minor:[0-9]+}", "/v1.22", "1 22"),
        ("/img-{id}.png", "/img-a.png.png", "a.png"),
        ("/{a:x+}-*", "/xx-y/z", "xx y/z"),
        ("/{a:(?:x-?)+}-{b}-{c}", "/x-x-x-1-2", "x x x-1-2"),
    ]);
    misses(&[("/{a:x+}-{b:y+}", "/x-yx"), ("/{a}-{b}.{c}", "/a.b-c")]);
}

#[test]
fn r7_a_catch_all_takes_the_rest() {
    captures(&[
        ("/*", "/", ""),
        ("/*", "/a/b", "a/b"),
        ("/files/*", "/files/", ""),
        ("/files/*", "/files//a", "/a"),
        ("/files/{*rest}", "/files/a/b", "a/b"),
        ("/api*", "/api", ""),
        ("/api*", "/apix/y", "x/y"),
        ("/api*", "/api/y", "/y"),
        ("/{id}-*", "/7-a-b/c", "7 a-b/c"),
    ]);
    misses(&[
        ("/files/*", "/files"),
        ("/api*", "/ap"),
        ("/{id}-*", "/a/b-c"),
    ]);
}

#[test]
fn r8_what_cannot_be_matched_is_refused() {
    for pattern in [
        "/a/{id",
        "/a}",
        "/{a}{b}",
        "/{a}*",
        "/{id:[0-9]{4}}*",
        "/*/a",
        "/{id}/{id}",
        "/{a:\\bx}-{b}",
        "/{a:[}",
    ] {
        assert!(Pattern::parse(pattern).is_err(), "{pattern}");
    }
    for pattern in ["/{a:[0-9]{4}}", "/{a:^x$}-{b}", "/{a:\\bx}", "/{a}-*"] {
        assert!(Pattern::parse(pattern).is_ok(), "{pattern}");
    }
}

/// In chi it depends on other escapes of the path whether these are decoded.
#[test]
fn r9_escapes_are_compared_by_what_they_mean() {
    captures(&[
        ("/a b/{x}", "/a%20b/c", "c"),
        ("/~user", "/%7Euser", ""),
        ("/caf\u{e9}", "/caf%c3%a9", ""),
        ("/{a}-{b}", "/x%2Dy", "x y"),
        ("/{x}", "/a%2Fb", "a%2Fb"),
        ("/a%2fb", "/a%2Fb", ""),
        ("/100%", "/100%", ""),
        ("/100%", "/100%25", ""),
        ("/{name:[a-z ]+}", "/a%20b", "a%20b"),
        ("/{name:\\p{L}+}", "/stra%C3%9Fe", "stra%C3%9Fe"),
        ("/{a:[a-z/]+}-{b}", "/x%2fy-%61", "x%2fy %61"),
        ("/{a:.*:}-{b}", "/x%3a-y", "x%3a y"),
        ("/%61/{x}/*", "/a/%62/c%2f/d", "%62 c%2f/d"),
    ]);
    misses(&[
        ("/a/b", "/a%2Fb"),
        ("/a:b", "/a%3Ab"),
        ("/{id}/x", "/a%2Fx"),
        ("/{a}:{b}", "/x%3Ay"),
        ("/{a}2F{b}", "/x%2Fy"),
    ]);
}

#[test]
fn r10_a_rest_of_no_bytes_is_a_slash() {
    let routes = ["GET /", "GET /{id}", "GET /api"];
    let matcher = table(&routes, true, false);
    assert_eq!(ask(&matcher, "GET", "/api", 4), Answer::Route(0, vec![]));
    assert_eq!(
        ask(&matcher, "GET", "/api/7", 4),
        Answer::Route(1, vec![(5, 6)])
    );
    assert_eq!(
        ask(&matcher, "GET", "/a%20b/%37", 6),
        Answer::Route(1, vec![(7, 10)])
    );
    assert_eq!(
        ask(&table(&["GET /*"], true, false), "GET", "/api", 4),
        Answer::Route(0, vec![(4, 4)])
    );
    assert_eq!(ask(&matcher, "GET", "/api", 9), Answer::Nothing);
    assert_eq!(ask(&matcher, "GET", "/apix", 4), Answer::Nothing);
}

#[test]
fn r11_precedence_is_decided_from_the_left() {
    let routes = ["GET /{a}/b", "GET /a/{b}", "GET /a/*", "GET /{a}/{b}"];
    assert_eq!(served(&routes, "GET /a/b"), "GET /a/{b}");
    assert_eq!(served(&routes, "GET /x/b"), "GET /{a}/b");
    assert_eq!(served(&routes, "GET /a/b/c"), "GET /a/*");
    assert_eq!(served(&routes, "GET /x/y"), "GET /{a}/{b}");
    let routes = ["GET /a/{x}/c", "GET /{y}/b/d", "GET /*"];
    assert_eq!(served(&routes, "GET /a/b/d"), "GET /{y}/b/d");
    assert_eq!(served(&routes, "GET /a/b/e"), "GET /*");
}

#[test]
fn r12_text_then_expression_then_parameter_then_catch_all() {
    let routes = [
        "GET /x/*",
        "GET /x/{p}",
        "GET /x/{p}-z",
        "GET /x/{p:[a-m]+}",
        "GET /x/{p:[a-f]+}m",
        "GET /x/pre*",
        "GET /x/abc",
        "GET /x/user-{id}",
        "GET /x/user-admin-{id}",
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
        ("/x/user-admin-1", "GET /x/user-admin-{id}"),
        ("/x/user-1", "GET /x/user-{id}"),
        ("/x", "404"),
    ] {
        assert_eq!(served(&routes, &format!("GET {path}")), expected, "{path}");
    }
}

/// chi moves only one expression that ends its segment behind the others, so that with three routes the order
/// is another than with two.
#[test]
fn r13_equals_go_by_registration() {
    for (one, other, path) in [
        ("GET /{a:[a-z]+}", "GET /{b:[a-y]+}", "GET /x"),
        ("GET /{a}-{b}", "GET /{a}.{b}", "GET /x-y.z"),
        ("GET /{a}-y{b}", "GET /{a}-z{b}", "GET /1-y-z-"),
    ] {
        assert_eq!(served(&[one, other], path), one);
        assert_eq!(served(&[other, one], path), other);
        assert_eq!(served(&[other, "GET /{c:[a-x]+}-c", one], path), other);
    }
    assert_eq!(
        served(&["GET /{a}", "GET /{a}-z"], "GET /1-z"),
        "GET /{a}-z"
    );
    assert_eq!(
        served(&["GET /{a:.+}", "GET /{a:.+}z"], "GET /1z"),
        "GET /{a:.+}z"
    );
}

#[test]
fn r14_what_ends_goes_first() {
    let routes = ["GET /{a}-{b}z", "GET /{a}-z", "GET /{a}-z{b}"];
    assert_eq!(served(&routes, "GET /1-2-z"), "GET /{a}-z");
    assert_eq!(served(&routes, "GET /1-2z"), "GET /{a}-{b}z");
    assert_eq!(served(&routes, "GET /1-z2"), "GET /{a}-z{b}");
    let routes = ["GET /a/{x}/*", "GET /a/*", "GET /a/{x}/", "GET /a/{x}"];
    assert_eq!(served(&routes, "GET /a/1"), "GET /a/{x}");
    assert_eq!(served(&routes, "GET /a/1/"), "GET /a/{x}/");
    assert_eq!(served(&routes, "GET /a/1/2"), "GET /a/{x}/*");
    assert_eq!(served(&routes, "GET /a/"), "GET /a/*");
}

#[test]
fn r15_names_do_not_make_a_place() {
    let mut routes = Builder::new();
    let [id, slug] = ["/p/{id}", "/p/{slug}"].map(|text| Pattern::parse(text).unwrap());
    let get = || Some(http::Method::GET);
    routes.insert(&id, get(), 1).unwrap();
    routes.insert(&slug, Some(http::Method::POST), 2).unwrap();
    assert_eq!(routes.insert(&slug, get(), 3), Err(&1));
    assert_eq!(routes.occupant(&slug), Some(&1));
    routes.insert(&slug, None, 4).unwrap();
    assert_eq!(routes.insert(&id, None, 5), Err(&4));
    assert_eq!(routes.occupant(&id), Some(&4));
    assert_eq!(routes.occupant(&Pattern::parse("/p/{x:.+}").unwrap()), None);
    assert_eq!(routes.occupant(&Pattern::parse("/p/*").unwrap()), None);
    // Expressions do.
    let [one, other] = ["/{a:x+}-{b}", "/{c:x+}-{d}"].map(|text| Pattern::parse(text).unwrap());
    routes.insert(&one, get(), 6).unwrap();
    assert_eq!(routes.insert(&other, get(), 7), Err(&6));
    assert_eq!(
        routes.occupant(&Pattern::parse("/{a:x}-{b}").unwrap()),
        None
    );
}

#[test]
fn r16_a_route_without_the_method_is_passed_by() {
    let routes = ["GET /users/me", "PUT /users/{id}", "DELETE /users/*"];
    assert_eq!(served(&routes, "PUT /users/me"), "PUT /users/{id}");
    let strict = table(&routes, true, true);
    for (request, expected) in [
        ("GET /users/me", "GET /users/me"),
        ("PUT /users/me", "405 GET, HEAD"),
        ("PUT /users/7", "PUT /users/{id}"),
        ("DELETE /users/7", "405 PUT"),
        ("DELETE /users/7/x", "DELETE /users/*"),
        ("GET /other", "404"),
    ] {
        assert_eq!(answer(&strict, &routes, request), expected, "{request}");
    }
    // Also where the first walk ends nowhere.
    let routes = ["GET /a/b/c", "GET /{x}/b/d", "PUT /{x}/{y}/d"];
    assert_eq!(
        answer(&table(&routes, true, true), &routes, "PUT /a/b/d"),
        "405 GET, HEAD"
    );
    assert_eq!(served(&routes, "PUT /a/b/d"), routes[2]);
}

#[test]
fn r17_all_that_match_are_allowed() {
    let routes = [
        "GET /users/me",
        "PUT /users/{id}",
        "DELETE /users/*",
        "PURGE /users/{id}",
        "* /any",
    ];
    for (request, expected) in [
        ("POST /users/me", "405 DELETE, GET, HEAD, PURGE, PUT"),
        ("POST /users/7", "405 DELETE, PURGE, PUT"),
        ("PUT /users/me/x", "405 DELETE"),
        ("PUT /other", "404"),
        ("BREW /other", "404"),
    ] {
        assert_eq!(served(&routes, request), expected, "{request}");
    }
}

#[test]
fn r18_get_answers_head() {
    assert_eq!(served(&["GET /a"], "HEAD /a"), "GET /a");
    assert_eq!(served(&["GET /a", "HEAD /a"], "HEAD /a"), "HEAD /a");
    assert_eq!(served(&["* /a", "GET /a"], "HEAD /a"), "GET /a");
    assert_eq!(served(&["GET /a", "HEAD /{x}"], "HEAD /a"), "GET /a");
    assert_eq!(served(&["GET /a"], "OPTIONS /a"), "405 GET, HEAD");
    let routes = ["GET /a", "HEAD /{x}"];
    let explicit = table(&routes, false, false);
    assert_eq!(answer(&explicit, &routes, "HEAD /a"), "HEAD /{x}");
    assert_eq!(answer(&explicit, &routes, "PUT /a"), "405 GET, HEAD");
    assert_eq!(
        answer(&table(&["GET /a"], false, false), &[], "HEAD /a"),
        "405 GET"
    );
}

#[test]
fn r19_any_serves_what_nothing_else_does() {
    let routes = ["* /a", "GET /a", "PURGE /b", "BREW /a", "PURGE /a"];
    for (request, expected) in [
        ("GET /a", "GET /a"),
        ("HEAD /a", "GET /a"),
        ("POST /a", "* /a"),
        ("LINK /a", "* /a"),
        ("BREW /a", "BREW /a"),
        ("PURGE /a", "PURGE /a"),
        ("PURGE /b", "PURGE /b"),
        ("BREW /b", "405 PURGE"),
        ("purge /b", "405 PURGE"),
    ] {
        assert_eq!(served(&routes, request), expected, "{request}");
    }
}

#[test]
fn a_path_that_is_too_long_for_http_is_not_found() {
    let path = format!("/{}", "x".repeat(70_000));
    assert_eq!(
        ask(&table(&["GET /{x}"], true, false), "GET", &path, 0),
        Answer::Nothing
    );
}

#[test]
fn it_explains_itself() {
    let routes = [
        "GET /a/b",
        "GET /a/{x}",
        "PUT /a/{x}",
        "GET /a/{x:[0-9]+}",
        "GET /a/b/c",
        "GET /{y}/b",
        "GET /*",
        "GET /a",
    ];
    let matcher = table(&routes, true, false);
    let explained = |request: &str| {
        let (method, path) = request.split_once(' ').unwrap();
        let tried = matcher.explain(&method.parse().unwrap(), path, 0);
        let tried = tried.iter().map(|tried| (*tried.value, tried.verdict));
        tried.collect::<Vec<_>>()
    };
    assert_eq!(
        explained("PUT /a/b"),
        [
            (7, Verdict::PathContinues),
            (0, Verdict::Method),
            (4, Verdict::PathEnds),
            (3, Verdict::Segment(1)),
            (2, Verdict::Serves),
            (5, Verdict::Method),
            (6, Verdict::Method),
        ]
    );
    assert_eq!(explained("GET /z/b").last(), Some(&(6, Verdict::Later)));
    let tried = matcher.explain(&http::Method::GET, "/a/7", 0);
    let methods: Vec<_> = tried[4]
        .methods
        .iter()
        .flatten()
        .map(http::Method::as_str)
        .collect();
    assert_eq!(methods, ["GET", "PUT"]);
}
