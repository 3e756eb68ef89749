//! Every layer of the project under the laws of layers (`tower_chassis_core::testing`).
//!
//! A new layer needs a row in `rows.rs`; `every_layer_has_a_row` says which one lacks it.

mod rows;
mod sources;
