//! Rules: what is valid, which one decides, what comes of it. Against a plain model.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    super::{
        Abort, Arming, Delay, FaultConfig, FaultPolicy, FaultRule, Guarded, HeaderControl, Why,
        config::FaultMatch,
        kinds::{BodyPlan, Plan},
        rules::{Compiled, Facts, Now},
    },
    ALL, SECOND, armed, config,
};
use crate::dice::Die;

fn now() -> Now {
    Now {
        wall: SystemTime::now(),
        clock: Instant::now(),
    }
}

fn compile(config: &FaultConfig, arming: &Arming) -> Compiled {
    Compiled::new(config, arming, now(), &Compiled::default())
}

/// The rule that decides on a call of `operation` at `path` with one header, `x-a`.
fn find(
    compiled: &Compiled,
    operation: &str,
    path: Option<&str>,
    a: Option<&'static str>,
) -> Option<String> {
    let meta = |name: &str| a.filter(|_| name.eq_ignore_ascii_case("x-a"));
    let facts = Facts {
        operation,
        service: Some("stock"),
        path,
        meta: &meta,
        also: &|_| true,
    };
    let found = compiled.find(&facts, Instant::now());
    found.map(|rule| rule.id.to_string())
}

#[test]
fn every_field_is_checked_and_named() {
    let rule = FaultRule::new("r");
    let ms = Duration::from_millis;
    let pareto = |min, shape, max| {
        let (min, max) = (ms(min), ms(max));
        rule.clone().delay(1, Delay::Pareto { min, shape, max })
    };
    let uniform = |min, max| rule.clone().delay(1, Delay::Uniform { min, max });
    for (wrong, field) in [
        (FaultRule::new(""), "rules[0].id"),
        (FaultRule::new("a b"), "rules[0].id"),
        (FaultRule::new("x".repeat(65)), "rules[0].id"),
        (FaultRule::new("header"), "rules[0].id"),
        (
            rule.clone().delay(ALL + 1, Delay::Fixed(SECOND)),
            "rules[0].delay.ppm",
        ),
        (
            rule.clone().abort(ALL + 1, Abort::Reset),
            "rules[0].abort.ppm",
        ),
        (rule.clone().throttle(ALL + 1, 1), "rules[0].throttle.ppm"),
        (rule.clone().truncate(ALL + 1, 1), "rules[0].truncate.ppm"),
        (
            rule.clone().delay(1, Delay::Fixed(SECOND * 3601)),
            "rules[0].delay.of.fixed",
        ),
        (uniform(ms(2), ms(1)), "rules[0].delay.of.uniform.max"),
        (pareto(0, 1.0, 1), "rules[0].delay.of.pareto.min"),
        (pareto(1, 0.0, 1), "rules[0].delay.of.pareto.shape"),
        (pareto(1, f64::NAN, 1), "rules[0].delay.of.pareto.shape"),
        (pareto(2, 1.0, 1), "rules[0].delay.of.pareto.max"),
        (
            rule.clone().abort(1, Abort::Status(399)),
            "rules[0].abort.of.status",
        ),
        (
            rule.clone().abort(1, Abort::Grpc(0)),
            "rules[0].abort.of.grpc",
        ),
        (
            rule.clone().abort(1, Abort::Grpc(17)),
            "rules[0].abort.of.grpc",
        ),
        (rule.clone().throttle(1, 0), "rules[0].throttle.of"),
        (
            rule.clone()
                .matching(|call| call.path_prefix = Some("x".into())),
            "rules[0].matches.path_prefix",
        ),
    ] {
        let invalid = FaultPolicy::new([wrong.clone()]).unwrap_err();
        assert_eq!(invalid.field(), field, "{wrong:?}");
    }
    let many = (0..101).map(|n| FaultRule::new(format!("r{n}")));
    assert_eq!(FaultPolicy::new(many).unwrap_err().field(), "rules");
    for (change, field) in [
        ((|c| c.max_active = 0) as fn(&mut FaultConfig), "max_active"),
        (|c| c.max_ppm = ALL + 1, "max_ppm"),
        (|c| c.exclude = vec!["x".into()], "exclude[0]"),
        (
            |c| {
                c.headers = Some(HeaderControl {
                    max_ppm: ALL + 1,
                    ..HeaderControl::default()
                });
            },
            "headers.max_ppm",
        ),
        (
            |c| {
                c.headers = Some(HeaderControl {
                    max_delay: SECOND * 3601,
                    ..HeaderControl::default()
                });
            },
            "headers.max_delay",
        ),
    ] {
        let invalid = FaultPolicy::default().with(change).unwrap_err();
        assert_eq!(invalid.field(), field);
    }
}

#[test]
fn the_first_armed_rule_that_matches_decides() {
    let rule = |id: &str, change: fn(&mut FaultMatch)| {
        FaultRule::new(id).abort(ALL, Abort::Reset).matching(change)
    };
    let over = FaultRule {
        expires_at: Some(SystemTime::now() - SECOND),
        ..rule("over", |_| ())
    };
    let compiled = compile(
        &config([
            over,
            rule("post", |call| {
                call.operations = vec!["PUT".into(), "post".into()]
            }),
            rule("path", |call| call.path_prefix = Some("/api/".into())),
            rule("meta", |call| {
                drop(call.meta.insert("X-A".into(), "1".into()))
            }),
            rule("other", |call| call.service = Some("prices".into())),
            rule("stock", |call| {
                call.service = Some("stock".into());
                call.operations = vec!["GET".into()];
            }),
        ]),
        &armed(),
    );
    for (operation, path, a, wanted) in [
        ("POST", Some("/api"), Some("1"), Some("post")),
        ("GET", Some("/api"), Some("1"), Some("path")),
        ("GET", Some("/api/x"), None, Some("path")),
        ("GET", Some("/apix"), Some("1"), Some("meta")),
        ("GET", Some("/apix"), Some("2"), Some("stock")),
        ("GET", None, None, Some("stock")),
        ("HEAD", Some("/"), None, None),
    ] {
        let found = find(&compiled, operation, path, a);
        assert_eq!(found.as_deref(), wanted, "{operation} {path:?} {a:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_expiry_counts_on_the_clock_that_nobody_sets() {
    let rule = FaultRule::new("r").abort(ALL, Abort::Reset);
    let rule = rule.expires_in(SECOND * 60);
    let compiled = compile(&config([rule]), &armed());
    assert!(compiled.is_armed(Instant::now()));
    tokio::time::advance(SECOND * 61).await;
    let rule = &compiled.rules[0];
    assert_eq!(rule.state(Instant::now()), Guarded::Disarmed(Why::Expired));
    assert!(!compiled.is_armed(Instant::now()) && find(&compiled, "GET", None, None).is_none());
}

#[test]
fn production_wants_an_expiry_of_headers_too() {
    let mut asked = config([]);
    asked.headers = Some(HeaderControl::default());
    let production = Arming::new(true, Some("production"));
    let abort = |name: &str| (name == "x-chassis-fault-abort").then_some("503");
    let asks = |config: &FaultConfig, arming: &Arming| {
        let compiled = compile(config, arming);
        compiled.asked(&abort, Instant::now()).is_some()
    };
    assert!(asks(&asked, &armed()) && !asks(&asked, &production));
    asked.headers = Some(HeaderControl {
        expires_at: Some(SystemTime::now() + SECOND * 3600),
        ..HeaderControl::default()
    });
    assert!(asks(&asked, &production));
    assert!(!asks(&asked, &Arming::new(false, Some("test"))));
}

#[test]
fn headers_are_cut_to_their_caps() {
    let mut capped = config([]);
    capped.headers = Some(HeaderControl {
        max_delay: SECOND,
        max_ppm: 500_000,
        ..HeaderControl::default()
    });
    let asked = |config: &FaultConfig, headers: &'static [(&str, &str)]| {
        let get = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        let compiled = compile(config, &armed());
        let doses = compiled.asked(&get, Instant::now()).map(|(_, doses)| doses);
        doses.map(|doses| {
            let delay = doses.delay.map(|dose| (dose.ppm, dose.of));
            (
                delay,
                doses.abort.map(|dose| dose.of),
                doses.throttle,
                doses.truncate,
            )
        })
    };
    let all = asked(
        &capped,
        &[
            ("x-chassis-fault-delay-ms", "5000"),
            ("x-chassis-fault-abort", " grpc-14 "),
            ("x-chassis-fault-throttle", "10"),
            ("x-chassis-fault-truncate", "0"),
        ],
    );
    let (delay, abort, throttle, truncate) = all.unwrap();
    assert_eq!(delay, Some((500_000, Delay::Fixed(SECOND))));
    assert_eq!(abort, Some(Abort::Grpc(14)));
    assert_eq!((throttle.unwrap().of, truncate.unwrap().of), (10, 0));
    for (text, abort) in [
        ("503", Some(Abort::Status(503))),
        ("reset", Some(Abort::Reset)),
        ("hang", Some(Abort::Hang)),
        ("200", None),
        ("600", None),
        ("grpc-0", None),
        ("grpc-17", None),
        ("-1", None),
        ("", None),
    ] {
        let headers: &'static _ = Box::leak(Box::new([("x-chassis-fault-abort", text)]));
        let found = asked(&capped, headers).and_then(|asked| asked.1);
        assert_eq!(found, abort, "{text}");
    }
    let share: &[_] = &[
        ("x-chassis-fault-delay-ms", "1"),
        ("x-chassis-fault-ppm", "7"),
    ];
    assert_eq!(asked(&capped, share).unwrap().0.unwrap().0, 7);
    let broken: &[_] = &[
        ("x-chassis-fault-delay-ms", "1"),
        ("x-chassis-fault-ppm", "all"),
    ];
    assert!(asked(&capped, broken).is_none());
    let mut no_abort = capped;
    no_abort.headers.as_mut().unwrap().abort = false;
    assert!(asked(&no_abort, &[("x-chassis-fault-abort", "503")]).is_none());
    assert!(asked(&config([]), &[("x-chassis-fault-abort", "503")]).is_none());
}

/// The same rule, plainly.
fn model(rule: &FaultRule, seed: u64, max_ppm: u32, id: &[u8], attempt: u32) -> Plan {
    let roll = |salt, ppm: u32| {
        let die = Die::new(seed, &rule.id, salt);
        let attempt = if rule.per_attempt { attempt } else { 1 };
        let roll = die.of_attempt(attempt).roll(id);
        (roll.get() % 1_000_000 < u64::from(ppm.min(max_ppm))).then_some(roll)
    };
    let mut plan = Plan {
        delay: None,
        abort: None,
        body: BodyPlan::default(),
    };
    if let Some(dose) = rule.delay
        && let Some(roll) = roll("delay", dose.ppm)
    {
        plan.delay = Some(dose.of.length(roll));
    }
    if let Some(dose) = rule.abort
        && roll("abort", dose.ppm).is_some()
    {
        plan.abort = Some(dose.of);
    }
    if let Some(dose) = rule.throttle
        && roll("throttle", dose.ppm).is_some()
    {
        plan.body.throttle = Some(dose.of);
    }
    if let Some(dose) = rule.truncate
        && roll("truncate", dose.ppm).is_some()
    {
        plan.body.truncate = Some(dose.of);
    }
    plan
}

fn cases() -> u32 {
    if std::env::var_os("CHASSIS_LONG").is_some() {
        20_000
    } else {
        256
    }
}

fn share() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(ALL), 1..ALL]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn a_plan_is_what_the_model_says(
        shares in (share(), share(), share(), share(), share()),
        seed in any::<u64>(),
        per_attempt in any::<bool>(),
        ids in proptest::collection::vec(".{0,40}", 1..20),
        attempt in 0u32..6,
    ) {
        let (delay, abort, throttle, truncate, max_ppm) = shares;
        let mut rule = FaultRule::new("rule")
            .delay(delay, Delay::Uniform { min: SECOND, max: SECOND * 2 })
            .abort(abort, Abort::Status(503))
            .throttle(throttle, 10)
            .truncate(truncate, 100);
        rule.per_attempt = per_attempt;
        let mut config = config([rule.clone()]);
        (config.seed, config.max_ppm) = (seed, max_ppm);
        let compiled = compile(&config, &armed());
        let again = compile(&config, &armed());
        for id in &ids {
            let plan = compiled.plan(&compiled.rules[0], id.as_bytes(), attempt);
            prop_assert_eq!(plan, model(&rule, seed, max_ppm, id.as_bytes(), attempt));
            prop_assert_eq!(plan, again.plan(&again.rules[0], id.as_bytes(), attempt));
            let first = compiled.plan(&compiled.rules[0], id.as_bytes(), 1);
            prop_assert!(per_attempt || plan == first);
        }
    }
}

#[test]
fn a_rule_that_keeps_its_name_keeps_its_count() {
    let rules = config(["a", "b"].map(FaultRule::new));
    let first = compile(&rules, &armed());
    first.rules[1].count();
    let second = config(["b", "c"].map(FaultRule::new));
    let second = Compiled::new(&second, &armed(), now(), &first);
    let counts = second
        .rules
        .iter()
        .map(|rule| rule.injected.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(counts.collect::<Vec<_>>(), [1, 0]);
}

#[cfg(feature = "config")]
#[test]
fn the_page_s_configuration_is_read() {
    use tower_chassis_core::config::{Format, Loader};
    let text = "
rules:
  - id: slow-stock
    matches: { operations: [GET], path_prefix: /stock, meta: { x-tenant: acme } }
    delay: { ppm: 10000, of: { pareto: { min: 20ms, shape: 1.2, max: 5s } } }
    abort: { ppm: 1000, of: { status: 503 } }
    throttle: { ppm: 5000, of: 16384 }
    truncate: { ppm: 500, of: 100 }
    expires_at: 2026-11-21T18:00:00Z
  - { id: two, delay: { ppm: 1, of: { fixed: 1s } }, abort: { ppm: 1, of: reset } }
headers: { max_delay: 2s, max_ppm: 1000 }
";
    let loader = Loader::new().text("faults.yaml", Format::Yaml, text);
    let (_, config) = loader.load_as::<FaultConfig>().unwrap();
    let [first, second] = &config.rules[..] else {
        panic!("{config:?}")
    };
    let (min, max) = (Duration::from_millis(20), SECOND * 5);
    let slow = Delay::Pareto {
        min,
        shape: 1.2,
        max,
    };
    assert_eq!(first.delay.unwrap().of, slow);
    assert_eq!(first.abort.unwrap().of, Abort::Status(503));
    assert_eq!(
        (first.throttle.unwrap().of, first.truncate.unwrap().ppm),
        (16_384, 500)
    );
    let at = first
        .expires_at
        .unwrap()
        .duration_since(SystemTime::UNIX_EPOCH);
    assert_eq!(at.unwrap().as_secs(), 1_795_284_000);
    assert_eq!(second.abort.unwrap().of, Abort::Reset);
    assert_eq!(config.headers.as_ref().unwrap().max_delay, SECOND * 2);
    assert!(FaultPolicy::try_from(config).is_ok());
    let wrong = Loader::new().text(
        "f.yaml",
        Format::Yaml,
        "rules: [{ id: a, expires_at: tomorrow }]",
    );
    let error = wrong.load_as::<FaultConfig>().unwrap_err().to_string();
    assert!(
        error.contains("rules[0].expires_at") && error.contains("not a time"),
        "{error}"
    );
}
