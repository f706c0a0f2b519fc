//! ICMP and ICMPv6 errors that quote a TCP segment of ours.

use crate::base::SeqNum;
use crate::wire::FourTuple;

/// An ICMP error about a segment that we sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError {
    /// The quoted segment's connection, from our side: local is the quoted source.
    pub tuple: FourTuple,
    /// The quoted segment's sequence number. RFC 5927: believed only if it lies in the window.
    pub seq: SeqNum,
    /// What is wrong.
    pub kind: IcmpErrorKind,
}

/// Which error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpErrorKind {
    /// The packet was too long for a link: ICMP type 3 code 4 (RFC 1191), ICMPv6 type 2 (RFC 8201).
    TooBig {
        /// The MTU of that link; 0 where an old router doesn't tell.
        mtu: u32,
    },
    /// Net, host, protocol or port unreachable, or prohibited.
    Unreachable {
        /// The ICMP code.
        code: u8,
    },
}
