use tower_chassis_core::live::{Invalid, Validate};

/// The most keys that are accepted.
const MOST: usize = 1_000_000;

/// What a configuration says of coalescing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct CoalesceConfig {
    /// Whether calls are shared. True by default; false makes each call for itself.
    pub enabled: bool,
    /// How many keys may be in flight at once, 1 to 1,000,000. Default 10,000. Over it calls are made each for
    /// itself.
    pub max_keys: usize,
}

impl Default for CoalesceConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            max_keys: 10_000,
        }
    }
}

/// A valid [`CoalesceConfig`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CoalescePolicy(CoalesceConfig);

impl CoalescePolicy {
    /// What it says, to be changed and tried again.
    #[must_use]
    pub const fn config(&self) -> &CoalesceConfig {
        &self.0
    }

    /// Unchecked: only inside [`Live::update`](tower_chassis_core::Live::update), which validates.
    pub(super) const fn config_mut(&mut self) -> &mut CoalesceConfig {
        &mut self.0
    }
}

impl TryFrom<CoalesceConfig> for CoalescePolicy {
    type Error = Invalid;

    fn try_from(config: CoalesceConfig) -> Result<Self, Invalid> {
        let policy = Self(config);
        policy.validate()?;
        Ok(policy)
    }
}

impl From<CoalescePolicy> for CoalesceConfig {
    fn from(policy: CoalescePolicy) -> Self {
        policy.0
    }
}

impl Validate for CoalescePolicy {
    fn validate(&self) -> Result<(), Invalid> {
        if (1..=MOST).contains(&self.0.max_keys) {
            Ok(())
        } else {
            Err(Invalid::new("max_keys", "must be from 1 to 1000000"))
        }
    }
}
