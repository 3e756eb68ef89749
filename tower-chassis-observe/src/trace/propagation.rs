//! Which headers a trace is read from and written to.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use tower_chassis_core::trace::TraceContext;

use super::{b3, w3c};

/// The headers that carry a trace. By default those of the W3C, `traceparent` and `tracestate`.
///
/// What it names is read as well as written; of B3 both forms are read, and one is written. Where a request has valid
/// ones of several kinds, `traceparent` goes before `b3`, and that before `x-b3-…`.
///
/// ```
/// use tower_chassis_observe::trace::{ClientTraceLayer, Propagation, TraceLayer};
///
/// // Callers may speak either; who is called understands W3C.
/// let server = TraceLayer::new().propagation(Propagation::w3c().and_b3());
/// let client = ClientTraceLayer::new().propagation(Propagation::w3c());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Propagation {
    w3c: bool,
    b3: B3,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum B3 {
    Off,
    Single,
    Multi,
}

impl Propagation {
    /// `traceparent` and `tracestate`. The default.
    #[must_use]
    pub const fn w3c() -> Self {
        Self {
            w3c: true,
            b3: B3::Off,
        }
    }

    /// B3; written in one header, `b3`.
    #[must_use]
    pub const fn b3_single() -> Self {
        Self {
            w3c: false,
            b3: B3::Single,
        }
    }

    /// B3; written in `x-b3-traceid`, `x-b3-spanid` and `x-b3-sampled`, as go-chassis and old Zipkin libraries want it.
    #[must_use]
    pub const fn b3_multi() -> Self {
        Self {
            w3c: false,
            b3: B3::Multi,
        }
    }

    /// These, and `traceparent` with `tracestate`.
    #[must_use]
    pub const fn and_w3c(mut self) -> Self {
        self.w3c = true;
        self
    }

    /// These, and B3; written in one header.
    #[must_use]
    pub const fn and_b3(mut self) -> Self {
        self.b3 = B3::Single;
        self
    }

    /// These, and B3; written in several headers.
    #[must_use]
    pub const fn and_b3_multi(mut self) -> Self {
        self.b3 = B3::Multi;
        self
    }

    /// What a request came with.
    pub(super) fn read(self, headers: &HeaderMap) -> Incoming {
        if self.w3c
            && let Some((parent, state)) = w3c::read(headers)
        {
            return Incoming {
                sampled: Some(parent.is_sampled()),
                parent: Some(parent),
                state,
                remote: true,
            };
        }
        if self.b3 == B3::Off {
            return Incoming::default();
        }
        b3::read(headers).unwrap_or_default()
    }

    /// Writes a trace into the headers of a request, and takes away what says another one in the same words.
    pub(super) fn write(
        self,
        headers: &mut HeaderMap,
        context: &TraceContext,
        state: Option<&str>,
    ) {
        if self.w3c {
            w3c::write(headers, context, state);
        }
        match self.b3 {
            B3::Off => {}
            B3::Single => b3::write_single(headers, context),
            B3::Multi => b3::write_multi(headers, context),
        }
    }
}

/// Among so many headers a look at each is sooner done than what looking one of ours up by its hash takes.
const FEW: usize = 16;

/// Whether there may be a header that tells of a trace, or baggage. Most requests have none.
pub(super) fn tells(headers: &HeaderMap) -> bool {
    headers.keys_len() > FEW || headers.keys().any(is_ours)
}

fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.len() {
        2 => name == "b3",
        7 => name == "baggage",
        10 => name == "tracestate" || name == "x-b3-flags",
        11 => name == "traceparent",
        _ => name.starts_with("x-b3-"),
    }
}

/// Takes away what a caller says of its trace, whatever is read here: the next service may read something else.
#[cold]
pub(super) fn forget(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_ours(name))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

impl Default for Propagation {
    fn default() -> Self {
        Self::w3c()
    }
}

/// The trace that a call belongs to, as far as its caller said.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Incoming {
    pub(super) parent: Option<TraceContext>,
    pub(super) state: Option<Arc<str>>,
    /// Whether it is to be recorded; none where that is left to us.
    pub(super) sampled: Option<bool>,
    /// Another process said it.
    pub(super) remote: bool,
}

impl Incoming {
    /// A parent in this process.
    pub(super) const fn local(parent: TraceContext, state: Option<Arc<str>>) -> Self {
        Self {
            sampled: Some(parent.is_sampled()),
            parent: Some(parent),
            state,
            remote: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Propagation; 7] = [
        Propagation::w3c(),
        Propagation::b3_single(),
        Propagation::b3_multi(),
        Propagation::w3c().and_b3(),
        Propagation::w3c().and_b3_multi(),
        Propagation::b3_single().and_w3c(),
        Propagation::b3_multi().and_w3c(),
    ];

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    /// The ids of the three kinds, to tell them apart.
    const W3C: (&str, &str) = (
        "traceparent",
        "00-11111111111111111111111111111111-1111111111111111-00",
    );
    const SINGLE: (&str, &str) = ("B3", "22222222222222222222222222222222-2222222222222222-1");
    const MULTI: [(&str, &str); 3] = [
        ("X-B3-TraceId", "33333333333333333333333333333333"),
        ("X-B3-SpanId", "3333333333333333"),
        ("X-B3-Sampled", "1"),
    ];

    #[test]
    fn the_better_one_wins_and_what_is_not_spoken_is_not_heard() {
        let broken = ("traceparent", "00-11");
        let bad = ("b3", "2222-22");
        let all = |first: &[(&'static str, &'static str)]| {
            let mut pairs = first.to_vec();
            pairs.extend(MULTI);
            headers(&pairs)
        };
        for (propagation, headers, first) in [
            (ALL[3], all(&[W3C, SINGLE]), Some(0x11)),
            (ALL[3], all(&[SINGLE]), Some(0x22)),
            (ALL[3], all(&[]), Some(0x33)),
            (ALL[3], all(&[broken, SINGLE]), Some(0x22)),
            (ALL[3], all(&[broken, bad]), Some(0x33)),
            (ALL[0], all(&[SINGLE]), None),
            (ALL[0], all(&[W3C, SINGLE]), Some(0x11)),
            (ALL[1], all(&[W3C, SINGLE]), Some(0x22)),
            (ALL[2], all(&[W3C]), Some(0x33)),
        ] {
            let found = propagation.read(&headers).parent;
            let found = found.map(|parent| parent.trace_id().to_bytes()[0]);
            assert_eq!(found, first, "{propagation:?} of {headers:?}");
        }
    }

    #[test]
    fn what_said_another_trace_goes() {
        let ours = TraceContext::new([9; 16], [9; 8], true).unwrap();
        for propagation in ALL {
            let mut sent = headers(&[W3C, SINGLE, ("tracestate", "a=1")]);
            for (name, value) in MULTI.iter().chain(&[
                ("x-b3-parentspanid", "4444444444444444"),
                ("x-b3-flags", "1"),
            ]) {
                sent.append(*name, value.parse().unwrap());
            }
            propagation.write(&mut sent, &ours, None);
            // Whoever speaks one of the kinds that were written finds our trace or none.
            if propagation.w3c {
                assert!(!sent.contains_key("tracestate"));
                assert_eq!(Propagation::w3c().read(&sent).parent, Some(ours));
            } else {
                assert_eq!(sent["traceparent"], W3C.1, "not ours to touch");
            }
            if propagation.b3 != B3::Off {
                assert_eq!(Propagation::b3_multi().read(&sent).parent, Some(ours));
                let kinds = ["b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled"];
                let left = kinds.map(|name| sent.contains_key(name));
                let single = propagation.b3 == B3::Single;
                assert_eq!(left, [single, !single, !single, !single]);
                assert!(!sent.contains_key("x-b3-parentspanid"));
                assert!(!sent.contains_key("x-b3-flags"));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(
            if std::env::var_os("CHASSIS_LONG").is_some() { 100_000 } else { 256 }
        ))]

        #[test]
        fn what_is_written_is_read(
            trace in 1u128.., span in 1u64.., sampled: bool, which in 0..ALL.len(),
            state in proptest::option::of("[a-z][a-z0-9@]{0,10}=[a-z0-9]{1,20}(,[a-z]{1,5}=[0-9]{1,9}){0,5}"),
        ) {
            let propagation = ALL[which];
            let context = TraceContext::new(trace.to_be_bytes(), span.to_be_bytes(), sampled).unwrap();
            let mut sent = HeaderMap::new();
            propagation.write(&mut sent, &context, state.as_deref());
            let read = propagation.read(&sent);
            prop_assert_eq!(read.parent, Some(context));
            prop_assert_eq!(read.sampled, Some(sampled));
            prop_assert!(read.remote);
            prop_assert_eq!(read.state.as_deref(), state.as_deref().filter(|_| propagation.w3c));
        }

        #[test]
        fn no_header_does_harm(
            values in proptest::collection::vec(
                (0..8usize, "[0-9a-fA-FdD,;=x%-]{0,80}|[ -~]{0,80}"), 0..6),
        ) {
            let names = ["traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled",
                "x-b3-flags", "x-b3-parentspanid"];
            let mut sent = HeaderMap::new();
            for (name, value) in &values {
                sent.append(names[*name], value.parse().unwrap());
            }
            for propagation in ALL {
                let read = propagation.read(&sent);
                prop_assert!(read.parent.is_none() || read.remote);
                prop_assert!(read.parent.is_some() || read.state.is_none());
            }
        }
    }
}
