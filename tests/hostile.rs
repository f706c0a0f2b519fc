//! Packets of an attacker on the path of an established connection: random scripts for `hostile/harness.rs`. `make fuzz` has a
//! fuzzer write them, which learns what each of them reaches.

#[path = "hostile/harness.rs"]
mod harness;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_attacker_on_the_path_makes_the_stack_panic_or_leak(
        script in proptest::collection::vec(any::<u8>(), 0..1_500),
    ) {
        harness::play(&script);
    }
}

fn cases() -> u32 {
    if std::env::var_os("BRAID_LONG").is_some() { 200_000 } else { 5_000 }
}

/// What the fuzzer has found once.
#[test]
fn scripts_that_failed_once() {
    let scripts: &[(&str, &[u8])] = &[(
        "a reported duplicate undoes a time-out, and no loss probe was armed for what is still in flight",
        b"\x2f\xf7\xf8\xf7\x31\xd8\x04\x53\xf6\x00\xf3\xf6\x00\xb3\x00\xe6\x00\xf8\xf6\x00\x00\xe6\xf6\x97\x64\x00\x00\x16\xf8\x2a\xf8\xf8\xe7",
    )];
    scripts.iter().for_each(|(_, script)| harness::play(script));
}
