//! What a rate limit tells its clients.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};

static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static STANDING: HeaderName = HeaderName::from_static("ratelimit");
static LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// A quota, and what is left of it for who called.
///
/// As the source of a [`Rejection`](crate::Rejection) it becomes header fields of the answer (see
/// [`rescue`](crate::rescue)).
///
/// ```
/// use std::time::Duration;
/// use http::HeaderMap;
/// use tower_chassis_core::Quota;
///
/// let mut headers = HeaderMap::new();
/// Quota::new("api", 100, Duration::from_secs(60)).left(7, Duration::from_millis(1500)).write(&mut headers);
/// assert_eq!(headers["ratelimit-policy"], r#""api";q=100;w=60"#);
/// assert_eq!(headers["ratelimit"], r#""api";r=7;t=2"#);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quota {
    name: Arc<str>,
    limit: u64,
    window: Duration,
    remaining: u64,
    reset: Duration,
    legacy: bool,
}

impl Quota {
    /// So many calls in a window of time. Nothing is left until [`left`](Self::left) says so.
    ///
    /// Of the name, what is not printable ASCII is left out.
    pub fn new(name: impl Into<Arc<str>>, limit: u64, window: Duration) -> Self {
        Self {
            name: name.into(),
            limit,
            window,
            remaining: 0,
            reset: Duration::ZERO,
            legacy: false,
        }
    }

    /// So many calls are left, and after `reset` all are again.
    #[must_use]
    pub const fn left(mut self, remaining: u64, reset: Duration) -> Self {
        (self.remaining, self.reset) = (remaining, reset);
        self
    }

    /// Also writes `X-RateLimit-Limit`, `-Remaining` and `-Reset`, the last in Unix seconds.
    #[must_use]
    pub const fn legacy(mut self, legacy: bool) -> Self {
        self.legacy = legacy;
        self
    }

    /// How many calls there are in a window.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// The window.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// How many calls are left.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// When all are again.
    #[must_use]
    pub const fn reset(&self) -> Duration {
        self.reset
    }

    /// Adds `RateLimit-Policy` and `RateLimit` to an answer, as in version 10 of the IETF's draft, times in whole
    /// seconds, rounded up. They are lists: each limit on the way adds its own. The legacy fields are those of
    /// the limit of which least is left.
    pub fn write(&self, headers: &mut HeaderMap) {
        let name: String = self
            .name
            .chars()
            .filter(|char| matches!(char, ' '..='~') && !matches!(char, '"' | '\\'))
            .collect();
        let (limit, remaining) = (self.limit, self.remaining);
        let (window, reset) = (seconds(self.window).max(1), seconds(self.reset));
        let lines = [
            (&POLICY, format!(r#""{name}";q={limit};w={window}"#)),
            (&STANDING, format!(r#""{name}";r={remaining};t={reset}"#)),
        ];
        for (field, line) in lines {
            if let Ok(value) = HeaderValue::try_from(line) {
                headers.append(field.clone(), value);
            }
        }
        let other = headers
            .get(&REMAINING)
            .and_then(|value| value.to_str().ok());
        let other = other.and_then(|value| value.parse().ok());
        if self.legacy && other.is_none_or(|other: u64| remaining < other) {
            let unix = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            let at = seconds(unix.saturating_add(self.reset));
            for (field, value) in [(&LIMIT, limit), (&REMAINING, remaining), (&RESET, at)] {
                headers.insert(field.clone(), HeaderValue::from(value));
            }
        }
    }

    /// The quota in an error's chain of sources, if there is one.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = crate::rejection::cause_of(error);
        }
        None
    }
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs()
        .saturating_add(u64::from(time.subsec_nanos() > 0))
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            limit,
            window,
            remaining,
            ..
        } = self;
        write!(f, "{name}: {remaining} of {limit} in {window:?} left")
    }
}

impl Error for Quota {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_on_the_way_add_up_and_the_legacy_fields_are_of_the_tightest() {
        let mut headers = HeaderMap::new();
        let quota = |name: &'static str, left| {
            Quota::new(name, 10, Duration::from_millis(100))
                .left(left, Duration::from_nanos(1))
                .legacy(true)
        };
        for (name, left) in [("a", 5), ("b", 3), ("c\"\n\u{e9}\\", 8)] {
            quota(name, left).write(&mut headers);
        }
        let all = |field: &str| {
            let values = headers.get_all(field).iter();
            values
                .map(|v| v.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            all("ratelimit"),
            [r#""a";r=5;t=1"#, r#""b";r=3;t=1"#, r#""c";r=8;t=1"#]
        );
        assert_eq!(all("ratelimit-policy")[0], r#""a";q=10;w=1"#);
        assert_eq!(all("x-ratelimit-remaining"), ["3"]);
        assert!(all("x-ratelimit-reset")[0].parse::<u64>().unwrap() > 1_700_000_000);
    }
}
