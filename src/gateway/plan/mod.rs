//! From the file to what can go live: everything is checked, and every fault is named with its place.

mod doubtful;
mod observe;
mod routes;
mod service;

use std::collections::BTreeMap;

use http::Method;
use tower_chassis_core::{
    Endpoint,
    client::ClientPolicy,
    config::{Checker, Faults, Tree, Value},
    live::Invalid,
    server::ServerPolicy,
};
use tower_chassis_resilience::{
    balance::BalancePolicy, breaker::BreakerPolicy, rate_limit::RateLimitPolicy,
    retry::RetryPolicy, timeout::TimeoutPolicy,
};
use tower_chassis_router::rules::TrafficPolicy;

#[cfg(feature = "profile")]
pub(in crate::gateway) use self::observe::ProfilerPlan;
pub(in crate::gateway) use self::observe::{ObservePlan, Target};
use self::{doubtful::Doubtful, observe::observe_plan, routes::routes, service::service_plan};
use super::model::Model;

/// A checked file.
#[derive(Debug)]
pub(in crate::gateway) struct Plan {
    pub(in crate::gateway) model: Model,
    pub(in crate::gateway) server: ServerPolicy,
    pub(in crate::gateway) observe: ObservePlan,
    pub(in crate::gateway) services: BTreeMap<String, ServicePlan>,
    pub(in crate::gateway) routes: Vec<RoutePlan>,
}

#[derive(Debug)]
pub(in crate::gateway) struct ServicePlan {
    pub(in crate::gateway) endpoints: Vec<Endpoint>,
    pub(in crate::gateway) balance: BalancePolicy,
    pub(in crate::gateway) breaker: BreakerPolicy,
    pub(in crate::gateway) retry: RetryPolicy,
    pub(in crate::gateway) per_try: TimeoutPolicy,
    pub(in crate::gateway) total: TimeoutPolicy,
    pub(in crate::gateway) traffic: TrafficPolicy,
    pub(in crate::gateway) client: ClientPolicy,
    pub(in crate::gateway) rewrite_host: bool,
}

#[derive(Debug)]
pub(in crate::gateway) struct RoutePlan {
    pub(in crate::gateway) name: String,
    pub(in crate::gateway) path: String,
    pub(in crate::gateway) methods: Vec<Method>,
    pub(in crate::gateway) service: String,
    pub(in crate::gateway) rate_limit: Option<RateLimitPolicy>,
}

impl Plan {
    /// Checks a file.
    pub(in crate::gateway) fn of(tree: &Tree) -> Result<Self, Faults> {
        let (model, faults) = tree.deserialize_partly::<Model>();
        let Some(model) = model else {
            return Err(faults);
        };
        let mut check = tree.check();
        listen(&mut check, tree, "gateway.listen", &model.gateway.listen);
        listen(&mut check, tree, "admin.listen", &model.admin.listen);
        let server = valid(
            &mut check,
            "server",
            ServerPolicy::try_from(model.server.clone()),
        );
        let observe = observe_plan(&mut check, tree, &model);
        let services: BTreeMap<_, _> = model
            .services
            .iter()
            .filter_map(|(name, service)| {
                let plan = service_plan(&mut check, &service_path(name), name, service)?;
                Some((name.clone(), plan))
            })
            .collect();
        let routes = routes(&mut check, tree, &model);
        let checked = check.finish();
        if faults.is_empty() {
            checked?;
            return Ok(Self {
                server: server.unwrap_or_default(),
                observe: observe.unwrap_or_default(),
                model,
                services,
                routes,
            });
        }
        let doubtful = Doubtful::of(tree, &model, &faults);
        let more = checked
            .err()
            .into_iter()
            .flatten()
            .filter(|fault| !doubtful.is(&fault.path));
        Err(faults.iter().cloned().chain(more).collect())
    }
}

/// A path in the file; a name that is not a plain word is quoted.
fn service_path(name: &str) -> String {
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if plain {
        format!("services.{name}")
    } else {
        format!("services.{name:?}")
    }
}

/// The form of an address; whether it can be bound shows when it is.
fn listen(check: &mut Checker<'_>, tree: &Tree, path: &str, addresses: &[String]) {
    let is_list = tree
        .get(path)
        .is_some_and(|node| matches!(node.value, Value::List(_)));
    if addresses.is_empty() {
        check.fault(path, "must name at least one address");
    }
    for (index, address) in addresses.iter().enumerate() {
        let fine = match address.strip_prefix("unix:") {
            Some(socket) => socket.starts_with('/'),
            None => address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()),
        };
        if !fine {
            let place = if is_list {
                format!("{path}[{index}]")
            } else {
                path.to_owned()
            };
            check.fault(
                &place,
                format!("must be host:port or unix:/path, is {address:?}"),
            );
        }
    }
}

fn valid<T>(check: &mut Checker<'_>, path: &str, result: Result<T, Invalid>) -> Option<T> {
    result
        .map_err(|invalid| check.fault(&format!("{path}.{}", invalid.field()), invalid.why()))
        .ok()
}
