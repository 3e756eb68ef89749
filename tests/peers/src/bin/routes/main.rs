//! Our table of routes beside matchit, path-tree and wayfind: lookups of a path, without a request around it.
//!
//!   cargo run --release --manifest-path tests/peers/Cargo.toml --bin routes --features routes
//!   … -- --rounds 15 --millis 5        more rounds of each case, longer ones
//!   … -- --instructions no             without callgrind, which needs `valgrind`
//!   … -- --only github --subject tower-chassis --batches 20      one case, for a profile:
//!
//!   CARGO_PROFILE_RELEASE_DEBUG=1 cargo build --release --manifest-path tests/peers/Cargo.toml --bin routes --features routes
//!   valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*measure::Case::batch*' \
//!       target/release/routes --only github --subject tower-chassis --batches 20
//!
//! Each subject gets the same shapes, parameters named by their place, and hands out its value and its captures. Ours is
//! asked for a method as well. Cases of a table run in turn, round after round, on one core; a time is the median over
//! rounds, a ratio the median of the rounds' ratios. A subject that refuses a table, or answers it otherwise, is left out.

mod alive;
mod measure;
mod subjects;
mod tables;

use std::{env, time::Duration};

use tower_chassis_peers::{option, process::pin_self, table};

use crate::{
    measure::{Built, Case, built, instructions, ratio, run},
    subjects::{Matchit, Ours, PathTree, Subject, Wayfind},
    tables::Table,
};

#[global_allocator]
static ALLOCATOR: alive::Alive = alive::Alive;

const HELP: &str = "routes [--rounds 11] [--millis 5] [--instructions yes|no] [--only TABLE --subject NAME --batches 20]";

fn cases(table: &Table) -> Vec<Case> {
    if table.alone {
        return Case::new::<Ours>(table).into_iter().collect();
    }
    [
        Case::new::<Ours>(table),
        Case::new::<Matchit>(table),
        Case::new::<PathTree>(table),
        Case::new::<Wayfind>(table),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// All tables, by what they show.
fn groups() -> Vec<(&'static str, Vec<Table>)> {
    let sizes = [10, 100, 1_000, 10_000, 100_000];
    let grown = |words| {
        sizes
            .iter()
            .map(|size| tables::generated(*size, words))
            .collect()
    };
    vec![
        ("tables", tables::reference()),
        ("growth", grown(false)),
        ("growth, words", grown(true)),
        (
            "backtracking",
            [4, 8, 12]
                .into_iter()
                .flat_map(tables::mixes)
                .chain(tables::one_end(12))
                .chain(tables::no_text(8))
                .chain(tables::no_text(10))
                .collect(),
        ),
        ("worst", tables::worst()),
        ("in a segment", tables::in_segment()),
        ("rich", tables::rich()),
        ("captures", vec![tables::sixteen()]),
    ]
}

/// What was measured.
#[derive(Default)]
struct Results(Vec<(String, Vec<Case>)>);

impl Results {
    fn case(&self, table: &str, subject: &str) -> Option<&Case> {
        let (_, cases) = self.0.iter().find(|(name, _)| name == table)?;
        cases.iter().find(|case| case.name == subject)
    }

    fn ratio(&self, table: &str, subject: &str) -> f64 {
        match (self.case(table, Ours::NAME), self.case(table, subject)) {
            (Some(ours), Some(theirs)) => ratio(ours, theirs),
            _ => f64::NAN,
        }
    }

    /// Over the fastest of the others.
    fn best(&self, table: &str) -> f64 {
        let others = [Matchit::NAME, PathTree::NAME, Wayfind::NAME];
        let ratios = others.iter().map(|name| self.ratio(table, name));
        ratios.filter(|ratio| ratio.is_finite()).fold(0.0, f64::max)
    }

    fn own(&self, table: &str, base: &str) -> f64 {
        let nanos = |table| self.case(table, Ours::NAME).map_or(f64::NAN, Case::nanos);
        nanos(table) / nanos(base)
    }

    fn allocations(&self) -> f64 {
        let few = |table: &&(String, Vec<Case>)| table.0 != "param20" && table.0 != "an escape";
        let own = self.0.iter().filter(few).flat_map(|(_, cases)| cases);
        let own = own.filter(|case| case.name == Ours::NAME);
        own.map(|case| case.allocations).fold(0.0, f64::max)
    }
}

fn main() {
    if env::args().any(|arg| arg == "--help") {
        return println!("{HELP}");
    }
    let only: String = option("--only", String::new());
    if !only.is_empty() {
        let subject: String = option("--subject", Ours::NAME.to_owned());
        let all = groups().into_iter().flat_map(|(_, tables)| tables);
        let table = all.into_iter().find(|table| table.name == only);
        let mut cases = cases(&table.expect("--only needs the name of a table"));
        let case = cases
            .iter_mut()
            .find(|case| case.name == subject)
            .expect("--subject");
        let batches = option("--batches", 20);
        (0..batches).for_each(|_| case.batch());
        return println!("{}", batches * case.lookups);
    }
    if let Err(error) = pin_self(0) {
        println!("not pinned to a core: {error}");
    }
    let (rounds, time) = (
        option("--rounds", 11),
        Duration::from_millis(option("--millis", 5)),
    );
    let counting = option("--instructions", "yes".to_owned()) == "yes";
    let group: String = option("--group", String::new());
    let mut results = Results::default();
    for (title, tables) in groups() {
        if !group.is_empty() && group != title {
            continue;
        }
        let mut rows = Vec::new();
        for one in &tables {
            let mut cases = cases(one);
            run(&mut cases, rounds, time);
            if counting && title == "tables" {
                for case in &mut cases {
                    case.instructions = instructions(&one.name, case.name);
                }
            }
            rows.extend(cases.iter().map(|case| {
                let base = cases.iter().find(|case| case.name == Matchit::NAME);
                vec![
                    one.name.clone(),
                    case.name.to_owned(),
                    table::figure(case.nanos()),
                    base.map_or_else(String::new, |base| format!("{:.2}", ratio(case, base))),
                    format!("{:.2}", case.allocations),
                    format!("{:.0}", case.instructions),
                ]
            }));
            results.0.push((one.name.clone(), cases));
        }
        table::print(
            title,
            &[
                "table",
                "router",
                "ns",
                "to matchit",
                "allocations",
                "instructions",
            ],
            &rows,
        );
    }
    let builds = building();
    bars(&results, &builds);
}

/// Building github, and 10,000 routes.
fn building() -> Vec<[Option<Built>; 4]> {
    let mut reference = tables::reference();
    let tables = [
        reference.swap_remove(0),
        tables::generated(10_000, true),
        tables::generated(100_000, true),
    ];
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for (one, rounds) in tables.iter().zip([101, 7, 3]) {
        let each = [
            built::<Ours>(one, rounds),
            built::<Matchit>(one, rounds),
            built::<PathTree>(one, rounds),
            built::<Wayfind>(one, rounds),
        ];
        for (name, built) in [Ours::NAME, Matchit::NAME, PathTree::NAME, Wayfind::NAME]
            .iter()
            .zip(&each)
        {
            if let Some(built) = built {
                let figures = [built.bytes, built.nanos].map(|figure| format!("{figure:.0}"));
                let [bytes, nanos] = figures;
                rows.push(vec![one.name.clone(), (*name).to_owned(), bytes, nanos]);
            }
        }
        all.push(each);
    }
    table::print(
        "building, per route",
        &["table", "router", "bytes alive", "ns"],
        &rows,
    );
    all
}

fn bars(results: &Results, builds: &[[Option<Built>; 4]]) {
    let mut rows = Vec::new();
    let mut bar = |name: &str, what: &str, value: f64, most: f64| {
        let verdict = if value <= most { "" } else { "MISSED" };
        rows.push(vec![
            format!("{name} {what}"),
            format!("{value:.3}"),
            format!("{most}"),
            verdict.to_owned(),
        ]);
    };
    let seven = [
        "github", "gplus", "parse", "static", "param1", "param5", "param20",
    ];
    let ratios = seven.map(|table| results.ratio(table, Matchit::NAME));
    let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / 7.0).exp();
    bar("R1", "geometric mean of seven / matchit", mean, 0.80);
    bar(
        "R1",
        "the worst of them",
        ratios.into_iter().fold(0.0, f64::max),
        1.05,
    );
    bar(
        "R2",
        "static / matchit",
        results.ratio("static", Matchit::NAME),
        0.65,
    );
    bar(
        "R2",
        "five parameters / matchit",
        results.ratio("param5", Matchit::NAME),
        0.40,
    );
    bar(
        "R3",
        "10,000 routes / matchit",
        results.ratio("10000", Matchit::NAME),
        0.35,
    );
    bar(
        "R3",
        "100,000 routes / matchit",
        results.ratio("100000", Matchit::NAME),
        0.20,
    );
    bar(
        "R3",
        "own 100,000 / own 10",
        results.own("100000", "10"),
        4.0,
    );
    bar(
        "R4",
        "d=12 miss / wayfind",
        results.ratio("d=12 miss", Wayfind::NAME),
        1.5,
    );
    bar("R4", "d=12 last / best", results.best("d=12 last"), 0.005);
    bar(
        "R4",
        "own miss, d=12 / d=4",
        results.own("d=12 miss", "d=4 miss"),
        12.0,
    );
    bar(
        "R4",
        "own last, d=12 / d=4",
        results.own("d=12 last", "d=4 last"),
        12.0,
    );
    bar(
        "R5",
        "8 KiB parameter / best",
        results.best("8 KiB parameter"),
        3.0,
    );
    bar(
        "R5",
        "8 KiB prefix, miss / best",
        results.best("8 KiB prefix, miss"),
        3.0,
    );
    bar(
        "R6",
        "allocations up to 16 parameters",
        results.allocations(),
        0.0,
    );
    for (name, built) in ["github", "10,000"].iter().zip(builds) {
        if let [Some(ours), Some(matchit), _, Some(wayfind)] = built {
            bar(
                "R7",
                &format!("{name}: bytes / wayfind"),
                ours.bytes / wayfind.bytes,
                1.5,
            );
            bar(
                "R7",
                &format!("{name}: building / matchit"),
                ours.nanos / matchit.nanos,
                1.0,
            );
        }
    }
    table::print("bars", &["bar", "is", "at most", ""], &rows);
}
