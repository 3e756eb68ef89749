//! One route of any pattern, asked for any path; they are split at the first line feed.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tower_chassis_fuzz::route_pattern(input));
