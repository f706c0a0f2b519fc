//! The headers of a received data segment as what to expect of the next one of its run. Segments that a sender let go at once are
//! alike but for their numbers: to compare one with that costs a fraction of taking its headers apart.
//!
//! The twin of [`super::pattern`] on the way in. Whatever is not exactly as expected is left to [`super::parse`].

use super::mptcp::{DssMapping, ShortOrLong};
use super::packet::{HEADERS_MAX, Packet};
use super::pattern::{MappingPlace, Numbers, mapping_place};
use super::{ChecksumMode, TcpFlags, TcpRepr, checksum, ethernet, ip, ipv4, tcp};
use crate::base::{DataSeq, SeqNum};
use crate::wire::ip::{CONGESTION_EXPERIENCED, PROTOCOL_TCP};

/// Bytes that are compared at a time.
const STRIDE: usize = 8;
/// Bytes of headers, to the end of the last stride.
const IMAGE_LEN: usize = HEADERS_MAX.next_multiple_of(STRIDE);

/// A segment that was as expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// The TCP header.
    pub tcp: TcpRepr,
    /// Where the payload belongs in the data stream, and its subflow sequence number, where it has a mapping.
    pub mapping: Option<(DataSeq, u32)>,
    /// Where its payload begins in the frame, to whose end it goes.
    pub payload_at: usize,
    /// The payload's sum, if it was made.
    pub payload_sum: Option<u16>,
}

/// What the next segment of a run looks like.
#[derive(Debug)]
pub struct Sequel {
    /// The headers, with zeros where `mask` has them.
    image: [u8; IMAGE_LEN],
    /// Zeros where segments of a run differ, and behind the headers.
    mask: [u8; IMAGE_LEN],
    /// Bytes of headers, and of the whole frame.
    headers_len: usize,
    frame_len: usize,
    /// Where the IPv4 header begins, if it is one.
    ipv4_at: Option<usize>,
    /// Where the TCP header begins.
    tcp_at: usize,
    mapping: Option<MappingPlace>,
    /// The header of the next one, and the subflow sequence number of its mapping.
    tcp: TcpRepr,
    subflow_seq: u32,
    checksum: ChecksumMode,
    /// The sum of the pseudo-header.
    pseudo_header: u16,
}

impl Sequel {
    /// What follows `packet`, which `frame` was found to be. `None` where it says more than its successors would: a flag, a
    /// congestion mark, an option beside timestamps and one plain mapping of its payload; or where it has no payload, or padding.
    pub fn of(packet: &Packet, frame: &[u8], checksum: ChecksumMode) -> Option<Self> {
        let payload_len = packet.payload.len();
        let is_plain = packet.tcp.flags == TcpFlags::ACK && packet.ecn != CONGESTION_EXPERIENCED;
        if !is_plain || payload_len < STRIDE || packet.payload.end != frame.len() {
            return None;
        }
        let place = mapping_place(&packet.options, payload_len)?;
        // The sum of a mapping is checked where all of it has come.
        if place.is_some_and(|place| place.is_summed()) {
            return None;
        }
        let headers_len = packet.payload.start;
        let ip_at = ethernet::header_len(&packet.link);
        let (local, remote) = (packet.tuple.local.addr, packet.tuple.remote.addr);
        let ipv4_at = local.is_ipv4().then_some(ip_at);
        let tcp_at = ip_at + ip::header_len(&local);
        // Not so with options of IP, or extension headers.
        if tcp_at + tcp::HEADER_LEN + packet.options.wire_len() != headers_len {
            return None;
        }
        let mapping = place.map(|place| place.behind(tcp_at + tcp::HEADER_LEN));
        let seq = packet.tcp.seq;
        let numbers = match packet.options.dss().and_then(|dss| dss.mapping) {
            Some(DssMapping { data_seq: ShortOrLong::Long(data_seq), subflow_seq, .. }) => {
                Numbers { seq, data_seq: DataSeq::new(data_seq), subflow_seq }
            }
            _ => Numbers { seq, data_seq: DataSeq::new(0), subflow_seq: 0 },
        };
        let segment_len = frame.len() - tcp_at;
        let mut sequel = Self {
            image: [0; IMAGE_LEN],
            mask: [0; IMAGE_LEN],
            headers_len,
            frame_len: frame.len(),
            ipv4_at,
            tcp_at,
            mapping,
            tcp: packet.tcp,
            subflow_seq: numbers.subflow_seq,
            checksum,
            pseudo_header: checksum::pseudo_header_sum(&remote, &local, PROTOCOL_TCP, segment_len),
        };
        sequel.draw(frame);
        // A peer may have its options in another order than ours.
        let has_numbers = sequel.numbers(frame) == numbers;
        sequel.advance();
        has_numbers.then_some(sequel)
    }

    /// Fills in the image and its mask.
    fn draw(&mut self, frame: &[u8]) {
        let Self { image, mask, headers_len, ipv4_at, tcp_at, mapping, .. } = self;
        mask[..*headers_len].fill(0xff);
        if let Some(at) = *ipv4_at {
            // RFC 6864: an identification that says nothing, as nothing may be fragmented; and the sum, which is checked.
            mask[at + 4..at + 6].fill(0);
            mask[at + 10..at + 12].fill(0);
        }
        mask[*tcp_at + 4..*tcp_at + 8].fill(0);
        mask[*tcp_at + 16..*tcp_at + 18].fill(0);
        if let Some(place) = mapping {
            mask[place.numbers()].fill(0);
        }
        for ((image, mask), byte) in image.iter_mut().zip(mask).zip(frame) {
            *image = byte & *mask;
        }
    }

    /// What is expected moves on by one segment.
    fn advance(&mut self) {
        let payload_len = (self.frame_len - self.headers_len) as u32;
        self.tcp.seq += payload_len;
        if self.mapping.is_some() {
            self.subflow_seq = self.subflow_seq.wrapping_add(payload_len);
        }
    }

    /// What the segment in `frame` says if it is the one that is expected now: then another one is from now on.
    #[inline]
    pub fn take(&mut self, frame: &[u8]) -> Option<Next> {
        if frame.len() != self.frame_len || !self.is_alike(frame) {
            return None;
        }
        // Where in the data stream it belongs is its own affair: what lies between is on other subflows.
        let Numbers { seq, data_seq, subflow_seq } = self.numbers(frame);
        if (seq, subflow_seq) != (self.tcp.seq, self.subflow_seq) {
            return None;
        }
        let payload_sum = match self.checksum {
            ChecksumMode::Off => None,
            ChecksumMode::Software => Some(self.verify(frame)?),
        };
        let tcp = self.tcp;
        self.advance();
        Some(Next {
            tcp,
            mapping: self.mapping.map(|_| (data_seq, subflow_seq)),
            payload_at: self.headers_len,
            payload_sum,
        })
    }

    #[inline]
    fn is_alike(&self, frame: &[u8]) -> bool {
        let len = self.headers_len.next_multiple_of(STRIDE);
        debug_assert!(frame.len() >= len, "the payload is at least a stride");
        let differences = frame[..len]
            .as_chunks::<STRIDE>()
            .0
            .iter()
            .zip(self.mask.as_chunks().0)
            .zip(self.image.as_chunks().0)
            .fold(0, |differences, ((bytes, mask), image)| {
                let bytes = u64::from_ne_bytes(*bytes) & u64::from_ne_bytes(*mask);
                differences | (bytes ^ u64::from_ne_bytes(*image))
            });
        let header_is_whole = self.ipv4_at.is_none_or(|at| ipv4::is_intact(&frame[at..]));
        differences == 0 && header_is_whole
    }

    #[inline]
    fn numbers(&self, frame: &[u8]) -> Numbers {
        let word =
            |at: usize| frame[at..].first_chunk().map_or(0, |bytes: &[u8; 4]| u32::from_be_bytes(*bytes));
        let seq = SeqNum::new(word(self.tcp_at + 4));
        match &self.mapping {
            None => Numbers { seq, data_seq: DataSeq::new(0), subflow_seq: 0 },
            Some(place) => {
                let at = place.numbers().start;
                let data_seq = u64::from(word(at)) << 32 | u64::from(word(at + 4));
                Numbers { seq, data_seq: DataSeq::new(data_seq), subflow_seq: word(at + 8) }
            }
        }
    }

    /// RFC 9293 §3.1, MUST-3. Gives the sum of the payload.
    fn verify(&self, frame: &[u8]) -> Option<u16> {
        let (headers, payload) = frame[self.tcp_at..].split_at(self.headers_len - self.tcp_at);
        let payload_sum = checksum::sum(0, payload);
        let sum = checksum::add(checksum::sum(self.pseudo_header, headers), payload_sum);
        (sum == 0xffff).then_some(payload_sum)
    }
}
