//! The environment variables of OpenTelemetry.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use tower_chassis_core::live::Invalid;

use super::config::{Compression, OtlpConfig, Protocol, SignalConfig};

type Get<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(super) fn read(mut config: OtlpConfig, get: Get<'_>) -> Result<OtlpConfig, Invalid> {
    if let Some(disabled) = parsed(get, "OTEL_SDK_DISABLED", boolean)? {
        config.disabled = disabled;
    }
    let of = |name: &str| format!("OTEL_EXPORTER_OTLP_{name}");
    take(
        &mut config.protocol,
        parsed(get, &of("PROTOCOL"), protocol)?,
    );
    take(&mut config.headers, parsed(get, &of("HEADERS"), pairs)?);
    take(&mut config.timeout, parsed(get, &of("TIMEOUT"), millis)?);
    take(
        &mut config.compression,
        parsed(get, &of("COMPRESSION"), compression)?,
    );
    config.endpoint = text(get, &of("ENDPOINT")).or(config.endpoint);
    // What would be read wrongly by who asks for another.
    for (name, read) in [
        (
            "METRICS_TEMPORALITY_PREFERENCE",
            temporality as fn(&str) -> _,
        ),
        ("METRICS_DEFAULT_HISTOGRAM_AGGREGATION", aggregation),
    ] {
        parsed(get, &of(name), read)?;
    }
    signal(&mut config.traces, get, "TRACES")?;
    signal(&mut config.metrics, get, "METRICS")?;

    if let Some(mut more) = parsed(get, "OTEL_RESOURCE_ATTRIBUTES", pairs)? {
        config.service_name = more.remove("service.name").or(config.service_name);
        config.service_version = more.remove("service.version").or(config.service_version);
        config.resource.extend(more);
    }
    config.service_name = text(get, "OTEL_SERVICE_NAME").or(config.service_name);

    take(
        &mut config.every,
        parsed(get, "OTEL_BSP_SCHEDULE_DELAY", millis)?,
    );
    take(
        &mut config.queue,
        parsed(get, "OTEL_BSP_MAX_QUEUE_SIZE", number)?,
    );
    let batch = parsed(get, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", number)?;
    // A queue that was made smaller than a batch is no reason to refuse: nobody has said how large a batch is.
    config.batch = batch.unwrap_or(config.batch.min(config.queue));
    take(
        &mut config.metrics_every,
        parsed(get, "OTEL_METRIC_EXPORT_INTERVAL", millis)?,
    );
    // The time for a whole export; the shorter one of the two holds.
    let general = config.timeout;
    for (signal, name) in [
        (&mut config.traces, "OTEL_BSP_EXPORT_TIMEOUT"),
        (&mut config.metrics, "OTEL_METRIC_EXPORT_TIMEOUT"),
    ] {
        if let Some(most) = parsed(get, name, millis)? {
            signal.timeout = Some(signal.timeout.unwrap_or(general).min(most));
        }
    }
    Ok(config)
}

fn signal(signal: &mut SignalConfig, get: Get<'_>, name: &str) -> Result<(), Invalid> {
    if let Some(on) = parsed(get, &format!("OTEL_{name}_EXPORTER"), exporter)? {
        signal.disabled = !on;
    }
    let of = |what: &str| format!("OTEL_EXPORTER_OTLP_{name}_{what}");
    signal.endpoint = text(get, &of("ENDPOINT")).or(signal.endpoint.take());
    take(&mut signal.headers, parsed(get, &of("HEADERS"), pairs)?);
    signal.protocol = parsed(get, &of("PROTOCOL"), protocol)?.or(signal.protocol);
    signal.timeout = parsed(get, &of("TIMEOUT"), millis)?.or(signal.timeout);
    signal.compression = parsed(get, &of("COMPRESSION"), compression)?.or(signal.compression);
    Ok(())
}

fn take<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// One that is empty is as one that is not there.
fn text(get: Get<'_>, name: &str) -> Option<String> {
    get(name)
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}

fn parsed<T>(
    get: Get<'_>,
    name: &str,
    read: fn(&str) -> Result<T, &'static str>,
) -> Result<Option<T>, Invalid> {
    match text(get, name) {
        None => Ok(None),
        Some(value) => match read(&value) {
            Ok(value) => Ok(Some(value)),
            Err(why) => Err(Invalid::new(name.to_owned(), why)),
        },
    }
}

fn boolean(value: &str) -> Result<bool, &'static str> {
    match () {
        () if value.eq_ignore_ascii_case("true") => Ok(true),
        () if value.eq_ignore_ascii_case("false") => Ok(false),
        () => Err("must be true or false"),
    }
}

fn protocol(value: &str) -> Result<Protocol, &'static str> {
    match value {
        "grpc" => Ok(Protocol::Grpc),
        "http/protobuf" => Ok(Protocol::HttpProtobuf),
        _ => Err("must be grpc or http/protobuf"),
    }
}

fn compression(value: &str) -> Result<Compression, &'static str> {
    match value {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        _ => Err("must be none or gzip"),
    }
}

fn temporality(value: &str) -> Result<(), &'static str> {
    let cumulative = value.eq_ignore_ascii_case("cumulative");
    cumulative.then_some(()).ok_or("can only be cumulative")
}

fn aggregation(value: &str) -> Result<(), &'static str> {
    let explicit = value.eq_ignore_ascii_case("explicit_bucket_histogram");
    explicit
        .then_some(())
        .ok_or("can only be explicit_bucket_histogram")
}

fn exporter(value: &str) -> Result<bool, &'static str> {
    match value {
        "otlp" => Ok(true),
        "none" => Ok(false),
        _ => Err("must be otlp or none"),
    }
}

fn millis(value: &str) -> Result<Duration, &'static str> {
    let value = u64::from_str(value).map_err(|_| "must be a number of milliseconds")?;
    Ok(Duration::from_millis(value))
}

fn number(value: &str) -> Result<u32, &'static str> {
    u32::from_str(value).map_err(|_| "must be a whole number")
}

/// `a=1,b=two%20words`, as in a baggage.
fn pairs(value: &str) -> Result<BTreeMap<String, String>, &'static str> {
    let mut all = BTreeMap::new();
    for pair in value.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or("must be name=value, name=value")?;
        let name = decoded(name.trim())?;
        if name.is_empty() {
            return Err("has a value without a name");
        }
        all.insert(name, decoded(value.trim())?);
    }
    Ok(all)
}

fn decoded(text: &str) -> Result<String, &'static str> {
    const WHY: &str = "is not percent-encoded as it should be";
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(WHY);
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let (high, low) = bytes.next().zip(bytes.next()).ok_or(WHY)?;
                (digit(high)? << 4 | digit(low)?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(out).map_err(|_| WHY)
}
