//! Five layers as one stack (rate limit, retry, timeout of a try, breaker, bulkhead), and six with a fallback around
//! them, beside tower-resilience's same and tower's nearest and a load shed, and each of them and of the other layers by
//! itself, on their success path: what they add to a no-op in time, allocations and instructions, and how much two cores
//! do over one.
//!
//!   cargo run --release --manifest-path tests/peers/Cargo.toml --bin five --features five
//!   … -- --rounds 31 --millis 8          more rounds of each case, longer ones
//!   … -- --instructions no               without callgrind, which needs `valgrind`
//!   … -- --only "five layers"            one case under `valgrind --tool=callgrind`, for a profile:
//!
//!   CARGO_PROFILE_RELEASE_DEBUG=1 cargo build --release --manifest-path tests/peers/Cargo.toml --bin five --features five
//!   valgrind --tool=callgrind --callgrind-out-file=five.out --collect-atstart=no --toggle-collect='*bench::Case::batch*' \
//!       target/release/five --only "five layers" --group 1 --batches 20
//!   callgrind_annotate --auto=no --inclusive=no five.out
//!
//! Cases run in turn, round after round, on one core. A time is the median over rounds less the no-op's with the same
//! request, a ratio the median over rounds. Allocations cost some ten instructions each that are the counter's. Theirs
//! are built without metrics and tracing; with `--features five-full` they have both, and nobody listens.
//!
//! Two cores must run at once to get into each other's way. Where one `Arc` is no slower on two cores than nothing, they
//! did not: on a busy machine run all of it under `chrt --fifo 1`, which takes the cores from everybody else.

mod call;
mod cases;
mod cores;
mod others;
mod stacks;

use std::{env, time::Duration};

use tower_chassis_peers::{bench, callgrind, counting::Counting, option, process::pin_self, table};

use crate::{
    cases::{BARS, GROUPS},
    cores::cores,
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HELP: &str =
    "five [--rounds 15] [--millis 6] [--instructions yes|no] [--only CASE --batches 4]";

fn main() {
    if env::args().any(|arg| arg == "--help") {
        return println!("{HELP}");
    }
    // Timers must know a runtime; nothing is ever spawned on it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let only: String = option("--only", String::new());
    if !only.is_empty() {
        let mut cases = GROUPS[option("--group", 1)].1();
        let case = cases.iter_mut().find(|case| case.name() == only);
        let case = case.expect("--only needs the name of a case of the group");
        return (0..option("--batches", 4)).for_each(|_| case.batch());
    }
    let (rounds, time) = (
        option("--rounds", 15),
        Duration::from_millis(option("--millis", 6)),
    );
    let with_instructions = option("--instructions", "yes".to_owned()) == "yes";
    cores(rounds);
    if let Err(error) = pin_self(0) {
        println!("not pinned to a core: {error}");
    }
    let mut bars = Vec::new();
    for (group, (title, cases)) in GROUPS.iter().enumerate() {
        let mut cases = cases();
        let mut rows = bench::run(&mut cases, "no-op", rounds, time);
        let counts: Vec<f64> = cases
            .iter()
            .map(|case| {
                if with_instructions {
                    let group = group.to_string();
                    callgrind::of_a_call(&["--only", case.name(), "--group", &group])
                } else {
                    0.0
                }
            })
            .collect();
        let count = |name: &str| {
            cases
                .iter()
                .position(|case| case.name() == name)
                .map_or(0.0, |at| counts[at] - if at == 0 { 0.0 } else { counts[0] })
        };
        for (row, case) in rows.iter_mut().zip(&cases) {
            row.insert(3, format!("{:.0}", count(case.name())));
        }
        table::print(
            title,
            &["case", "ns", "allocations", "instructions", "ratio", "to"],
            &rows,
        );
        for (bar, _, case, base, goal) in BARS.iter().filter(|bar| bar.1 == group) {
            bars.push(vec![
                (*bar).to_owned(),
                (*case).to_owned(),
                (*base).to_owned(),
                format!("{:.2}", bench::ratio(&cases, "no-op", case, base)),
                format!("{:.2}", count(case) / count(base)),
                format!("{goal:.2}"),
            ]);
        }
    }
    table::print(
        "bars",
        &["bar", "case", "to", "time", "instructions", "at most"],
        &bars,
    );
}
