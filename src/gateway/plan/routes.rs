//! The routes: paths, methods, the services that they name.

use std::collections::BTreeMap;

use tower_chassis_core::config::{Checker, Tree};
use tower_chassis_resilience::rate_limit::RateLimitPolicy;
use tower_chassis_router::{MethodRouter, Router};

use super::{RoutePlan, service_path, valid};
use crate::gateway::model::{Model, RouteModel};

pub(super) fn routes(check: &mut Checker<'_>, tree: &Tree, model: &Model) -> Vec<RoutePlan> {
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
    pub(in crate::gateway) fn methods<B, H, M>(&self, handler: H) -> MethodRouter<B>
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
    pub(in crate::gateway) fn methods_service<B, S>(&self, service: S) -> MethodRouter<B>
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
