//! Every version of the sum against the definition.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// RFC 1071 §1, word by word.
fn by_definition(initial: u16, bytes: &[u8]) -> u16 {
    let mut total = u32::from(initial);
    for word in bytes.chunks(2) {
        total += u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low));
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// All versions that this machine can run, the one behind [`sum`] among them.
fn check(initial: u16, bytes: &[u8]) {
    let expected = by_definition(initial, bytes);
    assert_eq!(sum(initial, bytes), expected, "{} bytes", bytes.len());
    let whole = |native: u64| add(initial, u16::from_be(fold(native)));
    assert_eq!(whole(sum_portable(bytes)), expected, "portable, {} bytes", bytes.len());
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        let native = unsafe { sum_avx2(bytes) };
        assert_eq!(whole(native), expected, "AVX2, {} bytes", bytes.len());
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        // SAFETY: the processor has NEON.
        let native = unsafe { sum_neon(bytes) };
        assert_eq!(whole(native), expected, "NEON, {} bytes", bytes.len());
    }
}

#[test]
fn all_lengths_at_all_alignments() {
    let bytes: Vec<u8> = (0..300u32).map(|index| (index * 167 + 13) as u8).collect();
    for start in 0..64 {
        for len in 0..=200 {
            check(0, &bytes[start..start + len]);
        }
    }
}

#[test]
fn carries_go_around() {
    for len in 0..=200 {
        check(0xffff, &vec![0xff; len]);
        check(0, &vec![0xff; len]);
        check(0xffff, &vec![0; len]);
        check(0, &vec![0; len]);
        check(1, &vec![0xff; len]);
    }
    // Long enough that 16-bit, and even 32-bit, accumulators would overflow.
    check(0xfffe, &vec![0xff; 1 << 18]);
    check(0, &vec![0xff; (1 << 18) + 1]);
}

#[test]
fn the_example_of_rfc_1071() {
    // RFC 1071 §3.
    assert_eq!(sum(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
}

#[test]
fn the_pseudo_header_is_summed_as_if_it_stood_there() {
    let v4: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap()];
    let bytes = [192, 0, 2, 1, 198, 51, 100, 7, 0, 6, 0x05, 0xb4];
    assert_eq!(pseudo_header_sum(&v4[0], &v4[1], 6, 0x5b4), by_definition(0, &bytes));
    let v6: [IpAddr; 2] = ["2001:db8::ffff:1".parse().unwrap(), "fe80::7:8".parse().unwrap()];
    let mut bytes = Vec::new();
    for addr in &v6 {
        let IpAddr::V6(addr) = addr else { panic!("{addr} is no IPv6 address") };
        bytes.extend_from_slice(&addr.octets());
    }
    bytes.extend_from_slice(&[0, 0, 0x23, 0x28, 0, 0, 0, 58]);
    assert_eq!(pseudo_header_sum(&v6[0], &v6[1], 58, 9000), by_definition(0, &bytes));
}

proptest! {
    #[test]
    fn any_bytes(initial in any::<u16>(), bytes in vec(prop_oneof![any::<u8>(), Just(0xff)], 0..3000)) {
        check(initial, &bytes);
    }

    #[test]
    fn pieces_add_up_to_the_whole(
        bytes in vec(any::<u8>(), 0..500),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(bytes.len() + 1);
        let (first, second) = bytes.split_at(cut);
        prop_assert_eq!(append(sum(0, first), cut, sum(0, second)), by_definition(0, &bytes));
    }
}
