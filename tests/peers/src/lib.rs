//! What the binaries share: counting, timing, and processes that are pinned and end with their owner.

pub mod bench;
pub mod callgrind;
pub mod counting;
pub mod process;
pub mod table;
pub mod tables;

/// The middle of some figures; of an even number the upper one. 0 of none.
#[must_use]
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The value of `--name VALUE` on the command line, or a default.
///
/// # Panics
/// The value is missing or is none of its type: these programs have no other way to say so.
#[must_use]
pub fn option<T: std::str::FromStr>(name: &str, default: T) -> T {
    let mut args = std::env::args();
    match args.by_ref().find(|arg| arg == name) {
        None => default,
        Some(_) => match args.next().map(|value| value.parse()) {
            Some(Ok(value)) => value,
            _ => panic!("{name} needs a value of its type"),
        },
    }
}
