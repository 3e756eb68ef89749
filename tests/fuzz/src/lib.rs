//! What the fuzz targets do, as functions of bytes: none may panic, hang or break the property that it asserts.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use http::{Method, Request, Response, StatusCode, Uri};
use tower_chassis::{
    Body, Deadline,
    config::{Format, Loader, Tree},
    gateway::model::Model,
    router::{
        ParamError, Params, RouteService, Router, get,
        matcher::{Captures, Matcher, Outcome, Verdict},
        pattern::Pattern,
    },
};
use tower_chassis_core::trace::TraceContext;
use tower_service::Service;

#[cfg(test)]
mod seeds;

/// A YAML text as the gateway's file.
pub fn config_yaml(input: &[u8]) {
    config(Format::Yaml, input);
}

/// A TOML text as the gateway's file.
pub fn config_toml(input: &[u8]) {
    config(Format::Toml, input);
}

/// Either it loads, and then what is shown of it says the same; or it has faults, each with a place and on one
/// line that a terminal can show.
fn config(format: Format, input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let loader = Loader::new().text("fuzz", format, text);
    // YAML breaks lines at carriage returns as well.
    let lines = text
        .matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'])
        .count()
        + 2;
    if let Err(error) = loader.load_as::<Model>() {
        let faults = error
            .faults()
            .unwrap_or_else(|| panic!("there is no file: {error}"));
        assert!(!faults.is_empty(), "refused without a fault");
        for fault in faults {
            let shown = fault.to_string();
            assert!(shown.starts_with("fuzz"), "without a source: {shown:?}");
            assert!(
                !shown.chars().any(char::is_control),
                "unfit for a terminal: {shown:?}"
            );
            assert!(
                fault.origin.line.is_none_or(|line| line as usize <= lines),
                "beyond the text: {shown:?}"
            );
        }
    }
    let Ok(tree) = loader.load() else { return };
    let shown = tree.render(&[]);
    if !shown.contains("***") {
        let again = Loader::new().text("shown", Format::Yaml, &*shown).load();
        let again =
            again.unwrap_or_else(|error| panic!("what is shown does not load: {error}\n{shown}"));
        assert_eq!(
            plain(&tree),
            plain(&again),
            "what is shown says something else:\n{shown}"
        );
    }
}

/// The values without their origins.
fn plain(tree: &Tree) -> String {
    format!("{:?}", tree.deserialize::<serde_json::Value>())
}

/// What is read is written as it came, but for flags that must not be passed on.
pub fn traceparent(input: &[u8]) {
    let Ok(header) = std::str::from_utf8(input) else {
        return;
    };
    let Some(context) = TraceContext::parse(header) else {
        return;
    };
    let written = context.to_string();
    assert_eq!(written.as_bytes(), context.traceparent());
    assert_eq!(TraceContext::parse(&written), Some(context));
    assert_eq!(written.get(3..52), header.get(3..52));
}

/// What is passed on is never more than what was read.
pub fn grpc_timeout(input: &[u8]) {
    let Ok(header) = std::str::from_utf8(input) else {
        return;
    };
    let Some(left) = Deadline::parse_grpc_timeout(header) else {
        return;
    };
    let written = Deadline::grpc_timeout(left);
    let again = Deadline::parse_grpc_timeout(&written);
    assert!(
        again.is_some_and(|again| again <= left),
        "{header} {written}"
    );
}

/// A router builds what the grammar reads, and serves what the pattern matches: as a route, and as the prefix of a
/// service of its own, which then sees a path.
pub fn route_pattern(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (pattern, path) = text.split_once('\n').unwrap_or((text, "/"));
    let Ok(uri) = path.parse::<Uri>() else { return };

    let parsed = Pattern::parse(pattern);
    let router = Router::new().route(pattern, get(handler)).build();
    assert_eq!(parsed.is_ok(), router.is_ok(), "{parsed:?} {router:?}");
    if let (Ok(parsed), Ok(router)) = (parsed, router) {
        let mut captures = Captures::new();
        let matches = parsed.matches(uri.path(), 0, &mut captures);
        for (at, end) in (0..captures.len()).filter_map(|index| captures.get(index)) {
            assert!(
                at <= end && end <= uri.path().len(),
                "{pattern} {uri} {at}..{end}"
            );
        }
        assert_eq!(
            ask(router, &uri) != StatusCode::NOT_FOUND,
            matches,
            "{pattern} {uri}"
        );
    }
    if let Ok(router) = Router::new().nest_service(pattern, Mounted).build() {
        ask(router, &uri);
    }
}

/// A table of routes, one `METHOD pattern` on a line (`*` for any method), and behind an empty line a request: what the
/// table finds is a route that matches by itself, with the same captures, and the one that it explains; what it does not
/// find, no route matches.
pub fn route_table(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (routes, request) = text.split_once("\n\n").unwrap_or((text, "GET /"));
    let (method, path) = request.split_once(' ').unwrap_or(("GET", request));
    let Ok(method) = method.parse::<Method>() else {
        return;
    };
    let mut builder = Matcher::builder().strict(path.ends_with('!'));
    let mut patterns = Vec::new();
    for line in routes.lines().take(32) {
        let (own, pattern) = line.split_once(' ').unwrap_or(("*", line));
        let own = match own {
            "*" => None,
            own => match own.parse::<Method>() {
                Ok(own) => Some(own),
                Err(_) => continue,
            },
        };
        if let Ok(pattern) = Pattern::parse(pattern)
            && builder
                .insert(&pattern, own.clone(), patterns.len())
                .is_ok()
        {
            patterns.push((own, pattern));
        }
    }
    let matcher = builder.build();
    let matching = |pattern: &Pattern| {
        let mut captures = Captures::new();
        let matches = pattern.matches(path, 0, &mut captures);
        let ranges = (0..captures.len()).filter_map(|index| captures.get(index));
        matches.then(|| ranges.collect::<Vec<_>>())
    };
    let any = patterns
        .iter()
        .any(|(_, pattern)| matching(pattern).is_some());
    let explained = matcher.explain(&method, path, 0);
    let serves = explained
        .iter()
        .find(|tried| tried.verdict == Verdict::Serves);
    let mut captures = Captures::new();
    match matcher.find(&method, path, 0, &mut captures) {
        Outcome::Found { value } => {
            let (own, pattern) = &patterns[*value];
            let head = method == Method::HEAD && *own == Some(Method::GET);
            assert!(
                own.as_ref().is_none_or(|own| *own == method) || head,
                "{text:?}"
            );
            let ranges: Vec<_> = (0..captures.len())
                .filter_map(|index| captures.get(index))
                .collect();
            assert_eq!(matching(pattern), Some(ranges), "{text:?}");
            assert_eq!(serves.map(|tried| tried.value), Some(value), "{text:?}");
        }
        Outcome::MethodNotAllowed => {
            assert!(any && serves.is_none() && captures.is_empty(), "{text:?}");
            assert!(!matcher.allow(path, 0).is_empty(), "{text:?}");
        }
        Outcome::NotFound => {
            assert!(!any && serves.is_none() && captures.is_empty(), "{text:?}");
            assert_eq!(matcher.allow(path, 0), "", "{text:?}");
        }
    }
}

/// Looks at everything that was captured.
async fn handler(params: Params) -> Result<String, ParamError> {
    let mut all = format!("{params:?}");
    for (name, _) in params.iter() {
        all.push_str(&params.decode(name)?);
    }
    Ok(all)
}

/// Looks at what is left of the path.
#[derive(Clone)]
struct Mounted;

impl Service<Request<Body>> for Mounted {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        assert!(request.uri().path().starts_with('/'), "{}", request.uri());
        ready(Ok(Response::new(Body::empty())))
    }
}

fn ask(mut router: RouteService, uri: &Uri) -> StatusCode {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = uri.clone();
    let answer = pin!(router.call(request));
    match answer.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response.status(),
        Poll::Pending => panic!("a handler that waits for nothing is pending: {uri}"),
    }
}
