//! Who sends.

use opentelemetry_proto::tonic::resource::v1::Resource;

use super::{config::OtlpConfig, message::pair};

pub(super) fn resource(config: &OtlpConfig) -> Resource {
    let name = config.service_name.clone().unwrap_or_else(unknown);
    let mut attributes = vec![
        pair("service.name", &name),
        pair("telemetry.sdk.language", "rust"),
        pair("telemetry.sdk.name", "tower-chassis"),
        pair("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    if let Some(version) = &config.service_version {
        attributes.push(pair("service.version", version));
    }
    if !config.resource.contains_key("service.instance.id") {
        attributes.push(pair("service.instance.id", &instance()));
    }
    for (name, value) in &config.resource {
        // A name is there once; those of the settings win over what was found out.
        match attributes.iter_mut().find(|known| known.key == *name) {
            Some(known) if name != "service.name" => *known = pair(name, value),
            Some(_) => {}
            None => attributes.push(pair(name, value)),
        }
    }
    Resource {
        attributes,
        ..Default::default()
    }
}

fn unknown() -> String {
    let executable = std::env::current_exe().ok();
    let name = executable.as_deref().and_then(|path| path.file_name());
    match name.and_then(|name| name.to_str()) {
        Some(name) => format!("unknown_service:{name}"),
        None => "unknown_service".to_owned(),
    }
}

/// A random UUID (RFC 9562, version 4): another one after each start.
fn instance() -> String {
    let id = fastrand::u128(..);
    let id = id & !(0xf << 76) | 4 << 76;
    let id = id & !(0b11 << 62) | 0b10 << 62;
    let hex = format!("{id:032x}");
    let (a, b, c, d, e) = (
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    );
    format!("{a}-{b}-{c}-{d}-{e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_uuid() {
        let id = instance();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
        assert_ne!(id, instance());
    }
}
