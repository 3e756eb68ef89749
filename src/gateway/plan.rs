//! From the file to what can go live: everything is checked, and every fault is named with its place.

use std::collections::BTreeMap;

use http::Method;
use tower_chassis_core::{
    Endpoint,
    client::{ClientConfig, ClientPolicy},
    config::{Checker, Faults, Tree, Value},
    invocation::OnEmpty,
    live::Invalid,
    server::ServerPolicy,
};
use tower_chassis_resilience::{
    balance::{BalanceConfig, BalancePolicy},
    breaker::BreakerPolicy,
    rate_limit::RateLimitPolicy,
    retry::RetryPolicy,
    timeout::{TimeoutConfig, TimeoutPolicy},
};
use tower_chassis_router::{
    MethodRouter, Router,
    rules::{Destination, HeaderMatch, Rule, TrafficPolicy},
};

use super::model::{HostModel, Model, OnEmptyModel, RouteModel, RuleModel, ServiceModel};

/// A checked file.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) model: Model,
    pub(super) server: ServerPolicy,
    pub(super) services: BTreeMap<String, ServicePlan>,
    pub(super) routes: Vec<RoutePlan>,
}

#[derive(Debug)]
pub(super) struct ServicePlan {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) balance: BalancePolicy,
    pub(super) breaker: BreakerPolicy,
    pub(super) retry: RetryPolicy,
    pub(super) per_try: TimeoutPolicy,
    pub(super) total: TimeoutPolicy,
    pub(super) traffic: TrafficPolicy,
    pub(super) client: ClientPolicy,
    pub(super) rewrite_host: bool,
}

#[derive(Debug)]
pub(super) struct RoutePlan {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) methods: Vec<Method>,
    pub(super) service: String,
    pub(super) rate_limit: Option<RateLimitPolicy>,
}

impl Plan {
    /// Checks a file.
    pub(super) fn of(tree: &Tree) -> Result<Self, Faults> {
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

/// The places at which a second fault may be a consequence of the first: what was wrong was left out or
/// stands as a default, and a list that lost an item has its places moved.
struct Doubtful<'a> {
    faults: &'a Faults,
    moved: Vec<String>,
}

impl<'a> Doubtful<'a> {
    fn of(tree: &Tree, model: &Model, faults: &'a Faults) -> Self {
        let mut moved = Vec::new();
        let mut compare = |path: String, len: usize| {
            let there = tree.get(&path).map(|node| match &node.value {
                Value::List(items) => items.len(),
                _ => len,
            });
            if there.is_some_and(|there| there != len) {
                moved.push(path + "[");
            }
        };
        compare("routes".into(), model.routes.len());
        for (name, service) in &model.services {
            compare(
                format!("{}.endpoints", service_path(name)),
                service.endpoints.len(),
            );
            compare(
                format!("{}.traffic", service_path(name)),
                service.traffic.len(),
            );
        }
        Self { faults, moved }
    }

    fn is(&self, path: &str) -> bool {
        let below = |fault: &str| {
            path.strip_prefix(fault)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        // The two timeouts are compared with one another.
        let timeouts = |fault: &str| {
            path.ends_with(".timeout.per_try")
                && fault.starts_with(path.trim_end_matches("per_try"))
        };
        self.moved
            .iter()
            .any(|list| path.starts_with(list.as_str()))
            || self
                .faults
                .iter()
                .any(|fault| below(&fault.path) || timeouts(&fault.path))
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

fn service_plan(
    check: &mut Checker<'_>,
    path: &str,
    name: &str,
    model: &ServiceModel,
) -> Option<ServicePlan> {
    let endpoints = endpoints(check, path, model);
    let balance = valid(
        check,
        path,
        BalancePolicy::try_from(BalanceConfig {
            algorithm: model.balance,
        }),
    );
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
            let has = |endpoint: &super::model::EndpointModel| {
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

fn routes(check: &mut Checker<'_>, tree: &Tree, model: &Model) -> Vec<RoutePlan> {
    let mut names = BTreeMap::new();
    let mut plans = Vec::with_capacity(model.routes.len());
    for (index, route) in model.routes.iter().enumerate() {
        let place = format!("routes[{index}]");
        let name = route.name.clone().unwrap_or_else(|| default_name(route));
        if let Some(first) = names.insert(name.clone(), index) {
            let field = if route.name.is_some() { "name" } else { "path" };
            check.fault(
                &format!("{place}.{field}"),
                format!("is that of routes[{first}] too"),
            );
        }
        // A service with faults is left out of the model; it is there all the same.
        let there = tree.get(&service_path(&route.service)).is_some();
        if !there && !model.services.contains_key(&route.service) {
            let known = model.services.keys().map(String::as_str);
            check.dangling(
                &format!("{place}.service"),
                "service",
                &route.service,
                known,
            );
        }
        let rate_limit = route.rate_limit.clone().and_then(|config| {
            valid(
                check,
                &format!("{place}.rate_limit"),
                RateLimitPolicy::try_from(config),
            )
        });
        let mut methods = Vec::new();
        for (at, method) in route.methods.iter().enumerate() {
            match method.parse() {
                Ok(method) => methods.push(method),
                Err(_) => check.fault(&format!("{place}.methods[{at}]"), "is no method"),
            }
        }
        plans.push(RoutePlan {
            name,
            path: route.path.clone(),
            methods,
            service: route.service.clone(),
            rate_limit,
        });
    }
    check_paths(check, &plans);
    plans
}

fn default_name(route: &RouteModel) -> String {
    if route.methods.is_empty() {
        route.path.clone()
    } else {
        format!("{} {}", route.methods.join(","), route.path)
    }
}

/// The router itself says what is wrong with a path; adding them one by one tells which path it is.
fn check_paths(check: &mut Checker<'_>, plans: &[RoutePlan]) {
    let table = |plans: &[&RoutePlan]| {
        plans
            .iter()
            .fold(Router::<()>::new(), |router, plan| {
                router.route(&plan.path, plan.methods(|| async {}))
            })
            .build()
    };
    if table(&plans.iter().collect::<Vec<_>>()).is_ok() {
        return;
    }
    let mut good: Vec<&RoutePlan> = Vec::new();
    for (index, plan) in plans.iter().enumerate() {
        good.push(plan);
        if let Err(errors) = table(&good) {
            good.pop();
            for error in errors.iter() {
                // The first line says what, the rest draws where, which is not of this file.
                let text = error
                    .pattern_error()
                    .map_or_else(|| error.to_string(), ToString::to_string);
                check.fault(
                    &format!("routes[{index}].path"),
                    text.lines().next().unwrap_or_default(),
                );
            }
        }
    }
}

impl RoutePlan {
    /// The handler, on the methods of the route.
    pub(super) fn methods<B, H, M>(&self, handler: H) -> MethodRouter<B>
    where
        B: Send + 'static,
        H: tower_chassis_router::Handler<B, M> + Clone,
        M: Send + Sync + 'static,
    {
        if self.methods.is_empty() {
            return tower_chassis_router::any(handler);
        }
        self.methods
            .iter()
            .fold(MethodRouter::new(), |methods, method| {
                methods.on(method.clone(), handler.clone())
            })
    }

    /// The service, on the methods of the route.
    pub(super) fn methods_service<B, S>(&self, service: S) -> MethodRouter<B>
    where
        B: Send + 'static,
        S: tower_service::Service<
                http::Request<B>,
                Response = http::Response<tower_chassis_core::Body>,
                Error = std::convert::Infallible,
            > + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        if self.methods.is_empty() {
            return tower_chassis_router::any_service(service);
        }
        self.methods
            .iter()
            .fold(MethodRouter::new(), |methods, method| {
                methods.on_service(method.clone(), service.clone())
            })
    }
}
