//! The headers of a trace, of the W3C.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use tower_chassis_core::trace::TraceContext;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Members of a list, by the specification.
const MEMBERS: usize = 32;
/// What must be passed on at least; we pass on no more.
const LENGTH: usize = 512;

/// The trace that a request came with, if its headers are valid.
pub(super) fn read(headers: &HeaderMap) -> Option<(TraceContext, Option<Arc<str>>)> {
    let mut parents = headers.get_all(&TRACEPARENT).iter();
    let parent = parents.next()?;
    // Two parents are none: nobody can tell which is right.
    if parents.next().is_some() {
        return None;
    }
    let context = TraceContext::parse(str::from_utf8(parent.as_bytes()).ok()?)?;
    Some((context, read_state(headers)))
}

/// The list of all `tracestate` headers. One that breaks the rules is dropped, which hurts nobody.
fn read_state(headers: &HeaderMap) -> Option<Arc<str>> {
    let mut lines = headers.get_all(&TRACESTATE).iter();
    let first = lines.next()?.to_str().ok()?.trim();
    let mut all = String::new();
    for line in lines {
        if all.is_empty() {
            all.push_str(first);
        }
        all.push(',');
        all.push_str(line.to_str().ok()?.trim());
    }
    let list = if all.is_empty() { first } else { &all };
    let members = || {
        list.split(',')
            .map(str::trim)
            .filter(|member| !member.is_empty())
    };
    if members().count() > MEMBERS || !members().all(is_member) {
        return None;
    }
    if list.len() <= LENGTH {
        return (!list.is_empty()).then(|| list.into());
    }
    // Long members go first, then those at the end, which are the oldest.
    let mut short = String::with_capacity(LENGTH);
    for member in members().filter(|member| member.len() <= 128) {
        if short.len() + member.len() >= LENGTH {
            break;
        }
        if !short.is_empty() {
            short.push(',');
        }
        short.push_str(member);
    }
    (!short.is_empty()).then(|| short.into())
}

fn is_member(member: &str) -> bool {
    member.split_once('=').is_some_and(|(key, value)| {
        let key_byte =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/@".contains(&b);
        !key.is_empty() && key.bytes().all(key_byte) && !value.is_empty() && !value.contains('=')
    })
}

/// Writes a trace into the headers of a request.
pub(super) fn write(headers: &mut HeaderMap, context: &TraceContext, state: Option<&str>) {
    if let Ok(value) = HeaderValue::from_bytes(&context.traceparent()) {
        headers.insert(&TRACEPARENT, value);
    }
    match state.map(HeaderValue::from_str) {
        Some(Ok(value)) => {
            headers.insert(&TRACESTATE, value);
        }
        // That of another trace must not stay.
        _ => {
            headers.remove(&TRACESTATE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn states() {
        let long = format!("a={}", "x".repeat(200));
        let many = (0..20)
            .map(|n| format!("k{n}={}", "v".repeat(40)))
            .collect::<Vec<_>>()
            .join(",");
        let too_many = (0..33)
            .map(|n| format!("k{n}=v"))
            .collect::<Vec<_>>()
            .join(",");
        for (states, kept) in [
            (&["a=1"][..], Some("a=1")),
            (&["a=1,b=2", " t@v=3 "], Some("a=1,b=2,t@v=3")),
            (&[""], None),
            (&["A=1"], None),
            (&["a"], None),
            (&["a=1=2"], None),
            (&[&*too_many], None),
            (&["b=2", &*long, &*long, &*long], Some("b=2")),
        ] {
            let mut pairs = vec![("traceparent", PARENT)];
            pairs.extend(states.iter().map(|state| ("tracestate", *state)));
            let (_, state) = read(&headers(&pairs)).unwrap();
            assert_eq!(state.as_deref(), kept, "{states:?}");
        }
        let (_, state) = read(&headers(&[("traceparent", PARENT), ("tracestate", &many)])).unwrap();
        let state = state.unwrap();
        assert!(state.len() <= LENGTH && many.starts_with(&*state) && state.ends_with('v'));
    }

    #[test]
    fn two_parents_are_none_and_a_state_alone_is_nothing() {
        assert!(
            read(&headers(&[
                ("traceparent", PARENT),
                ("traceparent", PARENT)
            ]))
            .is_none()
        );
        assert!(read(&headers(&[("tracestate", "a=1")])).is_none());
    }

    #[test]
    fn what_was_read_is_written_and_a_foreign_state_goes() {
        let mut out = headers(&[("tracestate", "other=1")]);
        let (context, state) =
            read(&headers(&[("traceparent", PARENT), ("tracestate", "a=1")])).unwrap();
        write(&mut out, &context, state.as_deref());
        assert_eq!(
            (&out["traceparent"], &out["tracestate"]),
            (
                &HeaderValue::from_static(PARENT),
                &HeaderValue::from_static("a=1")
            )
        );
        write(&mut out, &context, None);
        assert!(!out.contains_key("tracestate"));
    }
}
