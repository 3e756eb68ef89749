//! How much a line matters.

use http::Method;
use tower_chassis_core::{Class, Verdict};

/// How much a line matters, from least to most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[repr(u8)]
pub enum Level {
    /// A successful `OPTIONS`.
    #[default]
    Debug,
    /// Success; a caller that left; one that asked too often (429).
    Info,
    /// The caller's fault, a refusal of ours, and what was slow.
    Warn,
    /// The service failed, was late or could not be reached.
    Error,
}

impl Level {
    /// The level of a call that ended so. `slow` is at least [`Warn`](Self::Warn).
    #[must_use]
    pub fn of(verdict: Verdict, method: &Method, slow: bool) -> Self {
        let level = match verdict.class() {
            Class::Success if *method == Method::OPTIONS => Self::Debug,
            Class::Success | Class::Cancelled | Class::RateLimited => Self::Info,
            // Whether the service or a limit of ours says so: whoever floods us does not fill the log with warnings.
            Class::Refused if verdict.http_status() == Some(429) => Self::Info,
            Class::ClientFault | Class::Refused => Self::Warn,
            _ => Self::Error,
        };
        if slow { level.max(Self::Warn) } else { level }
    }

    /// Its name in small letters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// `severity_text` and `severity_number` of OpenTelemetry.
    pub(super) const fn otel(self) -> (&'static str, u64) {
        match self {
            Self::Debug => ("DEBUG", 5),
            Self::Info => ("INFO", 9),
            Self::Warn => ("WARN", 13),
            Self::Error => ("ERROR", 17),
        }
    }

    /// `severity` of Google Cloud.
    pub(super) const fn gcp(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARNING",
            Self::Error => "ERROR",
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tower_chassis_core::{Kind, Rejection};

    use super::*;

    #[test]
    fn levels() {
        let http = |status| Verdict::http(StatusCode::from_u16(status).unwrap());
        for (verdict, level) in [
            (http(200), Level::Info),
            (http(304), Level::Info),
            (http(404), Level::Warn),
            (http(429), Level::Info),
            (http(500), Level::Error),
            (http(504), Level::Error),
            (Verdict::grpc(14), Level::Error),
            (Verdict::grpc(5), Level::Warn),
            (Verdict::CANCELLED, Level::Info),
            (Rejection::new(Kind::Overloaded, "x").verdict(), Level::Warn),
            (
                Rejection::new(Kind::RateLimited, "x").verdict(),
                Level::Info,
            ),
            (
                Rejection::new(Kind::Unreachable, "x").verdict(),
                Level::Error,
            ),
        ] {
            assert_eq!(
                Level::of(verdict, &Method::GET, false),
                level,
                "{verdict:?}"
            );
            assert_eq!(
                Level::of(verdict, &Method::GET, true),
                level.max(Level::Warn)
            );
        }
        assert_eq!(Level::of(http(200), &Method::OPTIONS, false), Level::Debug);
        assert_eq!(Level::of(http(500), &Method::OPTIONS, false), Level::Error);
    }
}
