//! Which host a request asks for, and patterns of hosts.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use http::{
    HeaderName, Request,
    header::{FORWARDED, HOST},
    uri::Authority,
};
use tower_chassis_core::Carrier;

use crate::pattern::{Pattern, PatternError, PatternErrorKind};

/// Whose word on the host is believed, besides the client's.
#[derive(Clone)]
pub(in crate::router) struct Forwarded {
    pub(in crate::router) header: HeaderName,
    pub(in crate::router) trusted: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

/// What a host captured: names and values.
#[derive(Debug)]
pub(crate) struct HostCaptures(pub(super) Vec<(Arc<str>, Box<str>)>);

impl HostCaptures {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut captures = self.0.iter().rev();
        captures.find_map(|(known, value)| (**known == *name).then_some(&**value))
    }
}

pub(super) type HostMatch = Option<HostCaptures>;

/// Adds up what the hosts of nested routers captured.
pub(super) fn joined(
    outer: Option<&Arc<HostCaptures>>,
    inner: HostMatch,
) -> Option<Arc<HostCaptures>> {
    let Some(mut inner) = inner.filter(|captured| !captured.0.is_empty()) else {
        return outer.cloned();
    };
    if let Some(outer) = outer {
        inner.0.splice(0..0, outer.0.iter().cloned());
    }
    Some(Arc::new(inner))
}

/// The host that a request asks for: that of a proxy that is trusted, the authority, the `Host` header, in
/// this order. None where there is more than one header, or what it says is no host.
pub(super) fn host_of<'a, T>(
    req: &'a Request<T>,
    forwarded: Option<&Forwarded>,
) -> Option<Cow<'a, str>> {
    if let Some(forwarded) = forwarded
        && let Some(client) = req.invocation().and_then(|invocation| invocation.client())
        && (forwarded.trusted)(client.ip())
        && let Some(host) = last_forwarded(req, &forwarded.header)
    {
        return Some(Cow::Owned(host));
    }
    if let Some(authority) = req.uri().authority() {
        return no_user(authority).map(Cow::Borrowed);
    }
    let mut values = req.headers().get_all(HOST).iter();
    let (Some(host), None) = (values.next(), values.next()) else {
        return None;
    };
    hostname(host.to_str().ok()?).map(Cow::Owned)
}

/// The host of a header, without its port.
fn hostname(text: &str) -> Option<String> {
    no_user(&text.parse().ok()?).map(str::to_owned)
}

/// Neither a header nor the target of a request has a user (RFC 9110, 4.2.4 and 7.2).
fn no_user(authority: &Authority) -> Option<&str> {
    (!authority.as_str().contains('@')).then(|| authority.host())
}

/// What the nearest proxy wrote: it is the last.
fn last_forwarded<T>(req: &Request<T>, header: &HeaderName) -> Option<String> {
    let mut values = req.headers().get_all(header).iter();
    let last = values
        .next_back()?
        .to_str()
        .ok()?
        .rsplit(',')
        .next()?
        .trim();
    let host = if *header == FORWARDED {
        last.split(';').find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            name.eq_ignore_ascii_case("host")
                .then(|| value.trim_matches('"'))
        })?
    } else {
        last
    };
    hostname(host)
}

/// Lower case, without the dot of the root.
pub(super) fn normal(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// `a.example.com` as `/com/example/a`.
pub(super) fn reversed(host: &str) -> String {
    let mut path = String::with_capacity(host.len() + 1);
    for label in host.rsplit('.') {
        path.push('/');
        path.push_str(label);
    }
    path
}

/// The labels of a host from the right, as a pattern of paths.
pub(super) struct HostPattern {
    pub(super) pattern: Pattern,
    /// As they stand in the host: the names, and which capture of the pattern each is.
    pub(super) names: Box<[(Arc<str>, usize)]>,
}

impl HostPattern {
    /// `counts` says how many names each label has, from the left.
    fn new(pattern: Pattern, counts: &[usize]) -> Self {
        let known: Vec<Arc<str>> = pattern.names().map(Arc::from).collect();
        let mut names = Vec::with_capacity(known.len());
        let mut end = known.len();
        for count in counts {
            let start = end.saturating_sub(*count);
            let label = known.get(start..end).unwrap_or_default();
            names.extend(label.iter().cloned().zip(start..));
            end = start;
        }
        let names = names.into();
        Self { pattern, names }
    }
}

/// The pattern of `host`; none if it stands for itself.
pub(super) fn host_pattern(host: &str) -> Result<Option<HostPattern>, PatternError> {
    let moved = |error: PatternError, at: usize| {
        PatternError::new(
            error.kind().clone(),
            host,
            (at + error.offset()).saturating_sub(1),
        )
    };
    if normal(host).is_empty() {
        let kind = PatternErrorKind::EmptyPattern;
        return Err(PatternError::new(kind, host, 0));
    }
    if let Some(at) = no_host(host) {
        return Err(PatternError::new(PatternErrorKind::InvalidHost, host, at));
    }
    if !host.contains(['{', '}', '*']) {
        return Ok(None);
    }
    // One label after the other, so that a fault is told where it stands.
    let (mut labels, mut counts) = (Vec::new(), Vec::new());
    let mut start = 0;
    for label in labels_of(host) {
        let text = format!("/{}", lower(label));
        let pattern = Pattern::parse(&text).map_err(|error| moved(error, start))?;
        if pattern.is_catch_all() && (start > 0 || !(label == "*" || label.starts_with("{*"))) {
            // Only the first label can stand for several, and a text before it would be that of any of them.
            let kind = PatternErrorKind::WildcardInHost;
            return Err(PatternError::new(kind, host, start));
        }
        counts.push(pattern.names().len());
        labels.push(text);
        start += label.len() + 1;
    }
    labels.reverse();
    let whole = labels.concat();
    Pattern::parse(&whole)
        .map(|pattern| Some(HostPattern::new(pattern, &counts)))
        .map_err(|error| PatternError::new(error.kind().clone(), host, 0))
}

/// Where something stands that is in no host: a router behind it would never be asked. A fault in the braces is for
/// who reads them.
fn no_host(host: &str) -> Option<usize> {
    if host.starts_with('[') {
        let known: Option<Authority> = host.parse().ok();
        let whole = known.is_some_and(|known| known.host() == host);
        return (!whole).then_some(0);
    }
    let mut depth = 0u32;
    let known = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c);
    let mut inside = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            c => return depth > 0 || known(c),
        }
        true
    };
    host.find(|c: char| !inside(c))
}

/// What stands between the dots that are not inside of braces.
fn labels_of(host: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0u32;
    host.strip_suffix('.')
        .unwrap_or(host)
        .split(move |c: char| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == '.' && depth == 0
        })
}

/// Lower case, but for what stands in braces.
fn lower(label: &str) -> String {
    let mut depth = 0u32;
    let lower = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 => return c.to_ascii_lowercase(),
            _ => {}
        }
        c
    };
    label.chars().map(lower).collect()
}
