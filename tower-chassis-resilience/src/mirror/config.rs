use std::time::Duration;

use tower_chassis_core::live::{Invalid, Validate};

use crate::dice::MILLION;

/// The longest time that a copy may have.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The settings of a mirror, as they are written in a configuration.
///
/// Plain values; [`MirrorPolicy::try_from`] checks them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct MirrorConfig {
    /// The share of calls that are copied, in parts per million. Default 0: none.
    pub ppm: u32,
    /// How many copies may be made or under way at once, 1 to 1,000,000; those above are dropped. Default 1,024.
    pub max_in_flight: u32,
    /// How long a copy may take, from 1 ms to 1 h, whatever deadline its call has. Default 5 s.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::duration")
    )]
    pub timeout: Duration,
    /// The longest body of a request that is copied; a call with a longer one is not. Default 64 KiB.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::byte_size")
    )]
    pub body_limit: usize,
    /// How much of the body of an answer to a copy is read before it is dropped, so that connections can be used
    /// again. Default 64 KiB.
    #[cfg_attr(
        feature = "config",
        serde(with = "tower_chassis_core::config::byte_size")
    )]
    pub drain_limit: usize,
    /// Put after the name of the host, as in `-shadow`. Addresses stay as they are. Default: nothing.
    pub host_suffix: String,
    /// Drops the copy when the call itself is dropped. Default false.
    pub cancel_with_primary: bool,
    /// Another seed is another choice of calls. Default 0.
    pub seed: u64,
}

impl Default for MirrorConfig {
    fn default() -> Self {
        Self {
            ppm: 0,
            max_in_flight: 1_024,
            timeout: Duration::from_secs(5),
            body_limit: 64 * 1024,
            drain_limit: 64 * 1024,
            host_suffix: String::new(),
            cancel_with_primary: false,
            seed: 0,
        }
    }
}

/// A valid [`MirrorConfig`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MirrorPolicy(MirrorConfig);

impl MirrorPolicy {
    /// Copies this share of the calls, in parts per million.
    ///
    /// # Errors
    /// `ppm` is above 1,000,000.
    pub fn new(ppm: u32) -> Result<Self, Invalid> {
        MirrorConfig {
            ppm,
            ..MirrorConfig::default()
        }
        .try_into()
    }

    /// The settings as they are written in a configuration.
    #[must_use]
    pub const fn config(&self) -> &MirrorConfig {
        &self.0
    }

    /// These settings with a change.
    ///
    /// # Errors
    /// The first field that the change put out of its range.
    pub fn with(mut self, change: impl FnOnce(&mut MirrorConfig)) -> Result<Self, Invalid> {
        change(&mut self.0);
        self.validate()?;
        Ok(self)
    }

    /// Unchecked: only inside [`Live::update`](tower_chassis_core::Live::update), which validates.
    pub(super) const fn config_mut(&mut self) -> &mut MirrorConfig {
        &mut self.0
    }
}

impl TryFrom<MirrorConfig> for MirrorPolicy {
    type Error = Invalid;

    fn try_from(config: MirrorConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<MirrorPolicy> for MirrorConfig {
    fn from(policy: MirrorPolicy) -> Self {
        policy.0
    }
}

impl Validate for MirrorPolicy {
    fn validate(&self) -> Result<(), Invalid> {
        let config = &self.0;
        if config.ppm > MILLION {
            return Err(Invalid::new("ppm", "must be at most 1000000"));
        }
        if !(1..=MILLION).contains(&config.max_in_flight) {
            return Err(Invalid::new("max_in_flight", "must be from 1 to 1000000"));
        }
        if !(Duration::from_millis(1)..=HOUR).contains(&config.timeout) {
            return Err(Invalid::new("timeout", "must be from 1ms to 1h"));
        }
        let of_a_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        if !config.host_suffix.bytes().all(of_a_host) {
            return Err(Invalid::new(
                "host_suffix",
                "must be letters, digits, `-` and `.`",
            ));
        }
        Ok(())
    }
}
