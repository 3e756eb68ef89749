//! A YAML text as the gateway's file.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tower_chassis_fuzz::config_yaml(input));
