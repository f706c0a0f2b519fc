//! Packets that came in several frames, as those of 9,000 bytes do. Each part of their payload is a segment of its own from
//! here on: bytes of one segment are in one frame everywhere else, and who has them need not know how they came.

use super::Stack;
use crate::base::pool::PACKET_FRAMES;
use crate::base::{Chunk, FramePool, Instant, PoolCache, PortId, RxFrame};
use crate::wire::{
    ChecksumMode, Malformed, MptcpOption, Packet, SackBlocks, TcpFlags, TcpOptions, parse_scattered,
};
use arrayvec::ArrayVec;

/// The frames of a packet that has not come to its end.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    frames: ArrayVec<RxFrame, PACKET_FRAMES>,
    /// There were more than we take: the rest of it goes, too.
    too_long: bool,
}

impl Gathering {
    /// Whether the next frame goes on with a packet.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.too_long || !self.frames.is_empty()
    }

    /// The next frame. Gives the packet that ends with it; [`Malformed::Truncated`] where it had too many frames.
    fn push(
        &mut self,
        frame: RxFrame,
        cache: &mut PoolCache,
    ) -> Option<Result<ArrayVec<RxFrame, PACKET_FRAMES>, Malformed>> {
        let is_last = !frame.more;
        if self.too_long {
            cache.free(frame.frame);
        } else if let Err(error) = self.frames.try_push(frame) {
            cache.free(error.element().frame);
            self.clear(cache);
            self.too_long = true;
        }
        if !is_last {
            return None;
        }
        let too_long = std::mem::take(&mut self.too_long);
        Some(if too_long { Err(Malformed::Truncated) } else { Ok(self.frames.take()) })
    }

    /// Gives all frames back.
    pub(super) fn clear(&mut self, cache: &mut PoolCache) {
        self.frames.drain(..).for_each(|frame| cache.free(frame.frame));
    }
}

impl Stack {
    /// A frame has arrived that is a part of a packet. Kept out of the way of packets that are whole.
    #[cold]
    pub(super) fn handle_part(
        &mut self,
        now: Instant,
        port: PortId,
        frame: RxFrame,
        checksum: ChecksumMode,
        cache: &mut PoolCache,
    ) {
        let Some(whole) = self.gatherings[port.index()].push(frame, cache) else { return };
        let mut parts = ArrayVec::new();
        let parsed = whole.and_then(|frames| match read(&frames, checksum, &mut parts, cache.pool()) {
            Ok(packet) => Ok((packet, frames)),
            Err(reason) => {
                frames.into_iter().for_each(|frame| cache.free(frame.frame));
                Err(reason)
            }
        });
        match parsed {
            Ok((packet, frames)) => self.handle_parts(now, port, &packet, frames, &parts, cache),
            Err(reason) => self.counters.malformed[reason as usize] += 1,
        }
    }

    #[cold]
    fn handle_parts(
        &mut self,
        now: Instant,
        port: PortId,
        packet: &Packet,
        frames: ArrayVec<RxFrame, PACKET_FRAMES>,
        tails: &[(usize, Option<u16>)],
        cache: &mut PoolCache,
    ) {
        let head = (packet.payload.start, packet.payload.len(), packet.payload_sum);
        let places = std::iter::once(head).chain(tails.iter().map(|(len, sum)| (0, *len, *sum)));
        let last = tails.iter().rposition(|(len, _)| *len > 0).map_or(0, |tail| tail + 1);
        // What a SYN carries beyond one frame its sender repeats.
        let is_data = !packet.tcp.flags.intersects(TcpFlags::SYN | TcpFlags::RST);
        let mut seq = packet.tcp.seq;
        for (index, (frame, (start, len, sum))) in frames.into_iter().zip(places).enumerate() {
            if index > 0 && (len == 0 || !is_data) {
                // No bytes of it, or only padding.
                cache.free(frame.frame);
                continue;
            }
            let chunk = if len == 0 {
                cache.free(frame.frame);
                None
            } else {
                Some(Chunk::new(frame.frame, usize::from(frame.offset) + start, len).with_sum(sum))
            };
            let mut part = part_of(packet, index == 0, index == last || !is_data);
            (part.tcp.seq, part.payload, part.payload_sum) = (seq, start..start + len, sum);
            seq += len as u32;
            self.handle_packet(now, port, &part, chunk, cache);
        }
    }
}

/// Takes a packet apart that lies in these frames.
fn read(
    frames: &[RxFrame],
    checksum: ChecksumMode,
    parts: &mut ArrayVec<(usize, Option<u16>), PACKET_FRAMES>,
    pool: &FramePool,
) -> Result<Packet, Malformed> {
    let bytes: ArrayVec<&[u8], PACKET_FRAMES> = frames.iter().map(|frame| pool.rx_bytes(frame)).collect();
    let (head, tails) = bytes.split_first().ok_or(Malformed::Truncated)?;
    parse_scattered(head, tails, checksum, parts)
}

/// A part of a packet as a segment of its own: what the packet says once, its first part says; and that it is the end, its last.
/// A mapping is of the whole packet, and each part may say so (RFC 8684 §3.3.1).
fn part_of(packet: &Packet, is_first: bool, is_last: bool) -> Packet {
    let mut part = packet.clone();
    if !is_first {
        let TcpOptions { sack, mptcp, .. } = &mut part.options;
        *sack = SackBlocks::new();
        mptcp.retain(|option| matches!(option, MptcpOption::Dss(_) | MptcpOption::Capable(_)));
    }
    if !is_last {
        part.tcp.flags = part.tcp.flags.without(TcpFlags::FIN).without(TcpFlags::PSH);
    }
    part
}
