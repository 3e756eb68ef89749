# Every recipe is one command of the gate (`.ci/run`), or the way to one of its parts.

# What there is
default:
    @just --list --unsorted

# Builds everything that is checked, without running it
check:
    cargo check --workspace --all-targets --all-features

# All tests, or those whose name contains the filter
test *filter:
    cargo test --workspace --all-features {{filter}}

# The tests of one layer, in every place that has some: `just layer breaker`
layer name:
    cargo test --workspace --all-features {{name}}

# The layout of the code
fmt:
    cargo fmt --all --check

# clippy, where a warning is an error
lint:
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# The documentation, where a warning is an error
doc:
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --all-features --no-deps

# One crate by itself, as its users build it: `just alone tower-chassis-core`
alone package:
    cargo check -p {{package}} && cargo check -p {{package}} --no-default-features

# How many crates a package brings
tree package="tower-chassis":
    cargo tree -e normal,build --prefix none --no-dedupe -p {{package}} | sort -u | wc -l

# The loom models, or one of them
loom *filter:
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/tower-chassis-target}/loom" RUSTFLAGS='--cfg chassis_loom' cargo test --manifest-path tests/loom/Cargo.toml --release {{filter}}

# The fuzz targets on their seeds and on mutations of them
seeds:
    cargo test --manifest-path tests/fuzz/Cargo.toml --no-default-features --lib

# A fuzz target for ten minutes (nightly, cargo-fuzz): `just fuzz route_pattern`
fuzz target:
    cargo fuzz run --fuzz-dir tests/fuzz -s none {{target}} -- -max_total_time=600

# What layers cost, beside tower's
layers *options:
    cargo run --release --manifest-path tests/peers/Cargo.toml --bin layers -- {{options}}

# What servers cost, beside others': `just servers hello`, `just servers gateway`
servers what *options:
    cargo run --release --manifest-path tests/peers/Cargo.toml --bin servers -- {{what}} {{options}}

# Licences, sources, bans, advisories (cargo-deny)
deny:
    cargo deny --all-features check

# An example: `just example hello`
example name *arguments:
    cargo run --example {{name}} -- {{arguments}}

# The gateway: the demo, or `just run run --config FILE`
run *arguments:
    cargo run --release --features gateway -- {{arguments}}

# The run command, started, asked and drained
smoke:
    .ci/smoke

# All of it
ci:
    .ci/run
