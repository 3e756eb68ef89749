//! A header that says where a call stands in a trace.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tower_chassis_fuzz::traceparent(input));
