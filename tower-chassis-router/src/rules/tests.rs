//! Rules as a table, and the layer under threads and changes.

use std::{collections::HashMap, convert::Infallible};

use http::{HeaderMap, Method, Request};
use tower::{Layer, ServiceExt, service_fn};
use tower_chassis_core::{Carrier, Live};

use super::{Destination, HeaderMatch, OnEmpty, Rule, TrafficLayer, TrafficPolicy};

fn version(version: &str, weight: u32) -> Destination {
    Destination::new([("version", version)], weight)
}

fn canary(name: &str, share: u32) -> Rule {
    Rule::new(name, [version("1", 100 - share), version("2", share)])
}

fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

#[test]
fn all_that_a_rule_asks_for_must_be_there() {
    let to = || [version("2", 1)];
    let cases: Vec<(Rule, &str, &str, &[(&str, &str)], bool)> = vec![
        (Rule::new("r", to()), "GET", "/", &[], true),
        (
            Rule::new("r", to()).header(HeaderMatch::exact("X-A", "b")),
            "GET",
            "/",
            &[("x-a", "b")],
            true,
        ),
        (
            Rule::new("r", to()).header(HeaderMatch::exact("x-a", "b")),
            "GET",
            "/",
            &[("x-a", "B")],
            false,
        ),
        (
            Rule::new("r", to()).header(HeaderMatch::exact("x-a", "b")),
            "GET",
            "/",
            &[("x-a", "c"), ("x-a", "b")],
            true,
        ),
        (
            Rule::new("r", to()).header(HeaderMatch::exact("x-a", "b")),
            "GET",
            "/",
            &[],
            false,
        ),
        (
            Rule::new("r", to()).header(HeaderMatch::prefix("x-a", "be")),
            "GET",
            "/",
            &[("x-a", "beta")],
            true,
        ),
        (
            Rule::new("r", to()).header(HeaderMatch::prefix("x-a", "be")),
            "GET",
            "/",
            &[("x-a", "abe")],
            false,
        ),
        (
            Rule::new("r", to()).header(HeaderMatch::regex("x-a", "b|c")),
            "GET",
            "/",
            &[("x-a", "c")],
            true,
        ),
        (
            Rule::new("r", to()).header(HeaderMatch::regex("x-a", "b|c")),
            "GET",
            "/",
            &[("x-a", "cx")],
            false,
        ),
        (
            Rule::new("r", to()).header(HeaderMatch::present("x-a")),
            "GET",
            "/",
            &[("x-a", "")],
            true,
        ),
        (
            Rule::new("r", to()).header(HeaderMatch::present("x-a")),
            "GET",
            "/",
            &[("x-b", "")],
            false,
        ),
        (
            Rule::new("r", to())
                .header(HeaderMatch::present("a"))
                .header(HeaderMatch::present("b")),
            "GET",
            "/",
            &[("a", "")],
            false,
        ),
        (
            Rule::new("r", to()).method(Method::PUT).method(Method::GET),
            "GET",
            "/",
            &[],
            true,
        ),
        (
            Rule::new("r", to()).method(Method::PUT),
            "GET",
            "/",
            &[],
            false,
        ),
        (
            Rule::new("r", to()).path_prefix("/api"),
            "GET",
            "/api",
            &[],
            true,
        ),
        (
            Rule::new("r", to()).path_prefix("/api"),
            "GET",
            "/api/x",
            &[],
            true,
        ),
        (
            Rule::new("r", to()).path_prefix("/api/"),
            "GET",
            "/%61pi",
            &[],
            true,
        ),
        (
            Rule::new("r", to()).path_prefix("/api"),
            "GET",
            "/apix",
            &[],
            false,
        ),
        (
            Rule::new("r", to()).path_prefix("/"),
            "GET",
            "/x",
            &[],
            true,
        ),
        (
            Rule::new("r", to()).path_prefix("/api").method(Method::PUT),
            "GET",
            "/api",
            &[],
            false,
        ),
    ];
    for (rule, method, path, given, expected) in cases {
        let policy = TrafficPolicy::new(vec![rule.clone()], 0).unwrap();
        let found = policy.matching(&method.parse().unwrap(), path, &headers(given));
        assert_eq!(
            found.is_some(),
            expected,
            "{rule:?} {method} {path} {given:?}"
        );
    }
}

#[test]
fn every_fault_is_named_with_its_place() {
    let rules = vec![
        Rule::new("a", []),
        Rule::new("a", [version("1", 0), version("1", 3)]).path_prefix("api"),
        Rule::new("", [Destination::new([("v", "1"), ("v", "2")], 1)])
            .header(HeaderMatch::present("not a name"))
            .header(HeaderMatch::regex("x", "(?:a{100}){100}")),
    ];
    let text = TrafficPolicy::new(rules, 0).unwrap_err().to_string();
    let fields: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("rules"))
        .collect();
    assert_eq!(fields.len(), 8, "{text}");
    for expected in [
        "rules[1].name must not be that of rules[0]",
        "rules[2].name must not be empty",
        "rules[0].to must have weights that add up to more than 0",
        "rules[1].matches.path_prefix must start with `/`",
        "rules[1].to[1].tags must not be those of rules[1].to[0]",
        "rules[2].matches.headers[0].name must be the name of a header",
        "rules[2].to[0].tags must not have `v` twice",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(
        text.contains("rules[2].matches.headers[1].value must be a small expression"),
        "{text}"
    );
}

/// Which version the layer chose, as the balancer would read it.
async fn chosen(layer: &TrafficLayer, req: Request<()>) -> Option<(String, OnEmpty)> {
    let service = layer.layer(service_fn(|req: Request<()>| async move {
        let subset = req
            .invocation()
            .and_then(|invocation| invocation.subset())
            .cloned();
        Ok::<_, Infallible>(
            subset.map(|subset| (subset.tags().map(|tag| tag.1).collect(), subset.on_empty())),
        )
    }));
    service.oneshot(req).await.unwrap()
}

async fn count(layer: &TrafficLayer, requests: usize) -> HashMap<String, usize> {
    let mut hits = HashMap::new();
    for _ in 0..requests {
        let (version, _) = chosen(layer, Request::new(())).await.unwrap();
        *hits.entry(version).or_default() += 1;
    }
    hits
}

#[tokio::test]
async fn the_first_rule_that_matches_wins_and_no_rule_leaves_the_request_alone() {
    let tester = Rule::new("tester", [version("3", 1)])
        .header(HeaderMatch::exact("x-tester", "yes"))
        .on_empty(OnEmpty::Refuse);
    let api = Rule::new("api", [version("2", 1)]).path_prefix("/api");
    let layer = TrafficLayer::new(TrafficPolicy::new(vec![tester, api], 7).unwrap());
    let request = |path: &str, tester: bool| {
        let request = Request::get(path);
        let request = if tester {
            request.header("x-tester", "yes")
        } else {
            request
        };
        request.body(()).unwrap()
    };
    assert_eq!(
        chosen(&layer, request("/api", true)).await,
        Some(("3".into(), OnEmpty::Refuse))
    );
    assert_eq!(
        chosen(&layer, request("/api", false)).await,
        Some(("2".into(), OnEmpty::Any))
    );
    let alone = layer.layer(service_fn(|req: Request<()>| async move {
        Ok::<_, Infallible>(req.extensions().is_empty())
    }));
    assert!(alone.oneshot(request("/", false)).await.unwrap());
}

#[test]
fn a_tenth_of_ten_thousand_is_a_thousand_across_threads() {
    let layer = TrafficLayer::new(TrafficPolicy::new(vec![canary("canary", 10)], 99).unwrap());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let layer = layer.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                runtime.block_on(count(&layer, 2_500))
            })
        })
        .collect();
    let hits: usize = threads
        .into_iter()
        .map(|thread| thread.join().unwrap().remove("2").unwrap_or_default())
        .sum();
    assert_eq!(hits, 1_000);
}

#[tokio::test]
async fn a_change_is_pushed_and_keeps_the_turns() {
    let live = Live::new(TrafficPolicy::new(vec![canary("canary", 10)], 5).unwrap());
    let layer = TrafficLayer::new(live.clone());
    let mut hits = 0;
    // Were the turns to begin anew, version 2 would get all of these or none.
    for round in 0..10 {
        live.set(
            TrafficPolicy::new(
                vec![
                    Rule::new("other", [version("9", 1)]).path_prefix("/o"),
                    canary("canary", 10),
                ],
                5,
            )
            .unwrap(),
        )
        .unwrap();
        hits += count(&layer, 1).await.get("2").copied().unwrap_or_default();
        assert_eq!(live.version(), round + 1);
    }
    assert_eq!(hits, 1);
    live.set(TrafficPolicy::new(vec![canary("canary", 100)], 5).unwrap())
        .unwrap();
    assert_eq!(count(&layer, 10).await.get("2"), Some(&10));
    live.set(TrafficPolicy::new(vec![], 5).unwrap()).unwrap();
    assert_eq!(chosen(&layer, Request::new(())).await, None);
}
