//! Which layers there are, by what the sources say.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

use crate::rows::ROWS;

/// Layers in the sources that are not for use.
const NOT_LAYERS: [&str; 1] = [
    // `testing::faulty`: wrong on purpose; core's own tests run the suite on it.
    "LimitLayer",
];

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The public layers that `text` defines: `pub struct XLayer`, `impl Layer<S> for XLayer`, or a macro that makes one.
fn layers_of(text: &str) -> BTreeSet<String> {
    let private = Regex::new(r"(?m)^\s*(?:pub\([^)]*\) )?struct (\w*Layer)\b").unwrap();
    let private: Vec<&str> = private
        .captures_iter(text)
        .map(|found| found.extract::<1>().1[0])
        .collect();
    [
        r"(?m)^\s*pub struct (\w*Layer)\b",
        r"(?m)^\s*impl.*\bLayer<\w+> for (\w*Layer)\b",
        // Attributes come first in the invocation, then the name of the layer.
        r"(?s)\b\w+! \{(?:\s*(?:///[^\n]*|#\[[^\n]*\])\n)*\s*(\w*Layer),",
    ]
    .into_iter()
    .flat_map(|pattern| {
        let pattern = Regex::new(pattern).unwrap();
        let found = pattern.captures_iter(text).map(|found| found[1].to_owned());
        found.collect::<Vec<_>>()
    })
    .filter(|layer| !private.contains(&&**layer))
    .collect()
}

/// The sources of this package and of its crates.
fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.join("Cargo.toml").is_file() {
            rust_files(&path.join("src"), &mut files);
        }
    }
    files
}

fn layers() -> BTreeSet<String> {
    sources()
        .iter()
        .flat_map(|file| layers_of(&fs::read_to_string(file).unwrap()))
        .filter(|layer| !NOT_LAYERS.contains(&&**layer))
        .collect()
}

#[test]
fn every_layer_has_a_row() {
    let layers = layers();
    let rows: BTreeSet<String> = ROWS.iter().map(|row| (*row).to_owned()).collect();
    let missing: Vec<_> = layers.difference(&rows).collect();
    assert!(
        missing.is_empty(),
        "no row for {missing:?}: add to the table in tests/contract/rows.rs\n    \
         {first}: name_of_the_test = || Case::new({first}::new(…)).calls_once();\n\
         with `.limit(n)` if it lets in at most n calls at once, `.held(move || handle.…)` for what its handle \
         shows of calls in flight, and what else `tower_chassis_core::testing` lists",
        first = missing[0],
    );
}

#[test]
fn each_row_is_of_a_layer() {
    let layers = layers();
    for row in ROWS {
        // Services without a layer have a row as well.
        if row.ends_with("Layer") {
            assert!(layers.contains(*row), "{row} is gone: remove its row");
        }
    }
}

#[test]
fn layers_are_found_in_the_sources() {
    for (text, found) in [
        ("pub struct XLayer<J = ()> {", "XLayer"),
        ("impl<S, J: Clone> Layer<S> for XLayer<J> {", "XLayer"),
        (
            "made_layer! {\n    /// Words, YLayer.\n    #[doc(alias = \"Z\")]\n    XLayer, X,\n}",
            "XLayer",
        ),
    ] {
        assert_eq!(
            layers_of(text),
            BTreeSet::from([found.to_owned()]),
            "{text}"
        );
    }
    for text in [
        "pub struct Layered;",
        "pub(crate) struct XLayer;\nimpl<S> Layer<S> for XLayer {",
    ] {
        assert!(layers_of(text).is_empty(), "{text}");
    }
    for known in ["RescueLayer", "TimeoutLayer", "TraceLayer", "TrafficLayer"] {
        assert!(layers().contains(known), "{known}");
    }
}

/// Our own metrics that `text` names.
fn metrics_of(text: &str, pattern: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).unwrap();
    let found = pattern.captures_iter(text).map(|found| found[1].to_owned());
    found.collect()
}

/// A metric that is named anywhere, in the code or in the README, has its row in a table of the pages of `observe`, whose
/// own tests hold the tables to what is recorded.
#[test]
fn every_metric_has_its_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let rows: BTreeSet<String> = ["events/mod.rs", "metrics/mod.rs", "runtime.rs"]
        .into_iter()
        .flat_map(|file| {
            let text = read(&format!("tower-chassis-observe/src/{file}"));
            metrics_of(&text, r"(?m)^//! \| `(chassis_\w+)`")
        })
        .collect();
    assert!(rows.len() > 20, "{rows:?}");
    let mut seen = BTreeSet::new();
    for file in sources() {
        // Tests make names up.
        let mut parts = file.components();
        if parts.any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for metric in metrics_of(&text, r#""(chassis_\w+)""#) {
            assert!(rows.contains(&metric), "{}: {metric}", file.display());
            seen.insert(metric);
        }
    }
    assert_eq!(seen, rows, "a row of a metric that nobody names");
    for metric in metrics_of(&read("README.md"), r"`(chassis_\w+)`") {
        assert!(rows.contains(&metric), "README.md: {metric}");
    }
}
