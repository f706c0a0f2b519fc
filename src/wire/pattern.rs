//! The headers of a data segment as a pattern for those that follow it in a row. Segments that leave at once on one subflow
//! are alike but for their numbers: to write those into a copy costs a fraction of making all headers anew.
//!
//! Read [`super::packet`] first: what is written here is what [`super::emit_summed`] would write, byte for byte.

use super::mptcp::dss_checksum;
use super::packet::HEADERS_MAX;
use super::{ChecksumMode, MptcpOption, Rest, SegmentRepr, TcpFlags, TcpOptions};
use super::{checksum, ethernet, ip, tcp};
use crate::base::{DataSeq, SeqNum};
use crate::wire::ip::PROTOCOL_TCP;
use crate::wire::mptcp::ShortOrLong;
use std::ops::Range;

/// Bytes of the timestamp option with its padding, which comes first.
const TIMESTAMPS_LEN: usize = 12;
/// Kind, length, subtype and flags of a DSS.
const DSS_HEADER_LEN: usize = 4;

/// What differs from segment to segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// TCP's sequence number.
    pub seq: SeqNum,
    /// Where the payload belongs in the data stream; of no meaning without a mapping.
    pub data_seq: DataSeq,
    /// The subflow sequence number of its mapping (RFC 8684 §3.3.1).
    pub subflow_seq: u32,
}

/// Where the 64 bits of data sequence number, the 32 of subflow sequence number, and perhaps the checksum of a mapping are.
#[derive(Debug, Clone, Copy)]
pub(super) struct MappingPlace {
    at: usize,
    summed: bool,
}

impl MappingPlace {
    /// The same place, counted from where the options begin `before` bytes behind.
    pub(super) fn behind(self, before: usize) -> Self {
        Self { at: before + self.at, ..self }
    }

    /// Where both sequence numbers are.
    pub(super) fn numbers(self) -> Range<usize> {
        self.at..self.at + 12
    }

    /// Whether the mapping has a checksum.
    pub(super) fn is_summed(self) -> bool {
        self.summed
    }
}

/// The headers of a data segment, without its numbers.
#[derive(Debug)]
pub struct Pattern {
    image: [u8; HEADERS_MAX],
    len: usize,
    /// Where the TCP header begins.
    tcp_at: usize,
    mapping: Option<MappingPlace>,
    payload_len: usize,
    checksum: ChecksumMode,
    /// The sum of the pseudo-header and of the image's TCP header.
    sum: u16,
}

impl Pattern {
    /// The pattern of a segment with a payload of so many bytes, whose `headers` were just written. `None` where it says
    /// more than the next ones would: a flag, gaps, or an option that is no mapping of the payload.
    pub fn new(
        segment: &SegmentRepr<'_>,
        headers: &[u8],
        payload_len: usize,
        checksum: ChecksumMode,
    ) -> Option<Self> {
        if segment.tcp.flags != TcpFlags::ACK || payload_len == 0 {
            return None;
        }
        let (local, remote) = (&segment.tuple.local.addr, &segment.tuple.remote.addr);
        let len = headers.len();
        let tcp_at = ethernet::header_len(segment.link) + ip::header_len(local);
        let mapping =
            mapping_place(segment.options, payload_len)?.map(|place| place.behind(tcp_at + tcp::HEADER_LEN));
        let mut image = [0; HEADERS_MAX];
        image[..len].copy_from_slice(headers);
        let mut pattern = Self { image, len, tcp_at, mapping, payload_len, checksum, sum: 0 };
        let nothing = Numbers { seq: SeqNum::default(), data_seq: DataSeq::new(0), subflow_seq: 0 };
        set_numbers(&mut pattern.image, tcp_at, mapping, nothing, 0);
        tcp::set_checksum(&mut pattern.image[tcp_at..], 0);
        if checksum == ChecksumMode::Software {
            let segment_len = len - tcp_at + payload_len;
            let pseudo_header = checksum::pseudo_header_sum(local, remote, PROTOCOL_TCP, segment_len);
            pattern.sum = checksum::sum(pseudo_header, &pattern.image[tcp_at..len]);
        }
        Some(pattern)
    }

    /// Bytes of payload of each packet.
    pub fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// Writes the headers of a segment so that they end where its payload begins: `frame[payload]`. Returns where the
    /// Ethernet header begins. `payload_sum` is that payload's sum, where it is known; the `rest` of it is in other frames.
    ///
    /// # Panics
    /// When the payload is not as long as the pattern's, or the headers have no room in front of it: our own bug.
    pub fn write(
        &self,
        numbers: Numbers,
        frame: &mut [u8],
        payload: Range<usize>,
        rest: Rest,
        payload_sum: Option<u16>,
    ) -> usize {
        assert_eq!(payload.len() + rest.len, self.payload_len, "the headers are of another segment");
        let start = payload.start - self.len;
        let summed = self.mapping.is_some_and(|place| place.summed);
        let payload_sum = match payload_sum {
            Some(sum) => sum,
            None if summed || self.checksum == ChecksumMode::Software => {
                checksum::sum(0, &frame[payload.clone()])
            }
            None => 0,
        };
        let payload_sum = checksum::append(payload_sum, payload.len(), rest.sum);
        let Numbers { seq, data_seq, subflow_seq } = numbers;
        let mapping_sum = match summed {
            true => dss_checksum(data_seq, subflow_seq, self.payload_len as u16, payload_sum),
            false => 0,
        };
        // Nothing is read back of what was just written: the frame's lines are seldom in the cache.
        let out = &mut frame[start..payload.start];
        out.copy_from_slice(&self.image[..self.len]);
        set_numbers(out, self.tcp_at, self.mapping, numbers, mapping_sum);
        if self.checksum == ChecksumMode::Software {
            // Each number stands at an even place, so the sums simply add up.
            let numbers_sum = match self.mapping {
                None => checksum::sum_words(&[seq.raw().to_be_bytes()]),
                Some(_) => {
                    let [a, b, c, d, e, f, g, h] = data_seq.raw().to_be_bytes();
                    let (seq, subflow_seq) = (seq.raw().to_be_bytes(), subflow_seq.to_be_bytes());
                    checksum::sum_words(&[seq, [a, b, c, d], [e, f, g, h], subflow_seq])
                }
            };
            let sum = checksum::add(checksum::add(self.sum, numbers_sum), mapping_sum);
            tcp::set_checksum(&mut out[self.tcp_at..], !checksum::add(sum, payload_sum));
        }
        start
    }
}

/// Where the numbers of the mapping are, from the first option on. `Some(None)` where there is no option of MPTCP, `None` where
/// there is anything but timestamps and one mapping of all the payload.
pub(super) fn mapping_place(options: &TcpOptions, payload_len: usize) -> Option<Option<MappingPlace>> {
    let timestamps = if options.timestamps.is_some() { TIMESTAMPS_LEN } else { 0 };
    let (place, len) = match options.mptcp.as_slice() {
        [] => (None, 0),
        [MptcpOption::Dss(dss)] if !dss.data_fin => {
            let mapping = dss.mapping.filter(|mapping| usize::from(mapping.len) == payload_len)?;
            let ShortOrLong::Long(_) = mapping.data_seq else { return None };
            let at = timestamps + DSS_HEADER_LEN + dss.data_ack.map_or(0, ShortOrLong::wire_len);
            let option_len = options.mptcp[0].wire_len().next_multiple_of(4);
            (Some(MappingPlace { at, summed: mapping.checksum.is_some() }), option_len)
        }
        _ => return None,
    };
    (options.wire_len() == timestamps + len).then_some(place)
}

/// Puts the numbers into headers whose TCP header begins at `tcp_at`.
#[inline]
fn set_numbers(
    headers: &mut [u8],
    tcp_at: usize,
    mapping: Option<MappingPlace>,
    numbers: Numbers,
    mapping_sum: u16,
) {
    headers[tcp_at + 4..tcp_at + 8].copy_from_slice(&numbers.seq.raw().to_be_bytes());
    let Some(MappingPlace { at, summed }) = mapping else { return };
    headers[at..at + 8].copy_from_slice(&numbers.data_seq.raw().to_be_bytes());
    headers[at + 8..at + 12].copy_from_slice(&numbers.subflow_seq.to_be_bytes());
    // Behind the mapping's length.
    if summed {
        headers[at + 14..at + 16].copy_from_slice(&mapping_sum.to_be_bytes());
    }
}
