//! The wire: Ethernet with VLAN tag, IPv4, IPv6, TCP with its options, the options of RFC 8684, ICMP errors, and the
//! Internet checksum. Untrusted bytes are checked here, once: [`parse`] either gives a [`Packet`] whose fields mean
//! what their types say, or a reason that is counted. [`emit`] writes the headers of a segment in front of its payload.

pub mod addr;
pub mod checksum;
mod cursor;
pub mod ethernet;
pub mod fast_open;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod mptcp;
mod options;
pub mod packet;
pub mod pattern;
pub mod sequel;
pub mod tcp;

#[cfg(test)]
mod tests;

pub use addr::{Endpoint, FourTuple, LinkHeader, MacAddr};
pub use checksum::ChecksumMode;
pub use fast_open::{FastOpen, FastOpenCookie};
pub use icmp::{IcmpError, IcmpErrorKind};
pub use mptcp::MptcpOption;
pub use packet::{
    Malformed, Packet, Parsed, Rest, SegmentRepr, emit, emit_scattered, emit_summed, parse, parse_scattered,
};
pub use pattern::{Numbers, Pattern};
pub use sequel::Sequel;
pub use tcp::{Mss, SackBlocks, TcpFlags, TcpOptions, TcpRepr, Timestamps};
