//! Tables of routes, and what is asked of them.

use std::path::{Path, PathBuf};

use http::Method;

/// One row of a table.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its pattern, `{name}` for a parameter.
    pub pattern: String,
    /// A path that it matches: the name of each parameter is its value.
    pub path: String,
}

/// The tables of the reference benchmark, and where chi can read them.
pub const TABLES: [&str; 7] = [
    "github", "gplus", "parse", "static", "param1", "param5", "param20",
];

/// The file of a table.
#[must_use]
pub fn file(table: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("routes")
        .join(table)
        .with_extension("json")
}

/// Reads a table.
///
/// # Panics
/// It cannot be read.
#[must_use]
pub fn read(table: &str) -> Vec<Route> {
    let file = file(table);
    let text = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.iter()
        .map(|row| {
            let pattern = text(row, "path");
            Route {
                method: text(row, "method").parse().unwrap(),
                path: pattern.replace(['{', '}'], ""),
                pattern,
            }
        })
        .collect()
}
