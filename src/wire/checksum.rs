//! The Internet checksum (RFC 1071), with the vector instructions of the machine where it has them.
//!
//! An exception to the rule that only `xdp/` and the frame pool hold `unsafe`: a function that is compiled for
//! instructions which not every processor has can be called only from `unsafe`, because nothing but the check at run
//! time in front of the call makes it sound. Those calls are the only `unsafe` here. The code itself is safe and
//! written once, in a form that the compiler turns into the vector instructions that each version may use.

#![allow(unsafe_code)]

use std::net::IpAddr;

/// Who makes and checks the TCP checksum of a port's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChecksumMode {
    /// We do, in software: the default.
    #[default]
    Software,
    /// Nobody does: for measuring what it costs, between two Braid hosts that agree.
    Off,
}

/// The one's complement sum of `bytes` as big-endian 16-bit words (a last odd byte counts as the high half), folded
/// to 16 bits and not yet inverted, added to `initial`.
#[inline]
pub fn sum(initial: u16, bytes: &[u8]) -> u16 {
    // RFC 1071 §2 (B): the sum of words in the machine's order is the sum in network order with its bytes swapped.
    add(initial, u16::from_be(fold(sum_native(bytes))))
}

/// The sum of 32-bit words: short headers of a length that the compiler knows.
#[inline]
pub(super) fn sum_words(words: &[[u8; 4]]) -> u16 {
    fold(words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum())
}

/// The one's complement sum of two sums.
#[inline]
pub const fn add(a: u16, b: u16) -> u16 {
    let (total, carry) = a.overflowing_add(b);
    total + carry as u16
}

/// The sum of two pieces that follow each other, from the sum of each alone: `first` is that of `first_len` bytes.
/// So the sum of a payload is made once and used by every header in front of it.
#[inline]
pub const fn append(first: u16, first_len: usize, second: u16) -> u16 {
    // RFC 1071 §2 (B): behind an odd number of bytes, high and low halves change places.
    add(first, if first_len.is_multiple_of(2) { second } else { second.swap_bytes() })
}

/// The sum of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1) in front of `len` bytes of `protocol`.
///
/// # Panics
/// When the addresses are of different families: our own bug.
#[inline]
pub fn pseudo_header_sum(src: &IpAddr, dst: &IpAddr, protocol: u8, len: usize) -> u16 {
    let addresses = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => u64::from(src.to_bits()) + u64::from(dst.to_bits()),
        (IpAddr::V6(src), IpAddr::V6(dst)) => words(src.to_bits()) + words(dst.to_bits()),
        _ => panic!("{src} and {dst} are of different families"),
    };
    fold(addresses + u64::from(protocol) + len as u64)
}

/// Whether a checksum field holds no checksum but the bare sum of the pseudo-header: what a sender leaves there whose
/// network interface was to finish the checksum (Linux: CHECKSUM_PARTIAL), and which arrives unfinished over a
/// virtual link.
#[inline]
pub const fn is_partial(field: u16, pseudo_header_sum: u16) -> bool {
    field == pseudo_header_sum
}

/// The sum of the 32-bit words of an IPv6 address.
const fn words(bits: u128) -> u64 {
    (bits as u32 as u64)
        + ((bits >> 32) as u32 as u64)
        + ((bits >> 64) as u32 as u64)
        + ((bits >> 96) as u32 as u64)
}

/// Folds a sum of words of any width to 16 bits, end-around carry included.
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// The sum of `bytes` as 32-bit words in the machine's order, zeros added to the last.
#[inline]
fn sum_native(bytes: &[u8]) -> u64 {
    // The standard library keeps what the processor can do in an atomic: these checks are one load each.
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= VECTOR_MIN && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that the function asks for.
        return unsafe { sum_avx2(bytes) };
    }
    #[cfg(target_arch = "aarch64")]
    if bytes.len() >= VECTOR_MIN && std::arch::is_aarch64_feature_detected!("neon") {
        // SAFETY: the processor has NEON, which is all that the function asks for.
        return unsafe { sum_neon(bytes) };
    }
    sum_portable(bytes)
}

/// Below this many bytes, headers for instance, the portable sum is as fast.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const VECTOR_MIN: usize = 64;

/// [`sum_words_native`] for processors with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(bytes: &[u8]) -> u64 {
    sum_words_native(bytes)
}

/// [`sum_words_native`] for processors with NEON.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn sum_neon(bytes: &[u8]) -> u64 {
    sum_words_native(bytes)
}

/// [`sum_words_native`] for any processor.
fn sum_portable(bytes: &[u8]) -> u64 {
    sum_words_native(bytes)
}

/// The sum as a plain loop, which the compiler unrolls into vectors. The halves of 64-bit words are added apart, so
/// that no carry is ever lost (2^32 words are 32 GiB).
#[inline(always)]
fn sum_words_native(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let (mut low, mut high) = (0, 0);
    for word in words {
        let word = u64::from_ne_bytes(*word);
        low += word & 0xffff_ffff;
        high += word >> 32;
    }
    let (words, rest) = rest.as_chunks::<4>();
    let last = match *rest {
        [] => [0; 4],
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c, ..] => [a, b, c, 0],
    };
    let word = words.first().map_or(0, |word| u32::from_ne_bytes(*word));
    low + high + u64::from(word) + u64::from(u32::from_ne_bytes(last))
}

#[cfg(test)]
mod tests;
