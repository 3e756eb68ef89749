//! Formats of others.

pub(super) mod common;
pub(super) mod ecs;
pub(super) mod gcp;
pub(super) mod otel;
