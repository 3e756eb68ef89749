//! What must hold for any path and any value: 4,000 of each, 400,000 with `CHASSIS_LONG=1`.

use fastrand::Rng;
use http::Method;
use tower_chassis_core::Body;

use crate::{Found, RouteService, Router, TrailingSlash, any};

fn cases() -> usize {
    match std::env::var_os("CHASSIS_LONG") {
        Some(_) => 400_000,
        None => 4_000,
    }
}

/// Texts that a path, an escape or a reference could mistake for something else.
const PARTS: &[&str] = &[
    "a",
    "b",
    "/",
    "//",
    ".",
    "..",
    "%",
    "%2F",
    "%2e",
    "?",
    "#",
    ":",
    "@",
    "\\",
    "-",
    " ",
    "+",
    "é",
    "7",
    "evil.example",
    "*",
    "{",
    "",
];

fn text(rng: &mut Rng) -> String {
    (0..rng.usize(0..5))
        .map(|_| PARTS[rng.usize(0..PARTS.len())])
        .collect()
}

fn named() -> RouteService {
    let nested = Router::new()
        .route("/{y}/{*rest}", any(|| async {}).name("nested"))
        .route("/{y:[a-z.]*}", any(|| async {}).name("tested"));
    Router::<Body>::new()
        .route("/{x}", any(|| async {}).name("one"))
        .route("/two/{x}-{y}.{z}", any(|| async {}).name("two"))
        .route("/{x}/in/{y}", any(|| async {}).name("inner"))
        .nest("/n-{x}", nested)
        .build()
        .unwrap()
}

/// A path that is built is found, and captures what it was built from.
#[test]
fn a_url_captures_what_it_was_built_from() {
    let app = named();
    let names: [(&str, &[&str]); 5] = [
        ("one", &["x"]),
        ("two", &["x", "y", "z"]),
        ("inner", &["x", "y"]),
        ("nested", &["x", "y", "rest"]),
        ("tested", &["x", "y"]),
    ];
    let mut rng = Rng::with_seed(7);
    let mut built = 0;
    for _ in 0..cases() {
        let (name, keys) = names[rng.usize(0..names.len())];
        let values: Vec<_> = keys.iter().map(|key| (*key, text(&mut rng))).collect();
        let given = values.iter().map(|(key, value)| (*key, value.as_str()));
        let Ok(url) = app.url(name, given) else {
            continue;
        };
        built += 1;
        assert!(url.starts_with('/') && !url.starts_with("//"), "{url}");
        assert!(
            url.is_ascii() && !url.contains(['?', '#', '\\', ' ']),
            "{url}"
        );
        let Found::Route { route, params } = app.find(&Method::GET, &url) else {
            panic!("{name} {values:?} {url}")
        };
        // A more specific route may take the path; then it is another one's.
        if route.name() == Some(name) {
            for (key, value) in &values {
                assert_eq!(params.decode(key).unwrap(), value.as_str(), "{name} {url}");
            }
        }
    }
    assert!(built > cases() / 10, "only {built} could be built");
}

/// `reference` as a client at `path` understands it (RFC 3986, 5.2).
fn resolved(path: &str, reference: &str) -> String {
    let reference = reference.split('?').next().unwrap();
    let mut segments: Vec<&str> = path.split('/').collect();
    segments.pop();
    for (index, segment) in reference.split('/').enumerate() {
        let last = index + 1 == reference.split('/').count();
        match segment {
            "." if last => segments.push(""),
            "." => {}
            ".." => {
                if segments.len() > 1 {
                    segments.pop();
                }
            }
            segment => segments.push(segment),
        }
    }
    segments.join("/")
}

/// A redirect leads to the other spelling of the path on the same host, and from there nowhere else.
#[test]
fn a_redirect_leads_to_the_other_spelling_once() {
    let app = Router::<Body>::new()
        .route("/{x}/", any(|| async {}))
        .route("/{x}/{y}", any(|| async {}))
        .route("/{x}/{y}/{z}/", any(|| async {}))
        .nest("/n", Router::new().route("/{x}/{y}/", any(|| async {})))
        .trailing_slash(TrailingSlash::Redirect)
        .build()
        .unwrap();
    let mut rng = Rng::with_seed(9);
    let mut redirected = 0;
    for _ in 0..cases() {
        let path = format!("/{}", text(&mut rng)).replace(['#', '?', ' '], "");
        let Found::Redirect { location } = app.find(&Method::GET, &format!("{path}?q")) else {
            continue;
        };
        redirected += 1;
        assert!(
            location.starts_with("./") || location.starts_with("../"),
            "{path} {location}"
        );
        assert!(location.ends_with("?q"), "{path} {location}");
        let other = match path.strip_suffix('/') {
            Some(shorter) => shorter.to_owned(),
            None => format!("{path}/"),
        };
        assert_eq!(resolved(&path, &location), other, "{path} {location}");
        assert!(
            app.find(&Method::GET, &other).route().is_some(),
            "{path} {other}"
        );
    }
    assert!(
        redirected > cases() / 50,
        "only {redirected} were redirected"
    );
}
