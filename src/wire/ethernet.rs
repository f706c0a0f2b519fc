//! Ethernet II with an optional 802.1Q tag.

use crate::wire::cursor::Reader;
use crate::wire::{LinkHeader, MacAddr, Malformed};

/// A header without tag.
pub const HEADER_LEN: usize = 14;
/// What a tag adds.
pub const TAG_LEN: usize = 4;
/// The longest header: with a tag.
pub const HEADER_MAX: usize = HEADER_LEN + TAG_LEN;

/// The EtherType of an 802.1Q tag.
const VLAN: u16 = 0x8100;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EtherType {
    /// 0x0800.
    Ipv4,
    /// 0x86dd.
    Ipv6,
}

impl EtherType {
    /// The number in the header.
    pub const fn raw(self) -> u16 {
        match self {
            EtherType::Ipv4 => 0x0800,
            EtherType::Ipv6 => 0x86dd,
        }
    }
}

/// Bytes that the header takes.
pub const fn header_len(link: &LinkHeader) -> usize {
    match link.vlan {
        Some(_) => HEADER_LEN + TAG_LEN,
        None => HEADER_LEN,
    }
}

/// Takes the header off `frame`: the header, what follows, and where that begins.
///
/// # Errors
/// [`Malformed::Truncated`], or [`Malformed::NotOurs`] for all but IP, behind one tag at most.
#[inline]
pub fn parse(frame: &[u8]) -> Result<(LinkHeader, EtherType, usize), Malformed> {
    let mut reader = Reader::new(frame);
    let mut header = || Some((reader.array()?, reader.array()?, reader.u16()?));
    let (dst, src, mut ether_type) = header().ok_or(Malformed::Truncated)?;
    let mut vlan = None;
    if ether_type == VLAN {
        vlan = Some(reader.u16().ok_or(Malformed::Truncated)?);
        ether_type = reader.u16().ok_or(Malformed::Truncated)?;
    }
    let ether_type = if ether_type == EtherType::Ipv4.raw() {
        EtherType::Ipv4
    } else if ether_type == EtherType::Ipv6.raw() {
        EtherType::Ipv6
    } else {
        return Err(Malformed::NotOurs);
    };
    let link = LinkHeader { src: MacAddr(src), dst: MacAddr(dst), vlan };
    Ok((link, ether_type, header_len(&link)))
}

/// Writes the header into `out`.
///
/// # Panics
/// When `out` is shorter than [`header_len`]: our own bug.
#[inline]
pub fn emit(link: &LinkHeader, ether_type: EtherType, out: &mut [u8]) {
    out[..6].copy_from_slice(&link.dst.0);
    out[6..12].copy_from_slice(&link.src.0);
    let mut at = 12;
    if let Some(tag) = link.vlan {
        out[12..14].copy_from_slice(&VLAN.to_be_bytes());
        out[14..16].copy_from_slice(&tag.to_be_bytes());
        at = 16;
    }
    out[at..at + 2].copy_from_slice(&ether_type.raw().to_be_bytes());
}
