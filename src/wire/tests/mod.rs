//! The codec as a whole: what it writes, what it reads, and what it refuses.

mod icmp;
mod pattern;
mod refusals;
mod roundtrip;
mod sequel;
mod vectors;

/// The bytes that hexadecimal digits stand for; spaces don't count.
fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| digit.to_digit(16).expect("a hexadecimal digit") as u8)
        .collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A SYN with MP_CAPABLE over IPv4 with a tag.
const SYN_V4: &str = "020000000002 020000000001 8100 6007 0800
    45000040 00004000 40064e7c c0000201 c6336407
    c0001451 01020304 00000000 b002faf0 56ee0000
    020405b4 0402080a 00010203 00000000 01030307 1e040181";

/// Three bytes of data with timestamps and DSS over IPv6.
const DATA_V6: &str = "020000000002 020000000001 86dd
    60200000 003f0640 20010db8000000000000000000000001 20010db8000000000000000000000002
    1451c000 fffffffe 01020305 f01801fd e0420000
    0101080a 00010203 04050607 1e1a200f 1112131415161718 2122232425262728 00000001 0003 0101
    616263";
