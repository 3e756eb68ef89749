//! Instructions, counted by `valgrind --tool=callgrind` in this program, run again for one case.

use std::{env, process::Command};

use crate::bench::BATCH;

/// What was counted, and what the program said.
#[derive(Debug)]
pub struct Counted {
    /// Instructions inside the function.
    pub instructions: f64,
    /// The program's output.
    pub output: String,
}

/// Runs this program with `args` and counts inside `function` alone, which stars may stand in.
///
/// # Panics
/// There is no `valgrind`, or it counted nothing.
#[must_use]
pub fn inside(function: &str, args: &[&str]) -> Counted {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--collect-atstart=no")
        .arg(format!("--toggle-collect={function}"))
        .arg(env::current_exe().unwrap())
        .args(args)
        .output()
        .expect("--instructions no, or valgrind");
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.split_once("Collected : ");
    let count = count.and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    Counted {
        instructions: count.unwrap_or_else(|| panic!("{text}")),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
    }
}

/// Instructions of a call of one [`Case`](crate::bench::Case), the making of its request among them: `args` name it, and
/// the program makes as many batches of it as `--batches` says.
#[must_use]
pub fn of_a_call(args: &[&str]) -> f64 {
    const BATCHES: usize = 20;
    let batches = BATCHES.to_string();
    let args = [args, &["--batches", &batches]].concat();
    inside("*bench::Case::batch*", &args).instructions / (BATCHES * BATCH) as f64
}
