//! A deadline on the wire: always relative, so that no two clocks need to agree.

use std::{error::Error, fmt, time::Duration};

use tower_chassis_core::{Carrier, Deadline};

const GRPC: &str = "grpc-timeout";
const MILLIS: &str = "x-request-timeout-ms";
const ENVOY: &str = "x-envoy-expected-rq-timeout-ms";

/// The least time that a request says it has left; `None` if it says nothing.
pub(super) fn read<Req: Carrier>(
    request: &Req,
    trust_envoy: bool,
) -> Result<Option<Duration>, Unreadable> {
    let one = |name, parse: fn(&str) -> Option<Duration>| match request.meta(name) {
        Some(value) => parse(value).map(Some).ok_or(Unreadable(name)),
        None => Ok(None),
    };
    let mut least = one(MILLIS, Deadline::parse_millis)?;
    if request.is_grpc() {
        least = nearer(least, one(GRPC, Deadline::parse_grpc_timeout)?);
    }
    if trust_envoy {
        // Envoy's zero is no limit; a call that has nothing left it sends with one millisecond.
        let envoy = one(ENVOY, Deadline::parse_millis)?.filter(|left| !left.is_zero());
        least = nearer(least, envoy);
    }
    Ok(least)
}

fn nearer(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Says in the request what it has left, and what was promised. `None` if that would be nothing: the request is as
/// it was then. A protocol that cannot carry it goes without.
pub(super) fn write<Req: Carrier>(
    request: &mut Req,
    left: Duration,
    grpc: bool,
) -> Option<Duration> {
    let promise = promise(left, grpc);
    if promise.is_zero() {
        return None;
    }
    let (name, text) = if grpc {
        (GRPC, Deadline::grpc_timeout(promise))
    } else {
        (MILLIS, Deadline::millis(promise))
    };
    request.set_meta(name, text.as_str().into());
    Some(promise)
}

/// Where the copy of a request promises more than is `left` by now, it promises that. What promises nothing stays so.
pub(crate) fn shorten<Req: Carrier>(request: &mut Req, left: Duration) {
    let grpc = request.is_grpc();
    let told = read(request, false).ok().flatten();
    if told.is_some_and(|told| told > promise(left, grpc)) {
        write(request, left, grpc);
    }
}

/// What is promised to the next hop of what is `left`: less, because the way there and back takes time too, and
/// no more than can be written.
pub(super) fn promise(left: Duration, grpc: bool) -> Duration {
    const MARGIN: Duration = Duration::from_millis(5);
    let left = left.saturating_sub(MARGIN.min(left / 100));
    let text = if grpc {
        Deadline::parse_grpc_timeout(&Deadline::grpc_timeout(left))
    } else {
        Deadline::parse_millis(&Deadline::millis(left))
    };
    text.unwrap_or_default()
}

/// A deadline that cannot be read.
#[derive(Debug)]
pub(super) struct Unreadable(&'static str);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` cannot be read", self.0)
    }
}

impl Error for Unreadable {}
