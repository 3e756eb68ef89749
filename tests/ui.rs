//! What the compiler says to who put a stack together wrong: `tests/ui/*.rs`, and what it says of each of them beside
//! it. `src/guide/compile_errors.md` has the cures. The wording is that of one version of rustc.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::{env, io::Write, process::Command};

/// The version whose words are pinned. After a change: `TRYBUILD=overwrite cargo test --test ui`, read what
/// changed, and bring the guide up to date.
const RUSTC: &str = "1.95.0";

#[test]
fn the_compiler_says_what_to_do() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-V").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&output.stdout);
    if version.split_whitespace().nth(1) == Some(RUSTC) {
        trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
        return;
    }
    // Not by a macro, whose output nobody sees if the test passes.
    let skipped = format!(
        "\nSKIPPED: nothing in tests/ui was compiled. Its pins are the words of rustc {RUSTC}, and this is {}.\n",
        version.trim(),
    );
    std::io::stderr()
        .write_all(skipped.as_bytes())
        .expect("stderr is open");
}

#[test]
fn the_guide_quotes_what_the_compiler_says() {
    let guide = include_str!("../src/guide/compile_errors.md");
    let mut read = 0;
    for entry in std::fs::read_dir("tests/ui").unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "stderr")
        {
            continue;
        }
        read += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let error = text.lines().next().unwrap();
        assert!(guide.contains(error), "{} says\n{error}", path.display());
        // What our own bounds say to do.
        for note in text
            .lines()
            .filter(|line| OUR_NOTES.iter().any(|ours| line.contains(ours)))
        {
            assert!(
                guide.contains(note.trim()),
                "{} says\n{note}",
                path.display()
            );
        }
    }
    assert_eq!(read, 7);
}

/// What begins the note of a bound that is ours.
const OUR_NOTES: [&str; 4] = [
    "= note: write `impl",
    "= note: hold an",
    "= note: leave `.until_end()`",
    "= note: leave `.respond()`",
];
