//! A header that says how long a caller waits.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tower_chassis_fuzz::grpc_timeout(input));
