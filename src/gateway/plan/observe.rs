//! What is logged, traced and sent, and who may have a profile.

use std::{collections::BTreeMap, path::Path};

use tower_chassis_core::config::{Checker, Secret, Tree};
use tower_chassis_observe::{
    access_log::{AccessLogConfig, AccessLogPolicy, Format, Template},
    log::{LogConfig, LogOutput, LogPolicy},
    otlp::{OtlpConfig, OtlpPolicy},
    output::{RollingConfig, RollingPolicy},
    trace::TracePolicy,
};

use super::valid;
use crate::gateway::model::{AccessModel, LogModel, Model, ProfilerModel};

/// What of the file is for whoever looks at the gateway.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct ObservePlan {
    pub(in crate::gateway) log: LogPlan,
    pub(in crate::gateway) access: AccessPlan,
    pub(in crate::gateway) trace: TracePolicy,
    pub(in crate::gateway) otlp: Option<OtlpPolicy>,
    #[cfg_attr(
        not(feature = "profile"),
        expect(dead_code, reason = "a file that asks for it is refused")
    )]
    pub(in crate::gateway) profiler: Option<ProfilerPlan>,
}

#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct LogPlan {
    pub(in crate::gateway) level: LogPolicy,
    pub(in crate::gateway) config: LogConfig,
    pub(in crate::gateway) target: Target,
}

#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct AccessPlan {
    pub(in crate::gateway) format: Format,
    pub(in crate::gateway) template: Template,
    pub(in crate::gateway) policy: AccessLogPolicy,
    pub(in crate::gateway) target: Target,
}

/// Where lines go.
#[derive(Clone, PartialEq, Debug, Default)]
pub(in crate::gateway) enum Target {
    #[default]
    Stderr,
    Stdout,
    File(RollingPolicy),
}

/// Whom the profiler lets in.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(feature = "profile"),
    expect(dead_code, reason = "a file that asks for it is refused")
)]
pub(in crate::gateway) enum ProfilerPlan {
    Loopback,
    Token(Secret),
}

pub(super) fn observe_plan(
    check: &mut Checker<'_>,
    tree: &Tree,
    model: &Model,
) -> Option<ObservePlan> {
    let log = log(check, &model.log);
    let access = access(check, tree, &model.log.access);
    if let (Some(log), Some(access)) = (&log, &access)
        && let (Target::File(of_log), Target::File(of_access)) = (&log.target, &access.target)
        && of_log.config().path == of_access.config().path
    {
        // Each would roll it away from under the other.
        check.fault(
            "log.access.file.path",
            "is that of log.file too; a file is for one of them",
        );
    }
    let mut trace = model.trace.clone();
    if model.otlp.is_some() {
        // As the rest of what OpenTelemetry's variables say: for whoever sends spans, and over the file.
        match trace.clone().read_env() {
            Ok(read) => trace = read,
            Err(invalid) => check.fault("trace", invalid.to_string()),
        }
    }
    let trace = valid(check, "trace", TracePolicy::try_from(trace));
    let otlp = model.otlp.as_ref().map(|config| otlp(check, config));
    let profiler = model
        .admin
        .profiler
        .as_ref()
        .map(|model| profiler(check, model));
    Some(ObservePlan {
        log: log?,
        access: access?,
        trace: trace?,
        // What is faulty is told, and nothing of the plan is used.
        otlp: otlp.flatten(),
        profiler: profiler.flatten(),
    })
}

fn log(check: &mut Checker<'_>, model: &LogModel) -> Option<LogPlan> {
    let level = valid(check, "log", LogPolicy::new(&model.level)).and_then(|level| {
        // Their fields are formatted on every request, and the access log has the trace already.
        if model.spans || model.level.contains("tower_chassis::trace") {
            return Some(level);
        }
        LogPolicy::new(format!("tower_chassis::trace=off,{}", model.level)).ok()
    });
    let target = target(check, "log.file", model.output, model.file.clone());
    Some(LogPlan {
        level: level?,
        config: LogConfig {
            format: model.format,
            color: model.color,
            spans: model.spans,
            ..LogConfig::default()
        },
        target: target?,
    })
}

fn access(check: &mut Checker<'_>, tree: &Tree, model: &AccessModel) -> Option<AccessPlan> {
    let mut config = AccessLogConfig::default();
    (config.successes, config.slow) = (model.successes, model.slow);
    (config.level, config.skip) = (model.level, model.skip.clone());
    let policy = valid(check, "log.access", AccessLogPolicy::try_from(config));
    let template = match &model.template {
        Some(text) => Template::parse(text)
            .map_err(|fault| check.fault("log.access.template", fault.to_string()))
            .ok(),
        None => {
            if model.format == Format::Template {
                check.fault("log.access.format", "needs a `template`");
            }
            Some(Template::default())
        }
    };
    let mut file = model.file.clone();
    if tree.get("log.access.file.path").is_none() {
        file.path = Path::new("log").join("access.log");
    }
    let target = target(check, "log.access.file", model.output, file);
    Some(AccessPlan {
        format: model.format,
        template: template?,
        policy: policy?,
        target: target?,
    })
}

fn target(
    check: &mut Checker<'_>,
    path: &str,
    output: LogOutput,
    file: RollingConfig,
) -> Option<Target> {
    // Also what is not used must be right: it may be tomorrow.
    let file = valid(check, path, RollingPolicy::try_from(file))?;
    Some(match output {
        LogOutput::Stdout => Target::Stdout,
        LogOutput::File => Target::File(file),
        _ => Target::Stderr,
    })
}

fn otlp(check: &mut Checker<'_>, config: &OtlpConfig) -> Option<OtlpPolicy> {
    let mut config = config.clone();
    for (place, headers) in [
        ("otlp.headers", &mut config.headers),
        ("otlp.traces.headers", &mut config.traces.headers),
        ("otlp.metrics.headers", &mut config.metrics.headers),
    ] {
        resolve(check, place, headers);
    }
    let config = config
        .read_env()
        .map_err(|invalid| check.fault("otlp", invalid.to_string()))
        .ok()?;
    for (place, endpoint) in [
        ("otlp.endpoint", &config.endpoint),
        ("otlp.traces.endpoint", &config.traces.endpoint),
        ("otlp.metrics.endpoint", &config.metrics.endpoint),
    ] {
        let https = endpoint
            .as_ref()
            .is_some_and(|endpoint| endpoint.starts_with("https:"));
        if https && cfg!(not(feature = "tls")) {
            check.fault(
                place,
                "https needs the feature `tls`, which this build has not",
            );
        }
    }
    let mut config = config;
    config
        .service_name
        .get_or_insert_with(|| "tower-chassis-gateway".to_owned());
    config
        .service_version
        .get_or_insert_with(|| env!("CARGO_PKG_VERSION").to_owned());
    valid(check, "otlp", OtlpPolicy::try_from(config))
}

/// Gets what `${file:…}` and `${env:…}` stand for.
fn resolve(check: &mut Checker<'_>, place: &str, headers: &mut BTreeMap<String, String>) {
    for (name, value) in headers {
        match Secret::new(value.as_str()).resolve() {
            Ok(secret) => secret.expose().clone_into(value),
            Err(error) => check.fault(&format!("{place}.{name}"), error.to_string()),
        }
    }
}

fn profiler(check: &mut Checker<'_>, model: &ProfilerModel) -> Option<ProfilerPlan> {
    const PLACE: &str = "admin.profiler";
    if cfg!(not(feature = "profile")) {
        check.fault(
            PLACE,
            "needs the feature `profile`, which this build has not",
        );
    }
    match (model.loopback, &model.token) {
        (true, None) => Some(ProfilerPlan::Loopback),
        (false, Some(token)) => match token.resolve() {
            Ok(token) if token.expose().is_empty() => {
                check.fault("admin.profiler.token", "must not be empty");
                None
            }
            Ok(token) => Some(ProfilerPlan::Token(token)),
            Err(error) => {
                check.fault("admin.profiler.token", error.to_string());
                None
            }
        },
        (true, Some(_)) => {
            check.fault(PLACE, "must have `loopback: true` or a `token`, not both");
            None
        }
        (false, None) => {
            check.fault(
                PLACE,
                "must say who may have a profile: `loopback: true` or a `token`",
            );
            None
        }
    }
}
