//! Reading and writing the options of a TCP header.

use crate::base::SeqNum;
use crate::wire::cursor::{Reader, Writer};
use crate::wire::tcp::TcpOptions;
use crate::wire::{FastOpen, TcpFlags, Timestamps, mptcp};

/// End of the list (RFC 9293 §3.1).
const END: u8 = 0;
/// Padding.
const NOP: u8 = 1;
/// Maximum segment size.
const MSS: u8 = 2;
/// Window scale (RFC 7323 §2).
const WINDOW_SCALE: u8 = 3;
/// SACK permitted (RFC 2018 §2).
const SACK_PERMITTED: u8 = 4;
/// SACK (RFC 2018 §3).
const SACK: u8 = 5;
/// Timestamps (RFC 7323 §3).
const TIMESTAMPS: u8 = 8;
/// Fast Open (RFC 7413 §4.1.1).
const FAST_OPEN: u8 = 34;

/// RFC 7323 §2.3: a larger shift is taken as this.
const WINDOW_SCALE_MAX: u8 = 14;

impl TcpOptions {
    /// How many bytes the options take in a header, padding to a multiple of four included.
    #[inline]
    pub fn wire_len(&self) -> usize {
        let mut len = 0;
        if self.mss.is_some() {
            len += 4;
        }
        // SACK permitted takes the place of the two bytes of padding in front of the timestamps.
        match (self.timestamps.is_some(), self.sack_permitted) {
            (true, _) => len += 12,
            (false, true) => len += 4,
            (false, false) => {}
        }
        if self.window_scale.is_some() {
            len += 4;
        }
        if !self.sack.is_empty() {
            len += 4 + 8 * self.sack.len();
        }
        len += self.fast_open.as_ref().map_or(0, FastOpen::wire_len);
        let mptcp = self.mptcp.iter().map(mptcp::MptcpOption::wire_len).sum::<usize>();
        len + mptcp.next_multiple_of(4)
    }

    /// Writes the options into `out`, which has [`TcpOptions::wire_len`] bytes. Their order is that of Linux, which
    /// middleboxes have seen most often.
    #[inline]
    pub(super) fn emit(&self, out: &mut [u8]) {
        let mut out = Writer::new(out);
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            out.array([MSS, 4, high, low]);
        }
        match (self.timestamps, self.sack_permitted) {
            (Some(timestamps), sack_permitted) => {
                let [a, b] = if sack_permitted { [SACK_PERMITTED, 2] } else { [NOP, NOP] };
                out.array([a, b, TIMESTAMPS, 10]);
                out.u32(timestamps.value);
                out.u32(timestamps.echo);
            }
            (None, true) => out.array([NOP, NOP, SACK_PERMITTED, 2]),
            (None, false) => {}
        }
        if let Some(shift) = self.window_scale {
            out.array([NOP, WINDOW_SCALE, 3, shift]);
        }
        if !self.sack.is_empty() {
            out.array([NOP, NOP, SACK, 2 + 8 * self.sack.len() as u8]);
            for (start, end) in &self.sack {
                out.u32(start.raw());
                out.u32(end.raw());
            }
        }
        if let Some(fast_open) = &self.fast_open {
            out.array([FAST_OPEN, fast_open.length_field()]);
            fast_open.body().iter().for_each(|byte| out.u8(*byte));
            if fast_open.wire_len() != usize::from(fast_open.length_field()) {
                out.array([NOP, NOP]);
            }
        }
        for option in &self.mptcp {
            option.emit(&mut out);
        }
        while out.room() > 0 {
            out.u8(NOP);
        }
    }

    /// Reads the options of a segment with these `flags` into `self`, which is empty.
    ///
    /// RFC 9293 §3.1 (MUST-6, MUST-7): options that we don't know are ignored; a list with a length that can't be is
    /// read up to there. An option that we know, with a length that it doesn't have, is skipped.
    #[inline(always)]
    pub(super) fn parse(&mut self, mut list: &[u8], flags: TcpFlags) {
        let syn = flags.contains(TcpFlags::SYN);
        loop {
            let (kind, body) = match *list {
                [] | [END, ..] => return,
                [NOP, ref rest @ ..] => {
                    list = rest;
                    continue;
                }
                [kind, len, ref rest @ ..] => {
                    let Some((body, rest)) =
                        usize::from(len).checked_sub(2).and_then(|len| rest.split_at_checked(len))
                    else {
                        return;
                    };
                    list = rest;
                    (kind, body)
                }
                [_] => return,
            };
            match (kind, body) {
                (TIMESTAMPS, &[v0, v1, v2, v3, e0, e1, e2, e3]) => {
                    self.timestamps = Some(Timestamps {
                        value: u32::from_be_bytes([v0, v1, v2, v3]),
                        echo: u32::from_be_bytes([e0, e1, e2, e3]),
                    });
                }
                (mptcp::KIND, body) => {
                    if !self.mptcp.is_full()
                        && let Some(option) = mptcp::parse(body)
                    {
                        self.mptcp.push(option);
                    }
                }
                (SACK, blocks) => self.parse_sack(blocks),
                // RFC 9293 §3.2, RFC 7323 §2.2, RFC 2018 §2, RFC 7413 §4.1.1: these only mean something on a SYN.
                (MSS, &[high, low]) if syn => {
                    self.mss = Some(u16::from_be_bytes([high, low])).filter(|mss| *mss != 0);
                }
                (WINDOW_SCALE, &[shift]) if syn => self.window_scale = Some(shift.min(WINDOW_SCALE_MAX)),
                (SACK_PERMITTED, []) if syn => self.sack_permitted = true,
                (FAST_OPEN, body) if syn => self.fast_open = FastOpen::parse(body),
                _ => {}
            }
        }
    }

    fn parse_sack(&mut self, blocks: &[u8]) {
        if !blocks.len().is_multiple_of(8) {
            return;
        }
        self.sack.clear();
        let mut reader = Reader::new(blocks);
        while let (Some(start), Some(end)) = (reader.u32(), reader.u32()) {
            if self.sack.try_push((SeqNum::new(start), SeqNum::new(end))).is_err() {
                return;
            }
        }
    }
}
