//! Faults are values, and come all at once.

use std::convert::Infallible;

use http::Request;
use tower::service_fn;
use tower_chassis_core::Body;

use super::Router;
use crate::{
    BuildError, Condition, State, any, get, pattern::PatternErrorKind, rules::HeaderMatch,
};

#[test]
fn all_faults_come_at_once_with_their_places() {
    let first = line!() + 3;
    let sub = Router::new().route("/{x}{y}", get(|| async {}));
    let errors = Router::<Body>::new()
        .route("/users/{id", get(|| async {}))
        .route("/p/{id}", get(|| async {}))
        .route("/p/{slug}", get(|| async {}).post(|| async {}))
        .nest("/sub", sub)
        .route("/sub", get(|| async {}))
        .build()
        .unwrap_err();
    let text = errors.to_string().replace(file!(), "app.rs");
    let line = |offset: u32| first + offset;
    let expected = format!(
        "4 faults in the routes\n\
         app.rs:{}:10: parameter is not closed by `}}`\n  /users/{{id\n         ^\n\
         app.rs:{}:29: GET /p/{{slug}} is registered twice, first as /p/{{id}} at app.rs:{}:27\n\
         app.rs:{}:29: nothing separates this from the parameter before it\n  /{{x}}{{y}}\n      ^\n\
         app.rs:{}:10: /sub is taken by /sub/*, registered at app.rs:{}:10",
        line(0),
        line(2),
        line(1),
        line(0) - 2,
        line(4),
        line(3),
    );
    assert_eq!(text, expected);
}

#[test]
fn faults_say_what_they_are() {
    let errors = |router: Router| {
        router
            .build()
            .unwrap_err()
            .iter()
            .cloned()
            .collect::<Vec<BuildError>>()
    };

    let twice = errors(Router::new().route("/a", get(|| async {}).get(|| async {})));
    assert!(twice.len() == 1 && twice[0].is_conflict() && twice[0].first_location().is_some());

    let any_twice = errors(
        Router::new()
            .route("/a", any(|| async {}))
            .route("/a", any(|| async {})),
    );
    assert!(
        any_twice.len() == 1
            && any_twice[0]
                .to_string()
                .contains("any method of /a is registered twice")
    );

    let pattern = errors(Router::new().route("", get(|| async {})));
    assert_eq!(
        pattern[0].pattern_error().unwrap().kind(),
        &PatternErrorKind::EmptyPattern
    );

    let prefix = errors(Router::new().nest("/a/*", Router::new().route("b", get(|| async {}))));
    assert_eq!(
        prefix[0].pattern_error().unwrap().kind(),
        &PatternErrorKind::WildcardNotLast
    );
    assert_eq!(
        prefix[1].pattern_error().unwrap().kind(),
        &PatternErrorKind::NoLeadingSlash
    );

    let fallbacks = Router::new()
        .fallback(|| async {})
        .merge(Router::new().fallback(|| async {}));
    let fallbacks = errors(fallbacks);
    assert!(fallbacks.len() == 1 && fallbacks[0].is_conflict());
}

#[test]
fn a_mount_and_a_route_cannot_share_a_place() {
    let service = || service_fn(|_: Request<Body>| async { Ok::<_, Infallible>("") });
    let handler = || get(|| async {});
    let conflicts: [Router; 7] = [
        Router::new()
            .route("/a", handler())
            .nest("/a", Router::new()),
        Router::new()
            .route("/a/", handler())
            .nest("/a", Router::new()),
        Router::new()
            .route("/a/*", handler())
            .nest_service("/a", service()),
        Router::new()
            .nest("/a", Router::new())
            .route("/a/{*rest}", handler()),
        Router::new()
            .nest("/a", Router::new())
            .nest("/a", Router::new()),
        Router::new()
            .nest("/a", Router::new())
            .nest_service("/a/", service()),
        Router::new()
            .nest("/{a}", Router::new())
            .nest("/{b}", Router::new()),
    ];
    for (index, router) in conflicts.into_iter().enumerate() {
        let errors = router.build().unwrap_err();
        assert!(
            errors.iter().len() == 1 && errors.iter().all(BuildError::is_mount_conflict),
            "{index}: {errors}"
        );
    }
    let fine: [Router; 4] = [
        Router::new()
            .nest("/foo", Router::new())
            .nest("/foobar", Router::new()),
        Router::new().route("/", handler()).nest("/", Router::new()),
        Router::new()
            .route("/a", handler())
            .nest("/a/", Router::new()),
        Router::new()
            .route("/a/b", handler())
            .nest("/a", Router::new().route("/b", handler())),
    ];
    for router in fine {
        router.build().unwrap();
    }
}

#[test]
fn a_router_lists_itself() {
    let describe = || {
        Router::<Body>::new()
            .route("/", get(|| async {}).post(|| async {}))
            .nest(
                "/api/{v}",
                Router::new()
                    .route("/", any(|| async {}))
                    .route("/users/{id}", get(|| async {})),
            )
            .nest("/slash/", Router::new().route("/", get(|| async {})))
            .nest_service(
                "/files",
                service_fn(|_: Request<Body>| async { Ok::<_, Infallible>("") }),
            )
    };
    let expected = [
        "GET /",
        "POST /",
        "* /api/{v}",
        "GET /api/{v}/users/{id}",
        "GET /slash/",
        "* /files/*",
    ]
    .map(str::to_owned);
    let listed: Vec<_> = describe()
        .routes()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(listed, expected);
    let app = describe().build().unwrap();
    let listed: Vec<_> = app.routes().iter().map(ToString::to_string).collect();
    assert_eq!(listed, expected);
    assert_eq!(app.table().unwrap().len(), 5);
}

/// Every kind of fault, with what it says and the call sites that it names.
#[test]
fn each_kind_of_fault_has_its_words_and_its_places() {
    #[derive(Clone)]
    struct Shop;
    async fn of_shop(_: State<Shop>) {}
    let handler = || get(|| async {});
    let sub = Router::new;
    let broken = |pattern: &str| Router::<Body>::new().route(pattern, get(|| async {}));
    let condition = |name: &str| Condition::header(HeaderMatch::present(name));
    // The router, how many of its calls the fault names, and its words.
    let cases: [(Router, usize, &str); 18] = [
        (broken(""), 1, "pattern is empty"),
        (broken("a"), 1, "does not start with `/`"),
        (broken("/{a"), 1, "is not closed"),
        (broken("/a}"), 1, "closes nothing"),
        (broken("/*/a"), 1, "must be the last"),
        (broken("/{a:[}"), 1, "cannot be compiled"),
        (broken("/{a}/{a}"), 1, "stands twice"),
        (broken("/{}"), 1, "has no name"),
        (broken("/{a}{b}"), 1, "nothing separates"),
        (broken("/{a}*"), 1, "nothing separates"),
        (
            sub().route("/{a}", handler()).route("/{b}", handler()),
            2,
            "GET /{b} is registered twice, first as /{a} at",
        ),
        (
            sub().route("/a", handler()).nest("/a", sub()),
            2,
            "/a/* is taken by /a, registered at",
        ),
        (
            sub().nest("/a", sub()).route("/a/*", handler()),
            2,
            "/a/* is taken by /a/*, registered at",
        ),
        (
            sub()
                .route("/a", handler().name("n"))
                .route("/b", handler().name("n")),
            2,
            "named `n` already, at",
        ),
        (
            sub()
                .fallback(|| async {})
                .merge(sub().fallback(|| async {})),
            2,
            "there is a fallback already",
        ),
        (sub().route("/a", get(of_shop)), 1, "GET /a needs `State<"),
        (
            sub().host("a", sub()).host("A", sub()),
            2,
            "host A is taken by host a, registered at",
        ),
        (
            sub().when(condition("a b"), sub()),
            1,
            "condition `header a b`: `a b` is no name of a header",
        ),
    ];
    for (router, places, words) in cases {
        let errors = router.build().unwrap_err();
        let [error] = errors.iter().collect::<Vec<_>>()[..] else {
            panic!("{errors}")
        };
        let text = error.to_string();
        assert!(text.contains(words), "{text}");
        assert_eq!(text.matches(file!()).count(), places, "{text}");
        assert!(text.starts_with(&error.location().to_string()), "{text}");
        assert_eq!(error.first_location().is_some(), places == 2, "{text}");
        let caret = error.pattern_error().is_some();
        assert_eq!(text.contains("^"), caret, "{text}");
    }
}

#[test]
fn the_text_of_all_faults_says_why_an_expression_is_none() {
    let errors = Router::<Body>::new()
        .route("/{x:a)b}", get(|| async {}))
        .route("/{y:a{1000}{1000}}", get(|| async {}))
        .build()
        .unwrap_err();
    let text = errors.to_string();
    assert!(
        text.contains("\n  /{x:a)b}\n      ^\n  error: unopened group\n"),
        "{text}"
    );
    assert!(
        text.ends_with("exceeds size limit of 262144 bytes."),
        "{text}"
    );
}
