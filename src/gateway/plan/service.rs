//! A service: its endpoints, policies and traffic rules.

use std::collections::BTreeMap;

use tower_chassis_core::{
    Endpoint,
    client::{ClientConfig, ClientPolicy},
    config::Checker,
    invocation::OnEmpty,
};
use tower_chassis_resilience::{
    balance::{BalanceConfig, BalancePolicy},
    timeout::{TimeoutConfig, TimeoutPolicy},
};
use tower_chassis_router::rules::{Destination, HeaderMatch, Rule, TrafficPolicy};

use super::{ServicePlan, valid};
use crate::gateway::model::{EndpointModel, HostModel, OnEmptyModel, RuleModel, ServiceModel};

pub(super) fn service_plan(
    check: &mut Checker<'_>,
    path: &str,
    name: &str,
    model: &ServiceModel,
) -> Option<ServicePlan> {
    let endpoints = endpoints(check, path, model);
    let balance = valid(check, &format!("{path}.balance"), model.balance.check()).and_then(|()| {
        let algorithm = model.balance.clone();
        valid(
            check,
            path,
            BalancePolicy::try_from(BalanceConfig { algorithm }),
        )
    });
    let breaker = valid(
        check,
        &format!("{path}.breaker"),
        model.breaker.clone().try_into(),
    );
    let retry = valid(
        check,
        &format!("{path}.retry"),
        model.retry.clone().try_into(),
    );
    let timeouts = format!("{path}.timeout");
    let mut timeout = |field: &str, after| {
        let policy = TimeoutPolicy::try_from(TimeoutConfig { after });
        policy
            .map_err(|invalid| check.fault(&format!("{timeouts}.{field}"), invalid.why()))
            .ok()
    };
    let (per_try, total) = (
        timeout("per_try", model.timeout.per_try),
        timeout("total", model.timeout.total),
    );
    if model.timeout.per_try > model.timeout.total {
        check.fault(
            &format!("{timeouts}.per_try"),
            "must be at most `total`, or it can never pass",
        );
    }
    let traffic = traffic(check, path, name, model);
    let mut client = ClientConfig::default();
    client.connect_timeout = model.connect_timeout;
    let client = valid(check, path, ClientPolicy::try_from(client));
    Some(ServicePlan {
        endpoints: endpoints?,
        balance: balance?,
        breaker: breaker?,
        retry: retry?,
        per_try: per_try?,
        total: total?,
        traffic: traffic?,
        client: client?,
        rewrite_host: model.host == HostModel::Endpoint,
    })
}

fn endpoints(check: &mut Checker<'_>, path: &str, model: &ServiceModel) -> Option<Vec<Endpoint>> {
    let mut ids = BTreeMap::new();
    let mut all = Vec::with_capacity(model.endpoints.len());
    for (index, endpoint) in model.endpoints.iter().enumerate() {
        let place = format!("{path}.endpoints[{index}]");
        let Some(mut made) = valid(check, &place, Endpoint::new(&endpoint.address)) else {
            continue;
        };
        match made.address().scheme_str() {
            Some("http") => {}
            Some("https") if cfg!(feature = "tls") => {}
            Some("https") => {
                check.fault(
                    &format!("{place}.address"),
                    "https needs the feature `tls`, which this build has not",
                );
            }
            _ => check.fault(&format!("{place}.address"), "must start with http://"),
        }
        if let Some(id) = &endpoint.id {
            made = made.with_id(id.as_str());
        }
        if let Some(first) = ids.insert(made.id().clone(), index) {
            let field = if endpoint.id.is_some() {
                "id"
            } else {
                "address"
            };
            check.fault(
                &format!("{place}.{field}"),
                format!("is that of endpoints[{first}] too"),
            );
        }
        let tags = endpoint.tags.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        all.push(made.with_weight(endpoint.weight).with_tags(tags));
    }
    (all.len() == model.endpoints.len()).then_some(all)
}

fn traffic(
    check: &mut Checker<'_>,
    path: &str,
    name: &str,
    model: &ServiceModel,
) -> Option<TrafficPolicy> {
    for (index, rule) in model.traffic.iter().enumerate() {
        for (to, destination) in rule.to.iter().enumerate() {
            let has = |endpoint: &EndpointModel| {
                destination
                    .tags
                    .iter()
                    .all(|(k, v)| endpoint.tags.get(k) == Some(v))
            };
            if !model.endpoints.is_empty() && !model.endpoints.iter().any(has) {
                check.fault(
                    &format!("{path}.traffic[{index}].to[{to}].tags"),
                    "no endpoint of the service has these tags",
                );
            }
        }
    }
    let rules = model
        .traffic
        .iter()
        .enumerate()
        .map(|(index, model)| rule(check, path, index, model))
        .collect();
    // Weights are drawn in an order that depends on the name alone, so that every start draws the same.
    let seed = name.bytes().fold(1469598103934665603, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(1099511628211)
    });
    match TrafficPolicy::new(rules, seed) {
        Ok(policy) => Some(policy),
        Err(invalid) => {
            for fault in invalid.iter() {
                let field = fault
                    .field()
                    .replacen("rules[", "traffic[", 1)
                    .replace(".matches.", ".match.");
                check.fault(&format!("{path}.{field}"), fault.why());
            }
            None
        }
    }
}

fn rule(check: &mut Checker<'_>, path: &str, index: usize, model: &RuleModel) -> Rule {
    let to = model.to.iter().map(|to| {
        Destination::new(
            to.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())),
            to.weight,
        )
    });
    let name = if model.name.is_empty() {
        format!("rule-{index}")
    } else {
        model.name.clone()
    };
    let mut rule = Rule::new(name, to).on_empty(match model.on_empty {
        OnEmptyModel::Any => OnEmpty::Any,
        OnEmptyModel::Refuse => OnEmpty::Refuse,
    });
    for (name, value) in &model.matches.headers {
        rule = rule.header(HeaderMatch::exact(name, value));
    }
    for (name, expression) in &model.matches.headers_regex {
        rule = rule.header(HeaderMatch::regex(name, expression));
    }
    for (at, method) in model.matches.methods.iter().enumerate() {
        match method.parse() {
            Ok(method) => rule = rule.method(method),
            Err(_) => check.fault(
                &format!("{path}.traffic[{index}].match.methods[{at}]"),
                "is no method",
            ),
        }
    }
    if let Some(prefix) = &model.matches.path_prefix {
        rule = rule.path_prefix(prefix);
    }
    rule
}
