//! The headers of B3, in one (`b3`) and in several (`x-b3-…`).

use http::{HeaderMap, HeaderName, HeaderValue};
use tower_chassis_core::trace::TraceContext;

use super::propagation::Incoming;

static SINGLE: HeaderName = HeaderName::from_static("b3");
static TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
static SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
static SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
static FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
static PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");

/// What a request came with; none where it has no B3, or says what it cannot mean.
pub(super) fn read(headers: &HeaderMap) -> Option<Incoming> {
    let single = one(headers, &SINGLE).ok().flatten().and_then(single);
    single.or_else(|| multi(headers))
}

/// The value of a header, if there is one; two are an error, because nobody can tell which is right.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(value), None) => Ok(Some(value.trim())),
        _ => Err(()),
    }
}

/// `{trace}-{span}[-{sampled}[-{parent}]]`, or the decision alone.
fn single(value: &str) -> Option<Incoming> {
    if !value.contains('-') {
        return Some(decision(Some(flag(value)?)));
    }
    let mut fields = value.split('-');
    let (trace, span) = (fields.next()?, fields.next()?);
    let sampled = match fields.next() {
        Some(said) => Some(flag(said)?),
        None => None,
    };
    if let Some(parent) = fields.next() {
        digits::<8>(parent)?;
    }
    match fields.next() {
        Some(_) => None,
        None => incoming(trace, span, sampled),
    }
}

fn multi(headers: &HeaderMap) -> Option<Incoming> {
    let said = match one(headers, &SAMPLED).ok()? {
        Some(said) => Some(flag(said)?),
        None => None,
    };
    // Debug: recorded, whatever is said besides.
    let debug = one(headers, &FLAGS).ok()? == Some("1");
    let sampled = if debug { Some(true) } else { said };
    match (one(headers, &TRACE_ID).ok()?, one(headers, &SPAN_ID).ok()?) {
        (Some(trace), Some(span)) => incoming(trace, span, sampled),
        (None, None) if sampled.is_some() => Some(decision(sampled)),
        _ => None,
    }
}

fn incoming(trace: &str, span: &str, sampled: Option<bool>) -> Option<Incoming> {
    let trace = digits::<16>(trace).or_else(|| {
        // A peer of 64 bits.
        let mut whole = [0; 16];
        whole[8..].copy_from_slice(&digits::<8>(trace)?);
        Some(whole)
    })?;
    let parent = TraceContext::new(trace, digits::<8>(span)?, sampled == Some(true))?;
    Some(Incoming {
        parent: Some(parent),
        state: None,
        sampled,
        remote: true,
    })
}

/// What is to become of a trace that begins here.
const fn decision(sampled: Option<bool>) -> Incoming {
    Incoming {
        parent: None,
        state: None,
        sampled,
        remote: true,
    }
}

fn flag(said: &str) -> Option<bool> {
    match said {
        "1" | "d" => Some(true),
        "0" => Some(false),
        // Of libraries from before the specification.
        _ if said.eq_ignore_ascii_case("true") => Some(true),
        _ if said.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Reads exactly `2 * N` hexadecimal digits, of either case.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

const fn sampled(context: &TraceContext) -> &'static str {
    if context.is_sampled() { "1" } else { "0" }
}

pub(super) fn write_single(headers: &mut HeaderMap, context: &TraceContext) {
    // What `traceparent` has between its version and its flags is the same.
    let mut value = [b'0'; 51];
    value[..50].copy_from_slice(&context.traceparent()[3..53]);
    value[50] = sampled(context).as_bytes()[0];
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        headers.insert(&SINGLE, value);
    }
    for stale in [&TRACE_ID, &SPAN_ID, &SAMPLED, &FLAGS, &PARENT] {
        headers.remove(stale);
    }
}

pub(super) fn write_multi(headers: &mut HeaderMap, context: &TraceContext) {
    let whole = context.traceparent();
    for (name, id) in [(&TRACE_ID, &whole[3..35]), (&SPAN_ID, &whole[36..52])] {
        if let Ok(id) = HeaderValue::from_bytes(id) {
            headers.insert(name, id);
        }
    }
    headers.insert(&SAMPLED, HeaderValue::from_static(sampled(context)));
    for stale in [&SINGLE, &FLAGS, &PARENT] {
        headers.remove(stale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: &str = "80f198ee56343ba864fe8b2a57d3eff7";
    const S: &str = "e457b5a2e4d86bd1";
    const P: &str = "05e3ac9a4f6e3b90";

    /// The trace, the span and the decision.
    type Read = Option<(Option<(String, String)>, Option<bool>)>;

    fn told(headers: &HeaderMap) -> Read {
        let read = read(headers)?;
        let ids = read
            .parent
            .map(|parent| (parent.trace_id().to_string(), parent.span_id().to_string()));
        Some((ids, read.sampled))
    }

    fn full(trace: &str, sampled: Option<bool>) -> Read {
        Some((Some((trace.to_owned(), S.to_owned())), sampled))
    }

    #[test]
    fn in_one_header() {
        let padded = format!("{}{S}", "0".repeat(16));
        for (value, read) in [
            (format!("{T}-{S}-1-{P}"), full(T, Some(true))),
            (format!("{T}-{S}-1"), full(T, Some(true))),
            (format!("{T}-{S}-d"), full(T, Some(true))),
            (format!("{T}-{S}-d-{P}"), full(T, Some(true))),
            (format!("{T}-{S}-0"), full(T, Some(false))),
            (format!("{T}-{S}-true"), full(T, Some(true))),
            (format!("{T}-{S}"), full(T, None)),
            (format!(" {T}-{S}-1 "), full(T, Some(true))),
            (
                format!("{}-{}-1", T.to_uppercase(), S.to_uppercase()),
                full(T, Some(true)),
            ),
            (format!("{S}-{S}-1"), full(&padded, Some(true))),
            ("0".into(), Some((None, Some(false)))),
            ("1".into(), Some((None, Some(true)))),
            ("d".into(), Some((None, Some(true)))),
            // Broken ones.
            ("".into(), None),
            ("2".into(), None),
            ("-".into(), None),
            (format!("{T}-"), None),
            (T.into(), None),
            (format!("-{S}-1"), None),
            (format!("{T}-{S}-2"), None),
            (format!("{T}-{S}-"), None),
            (format!("{T}-{S}-1-{P}-1"), None),
            (format!("{T}-{S}-1-05e3"), None),
            (format!("{}-{S}-1", "0".repeat(32)), None),
            (format!("{}-{S}-1", "0".repeat(16)), None),
            (format!("{T}-{}-1", "0".repeat(16)), None),
            (format!("{}-{S}-1", &T[1..]), None),
            (format!("{T}0-{S}-1"), None),
            (format!("{T}-{}-1", &S[1..]), None),
            (format!("{}-{S}-1", T.replace('f', "g")), None),
            (format!("{}-{S}-1", "+".repeat(32)), None),
            ("1".repeat(100_000), None),
            ("-".repeat(100_000), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("b3", value.parse().unwrap());
            assert_eq!(told(&headers), read, "{value:.200}");
            headers.append("b3", value.parse().unwrap());
            assert_eq!(told(&headers), None, "two of them");
        }
    }

    #[test]
    fn in_several_headers() {
        let padded = format!("{}{S}", "0".repeat(16));
        let (trace, span) = (("X-B3-TraceId", T), ("x-b3-spanid", S));
        let sampled = |value| ("X-B3-Sampled", value);
        for (pairs, read) in [
            (&[trace, span, sampled("1")][..], full(T, Some(true))),
            (&[trace, span, sampled("0")], full(T, Some(false))),
            (&[trace, span, sampled("True")], full(T, Some(true))),
            (&[trace, span, sampled("false")], full(T, Some(false))),
            (&[trace, span], full(T, None)),
            (&[trace, span, ("x-b3-flags", "1")], full(T, Some(true))),
            (
                &[trace, span, sampled("0"), ("x-b3-flags", "1")],
                full(T, Some(true)),
            ),
            (
                &[trace, span, sampled("0"), ("x-b3-flags", "0")],
                full(T, Some(false)),
            ),
            (
                &[trace, span, sampled("1"), ("x-b3-parentspanid", P)],
                full(T, Some(true)),
            ),
            (
                &[("x-b3-traceid", S), span, sampled("1")],
                full(&padded, Some(true)),
            ),
            (&[sampled("0")], Some((None, Some(false)))),
            (&[("x-b3-flags", "1")], Some((None, Some(true)))),
            (&[], None),
            (&[trace], None),
            (&[trace, sampled("1")], None),
            (&[span, sampled("1")], None),
            (&[trace, span, sampled("2")], None),
            (&[trace, trace, span], None),
            (&[trace, span, sampled("1"), sampled("0")], None),
            (&[("x-b3-traceid", "x"), span, sampled("1")], None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                // As go-chassis writes them: names know no case.
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, value.parse().unwrap());
            }
            assert_eq!(told(&headers), read, "{pairs:?}");
        }
    }
}
