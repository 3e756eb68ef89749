//! Every layer of the project under the laws of layers (`tower_chassis_core::testing`).
//!
//! A new layer needs a row in `rows.rs`; `every_layer_has_a_row` says which one lacks it.
#![allow(
    clippy::unwrap_used,
    reason = "a test that fails is to panic; helpers of tests are not seen as tests"
)]

mod rows;
mod sources;
