//! An attacker on the path of an established connection; see `tests/hostile/harness.rs`.

#![no_main]

#[path = "../../hostile/harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|script: &[u8]| harness::play(script));
