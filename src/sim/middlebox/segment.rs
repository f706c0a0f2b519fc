//! A TCP segment as a middlebox sees it: taken apart, changed at will, and put together again with right lengths and
//! checksums. It knows numbers and not what they are for, as a middlebox does.

use crate::wire::checksum::{pseudo_header_sum, sum};
use std::net::IpAddr;

/// Protocol number of TCP.
const TCP: u8 = 6;
/// End of the option list, and padding.
const END: u8 = 0;
/// An option of one byte that says nothing.
const NOP: u8 = 1;
/// Bytes of a TCP header without options, and of options at most.
const HEADER: usize = 20;
const OPTIONS_MAX: usize = 40;

/// A TCP segment in an Ethernet frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The link and IP headers.
    head: Vec<u8>,
    /// Where the IP header begins.
    ip: usize,
    /// The TCP header without options.
    tcp: [u8; HEADER],
    /// Each option as it stands on the wire, kind first; NOPs are options.
    pub options: Vec<Vec<u8>>,
    /// What the segment carries.
    pub payload: Vec<u8>,
}

impl Segment {
    /// Takes a frame apart. `None`: there is no TCP segment in it.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let tagged = frame.get(12..14)? == [0x81, 0x00];
        let ip = if tagged { 18 } else { 14 };
        let first = *frame.get(ip)?;
        let (start, protocol, end) = match first >> 4 {
            4 => {
                let total = u16::from_be_bytes([*frame.get(ip + 2)?, *frame.get(ip + 3)?]);
                (ip + usize::from(first & 15) * 4, *frame.get(ip + 9)?, ip + usize::from(total))
            }
            6 => {
                let len = u16::from_be_bytes([*frame.get(ip + 4)?, *frame.get(ip + 5)?]);
                (ip + 40, *frame.get(ip + 6)?, ip + 40 + usize::from(len))
            }
            _ => return None,
        };
        let bytes = frame.get(start..end).filter(|_| protocol == TCP)?;
        let tcp: [u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        let data = usize::from(tcp[12] >> 4) * 4;
        let options = split_options(bytes.get(HEADER..data)?);
        Some(Self { head: frame[..start].to_vec(), ip, tcp, options, payload: bytes[data..].to_vec() })
    }

    /// Control bits.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// The acknowledgment field counts.
    pub const ACK: u8 = 0x10;

    /// Leaves nothing of it but its header, with these control bits.
    pub fn make_bare(&mut self, flags: u8) {
        self.payload.clear();
        self.options.clear();
        self.tcp[13] = flags;
    }

    /// The frame.
    ///
    /// # Panics
    /// When the options take more than 40 bytes.
    pub fn to_frame(&self) -> Vec<u8> {
        let mut options: Vec<u8> = self.options.iter().flatten().copied().collect();
        assert!(options.len() <= OPTIONS_MAX, "{} bytes of options", options.len());
        options.resize(options.len().next_multiple_of(4), END);
        let len = HEADER + options.len() + self.payload.len();
        let mut frame = self.head.clone();
        let start = frame.len();
        let ip = &mut frame[self.ip..];
        if ip[0] >> 4 == 4 {
            let total = (ip.len() + len) as u16;
            ip[2..4].copy_from_slice(&total.to_be_bytes());
            ip[10..12].fill(0);
            let checksum = !sum(0, ip);
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            ip[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        }
        let mut tcp = self.tcp;
        tcp[12] = (((HEADER + options.len()) / 4) as u8 * 16) | (tcp[12] & 15);
        tcp[16..18].fill(0);
        frame.extend_from_slice(&tcp);
        frame.extend_from_slice(&options);
        frame.extend_from_slice(&self.payload);
        let pseudo = pseudo_header_sum(&self.source().0, &self.destination().0, TCP, len);
        let checksum = !sum(pseudo, &frame[start..]);
        frame[start + 16..start + 18].copy_from_slice(&checksum.to_be_bytes());
        frame
    }

    /// Bytes that its options take.
    pub fn options_len(&self) -> usize {
        self.options.iter().map(Vec::len).sum()
    }

    /// Whether `more` bytes of options fit beside what is there.
    pub fn has_room(&self, more: usize) -> bool {
        self.options_len() + more <= OPTIONS_MAX
    }

    /// Where it comes from.
    pub fn source(&self) -> (IpAddr, u16) {
        (self.addr(0), self.number(0))
    }

    /// Where it goes to.
    pub fn destination(&self) -> (IpAddr, u16) {
        (self.addr(1), self.number(2))
    }

    /// Rewrites where it comes from.
    pub fn set_source(&mut self, (addr, port): (IpAddr, u16)) {
        self.set_addr(0, addr);
        self.tcp[..2].copy_from_slice(&port.to_be_bytes());
    }

    /// Rewrites where it goes to.
    pub fn set_destination(&mut self, (addr, port): (IpAddr, u16)) {
        self.set_addr(1, addr);
        self.tcp[2..4].copy_from_slice(&port.to_be_bytes());
    }

    /// Sequence number.
    pub fn seq(&self) -> u32 {
        self.long(4)
    }

    /// Sets it.
    pub fn set_seq(&mut self, seq: u32) {
        self.tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    }

    /// Acknowledgment number.
    pub fn ack(&self) -> u32 {
        self.long(8)
    }

    /// Sets it.
    pub fn set_ack(&mut self, ack: u32) {
        self.tcp[8..12].copy_from_slice(&ack.to_be_bytes());
    }

    /// The window, unscaled.
    pub fn window(&self) -> u16 {
        self.number(14)
    }

    /// Sets it.
    pub fn set_window(&mut self, window: u16) {
        self.tcp[14..16].copy_from_slice(&window.to_be_bytes());
    }

    /// FIN.
    pub fn is_fin(&self) -> bool {
        self.tcp[13] & 0x01 != 0
    }

    /// SYN, with or without ACK.
    pub fn is_syn(&self) -> bool {
        self.tcp[13] & Self::SYN != 0
    }

    /// RST.
    pub fn is_reset(&self) -> bool {
        self.tcp[13] & Self::RST != 0
    }

    /// ACK.
    pub fn is_ack(&self) -> bool {
        self.tcp[13] & Self::ACK != 0
    }

    /// Takes FIN and PSH away: they are for the last of several segments.
    pub fn clear_end(&mut self) {
        self.tcp[13] &= !0x09;
    }

    /// The flags, for both of two segments that become one.
    pub fn add_flags(&mut self, other: &Segment) {
        self.tcp[13] |= other.tcp[13];
    }

    /// The option of this kind.
    pub fn option(&self, kind: u8) -> Option<&[u8]> {
        self.options.iter().find(|option| option[0] == kind).map(Vec::as_slice)
    }

    /// The option of this kind, to be changed; it keeps its length.
    pub fn option_mut(&mut self, kind: u8) -> Option<&mut [u8]> {
        self.options.iter_mut().find(|option| option[0] == kind).map(Vec::as_mut_slice)
    }

    /// Overwrites by NOPs what `which` says. True if there was something.
    pub fn strip(&mut self, which: impl Fn(&[u8]) -> bool) -> bool {
        let mut stripped = false;
        let mut options = Vec::new();
        for option in std::mem::take(&mut self.options) {
            if which(&option) {
                stripped = true;
                options.extend(std::iter::repeat_n(vec![NOP], option.len()));
            } else {
                options.push(option);
            }
        }
        self.options = options;
        stripped
    }

    /// Takes out NOPs.
    pub fn drop_padding(&mut self) {
        self.options.retain(|option| option[0] != NOP);
    }

    fn number(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.tcp[at], self.tcp[at + 1]])
    }

    fn long(&self, at: usize) -> u32 {
        u32::from(self.number(at)) << 16 | u32::from(self.number(at + 2))
    }

    /// Where the source address (0) or that of the destination (1) lies.
    fn addr_range(&self, which: usize) -> std::ops::Range<usize> {
        let (first, len) = if self.head[self.ip] >> 4 == 4 { (12, 4) } else { (8, 16) };
        let start = self.ip + first + which * len;
        start..start + len
    }

    fn addr(&self, which: usize) -> IpAddr {
        let bytes = &self.head[self.addr_range(which)];
        match <[u8; 4]>::try_from(bytes) {
            Ok(v4) => v4.into(),
            Err(_) => <[u8; 16]>::try_from(bytes).expect("sixteen bytes").into(),
        }
    }

    fn set_addr(&mut self, which: usize, addr: IpAddr) {
        let range = self.addr_range(which);
        match addr {
            IpAddr::V4(v4) => self.head[range].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => self.head[range].copy_from_slice(&v6.octets()),
        }
    }
}

/// The options of a header. What follows the end of the list, or makes no sense, is left out.
fn split_options(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut options = Vec::new();
    while let [kind, rest @ ..] = bytes {
        let len = match *kind {
            END => break,
            NOP => 1,
            _ => rest.first().map_or(0, |len| usize::from(*len)),
        };
        if len < usize::from(*kind != NOP) + 1 || len > bytes.len() {
            break;
        }
        let (option, behind) = bytes.split_at(len);
        options.push(option.to_vec());
        bytes = behind;
    }
    options
}
