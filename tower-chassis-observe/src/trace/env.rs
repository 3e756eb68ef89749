//! OpenTelemetry's environment variables of sampling.

use tower_chassis_core::live::Invalid;

use super::TraceConfig;

const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";

impl TraceConfig {
    /// Takes what OpenTelemetry's environment variables say of sampling; what they do not say stays as it is.
    ///
    /// | `OTEL_TRACES_SAMPLER` | |
    /// |---|---|
    /// | `parentbased_always_on` | no `ratio`: all |
    /// | `parentbased_always_off` | `ratio` 0 |
    /// | `parentbased_traceidratio` | `ratio` as `OTEL_TRACES_SAMPLER_ARG` says, 1 if it does not |
    ///
    /// ```
    /// use tower_chassis_observe::trace::{TraceConfig, TraceLayer, TracePolicy};
    ///
    /// let policy = TracePolicy::try_from(TraceConfig::default().read_env()?)?;
    /// let layer = TraceLayer::new().policy(policy);
    /// # drop(layer);
    /// # Ok::<(), tower_chassis_core::live::Invalid>(())
    /// ```
    ///
    /// # Errors
    /// Another value, named by its variable. Those samplers that do not ask what the caller decided are said to the
    /// layer: [`sampler`](super::TraceLayer::sampler) with [`AlwaysOn`](super::AlwaysOn), [`AlwaysOff`](super::AlwaysOff).
    pub fn read_env(self) -> Result<Self, Invalid> {
        self.read_vars(|name| std::env::var(name).ok())
    }

    /// The same, of variables of one's own.
    ///
    /// # Errors
    /// As [`read_env`](Self::read_env).
    pub fn read_vars(mut self, get: impl Fn(&str) -> Option<String>) -> Result<Self, Invalid> {
        // One that is empty is as one that is not there.
        let text = |name| get(name).filter(|value| !value.trim().is_empty());
        let Some(sampler) = text(SAMPLER) else {
            return Ok(self);
        };
        self.ratio = match sampler.trim() {
            "parentbased_always_on" => None,
            "parentbased_always_off" => Some(0.0),
            "parentbased_traceidratio" => {
                let ratio = text(ARGUMENT).map_or(Ok(1.0), |ratio| ratio.trim().parse());
                let ratio = ratio.ok().filter(|ratio| (0.0..=1.0).contains(ratio));
                Some(ratio.ok_or_else(|| Invalid::new(ARGUMENT, "must be from 0 to 1"))?)
            }
            _ => {
                let why = "must be parentbased_always_on, parentbased_always_off or parentbased_traceidratio; \
                           others are said to the layer";
                return Err(Invalid::new(SAMPLER, why));
            }
        };
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sampler: &str, argument: &str) -> Result<Option<f64>, String> {
        let before = TraceConfig {
            ratio: Some(0.5),
            ..TraceConfig::default()
        };
        let get = |name: &str| match name {
            SAMPLER => Some(sampler.to_owned()),
            ARGUMENT => Some(argument.to_owned()),
            _ => None,
        };
        let read = before.read_vars(get);
        read.map(|read| read.ratio)
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_is_said_is_taken_and_nothing_else() {
        for (sampler, argument, ratio) in [
            ("", "0.1", Some(0.5)),
            ("parentbased_always_on", "0.1", None),
            ("parentbased_always_off", "", Some(0.0)),
            (" parentbased_traceidratio ", " 0.1 ", Some(0.1)),
            ("parentbased_traceidratio", "", Some(1.0)),
            ("parentbased_traceidratio", "1e-3", Some(0.001)),
        ] {
            assert_eq!(read(sampler, argument), Ok(ratio), "{sampler} {argument}");
        }
        for wrong in ["1.1", "-0.1", "NaN", "inf", "10%"] {
            let fault = read("parentbased_traceidratio", wrong).unwrap_err();
            assert!(fault.starts_with(ARGUMENT), "{fault}");
        }
        for other in ["always_on", "traceidratio", "jaeger_remote", "geheim"] {
            let fault = read(other, "").unwrap_err();
            assert!(
                fault.starts_with(SAMPLER) && !fault.contains("geheim"),
                "{fault}"
            );
        }
    }
}
