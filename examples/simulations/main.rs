//! What the layers do in bad times, in virtual time: a retry storm, an overload, a flapping endpoint, a slow upstream.
//!
//! ```text
//! cargo run --release --example simulations -- [SEED] [FOLDER]
//! ```
//! Prints what came of each, and with a folder draws each as SVG into it. The same seed gives the same figures; the tests
//! hold them to their bounds for three seeds (`tests/simulations.rs`).
#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

mod chart;
mod flapping;
mod overload;
mod slow;
mod storm;
mod world;

use std::{env, fs, io, path::PathBuf};

use chart::Chart;

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let seed = args.next().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let folder = args.next().map(PathBuf::from);
    let draw = |name: &str, chart: &Chart| match &folder {
        Some(folder) => {
            fs::create_dir_all(folder)?;
            fs::write(folder.join(name).with_extension("svg"), chart.to_string())
        }
        None => Ok(()),
    };

    let storm = storm::storm(seed);
    println!("retry storm: load on an upstream that is down, over what is offered");
    println!("  three attempts each         {:.2}", storm.unbounded);
    println!("  with a budget               {:.2}", storm.budget);
    println!("  with a budget and breakers  {:.2}", storm.breaker);
    println!(
        "  calls that failed in the ten seconds after: {}",
        storm.failed_after
    );
    draw("storm", &storm.chart)?;

    let flapping = flapping::flapping(seed);
    println!("flapping: one endpoint of five is down for 2 s of every 5 s");
    println!("  calls that failed           {}", flapping.failed);
    println!(
        "  failed attempts per call    {:.4}",
        flapping.failed_attempts
    );
    println!("  its share at the end        {:.2}", flapping.comes_back);
    draw("flapping", &flapping.chart)?;

    let overload = overload::overload(seed);
    println!("overload: twice what the service can serve");
    println!(
        "  answered in time, over what it can serve: {:.2}, without a limit {:.2}",
        overload.goodput, overload.unlimited
    );
    println!(
        "  p99 of what was let in {:?}, at half the load {:?}",
        overload.admitted, overload.unloaded
    );
    println!(
        "  what matters most: {:.2} % of it in time, p99 {:?}; with a limit only {:.2} %, and who only says so {:.2} %",
        overload.peers * 100.0,
        overload.peers_took,
        overload.peers_without * 100.0,
        overload.pretenders * 100.0
    );
    draw("overload", &overload.chart)?;

    let slow = slow::slow(seed);
    println!("slow: three calls in two hundred take 500 ms");
    println!(
        "  p99 {:?}, with hedges {:?}, for {:.2} % more calls",
        slow.plain,
        slow.hedged,
        slow.extra * 100.0
    );
    draw("slow", &slow.chart)
}
