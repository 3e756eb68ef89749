//! What a fault does. Plain values, which know nothing of tower.

use std::time::Duration;

use http::StatusCode;
use tower_chassis_core::{Class, Verdict, live::Invalid};

use crate::dice::Roll;

/// A fault, and the share of the calls that get it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Dose<T> {
    /// The share, in parts per million: 10,000 is one in a hundred.
    pub ppm: u32,
    /// What they get.
    pub of: T,
}

/// How long a call waits. At most an hour.
///
/// The length belongs to the call as the choice does: the same id waits equally long each time.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "lowercase", deny_unknown_fields)
)]
pub enum Delay {
    /// Always as long.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    Fixed(Duration),
    /// Any length between two, each as likely.
    Uniform {
        /// The shortest.
        #[cfg_attr(
            feature = "config",
            serde(with = "tower_chassis_core::config::duration")
        )]
        min: Duration,
        /// The longest.
        #[cfg_attr(
            feature = "config",
            serde(with = "tower_chassis_core::config::duration")
        )]
        max: Duration,
    },
    /// Mostly short, now and then very long, as networks and garbage collectors are: the chance of more than `t` is
    /// `(min / t)^shape`.
    Pareto {
        /// The shortest.
        #[cfg_attr(
            feature = "config",
            serde(with = "tower_chassis_core::config::duration")
        )]
        min: Duration,
        /// The exponent, from 0.1 to 100: 1.16 is the rule of 80 to 20; the larger, the shorter the tail.
        shape: f64,
        /// Longer ones are cut to this.
        #[cfg_attr(
            feature = "config",
            serde(with = "tower_chassis_core::config::duration")
        )]
        max: Duration,
    },
}

impl Delay {
    pub(super) fn check(&self, longest: Duration) -> Result<(), Invalid> {
        let (field, min, max) = match *self {
            Self::Fixed(length) => ("delay.of.fixed", length, length),
            Self::Uniform { min, max } => ("delay.of.uniform.max", min, max),
            Self::Pareto { min, shape, max } => {
                if min.is_zero() {
                    return Err(Invalid::new("delay.of.pareto.min", "must be above 0"));
                }
                if !(0.1..=100.0).contains(&shape) {
                    let why = "must be from 0.1 to 100";
                    return Err(Invalid::new("delay.of.pareto.shape", why));
                }
                ("delay.of.pareto.max", min, max)
            }
        };
        if max < min {
            return Err(Invalid::new(field, "must not be below min"));
        }
        if max > longest {
            return Err(Invalid::new(field, "must be at most 1h"));
        }
        Ok(())
    }

    /// The length of the wait of a call.
    pub(crate) fn length(&self, roll: Roll) -> Duration {
        match *self {
            Self::Fixed(length) => length,
            Self::Uniform { min, max } => min + max.saturating_sub(min).mul_f64(roll.unit()),
            Self::Pareto { min, shape, max } => {
                // The inverse of its distribution, at a number above 0 and up to 1.
                let seconds = min.as_secs_f64() * roll.unit().powf(-1.0 / shape);
                Duration::try_from_secs_f64(seconds).map_or(max, |length| length.min(max))
            }
        }
    }
}

/// How a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Abort {
    /// With a status of HTTP, 400 to 599. gRPC gets the code that stands for it.
    Status(u16),
    /// With a code of gRPC, 1 to 16. HTTP gets the status that stands for it.
    Grpc(u16),
    /// As if the connection broke before there was an answer: always an error.
    Reset,
    /// Not at all: it never ends, unless the call has a deadline.
    Hang,
}

impl Abort {
    /// How outer layers are to read it.
    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Self::Status(status) => {
                let status = StatusCode::from_u16(status).unwrap_or_default();
                Verdict::http(status)
            }
            Self::Grpc(code) => Verdict::grpc(code),
            Self::Reset => Verdict::http(StatusCode::BAD_GATEWAY).with_class(Class::Unreachable),
            Self::Hang => Verdict::TIMEOUT,
        }
    }
}

/// What a rule does with a call. Empty for most.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) delay: Option<Duration>,
    pub(crate) abort: Option<Abort>,
    pub(crate) body: BodyPlan,
}

/// What happens to the body of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct BodyPlan {
    /// Bytes a second.
    pub(crate) throttle: Option<u64>,
    /// Breaks after so many bytes.
    pub(crate) truncate: Option<u64>,
}

impl BodyPlan {
    pub(crate) const fn is_none(self) -> bool {
        self.throttle.is_none() && self.truncate.is_none()
    }
}

impl Plan {
    pub(crate) const fn is_none(&self) -> bool {
        self.delay.is_none() && self.abort.is_none() && self.body.is_none()
    }
}
