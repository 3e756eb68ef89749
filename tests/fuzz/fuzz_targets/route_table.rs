//! A table of routes, and a request for it.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tower_chassis_fuzz::route_table(input));
