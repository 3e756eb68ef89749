//! What the compiler says to who put a stack together wrong: `tests/ui/*.rs`, and what it says of each of them beside
//! it. [The guide](tower_chassis::guide::compile_errors) has the cures. The wording is that of one version of rustc.

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
