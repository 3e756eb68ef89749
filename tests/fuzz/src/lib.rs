//! What the fuzz targets do, as functions of bytes: none may panic, hang or break the property that it asserts.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use http::{Request, StatusCode};
use tower_chassis::{
    Body, Deadline,
    config::{Format, Loader, Tree},
    gateway::model::Model,
    router::{Router, get, matcher::Captures, pattern::Pattern},
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
    let Ok(text) = std::str::from_utf8(input) else { return };
    let loader = Loader::new().text("fuzz", format, text);
    // YAML breaks lines at carriage returns as well.
    let lines = text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 2;
    if let Err(error) = loader.load_as::<Model>() {
        let faults = error.faults().unwrap_or_else(|| panic!("there is no file: {error}"));
        assert!(!faults.is_empty(), "refused without a fault");
        for fault in faults {
            let shown = fault.to_string();
            assert!(shown.starts_with("fuzz"), "without a source: {shown:?}");
            assert!(!shown.chars().any(char::is_control), "unfit for a terminal: {shown:?}");
            assert!(fault.origin.line.is_none_or(|line| line as usize <= lines), "beyond the text: {shown:?}");
        }
    }
    let Ok(tree) = loader.load() else { return };
    let shown = tree.render(&[]);
    if !shown.contains("***") {
        let again = Loader::new().text("shown", Format::Yaml, &*shown).load();
        let again = again.unwrap_or_else(|error| panic!("what is shown does not load: {error}\n{shown}"));
        assert_eq!(plain(&tree), plain(&again), "what is shown says something else:\n{shown}");
    }
}

/// The values without their origins.
fn plain(tree: &Tree) -> String {
    format!("{:?}", tree.deserialize::<serde_json::Value>())
}

/// What is read is written as it came, but for flags that must not be passed on.
pub fn traceparent(input: &[u8]) {
    let Ok(header) = std::str::from_utf8(input) else { return };
    let Some(context) = TraceContext::parse(header) else { return };
    let written = context.to_string();
    assert_eq!(written.as_bytes(), context.traceparent());
    assert_eq!(TraceContext::parse(&written), Some(context));
    assert_eq!(written.get(3..52), header.get(3..52));
}

/// What is passed on is never more than what was read.
pub fn grpc_timeout(input: &[u8]) {
    let Ok(header) = std::str::from_utf8(input) else { return };
    let Some(left) = Deadline::parse_grpc_timeout(header) else { return };
    let written = Deadline::grpc_timeout(left);
    let again = Deadline::parse_grpc_timeout(&written);
    assert!(again.is_some_and(|again| again <= left), "{header} {written}");
}

/// A router builds what the grammar reads, and serves what the pattern matches.
pub fn route_pattern(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (pattern, path) = text.split_once('\n').unwrap_or((text, "/"));
    let parsed = Pattern::parse(pattern);
    let built = Router::<Body>::new().route(pattern, get(|| async { "here" })).build();
    assert_eq!(parsed.is_ok(), built.is_ok(), "{parsed:?} {built:?}");
    let (Ok(parsed), Ok(mut router)) = (parsed, built) else {
        return;
    };
    let mut captures = Captures::new();
    let Ok(request) = Request::get(path).body(Body::empty()) else { return };
    let path = request.uri().path().to_owned();
    let expected = if parsed.matches(&path, 0, &mut captures) { StatusCode::OK } else { StatusCode::NOT_FOUND };
    for (at, end) in (0..captures.len()).filter_map(|index| captures.get(index)) {
        assert!(at <= end && path.get(at..end).is_some(), "{pattern} {path} {at}..{end}");
    }
    let answer = pin!(router.call(request));
    match answer.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => assert_eq!(response.status(), expected, "{pattern} {path}"),
        Poll::Pending => panic!("a handler that waits for nothing is pending: {pattern} {path}"),
    }
}
