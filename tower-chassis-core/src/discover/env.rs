use std::{
    ffi::{OsStr, OsString},
    fmt,
};

use tokio::sync::watch;

use super::{Board, Discover, Snapshot};
use crate::{
    Endpoint,
    config::{Fault, Faults, Origin, Source},
};

/// Endpoints that variables of the environment name, read once.
///
/// ```text
/// CHASSIS__ENDPOINTS__SHOP=http://10.0.0.1:80;weight=2;zone=a;version=v2, http://10.0.0.2:80;priority=1
/// ```
///
/// The name of the service is the rest of the variable's name in lower case, with `-` for `_`. Endpoints are parted
/// by commas; what follows an address, parted by semicolons, is its `id`, `weight`, `priority`, `zone`, `region` or
/// `hash_key`, and anything else is a tag. An empty variable is a service without endpoints.
#[derive(Clone)]
pub struct EnvDiscover(Board);

impl EnvDiscover {
    /// Reads the variables whose names begin with `prefix`, say `CHASSIS__ENDPOINTS__`.
    ///
    /// # Errors
    /// All faults of all variables.
    pub fn new<K: AsRef<OsStr>, V: Into<OsString>>(
        prefix: &str,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Faults> {
        let board = Board::new(Snapshot::unknown());
        let mut faults = Vec::new();
        let mut seen = std::collections::BTreeMap::new();
        for (variable, value) in vars {
            let Some(variable) = variable.as_ref().to_str() else {
                continue;
            };
            let Some(rest) = variable.strip_prefix(prefix) else {
                continue;
            };
            let name = rest.to_lowercase().replace('_', "-");
            let mut fault = |why: String| {
                let origin = Origin::new(Source::env(variable));
                faults.push(Fault::new(origin, &*name, why));
            };
            if name.is_empty() {
                fault("names no service".to_owned());
                continue;
            }
            let Ok(text) = value.into().into_string() else {
                fault("not UTF-8".to_owned());
                continue;
            };
            if let Some(other) = seen.insert(name.clone(), variable.to_owned()) {
                fault(format!("is the same service as {other}"));
                continue;
            }
            let mut endpoints = Vec::new();
            for (index, text) in text.split(',').map(str::trim).enumerate() {
                match endpoint(text) {
                    _ if text.is_empty() => {}
                    Ok(endpoint) => endpoints.push(endpoint),
                    Err(why) => fault(format!("endpoint {}: {why}", index + 1)),
                }
            }
            board.set(&name, Snapshot::sure(endpoints));
        }
        faults.into_iter().collect::<Faults>().into_result()?;
        Ok(Self(board))
    }

    /// [`new`](Self::new) with the environment of this process as it is now.
    ///
    /// # Errors
    /// All faults of all variables.
    pub fn std(prefix: &str) -> Result<Self, Faults> {
        Self::new(prefix, std::env::vars_os())
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let mut parts = text.split(';').map(str::trim);
    let address = parts.next().unwrap_or_default();
    let mut endpoint =
        Endpoint::new(address).map_err(|invalid| format!("the address {}", invalid.why()))?;
    let mut tags = Vec::new();
    for part in parts.filter(|part| !part.is_empty()) {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| format!("{part:?} must be key=value"))?;
        let (key, value) = (key.trim(), value.trim());
        let number = || {
            let why = |_| format!("{key} must be a whole number, is {value:?}");
            value.parse::<u32>().map_err(why)
        };
        endpoint = match key {
            "id" => endpoint.with_id(value),
            "weight" => endpoint.with_weight(number()?),
            "priority" => endpoint.with_priority(number()?),
            "zone" => endpoint.with_zone(value),
            "region" => endpoint.with_region(value),
            "hash_key" => endpoint.with_hash_key(value),
            "" => return Err(format!("{part:?} must be key=value")),
            _ => {
                tags.push((key, value));
                endpoint
            }
        };
    }
    Ok(endpoint.with_tags(tags))
}

impl Discover for EnvDiscover {
    fn watch(&self, service: &str) -> watch::Receiver<Snapshot> {
        self.0.watch(service)
    }
}

impl fmt::Debug for EnvDiscover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EnvDiscover").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "CHASSIS__ENDPOINTS__";

    #[test]
    fn variables_name_endpoints() {
        let text = "http://10.0.0.1:80;weight=2; zone=a;region=r;version=v2 , http://10.0.0.2:80;id=b;priority=1;hash_key=k,";
        let vars = [
            ("CHASSIS__ENDPOINTS__MY_SHOP", text),
            ("CHASSIS__ENDPOINTS__CART", ""),
            ("CHASSIS__SERVER", "no address"),
        ];
        let source = EnvDiscover::new(PREFIX, vars).unwrap();
        let endpoint = |address| Endpoint::new(address).unwrap();
        let first = endpoint("http://10.0.0.1:80")
            .with_weight(2)
            .with_zone("a")
            .with_region("r")
            .with_tags([("version", "v2")]);
        let second = endpoint("http://10.0.0.2:80")
            .with_id("b")
            .with_priority(1)
            .with_hash_key("k");
        assert_eq!(
            *source.watch("my-shop").borrow(),
            Snapshot::sure([first, second])
        );
        assert_eq!(*source.watch("cart").borrow(), Snapshot::sure([]));
        assert_eq!(*source.watch("server").borrow(), Snapshot::unknown());
    }

    #[test]
    fn all_faults_are_told_with_their_variables() {
        let vars = [
            (
                "CHASSIS__ENDPOINTS__SHOP",
                "nowhere, http://a:1;weight=-1, http://u:secret@a:1, http://a:1;zone",
            ),
            ("CHASSIS__ENDPOINTS__A_B", "http://a:1"),
            ("CHASSIS__ENDPOINTS__a_b", "http://a:1"),
            ("CHASSIS__ENDPOINTS__", "http://a:1"),
        ];
        let faults = EnvDiscover::new(PREFIX, vars).unwrap_err();
        let text = faults.to_string();
        assert_eq!(faults.len(), 6, "{text}");
        for part in [
            "endpoint 1: the address must be scheme://host:port",
            "endpoint 2: weight must be a whole number, is \"-1\"",
            "endpoint 3: the address must not carry a user",
            "endpoint 4: \"zone\" must be key=value",
            "is the same service as CHASSIS__ENDPOINTS__A_B",
            "names no service",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("secret"), "{text}");
    }
}
