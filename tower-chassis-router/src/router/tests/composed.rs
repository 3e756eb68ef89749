//! Trees of routers answer alike, however they are put together: 600 trees, 30,000 with `CHASSIS_LONG=1`.
//!
//! Nested routers are compared with the same routers built alone and mounted as services, which see the rest of the
//! path and nothing else, and with the same ones with layers everywhere, which run in the order in which they are
//! listed.

use fastrand::Rng;
use http::{Method, Request, StatusCode};
use tower::ServiceExt;
use tower_chassis_core::Body;

use super::{Log, Note, read};
use crate::{
    Condition, Found, MethodRouter, Named, Params, RouteService, Router, Step, TrailingSlash, Why,
    WrongMethod, named, rules::ValueMatch,
};

fn cases() -> usize {
    match std::env::var_os("CHASSIS_LONG") {
        Some(_) => 30_000,
        None => 600,
    }
}

#[derive(Clone, Debug, Default)]
struct Spec {
    depth: usize,
    items: Vec<Item>,
    slash: Option<TrailingSlash>,
    head: Option<bool>,
    options: Option<bool>,
    strict: Option<bool>,
    fallback: bool,
    fallback_405: bool,
}

#[derive(Clone, Debug)]
enum Item {
    Route(String, Vec<Option<&'static str>>),
    Mount(String, Spec),
    Host(&'static str, Spec),
    When(&'static str, Spec),
}

const PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/",
    "/b",
    "/a/b",
    "/{x}",
    "/{x}/",
    "/{x}/b",
    "/{x}-{y}",
    "/p-{x}",
    "/{x:[0-9]+}",
    "/{x:[a-z]+}/{y}",
    "/*",
    "/a*",
    "/b/{*x}",
    "/a%2fb",
];
const PREFIXES: &[&str] = &[
    "/",
    "/a",
    "/a/",
    "/b",
    "/{x}",
    "/{x}/",
    "/p-{x}",
    "/{x:[0-9]+}",
    "/{x}-{y}/b",
    "/a%2fb",
];
const METHODS: &[Option<&str>] = &[
    Some("GET"),
    Some("GET"),
    Some("PUT"),
    Some("HEAD"),
    Some("OPTIONS"),
    Some("BREW"),
    None,
];
const SEGMENTS: &[&str] = &[
    "a", "b", "", "1", "1-2", "p-", "p-x", "a%2Fb", "%61", "a%2fb", "%zz", "x-b-1", "ab", "é",
];
const HOSTS: &[&str] = &["h.example", "{t}.example", "*.x.example"];

fn some<T>(rng: &mut Rng, value: impl Fn(&mut Rng) -> T) -> Option<T> {
    (rng.u8(0..3) == 0).then(|| value(rng))
}

impl Spec {
    fn new(rng: &mut Rng, depth: usize) -> Self {
        let mut items = Vec::new();
        for _ in 0..rng.usize(1..5) {
            let path = |rng: &mut Rng, from: &[&str]| {
                let path = from[rng.usize(0..from.len())];
                path.replace('x', &format!("x{depth}"))
                    .replace('y', &format!("y{depth}"))
            };
            let below = |rng: &mut Rng| Self::new(rng, depth + 1);
            items.push(match rng.u8(0..8) {
                0..2 if depth < 3 => {
                    let prefix = path(rng, PREFIXES);
                    Item::Mount(prefix, below(rng))
                }
                2 if depth < 2 => Item::Host(HOSTS[rng.usize(0..HOSTS.len())], below(rng)),
                3 if depth < 2 => Item::When("q", below(rng)),
                _ => {
                    let methods =
                        (0..rng.usize(1..3)).map(|_| METHODS[rng.usize(0..METHODS.len())]);
                    let mut methods: Vec<_> = methods.collect();
                    methods.sort_unstable();
                    methods.dedup();
                    Item::Route(path(rng, PATHS), methods)
                }
            });
        }
        Self {
            depth,
            items,
            slash: some(rng, |rng| {
                let all = [
                    TrailingSlash::Exact,
                    TrailingSlash::Redirect,
                    TrailingSlash::Both,
                ];
                all[rng.usize(0..3)]
            }),
            head: some(rng, Rng::bool),
            options: some(rng, Rng::bool),
            strict: some(rng, Rng::bool),
            fallback: rng.u8(0..4) == 0,
            fallback_405: rng.u8(0..4) == 0,
        }
    }

    /// The same with everything said that it takes from `parent`.
    fn alone(&self, parent: &Self) -> Self {
        Self {
            slash: self.slash.or(parent.slash),
            head: self.head.or(parent.head),
            options: self.options.or(parent.options),
            strict: self.strict.or(parent.strict),
            ..self.clone()
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Nested,
    Services,
    Layered,
}

/// A layer that does nothing but say that it ran.
fn mark(rng: &mut Rng, log: &Log) -> Named<Note> {
    let name = ["a", "b", "c", "d", "e", "f"][rng.usize(0..6)];
    named(name, log.note(name))
}

/// The fallbacks that a level has or takes from above.
type Fallbacks = (Option<usize>, Option<usize>);

fn build(spec: &Spec, how: How, above: Fallbacks, rng: &mut Rng, log: &Log) -> Option<Router> {
    let depth = spec.depth;
    let own = (
        spec.fallback.then_some(depth).or(above.0),
        spec.fallback_405.then_some(depth).or(above.1),
    );
    let mut router = Router::new();
    for (number, item) in spec.items.iter().enumerate() {
        let add = |router: Router, rng: &mut Rng| -> Option<Router> {
            let whole = |sub: &Spec, rng: &mut Rng| -> Option<RouteService> {
                build(&sub.alone(spec), how, own, rng, log)?.build().ok()
            };
            Some(match item {
                Item::Route(path, methods) => {
                    let mut all = MethodRouter::new();
                    for method in methods {
                        let tag = format!("{depth}.{number} {}", method.unwrap_or("any"));
                        let (level, bare) = (depth.to_string(), path.ends_with('*'));
                        let handler = move |params: Params| {
                            let own = params.iter().filter(|(name, _)| name.ends_with(&level));
                            let mut own: Vec<_> = own.map(|(n, v)| format!("{n}={v}")).collect();
                            // Of equal names the innermost.
                            own.extend(params.raw("*").filter(|_| bare).map(str::to_owned));
                            std::future::ready(format!("{tag} {}", own.join(" ")))
                        };
                        all = match method {
                            Some(method) => all.on(method.parse().unwrap(), handler),
                            None => all.any(handler),
                        };
                        if how == How::Layered && rng.bool() {
                            all = all.layer(mark(rng, log));
                        }
                    }
                    router.route(path, all)
                }
                Item::Mount(prefix, sub) => match how {
                    How::Services => router.nest_service(prefix, whole(sub, rng)?),
                    _ => router.nest(prefix, build(sub, how, own, rng, log)?),
                },
                Item::Host(host, sub) => match how {
                    How::Services => {
                        router.host(host, Router::new().nest_service("/", whole(sub, rng)?))
                    }
                    _ => router.host(host, build(sub, how, own, rng, log)?),
                },
                Item::When(query, sub) => {
                    let condition = Condition::query(*query, ValueMatch::Present);
                    match how {
                        How::Services => router
                            .when(condition, Router::new().nest_service("/", whole(sub, rng)?)),
                        _ => router.when(condition, build(sub, how, own, rng, log)?),
                    }
                }
            })
        };
        router = match how {
            How::Layered if rng.bool() => {
                let mut failed = false;
                let mut inner = Rng::with_seed(rng.u64(..));
                router = router.with(mark(rng, log), |router| match add(router, &mut inner) {
                    Some(router) => router,
                    None => {
                        failed = true;
                        Router::new()
                    }
                });
                if failed {
                    return None;
                }
                router
            }
            _ => add(router, rng)?,
        };
        if how == How::Layered && rng.u8(0..4) == 0 {
            router = router.route_layer(mark(rng, log));
        }
        if how == How::Layered && rng.u8(0..4) == 0 {
            router = router.layer(mark(rng, log));
        }
    }
    if let Some(slash) = spec.slash {
        router = router.trailing_slash(slash);
    }
    if let Some(head) = spec.head {
        router = router.implicit_head(head);
    }
    if let Some(options) = spec.options {
        router = router.implicit_options(options);
    }
    if let Some(strict) = spec.strict {
        router = router.wrong_method(match strict {
            true => WrongMethod::Strict,
            false => WrongMethod::Continue,
        });
    }
    let services = how == How::Services;
    if let Some(level) = own.0.filter(|_| spec.fallback || services) {
        router = router
            .fallback(move || async move { (StatusCode::NOT_FOUND, format!("fallback {level}")) });
    }
    if let Some(level) = own.1.filter(|_| spec.fallback_405 || services) {
        router = router.method_not_allowed_fallback(move || async move {
            (StatusCode::METHOD_NOT_ALLOWED, format!("405 {level}"))
        });
    }
    Some(router)
}

fn line(rng: &mut Rng) -> (Method, String) {
    let methods = ["GET", "GET", "GET", "PUT", "HEAD", "OPTIONS", "BREW"];
    let method = methods[rng.usize(0..methods.len())].parse().unwrap();
    let hosts = [
        "",
        "",
        "http://h.example",
        "http://a.example",
        "http://a.b.x.example",
    ];
    let mut target = hosts[rng.usize(0..hosts.len())].to_owned();
    for _ in 0..rng.usize(1..5) {
        target.push('/');
        target.push_str(SEGMENTS[rng.usize(0..SEGMENTS.len())]);
    }
    if rng.u8(0..4) == 0 {
        target.push_str("?q=1");
    }
    (method, target)
}

async fn answer(app: &RouteService, method: &Method, target: &str) -> String {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method.clone();
    *request.uri_mut() = target.parse().unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let location = response.headers().get("location").cloned();
    format!("{:?} {location:?}", read(response).await)
}

#[tokio::test]
async fn trees_answer_alike_however_they_are_put_together() {
    let (mut rng, log) = (Rng::with_seed(3), Log::default());
    let (mut built, mut asked, mut served) = (0, 0, 0);
    for _ in 0..cases() {
        let spec = Spec::new(&mut rng, 0);
        let apps = [How::Nested, How::Services, How::Layered].map(|how| {
            let router = build(&spec, how, (None, None), &mut rng, &log)?;
            Some(router.build().map_err(|errors| errors.to_string()))
        });
        let [Some(Ok(nested)), Some(Ok(services)), Some(Ok(layered))] = &apps else {
            assert!(
                !matches!(&apps[0], Some(Ok(_))) && !matches!(&apps[2], Some(Ok(_))),
                "{spec:#?} {apps:#?}"
            );
            continue;
        };
        built += 1;
        for _ in 0..20 {
            let (method, target) = line(&mut rng);
            let expected = answer(services, &method, &target).await;
            asked += 1;
            served += usize::from(expected.starts_with("(200"));
            for app in [nested, layered] {
                let got = answer(app, &method, &target).await;
                let ran = log.take();
                assert_eq!(got, expected, "{method} {target} {spec:#?}");
                let told = app.explain(&method, &target).unwrap();
                let found = app.find(&method, &target);
                assert_eq!(format!("{found:?}"), format!("{:?}", told.found()));
                let mut served = told
                    .steps()
                    .iter()
                    .filter(|step| *step.why() == Why::Serves);
                match &found {
                    Found::Route { route, .. } => {
                        let step = served.next().map(Step::candidate);
                        assert_eq!(step, Some(route.template()), "{told} {spec:#?}");
                        let layers: Vec<_> = route.layers().collect();
                        assert_eq!(layers.join(" "), ran, "{told} {spec:#?}");
                    }
                    Found::Redirect { .. } => assert!(served.next().is_some(), "{told}"),
                    _ => {}
                }
                assert!(served.next().is_none(), "{told} {spec:#?}");
                let status = match found {
                    Found::Route { .. } => "(200",
                    Found::Redirect { .. } => "(308",
                    Found::Options { .. } => "(204",
                    Found::MethodNotAllowed { .. } => "(405",
                    Found::NotFound => "(404",
                };
                assert!(
                    got.starts_with(status),
                    "{got} {found:?} {method} {target} {spec:#?}"
                );
            }
        }
    }
    assert!(built > cases() / 4, "only {built} could be built");
    assert!(served > asked / 20, "only {served} of {asked} were served");
}
