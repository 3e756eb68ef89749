mod trees;
mod types;

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU32};

use serde::Deserialize;

use super::{
    super::{ByteSize, Format, Loader, Ratio, Secret, Span},
    *,
};

fn tree(text: &str) -> Tree {
    Loader::new()
        .text("g.yaml", Format::Yaml, text)
        .load()
        .unwrap()
}

fn read<T: DeserializeOwned>(text: &str) -> T {
    tree(text)
        .deserialize()
        .unwrap_or_else(|faults| panic!("{text}: {faults}"))
}

fn faults<T: DeserializeOwned>(text: &str) -> String {
    tree(text)
        .deserialize::<T>()
        .map(drop)
        .unwrap_err()
        .to_string()
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Gateway {
    listen: SocketAddr,
    #[serde(default)]
    services: BTreeMap<String, Service>,
    #[serde(default)]
    routes: Vec<Route>,
    admin: Option<Admin>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Admin {
    listen: SocketAddr,
    #[serde(default)]
    open: bool,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Service {
    url: String,
    #[serde(default)]
    breaker: Breaker,
    #[serde(default)]
    balance: Balance,
    timeout: Option<Span>,
    limit: Option<ByteSize>,
    password: Option<Secret>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Breaker {
    failure_rate: Ratio,
    calls: u16,
    weight: f64,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Balance {
    #[default]
    RoundRobin,
    LeastLoaded,
    Sticky {
        header: String,
        #[serde(default)]
        size: u8,
    },
    Fixed(u32),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Route {
    path: String,
    to: String,
    weight: NonZeroU32,
}

#[test]
fn right_values_are_read() {
    let gateway: Gateway = read(
        "listen: 127.0.0.1:80\nservices:\n  shop:\n    url: http://s\n    breaker: {failure_rate: 1, weight: 2}\n    \
         balance: {sticky: {header: x}}\n    timeout: 1m30s\n    limit: 64KiB\n    password: p\n  b: {url: u, balance: \
         least_loaded, limit: 5}\n  c: {url: u, balance: {fixed: 3}, breaker: }\nroutes:\n- {path: /, to: shop, weight: 1}\n\
         admin:\n",
    );
    let shop = &gateway.services["shop"];
    assert_eq!(
        (shop.breaker.failure_rate.get(), shop.breaker.weight),
        (1.0, 2.0)
    );
    assert_eq!(
        shop.balance,
        Balance::Sticky {
            header: "x".into(),
            size: 0
        }
    );
    assert_eq!(shop.timeout.unwrap().get().as_secs(), 90);
    assert_eq!(
        (shop.limit, shop.password.as_ref().unwrap().expose()),
        (Some(ByteSize(65_536)), "p")
    );
    assert_eq!(gateway.services["b"].balance, Balance::LeastLoaded);
    assert_eq!(gateway.services["b"].limit, Some(ByteSize(5)));
    assert_eq!(gateway.services["c"].balance, Balance::Fixed(3));
    assert_eq!((gateway.routes.len(), gateway.admin), (1, None));
}

/// Every kind of fault: what stands below `shop:`, where the fault is, and what is said.
#[test]
fn each_fault_is_said_where_it_stands() {
    let mut wrong = Vec::new();
    for (service, place, message) in [
        (
            "url: u\n    breaker: {failure_rat: 1}",
            "4:15",
            "breaker.failure_rat: unknown key; did you mean \"failure_rate\"?",
        ),
        (
            "url: u\n    breaker: {zzz: 1}",
            "4:15",
            "breaker.zzz: unknown key; accepted keys: failure_rate, calls, weight",
        ),
        (
            "url: u\n    breaker: {calls: many}",
            "4:22",
            "breaker.calls: expected an integer from 0 to 65535, found \"many\"",
        ),
        (
            "url: u\n    breaker: {calls: 70000}",
            "4:22",
            "breaker.calls: expected an integer from 0 to 65535, found 70000",
        ),
        (
            "url: u\n    breaker: {calls: -1}",
            "4:22",
            "breaker.calls: expected an integer from 0 to 65535, found -1",
        ),
        (
            "url: u\n    breaker: {calls: 1.5}",
            "4:22",
            "breaker.calls: expected an integer from 0 to 65535, found 1.5",
        ),
        (
            "url: u\n    breaker: {calls: 3.0}",
            "4:22",
            "breaker.calls: expected an integer from 0 to 65535, found 3.0",
        ),
        (
            "url: u\n    breaker: {calls: 99999999999999999999}",
            "4:22",
            "breaker.calls: expected an integer from 0 to 65535, found 1e20",
        ),
        (
            "url: u\n    breaker: {calls: \"5\"}",
            "4:22",
            "breaker.calls: expected an integer from 0 to 65535, found \"5\"",
        ),
        (
            "url: u\n    breaker: {calls: ~}",
            "4:22",
            "breaker.calls: expected an integer from 0 to 65535, found nothing",
        ),
        (
            "url: u\n    breaker: {calls: [1]}",
            "4:22",
            "breaker.calls: expected an integer from 0 to 65535, found a list",
        ),
        (
            "url: u\n    breaker: {weight: x}",
            "4:23",
            "breaker.weight: expected a number, found \"x\"",
        ),
        (
            "url: u\n    breaker: {failure_rate: 1.5}",
            "4:29",
            "breaker.failure_rate: must be from 0 to 1, not 1.5",
        ),
        (
            "url: u\n    breaker: closed",
            "4:14",
            "breaker: expected a map, found \"closed\"",
        ),
        (
            "url: u\n    breaker: [1]",
            "4:14",
            "breaker: expected a map, found a list",
        ),
        (
            "url: 5",
            "3:10",
            "url: expected a string, found 5; put it in quotes",
        ),
        ("url: {a: 1}", "3:10", "url: expected a string, found a map"),
        (
            "url: u\n    timeout: 5",
            "4:14",
            "timeout: a duration needs a unit; write 5s or 5ms",
        ),
        (
            "url: u\n    timeout: [5]",
            "4:14",
            "timeout: expected a duration such as 250ms, 1s or 1m30s, found a list",
        ),
        (
            "url: u\n    limit: -5",
            "4:12",
            "limit: expected a size such as 64KiB, 2MiB or a number of bytes, found -5",
        ),
        (
            "url: u\n    balance: rond_robin",
            "4:14",
            "balance: unknown value \"rond_robin\"; did you mean \"round_robin\"?",
        ),
        (
            "url: u\n    balance: zzz",
            "4:14",
            "balance: unknown value \"zzz\"; accepted values: round_robin, least_loaded, sticky, fixed",
        ),
        (
            "url: u\n    balance: {stick: {header: x}}",
            "4:15",
            "balance: unknown value \"stick\"; did you mean \"sticky\"?",
        ),
        (
            "url: u\n    balance: 7",
            "4:14",
            "balance: expected one of round_robin, least_loaded, sticky, fixed, found 7",
        ),
        (
            "url: u\n    balance: {fixed: 1, sticky: 2}",
            "4:5",
            "balance: expected one of round_robin, least_loaded, sticky, fixed, as the only key",
        ),
        (
            "url: u\n    balance: {fixed: x}",
            "4:22",
            "balance.fixed: expected an integer from 0 to 4294967295, found \"x\"",
        ),
        (
            "url: u\n    balance: {sticky: {header: x, siz: 1}}",
            "4:35",
            "balance.sticky.siz: unknown key; did you mean \"size\"?",
        ),
        (
            "url: u\n    balance: {sticky: {size: 1}}",
            "4:15",
            "balance.sticky.header: missing required key",
        ),
        (
            "url: u\n    balance: sticky",
            "4:14",
            "balance.header: missing required key",
        ),
        (
            "url: u\n    balance: fixed",
            "4:14",
            "balance: expected an integer from 0 to 4294967295, found nothing",
        ),
        (
            "url: u\n    balance: {round_robin: 5}",
            "4:28",
            "balance.round_robin: expected nothing, found 5",
        ),
        ("breaker: {}", "2:3", "url: missing required key"),
        (
            "url: u\n    password: 12345",
            "4:15",
            "password: expected a string; put it in quotes",
        ),
        (
            "url: u\n    password: [hunter2]",
            "4:15",
            "password: expected a string, found a list",
        ),
    ] {
        let text = format!("services:\n  shop:\n    {service}\nlisten: 127.0.0.1:80\n");
        let (said, expected) = (
            faults::<Gateway>(&text),
            format!("g.yaml:{place}: services.shop.{message}"),
        );
        if said != expected {
            wrong.push(format!(
                "{service}\n  said     {said}\n  expected {expected}\n"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn all_faults_come_at_once_and_no_consequence() {
    let text = "lisen: 127.0.0.1:80\nservices:\n  shop:\n    url: 5\n    breaker:\n      failure_rat: 0.5\n      calls: 70000\n  \
                cart:\n    balance: {fixed: x}\nroutes:\n- {path: /, to: shop, weight: 0}\n- {weight: 1}\n- {path: 1, to: 2, \
                weight: 3, extra: 4}\n- 5\nadmin:\n  open: yes\n";
    assert_eq!(
        faults::<Gateway>(text),
        "g.yaml:1:1: lisen: unknown key; did you mean \"listen\"?\n\
         g.yaml:4:10: services.shop.url: expected a string, found 5; put it in quotes\n\
         g.yaml:6:7: services.shop.breaker.failure_rat: unknown key; did you mean \"failure_rate\"?\n\
         g.yaml:7:14: services.shop.breaker.calls: expected an integer from 0 to 65535, found 70000\n\
         g.yaml:8:3: services.cart.url: missing required key\n\
         g.yaml:9:22: services.cart.balance.fixed: expected an integer from 0 to 4294967295, found \"x\"\n\
         g.yaml:11:31: routes[0].weight: expected an integer other than 0, found 0\n\
         g.yaml:12:3: routes[1].path: missing required key\n\
         g.yaml:12:3: routes[1].to: missing required key\n\
         g.yaml:13:10: routes[2].path: expected a string, found 1; put it in quotes\n\
         g.yaml:13:17: routes[2].to: expected a string, found 2; put it in quotes\n\
         g.yaml:13:31: routes[2].extra: unknown key; accepted keys: path, to, weight\n\
         g.yaml:14:3: routes[3]: expected a map, found 5\n\
         g.yaml:15:1: admin.listen: missing required key\n\
         g.yaml:16:9: admin.open: expected true or false, found \"yes\""
    );
}

#[test]
fn all_that_is_missing_is_said() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Needy {
        a: String,
        b: SocketAddr,
        c: Span,
        d: NonZeroU32,
        e: Balance,
        f: Vec<u8>,
        g: BTreeMap<String, u8>,
        h: Admin,
        i: (u8, String),
        j: char,
        k: Ratio,
        l: Option<u8>,
        m: Secret,
        z: bool,
    }
    let missing = |keys: &str| {
        let line = |key: char| format!("g.yaml:1:1: {key}: missing required key");
        keys.chars().map(line).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(faults::<Needy>("{}"), missing("abcdefghijkmz"));
    assert_eq!(
        faults::<Needy>("{b: '1.2.3.4:5', m: x, f: [1]}"),
        missing("acdeghijkz")
    );
}
