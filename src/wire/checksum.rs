//! The Internet checksum (RFC 1071).

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
pub fn sum(initial: u16, bytes: &[u8]) -> u16 {
    let _ = (initial, bytes);
    todo!("wire helper")
}
