//! Quantities as people write and read them: `10M` on the command line, `1.85 GBytes` and `15.9 Gbits/sec` in a report.

use std::fmt;

/// Digits as iperf3 shows them: three of them that matter, in four columns.
struct Significant(f64);

impl fmt::Display for Significant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value) = *self;
        // Just under ten and a hundred: these would round up to a fourth digit.
        if value < 9.995 {
            write!(f, "{value:4.2}")
        } else if value < 99.95 {
            write!(f, "{value:4.1}")
        } else {
            write!(f, "{value:4.0}")
        }
    }
}

fn scaled(value: f64, step: f64) -> (f64, usize) {
    let (mut value, mut power) = (value, 0);
    while value >= step && power < 4 {
        value /= step;
        power += 1;
    }
    (value, power)
}

/// `1.85 GBytes`: powers of 1024.
pub fn bytes(count: f64) -> String {
    let (value, power) = scaled(count, 1024.0);
    let unit = ["Bytes", "KBytes", "MBytes", "GBytes", "TBytes"][power];
    format!("{} {unit}", Significant(value))
}

/// `15.9 Gbits/sec`: powers of 1000.
pub fn bits_per_second(rate: f64) -> String {
    let (value, power) = scaled(rate, 1000.0);
    let unit = ["bits", "Kbits", "Mbits", "Gbits", "Tbits"][power];
    format!("{} {unit}/sec", Significant(value))
}

/// `85 us`, `1.24 ms`: a round-trip time.
pub fn microseconds(us: f64) -> String {
    if us < 1000.0 { format!("{us:.0} us") } else { format!("{:.2} ms", us / 1000.0) }
}

fn parse(text: &str, step: f64) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        other => return Err(format!("'{other}' is no unit: use K, M, G or T")),
    };
    let number: f64 =
        digits.parse().map_err(|_| format!("'{text}' is no number: for example 500, 64K, 1.5G"))?;
    let value = number * step.powi(power);
    // 2^63 is far beyond any test, and every number below it fits all that we compute with it.
    if !(0.0..9.2e18).contains(&value) {
        return Err(format!("'{text}' is out of range"));
    }
    Ok(value as u64)
}

/// A number of bytes; `K` is 1024.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    parse(text, 1024.0)
}

/// A rate in bit/s; `K` is 1000.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    parse(text, 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_three_digits_that_matter() {
        assert_eq!(bytes(0.0), "0.00 Bytes");
        assert_eq!(bytes(1023.0), "1023 Bytes");
        assert_eq!(bytes(1024.0), "1.00 KBytes");
        assert_eq!(bytes(1.85 * 1024.0 * 1024.0 * 1024.0), "1.85 GBytes");
        assert_eq!(bits_per_second(15.94e9), "15.9 Gbits/sec");
        assert_eq!(bits_per_second(99.95e6), " 100 Mbits/sec");
        assert_eq!(bits_per_second(9.996e6), "10.0 Mbits/sec");
        assert_eq!(microseconds(85.2), "85 us");
        assert_eq!(microseconds(1240.0), "1.24 ms");
    }

    #[test]
    fn suffixes_multiply() {
        assert_eq!(parse_bytes("64K"), Ok(65536));
        assert_eq!(parse_bytes("1.5g"), Ok(1610612736));
        assert_eq!(parse_rate("10M"), Ok(10_000_000));
        assert_eq!(parse_bytes("12"), Ok(12));
        for bad in ["", "K", "-1", "1KB", "nan", "inf", "1e300", "9223372036854775808T", "ü"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
