//! What it costs to find the handler of a request and to call it, beside axum and chi, on the tables of the reference
//! benchmark. The handlers do nothing; the making of a request is not measured.
//!
//!   cargo run --release --manifest-path tests/peers/Cargo.toml --bin dispatch --features dispatch
//!   … -- --rounds 31 --millis 8            more rounds of each case, longer ones
//!   … -- --chi no                          without chi
//!   … -- --only "axum" --table github      one case, for a profile under `valgrind --tool=callgrind`, as with `five`
//!
//! chi runs as a process of its own on the same core, in turn with the others; its request is one object that is used
//! again. It needs `go`, and chi's source where `CHI_SOURCE` says (by default where Debian's
//! `golang-github-go-chi-chi-dev` puts it); which chi that is, the first line says.

mod cases;
mod chi;

use std::{env, time::Duration};

use tower_chassis_peers::{
    bench, callgrind, counting::Counting, median, option, process::pin_self, table, tables::TABLES,
};

use crate::chi::Chi;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HELP: &str = "dispatch [--rounds 15] [--millis 6] [--instructions yes|no] [--chi yes|no] [--only CASE --table TABLE --batches 4]";

/// Name of the bar, case, base, at most.
const BARS: &[(&str, &str, &str, f64)] = &[
    ("D1", "async fn", "axum", 0.30),
    ("D1", "tower service", "axum", 0.45),
    ("D2", "async fn", "chi", 0.40),
    ("D3", "two Strings", "axum, two Strings", 0.30),
];

fn main() {
    if env::args().any(|arg| arg == "--help") {
        return println!("{HELP}");
    }
    let only: String = option("--only", String::new());
    if !only.is_empty() {
        let mut cases = cases::of(&option("--table", "github".to_owned()));
        let case = cases.iter_mut().find(|case| case.name() == only);
        let case = case.expect("--only needs the name of a case of the table");
        return (0..option("--batches", 4)).for_each(|_| case.batch());
    }
    let (rounds, millis) = (option("--rounds", 15), option("--millis", 6));
    let with_instructions = option("--instructions", "yes".to_owned()) == "yes";
    let mut chi = (option("--chi", "yes".to_owned()) == "yes").then(Chi::start);
    if let Err(error) = pin_self(0) {
        println!("not pinned to a core: {error}");
    }
    let mut bars = Vec::new();
    for name in TABLES.iter().copied().chain(["two"]) {
        let mut cases = cases::of(name);
        let mut theirs = Vec::new();
        for _ in 0..rounds {
            bench::round(&mut cases, Duration::from_millis(millis));
            if let Some(chi) = chi.as_mut().filter(|_| name != "two") {
                theirs.push(chi.round(name, millis));
            }
        }
        let mut rows = bench::rows(&cases, "no-op");
        let counts: Vec<f64> = cases
            .iter()
            .map(|case| {
                if with_instructions {
                    callgrind::of_a_call(&["--only", case.name(), "--table", name])
                } else {
                    0.0
                }
            })
            .collect();
        let count = |case: &str| {
            let at = cases.iter().position(|known| known.name() == case);
            at.map_or(0.0, |at| counts[at] - if at == 0 { 0.0 } else { counts[0] })
        };
        for (row, case) in rows.iter_mut().zip(&cases) {
            row.insert(3, format!("{:.0}", count(case.name())));
        }
        let nanos: Vec<f64> = theirs.iter().map(|round| round.nanos).collect();
        if let Some(last) = theirs.last() {
            rows.push(vec![
                "chi".to_owned(),
                format!("{:.1}", median(&nanos)),
                format!("{:.2}", last.allocations),
                String::new(),
            ]);
        }
        let heads = ["case", "ns", "allocations", "instructions", "ratio", "to"];
        table::print(name, &heads, &rows);
        for (bar, case, base, goal) in BARS {
            if !cases.iter().any(|known| known.name() == *case) {
                continue;
            }
            let (time, counted) = if *base == "chi" {
                let ours = bench::added(&cases, "no-op", case);
                let ratios = ours.iter().zip(&nanos).map(|(ours, theirs)| ours / theirs);
                (median(&ratios.collect::<Vec<_>>()), String::new())
            } else {
                let counted = count(case) / count(base);
                (
                    bench::ratio(&cases, "no-op", case, base),
                    format!("{counted:.2}"),
                )
            };
            bars.push(vec![
                format!("{bar}, {name}"),
                (*case).to_owned(),
                (*base).to_owned(),
                format!("{time:.2}"),
                counted,
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
