#[cfg(feature = "config")]
use std::fmt;

use tower_chassis_core::live::{Invalid, Validate};

use super::{
    HashOn,
    pickers::{LARGEST_MAGLEV, MOST_POINTS, is_prime},
};
#[cfg(doc)]
use super::{
    LeastRequest, Maglev, PeakEwma, Random, Rendezvous, Ring, RoundRobin, SmoothRoundRobin,
    WeightedRandom, WeightedResponse,
};

/// The settings of a balancer, as they are written in a configuration.
#[derive(Clone, PartialEq, Debug, Default)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct BalanceConfig {
    /// How an endpoint is picked. Default `peak_ewma`.
    pub algorithm: Algorithm,
}

/// How an endpoint is picked.
///
/// In a configuration it is a word (`ring`), or a map of the word and its parameters (`{ ring: { points: 320 } }`).
#[derive(Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// The better of two drawn endpoints, by latency and calls in flight: [`PeakEwma`].
    #[default]
    PeakEwma,
    /// One after the other: [`RoundRobin`].
    RoundRobin,
    /// One after the other, as nginx mixes weights: [`SmoothRoundRobin`].
    SmoothRoundRobin,
    /// Any: [`Random`].
    Random,
    /// Any, by weight: [`WeightedRandom`].
    WeightedRandom,
    /// The fewest calls in flight, of some: [`LeastRequest`].
    LeastRequest(LeastRequestConfig),
    /// By a hash of the request, on a ring: [`Ring`].
    Ring(RingConfig),
    /// The ring of nginx: [`Ring::ketama`].
    Ketama(KetamaConfig),
    /// By a hash of the request, in a table: [`Maglev`].
    Maglev(MaglevConfig),
    /// By a hash of the request, the highest draw: [`Rendezvous`].
    Rendezvous(RendezvousConfig),
    /// The fastest most of the time: [`WeightedResponse`].
    WeightedResponse,
}

/// The parameters of [`LeastRequest`].
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct LeastRequestConfig {
    /// How many are drawn: 2 to 10. Default 2.
    pub choices: u32,
}

impl Default for LeastRequestConfig {
    fn default() -> Self {
        Self { choices: 2 }
    }
}

/// The parameters of [`Ring`].
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct RingConfig {
    /// Points for an endpoint of average weight: 1 to 65,536. Default 160.
    pub points: u32,
    /// At most so many times the share of the calls in flight, at least 1. Default: no bound.
    pub bounded: Option<f64>,
    /// What of a request is hashed. Default: the address of the client.
    pub hash_on: Vec<HashOn>,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            points: 160,
            bounded: None,
            hash_on: vec![HashOn::client()],
        }
    }
}

/// The parameters of [`Ring::ketama`].
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct KetamaConfig {
    /// At most so many times the share of the calls in flight, at least 1. Default: no bound.
    pub bounded: Option<f64>,
    /// What of a request is hashed. Default: the address of the client.
    pub hash_on: Vec<HashOn>,
}

impl Default for KetamaConfig {
    fn default() -> Self {
        Self {
            bounded: None,
            hash_on: vec![HashOn::client()],
        }
    }
}

/// The parameters of [`Maglev`].
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct MaglevConfig {
    /// The size of the table: a prime number up to 5,000,011. Default 65,537.
    pub size: u32,
    /// What of a request is hashed. Default: the address of the client.
    pub hash_on: Vec<HashOn>,
}

impl Default for MaglevConfig {
    fn default() -> Self {
        Self {
            size: 65_537,
            hash_on: vec![HashOn::client()],
        }
    }
}

/// The parameters of [`Rendezvous`].
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct RendezvousConfig {
    /// What of a request is hashed. Default: the address of the client.
    pub hash_on: Vec<HashOn>,
}

impl Default for RendezvousConfig {
    fn default() -> Self {
        Self {
            hash_on: vec![HashOn::client()],
        }
    }
}

#[cfg(feature = "config")]
const WORDS: &[&str] = &[
    "peak_ewma",
    "round_robin",
    "smooth_round_robin",
    "random",
    "weighted_random",
    "least_request",
    "ring",
    "ketama",
    "maglev",
    "rendezvous",
    "weighted_response",
];

impl Algorithm {
    #[cfg(feature = "config")]
    fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "peak_ewma" => Self::PeakEwma,
            "round_robin" => Self::RoundRobin,
            "smooth_round_robin" => Self::SmoothRoundRobin,
            "random" => Self::Random,
            "weighted_random" => Self::WeightedRandom,
            "least_request" => Self::LeastRequest(LeastRequestConfig::default()),
            "ring" => Self::Ring(RingConfig::default()),
            "ketama" => Self::Ketama(KetamaConfig::default()),
            "maglev" => Self::Maglev(MaglevConfig::default()),
            "rendezvous" => Self::Rendezvous(RendezvousConfig::default()),
            "weighted_response" => Self::WeightedResponse,
            _ => return None,
        })
    }

    /// Whether its parameters are in their ranges.
    ///
    /// # Errors
    /// The first that is not, as it is written below the algorithm: `ring.points`.
    pub fn check(&self) -> Result<(), Invalid> {
        let bounded = |word: &str, factor: Option<f64>| match factor {
            // Not a number is not at least 1 either.
            Some(factor) if !(1.0..=1e6).contains(&factor) => Err(Invalid::new(
                format!("{word}.bounded"),
                "must be at least 1",
            )),
            _ => Ok(()),
        };
        let hash_on = |word: &str, parts: &[HashOn]| {
            if parts.is_empty() {
                return Err(Invalid::new(
                    format!("{word}.hash_on"),
                    "must name what is hashed",
                ));
            }
            for (index, part) in parts.iter().enumerate() {
                part.check().map_err(|fault| {
                    Invalid::new(
                        format!("{word}.hash_on[{index}].{}", fault.field()),
                        fault.why().to_owned(),
                    )
                })?;
            }
            Ok(())
        };
        match self {
            Self::LeastRequest(config) if !(2..=10).contains(&config.choices) => {
                Err(Invalid::new("least_request.choices", "must be 2 to 10"))
            }
            Self::Ring(config) => {
                if !(1..=MOST_POINTS).contains(&config.points) {
                    return Err(Invalid::new("ring.points", "must be 1 to 65536"));
                }
                bounded("ring", config.bounded)?;
                hash_on("ring", &config.hash_on)
            }
            Self::Ketama(config) => {
                bounded("ketama", config.bounded)?;
                hash_on("ketama", &config.hash_on)
            }
            Self::Maglev(config) => {
                if config.size > LARGEST_MAGLEV || !is_prime(config.size) {
                    return Err(Invalid::new(
                        "maglev.size",
                        "must be a prime number up to 5000011, such as 65537",
                    ));
                }
                hash_on("maglev", &config.hash_on)
            }
            Self::Rendezvous(config) => hash_on("rendezvous", &config.hash_on),
            _ => Ok(()),
        }
    }
}

#[cfg(feature = "config")]
impl<'de> serde::Deserialize<'de> for Algorithm {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AlgorithmVisitor)
    }
}

#[cfg(feature = "config")]
struct AlgorithmVisitor;

#[cfg(feature = "config")]
impl<'de> serde::de::Visitor<'de> for AlgorithmVisitor {
    type Value = Algorithm;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an algorithm such as ring, or a map such as { ring: { points: 320 } }")
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Algorithm, E> {
        Algorithm::of_word(word).ok_or_else(|| E::unknown_variant(word, WORDS))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Algorithm, A::Error> {
        use serde::de::Error;

        let word: String = map.next_key()?.ok_or_else(|| {
            A::Error::custom("must name an algorithm, such as { ring: { points: 320 } }")
        })?;
        let algorithm = match &*word {
            "least_request" => Algorithm::LeastRequest(map.next_value()?),
            "ring" => Algorithm::Ring(map.next_value()?),
            "ketama" => Algorithm::Ketama(map.next_value()?),
            "maglev" => Algorithm::Maglev(map.next_value()?),
            "rendezvous" => Algorithm::Rendezvous(map.next_value()?),
            word => match Algorithm::of_word(word) {
                Some(algorithm) => {
                    let Nothing {} = map.next_value()?;
                    algorithm
                }
                None => return Err(A::Error::unknown_field(word, WORDS)),
            },
        };
        match map.next_key::<String>()? {
            Some(_) => Err(A::Error::custom("must name one algorithm")),
            None => Ok(algorithm),
        }
    }
}

/// The parameters of an algorithm that has none.
#[cfg(feature = "config")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Settings of a balancer that have been checked.
///
/// ```
/// use tower_chassis_resilience::balance::{Algorithm, BalanceConfig, BalancePolicy};
///
/// let policy = BalancePolicy::try_from(BalanceConfig { algorithm: Algorithm::RoundRobin })?;
/// assert_eq!(policy.config().algorithm, Algorithm::RoundRobin);
/// # Ok::<(), tower_chassis_core::live::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct BalancePolicy(BalanceConfig);

impl BalancePolicy {
    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &BalanceConfig {
        &self.0
    }
}

impl TryFrom<BalanceConfig> for BalancePolicy {
    type Error = Invalid;

    fn try_from(config: BalanceConfig) -> Result<Self, Invalid> {
        config.algorithm.check().map_err(|fault| {
            Invalid::new(
                format!("algorithm.{}", fault.field()),
                fault.why().to_owned(),
            )
        })?;
        Ok(Self(config))
    }
}

impl Validate for BalancePolicy {}
