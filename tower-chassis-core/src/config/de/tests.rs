use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU32};

use proptest::prelude::*;
use serde::Deserialize;

use super::{
    super::{ByteSize, Entry, Format, Loader, Map, Ratio, Secret, Source, Span},
    *,
};

fn tree(text: &str) -> Tree {
    Loader::new().text("g.yaml", Format::Yaml, text).load().unwrap()
}

fn read<T: DeserializeOwned>(text: &str) -> T {
    tree(text).deserialize().unwrap_or_else(|faults| panic!("{text}: {faults}"))
}

fn faults<T: DeserializeOwned>(text: &str) -> String {
    tree(text).deserialize::<T>().map(drop).unwrap_err().to_string()
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
    assert_eq!((shop.breaker.failure_rate.get(), shop.breaker.weight), (1.0, 2.0));
    assert_eq!(shop.balance, Balance::Sticky { header: "x".into(), size: 0 });
    assert_eq!(shop.timeout.unwrap().get().as_secs(), 90);
    assert_eq!((shop.limit, shop.password.as_ref().unwrap().expose()), (Some(ByteSize(65_536)), "p"));
    assert_eq!(gateway.services["b"].balance, Balance::LeastLoaded);
    assert_eq!(gateway.services["b"].limit, Some(ByteSize(5)));
    assert_eq!(gateway.services["c"].balance, Balance::Fixed(3));
    assert_eq!((gateway.routes.len(), gateway.admin), (1, None));
}

/// Every kind of fault: what stands at `shop:` and what is said about it.
#[test]
fn each_fault_is_said_where_it_stands() {
    let mut wrong = Vec::new();
    for (service, expected) in [
        (
            "url: u\n    breaker: {failure_rat: 1}",
            "4:15: services.shop.breaker.failure_rat: unknown key; did you mean \"failure_rate\"?",
        ),
        (
            "url: u\n    breaker: {zzz: 1}",
            "4:15: services.shop.breaker.zzz: unknown key; accepted keys: failure_rate, calls, weight",
        ),
        (
            "url: u\n    breaker: {calls: many}",
            "4:22: services.shop.breaker.calls: expected an integer from 0 to 65535, found \"many\"",
        ),
        (
            "url: u\n    breaker: {calls: 70000}",
            "4:22: services.shop.breaker.calls: expected an integer from 0 to 65535, found 70000",
        ),
        (
            "url: u\n    breaker: {calls: -1}",
            "4:22: services.shop.breaker.calls: expected an integer from 0 to 65535, found -1",
        ),
        (
            "url: u\n    breaker: {calls: 1.5}",
            "4:22: services.shop.breaker.calls: expected an integer from 0 to 65535, found 1.5",
        ),
        (
            "url: u\n    breaker: {calls: 3.0}",
            "4:22: services.shop.breaker.calls: expected an integer from 0 to 65535, found 3.0",
        ),
        (
            "url: u\n    breaker: {calls: 99999999999999999999}",
            "4:22: services.shop.breaker.calls: expected an integer from 0 to 65535, found 1e20",
        ),
        (
            "url: u\n    breaker: {calls: \"5\"}",
            "4:22: services.shop.breaker.calls: expected an integer from 0 to 65535, found \"5\"",
        ),
        (
            "url: u\n    breaker: {calls: ~}",
            "4:22: services.shop.breaker.calls: expected an integer from 0 to 65535, found nothing",
        ),
        (
            "url: u\n    breaker: {calls: [1]}",
            "4:22: services.shop.breaker.calls: expected an integer from 0 to 65535, found a list",
        ),
        (
            "url: u\n    breaker: {weight: x}",
            "4:23: services.shop.breaker.weight: expected a number, found \"x\"",
        ),
        (
            "url: u\n    breaker: {failure_rate: 1.5}",
            "4:29: services.shop.breaker.failure_rate: must be from 0 to 1, not 1.5",
        ),
        ("url: u\n    breaker: closed", "4:14: services.shop.breaker: expected a map, found \"closed\""),
        ("url: u\n    breaker: [1]", "4:14: services.shop.breaker: expected a map, found a list"),
        ("url: 5", "3:10: services.shop.url: expected a string, found 5; put it in quotes"),
        ("url: {a: 1}", "3:10: services.shop.url: expected a string, found a map"),
        ("url: u\n    timeout: 5", "4:14: services.shop.timeout: a duration needs a unit; write 5s or 5ms"),
        (
            "url: u\n    timeout: [5]",
            "4:14: services.shop.timeout: expected a duration such as 250ms, 1s or 1m30s, found a list",
        ),
        (
            "url: u\n    limit: -5",
            "4:12: services.shop.limit: expected a size such as 64KiB, 2MiB or a number of bytes, found -5",
        ),
        (
            "url: u\n    balance: rond_robin",
            "4:14: services.shop.balance: unknown value \"rond_robin\"; did you mean \"round_robin\"?",
        ),
        (
            "url: u\n    balance: zzz",
            "4:14: services.shop.balance: unknown value \"zzz\"; accepted values: round_robin, least_loaded, sticky, fixed",
        ),
        (
            "url: u\n    balance: {stick: {header: x}}",
            "4:15: services.shop.balance: unknown value \"stick\"; did you mean \"sticky\"?",
        ),
        (
            "url: u\n    balance: 7",
            "4:14: services.shop.balance: expected one of round_robin, least_loaded, sticky, fixed, found 7",
        ),
        (
            "url: u\n    balance: {fixed: 1, sticky: 2}",
            "4:5: services.shop.balance: expected one of round_robin, least_loaded, sticky, fixed, as the only key",
        ),
        (
            "url: u\n    balance: {fixed: x}",
            "4:22: services.shop.balance.fixed: expected an integer from 0 to 4294967295, found \"x\"",
        ),
        (
            "url: u\n    balance: {sticky: {header: x, siz: 1}}",
            "4:35: services.shop.balance.sticky.siz: unknown key; did you mean \"size\"?",
        ),
        (
            "url: u\n    balance: {sticky: {size: 1}}",
            "4:15: services.shop.balance.sticky.header: missing required key",
        ),
        ("url: u\n    balance: sticky", "4:14: services.shop.balance.header: missing required key"),
        (
            "url: u\n    balance: fixed",
            "4:14: services.shop.balance: expected an integer from 0 to 4294967295, found nothing",
        ),
        (
            "url: u\n    balance: {round_robin: 5}",
            "4:28: services.shop.balance.round_robin: expected nothing, found 5",
        ),
        ("breaker: {}", "2:3: services.shop.url: missing required key"),
        ("url: u\n    password: 12345", "4:15: services.shop.password: expected a string; put it in quotes"),
        ("url: u\n    password: [hunter2]", "4:15: services.shop.password: expected a string, found a list"),
    ] {
        let text = format!("services:\n  shop:\n    {service}\nlisten: 127.0.0.1:80\n");
        let (said, expected) = (faults::<Gateway>(&text), format!("g.yaml:{expected}"));
        if said != expected {
            wrong.push(format!("{service}\n  said     {said}\n  expected {expected}\n"));
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
    assert_eq!(faults::<Needy>("{b: '1.2.3.4:5', m: x, f: [1]}"), missing("acdeghijkz"));
}

#[test]
fn what_a_type_says_of_a_whole_is_no_fault_if_a_part_is_wrong() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "Raw")]
    struct Range;

    #[derive(Debug, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Raw {
        min: u8,
        max: u8,
    }

    impl Default for Raw {
        fn default() -> Self {
            Self { min: 10, max: 20 }
        }
    }

    impl TryFrom<Raw> for Range {
        type Error = &'static str;

        fn try_from(raw: Raw) -> Result<Self, Self::Error> {
            if raw.min <= raw.max { Ok(Self) } else { Err("min is above max") }
        }
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Outer {
        one: Range,
        two: Range,
    }

    assert_eq!(
        faults::<Outer>("one: {min: x, max: 5}\ntwo: {max: 5}\n"),
        "g.yaml:1:12: one.min: expected an integer from 0 to 255, found \"x\"\n\
         g.yaml:2:1: two: min is above max"
    );
}

#[test]
fn keys_may_be_numbers_and_names() {
    #[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    #[serde(rename_all = "snake_case")]
    enum Name {
        One,
        Two,
    }
    let numbers: BTreeMap<u16, bool> = read("80: true\n443: false\n");
    assert_eq!(numbers.into_iter().collect::<Vec<_>>(), [(80, true), (443, false)]);
    assert_eq!(
        faults::<BTreeMap<u16, bool>>("80: true\nx: true\n70000: true\n81: 5\n"),
        "g.yaml:2:1: x: expected an integer from 0 to 65535, found \"x\"\n\
         g.yaml:3:1: 70000: expected an integer from 0 to 65535, found 70000\n\
         g.yaml:4:5: 81: expected true or false, found 5"
    );
    assert_eq!(read::<BTreeMap<Name, u8>>("one: 1\n").len(), 1);
    assert_eq!(
        faults::<BTreeMap<Name, u8>>("tow: 1\n"),
        "g.yaml:1:1: tow: unknown value \"tow\"; did you mean \"two\"?"
    );
    assert_eq!(read::<BTreeMap<bool, u8>>("true: 1\n").len(), 1);
}

#[test]
fn types_that_look_before_they_read() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "type", rename_all = "snake_case")]
    enum Tagged {
        A { n: u8 },
        B,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct Flat {
        x: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct All {
        hosts: OneOrMany,
        tagged: Option<Tagged>,
        flat: Option<Flat>,
    }
    assert_eq!(read::<All>("hosts: a").hosts, OneOrMany::One("a".into()));
    assert_eq!(read::<All>("hosts: [a, b]").hosts, OneOrMany::Many(vec!["a".into(), "b".into()]));
    let all = read::<All>("hosts: a\ntagged: {type: a, n: 5}\nflat: {x: 1, y: 2}\n");
    assert_eq!(all.tagged, Some(Tagged::A { n: 5 }));
    assert_eq!(all.flat.unwrap().rest["y"], 2);
    // Serde reads these in one piece, so the whole is where the fault is.
    assert_eq!(
        faults::<All>("hosts: 5\ntagged: {type: c}\nflat: {x: 1, y: z}\n"),
        "g.yaml:1:8: hosts: data did not match any variant of untagged enum OneOrMany\n\
         g.yaml:2:16: tagged.type: unknown value \"c\"; accepted values: a, b\n\
         g.yaml:3:7: flat: expected an integer from 0 to 255, found \"z\""
    );
}

#[test]
fn no_fault_shows_a_secret() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Careless {
        password: Option<u8>,
        api_token: Option<SocketAddr>,
        secret: Option<Balance>,
        #[serde(default)]
        secrets: BTreeMap<String, Span>,
        url: Option<u8>,
        #[serde(default)]
        plain: Option<Secret>,
    }
    let text = "password: hunter2\napi_token: hunter2\nsecret: hunter2\nsecrets: {a: hunter2}\n\
                url: redis://me:hunter2@host/0\nplain: 1234\n";
    let said = faults::<Careless>(text);
    assert!(!said.contains("hunter2") && !said.contains("1234"), "{said}");
    assert_eq!(
        said,
        "g.yaml:1:11: password: expected an integer from 0 to 255, found a string\n\
         g.yaml:2:12: api_token: invalid socket address syntax\n\
         g.yaml:3:9: secret: unknown value\n\
         g.yaml:4:14: secrets.a: invalid value\n\
         g.yaml:5:6: url: expected an integer from 0 to 255, found \"redis://***@host/0\"\n\
         g.yaml:6:8: plain: expected a string; put it in quotes"
    );
    let long = format!("url: {}\n", "x".repeat(500));
    assert_eq!(
        faults::<Careless>(&long).len(),
        "g.yaml:1:6: url: expected an integer from 0 to 255, found \"…\"".len() + 60
    );
}

#[test]
fn a_flood_of_faults_has_an_end() {
    let text: String = (0..5000).map(|n| format!("k{n}: x\n")).collect();
    let faults = tree(&text).deserialize::<BTreeMap<String, u8>>().unwrap_err();
    assert_eq!(faults.len(), 101);
    assert_eq!(
        faults.iter().last().unwrap().to_string(),
        "default: more than 100 faults; the rest was not looked at"
    );
}

#[test]
fn a_whole_that_is_refused_ends() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "u8")]
    struct Never;

    impl TryFrom<u8> for Never {
        type Error = &'static str;

        fn try_from(_: u8) -> Result<Self, Self::Error> {
            Err("never")
        }
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    enum Endless {
        Cons(Box<Endless>, Box<Endless>),
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Inner {
        never: Never,
        endless: Endless,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only read")]
    struct Root {
        #[serde(default)]
        list: Vec<Inner>,
        last: u8,
    }
    assert_eq!(faults::<u8>("a: 1"), "g.yaml:1:1: expected an integer from 0 to 255, found a map");
    assert_eq!(faults::<Endless>("{}"), "g.yaml:1:1: expected one of Cons, as the only key");
    // No stand-in pleases `never`, so that `endless` is not missed; what comes after the whole is.
    assert_eq!(
        faults::<Root>("list:\n- never: 1\n- {endless: 1}\n"),
        "g.yaml:1:1: last: missing required key\n\
         g.yaml:2:10: list[0].never: never\n\
         g.yaml:3:3: list[1].never: missing required key\n\
         g.yaml:3:13: list[1].endless: expected one of Cons, found 1"
    );
}

fn any_node() -> impl Strategy<Value = Node> {
    let place = || Origin::new(Source::Default);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(Value::Float),
        ".{0,5}".prop_map(Value::Str),
        prop::sample::select(vec!["127.0.0.1:80", "1s", "sticky", "least_loaded"])
            .prop_map(|s| Value::Str(s.into())),
    ];
    let key = prop_oneof![
        4 => prop::sample::select(vec![
            "listen", "services", "routes", "admin", "url", "breaker", "balance", "timeout", "limit", "password",
            "failure_rate", "calls", "sticky", "fixed", "header", "size", "path", "to", "weight", "a",
        ]).prop_map(str::to_owned),
        1 => ".{0,4}",
    ];
    leaf.prop_map(move |value| Node::new(value, place())).prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(move |items| Node::new(Value::List(items), place())),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(move |entries| {
                let mut map = Map::new();
                for (key, node) in entries {
                    map.insert(key, place(), node);
                }
                Node::new(Value::Map(map), place())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_tree_is_read_to_an_end(root in any_node()) {
        let tree = Tree::new(root);
        if let Err(faults) = tree.deserialize::<Gateway>() {
            prop_assert!(!faults.is_empty());
            // Each is at a place of its own: nothing is said twice in other words.
            let mut paths: Vec<_> = faults.iter().map(|fault| &fault.path).collect();
            paths.sort();
            paths.dedup();
            prop_assert_eq!(paths.len(), faults.len(), "{}", faults);
        }
        let _ = tree.render(&[]);
    }
}

#[test]
fn entries_can_be_read_without_serde() {
    let tree = tree("a: 1\n");
    let keys: Vec<_> =
        tree.root().as_map().unwrap().iter().map(|Entry { key, .. }| key.to_string()).collect();
    assert_eq!(keys, ["a"]);
}
