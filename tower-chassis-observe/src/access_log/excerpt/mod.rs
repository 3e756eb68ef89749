//! Pieces of headers and bodies in lines.

mod layer;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, HeaderName, HeaderValue};

pub use self::layer::{ExcerptLayer, ExcerptService, Excerpted};
use super::{
    AccessLogPolicy,
    line::Object,
    redact::{Kind, Redact},
    ticket,
};

/// Which lines show pieces of headers and bodies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[non_exhaustive]
#[repr(u8)]
pub enum Excerpt {
    /// None.
    #[default]
    Off,
    /// Those of calls that did not succeed, or were slow.
    Failures,
    /// All.
    All,
}

/// What is kept of a call for its line. The log puts it into the extensions of the request, the layer fills it.
#[derive(Clone)]
pub(super) struct Excerpts(Arc<Shared>);

struct Shared {
    policy: Arc<AccessLogPolicy>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Which attempt it is of: what an earlier one still does is not for here.
    attempt: u32,
    sides: [Half; 2],
}

/// The request, or the response.
#[derive(Clone, Default)]
struct Half {
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Option<Piece>,
}

/// Of a body that has begun.
#[derive(Clone)]
enum Piece {
    /// It is of this type, and not shown.
    Closed(Box<str>),
    Shown {
        kind: Kind,
        media: Box<str>,
        bytes: Vec<u8>,
        /// There is more of it.
        more: bool,
    },
}

const REQUEST: usize = 0;
const RESPONSE: usize = 1;

impl Excerpts {
    /// Of a call that begins.
    pub(super) fn new(policy: Arc<AccessLogPolicy>, headers: &HeaderMap) -> Self {
        let mut kept = Kept::default();
        kept.sides[REQUEST].headers = chosen(&policy, headers);
        let kept = Mutex::new(kept);
        Self(Arc::new(Shared { policy, kept }))
    }

    /// Nothing of a user runs under it.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may be shown of it.
    pub(super) fn shown(&self, redact: &Redact) -> Shown {
        // Copied: two logs of one call may want it.
        let kept = self.kept().sides.clone();
        Shown(kept.map(|half| half.shown(redact)))
    }
}

impl fmt::Debug for Excerpts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Excerpts").finish_non_exhaustive()
    }
}

/// Those headers that the policy names.
fn chosen(policy: &AccessLogPolicy, headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let names = policy.config().excerpt_headers.iter();
    let names = names.filter_map(|name| HeaderName::try_from(name).ok());
    names
        .flat_map(|name| {
            let values = headers.get_all(&name).iter().map(ticket::kept);
            values
                .map(|value| (name.clone(), value))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Headers and bodies as they may be shown: of the request, and of the response.
pub(super) struct Shown([ShownHalf; 2]);

struct ShownHalf {
    headers: Vec<(HeaderName, Vec<u8>)>,
    body: Option<String>,
}

impl Half {
    fn shown(self, redact: &Redact) -> ShownHalf {
        let mut headers: Vec<(HeaderName, Vec<u8>)> = Vec::new();
        for (name, value) in self.headers {
            let value = redact.value(&name, &value);
            match headers.last_mut() {
                Some((last, values)) if *last == name => {
                    values.extend_from_slice(b", ");
                    values.extend_from_slice(&value);
                }
                _ => headers.push((name, value.into_owned())),
            }
        }
        let body = self.body.map(|piece| match piece {
            Piece::Closed(media) => closed(&media),
            Piece::Shown {
                kind,
                media,
                bytes,
                more,
            } => match redact.readable(kind, whole(&bytes, more)) {
                Some(text) if more => text + "... [trimmed]",
                Some(text) => text,
                None => closed(&media),
            },
        });
        ShownHalf {
            headers,
            body: body.filter(|body| !body.is_empty()),
        }
    }
}

fn closed(media: &str) -> String {
    format!("[body of {media}]")
}

/// What was cut off inside of a letter ends before it.
fn whole(bytes: &[u8], cut: bool) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if cut && error.error_len().is_none() => {
            bytes.get(..error.valid_up_to()).unwrap_or_default()
        }
        _ => bytes,
    }
}

impl Shown {
    /// As members of a line of text.
    pub(super) fn text(&self, each: &mut dyn FnMut(&str, &[u8])) {
        for (side, half) in ["request", "response"].into_iter().zip(&self.0) {
            for (name, value) in &half.headers {
                each(&format!("{side}_header.{name}"), value);
            }
            if let Some(body) = &half.body {
                each(&format!("{side}_body"), body.as_bytes());
            }
        }
    }

    /// As members of an object: the keys of headers and body, of the request and of the response.
    pub(super) fn members(&self, object: &mut Object<'_>, keys: [[&str; 2]; 2]) {
        for ([headers, body], half) in keys.into_iter().zip(&self.0) {
            if !half.headers.is_empty() {
                object.object(headers, |object| {
                    for (name, value) in &half.headers {
                        object.named(name.as_str(), value);
                    }
                });
            }
            object.text(body, half.body.as_deref());
        }
    }

    /// As attributes of OpenTelemetry: one for each header, whose value is a list.
    pub(super) fn attributes(&self, object: &mut Object<'_>) {
        for (side, half) in ["request", "response"].into_iter().zip(&self.0) {
            for (name, value) in &half.headers {
                object.list(&format!("http.{side}.header.{name}"), value);
            }
            if let Some(body) = &half.body {
                object.named(&format!("http.{side}.body.content"), body.as_bytes());
            }
        }
    }
}
