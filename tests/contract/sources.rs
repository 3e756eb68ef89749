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

/// The layers that `text` defines: `pub struct XLayer`, or an `observer_layer!` that makes one.
fn layers_of(text: &str) -> Vec<String> {
    let plain = Regex::new(r"(?m)^\s*pub struct (\w*Layer)\b").unwrap();
    // Attributes come first in the invocation, then the name of the layer.
    let made = Regex::new(r"(?s)\bobserver_layer! \{(?:\s*(?:///[^\n]*|#\[[^\n]*\])\n)*\s*(\w*Layer)\b").unwrap();
    let mut layers = Vec::new();
    for pattern in [plain, made] {
        layers.extend(pattern.captures_iter(text).map(|found| found[1].to_owned()));
    }
    layers
}

fn layers() -> BTreeSet<String> {
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
    assert_eq!(
        layers_of("    pub struct XLayer<J = ()> {\npub struct Layered;\nstruct HiddenLayer;"),
        ["XLayer"]
    );
    assert_eq!(
        layers_of("observer_layer! {\n    /// Words, YLayer.\n    #[doc(alias = \"Z\")]\n    YLayer, Y,\n}"),
        ["YLayer"]
    );
    for known in ["RescueLayer", "TimeoutLayer", "TraceLayer", "TrafficLayer"] {
        assert!(layers().contains(known), "{known}");
    }
}
