//! Our metrics, traces and access log beside what others have for it: what they add to a service that says which route
//! matched, in time, allocations and instructions.
//!
//!   cargo run --release --manifest-path tests/peers/Cargo.toml --bin observe --features observe
//!   … -- --rounds 31 --millis 8          more rounds of each case, longer ones
//!   … -- --instructions no               without callgrind, which needs `valgrind`
//!   … -- --group 4                       one group alone
//!   … -- --group 4 --only "access log, JSON"      one case under `valgrind --tool=callgrind`, for a profile:
//!
//!   CARGO_PROFILE_RELEASE_DEBUG=1 cargo build --release --manifest-path tests/peers/Cargo.toml --bin observe --features observe
//!   valgrind --tool=callgrind --callgrind-out-file=observe.out --collect-atstart=no --toggle-collect='*bench::Case::batch*' \
//!       target/release/observe --group 4 --only "access log, JSON" --batches 20
//!   callgrind_annotate --auto=no --inclusive=no observe.out
//!
//! A request has four headers and its `Invocation`, as our server hands it in; its answer has a body of 13 bytes, which is read
//! to its end. What theirs has as macros or as a library and no layer is put into a service by hand, as its users do, with the
//! same work around it; the bare call is shown too. Cases of a group run in turn, round after round, on one core. A time is
//! the median over rounds less that of the no-op, a ratio the median over rounds. Every group is a process of its own, because
//! a subscriber to `tracing` is heard everywhere. On a busy machine run it under `chrt --fifo 1`.

mod lines;
mod metered;
mod routed;
mod spans;
mod world;

use std::{
    env,
    process::{Command, Stdio},
    time::Duration,
};

use tower_chassis_peers::{
    bench::{self, Case},
    callgrind,
    counting::Counting,
    option,
    process::pin_self,
    table,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HELP: &str = "observe [--rounds 15] [--millis 6] [--instructions yes|no] [--group GROUP] [--only CASE --batches 4]";

type Group = (&'static str, fn() -> Vec<Case>);

const GROUPS: [Group; 7] = [
    ("metrics", metered::cases),
    ("spans, nobody listens", spans::unheard),
    ("spans, sampled out", spans::sampled_out),
    ("spans, sampled", spans::sampled),
    ("a line for a request", lines::cases),
    ("metrics in axum", routed::metrics),
    ("spans in axum, sampled", routed::spans),
];

/// Bar, group, case, what it is compared with, at most.
const BARS: [(&str, usize, &str, &str, f64); 16] = [
    ("O1", 0, "metrics", "macros, as a service", 0.15),
    (
        "O1",
        0,
        "metrics, active and sizes",
        "macros, as a service",
        0.15,
    ),
    ("O1, bare", 0, "metrics", "macros", 0.15),
    ("O2", 1, "trace", "tower-http: trace", 0.35),
    ("O2", 2, "trace", "opentelemetry, as a service", 0.4),
    ("O2, bare", 2, "trace", "opentelemetry: span", 0.4),
    ("O3", 3, "trace", "tracing-opentelemetry, as a service", 0.3),
    ("O3, bare", 3, "trace", "tracing-opentelemetry: span", 0.3),
    (
        "O3, read out",
        3,
        "trace, read out",
        "tracing-opentelemetry, as a service",
        0.3,
    ),
    ("O3, SDK", 3, "trace", "opentelemetry: span", 1.2),
    (
        "O4",
        4,
        "access log, JSON",
        "tracing: JSON, as a service",
        0.5,
    ),
    (
        "O4, bare",
        4,
        "access log, JSON",
        "tracing: JSON event",
        0.5,
    ),
    ("layers", 5, "metrics", "axum-prometheus", 0.33),
    (
        "layers",
        5,
        "metrics, active and sizes",
        "tower-otel: metrics",
        0.33,
    ),
    ("layers", 6, "trace", "tower-otel: trace", 0.33),
    (
        "layers, no invocation",
        5,
        "metrics, invocation made",
        "axum-prometheus",
        0.33,
    ),
];

/// Cases that allocate nothing, in so many calls.
const BARE: [(usize, &str); 5] = [
    (0, "metrics"),
    (0, "metrics, active and sizes"),
    (1, "trace"),
    (3, "trace"),
    (4, "access log, JSON"),
];
const CALLS: usize = 100_000;

/// Before a row of the last table, which a group hands to the program that started it.
const BAR: &str = "\u{1}bar\t";

/// One group, with its rows of the last table.
fn group(group: usize) -> Vec<Vec<String>> {
    let (title, cases) = GROUPS[group];
    let mut cases = cases();
    let only: String = option("--only", String::new());
    if !only.is_empty() {
        let case = cases.iter_mut().find(|case| case.name() == only);
        let case = case.expect("--only needs the name of a case of the group");
        case.warm();
        (0..option("--batches", 4)).for_each(|_| case.batch());
        return Vec::new();
    }
    if let Err(error) = pin_self(0) {
        println!("not pinned to a core: {error}");
    }
    let time = Duration::from_millis(option("--millis", 6));
    let mut rows = bench::run(&mut cases, world::FLOOR, option("--rounds", 15), time);
    let with_instructions = option("--instructions", "yes".to_owned()) == "yes";
    let counts: Vec<f64> = cases
        .iter()
        .map(|case| {
            if with_instructions {
                callgrind::of_a_call(&["--only", case.name(), "--group", &group.to_string()])
            } else {
                f64::NAN
            }
        })
        .collect();
    let count = |name: &str| {
        let at = cases.iter().position(|case| case.name() == name);
        at.map_or(f64::NAN, |at| {
            counts[at] - if at == 0 { 0.0 } else { counts[0] }
        })
    };
    for (row, case) in rows.iter_mut().zip(&cases) {
        row.insert(3, format!("{:.0}", count(case.name())));
    }
    let heads = ["case", "ns", "allocations", "instructions", "ratio", "to"];
    table::print(title, &heads, &rows);
    let bars = BARS.iter().filter(|bar| bar.1 == group);
    let mut bars: Vec<Vec<String>> = bars
        .map(|(bar, _, case, base, goal)| {
            vec![
                (*bar).to_owned(),
                (*case).to_owned(),
                (*base).to_owned(),
                format!("{:.2}", bench::ratio(&cases, world::FLOOR, case, base)),
                format!("{:.2}", count(case) / count(base)),
                format!("{goal:.2}"),
            ]
        })
        .collect();
    for (_, name) in BARE.iter().filter(|bare| bare.0 == group) {
        let case = cases.iter_mut().find(|case| case.name() == *name);
        let count = bench::allocated(case.unwrap(), CALLS);
        bars.push(vec![
            "allocations".to_owned(),
            (*name).to_owned(),
            format!("{CALLS} calls"),
            String::new(),
            count.to_string(),
            "0".to_owned(),
        ]);
    }
    bars
}

/// A group in a process of its own.
fn apart(group: usize) -> Vec<Vec<String>> {
    let output = Command::new(env::current_exe().unwrap())
        .args(env::args().skip(1))
        .args(["--group", &group.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "group {group} has failed");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut bars = Vec::new();
    for line in text.lines() {
        match line.strip_prefix(BAR) {
            Some(bar) => bars.push(bar.split('\t').map(str::to_owned).collect()),
            None => println!("{line}"),
        }
    }
    bars
}

fn main() {
    if env::args().any(|arg| arg == "--help") {
        return println!("{HELP}");
    }
    if env::args().any(|arg| arg == "--group") {
        // Timers must know a runtime; nothing is ever spawned on it.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        for bar in group(option("--group", 0)) {
            println!("{BAR}{}", bar.join("\t"));
        }
        return;
    }
    let bars: Vec<_> = (0..GROUPS.len()).flat_map(apart).collect();
    let heads = ["bar", "case", "to", "time", "instructions", "at most"];
    table::print("bars", &heads, &bars);
}
