//! Losses that are chosen: this byte of this stream, the first so many times that it is sent. For what chance would take
//! many seeds to hit: the last segment, a retransmission, the FIN.

use crate::base::SeqNum;
use crate::wire::{ChecksumMode, FourTuple, Parsed, TcpFlags, parse};
use std::collections::HashMap;

/// A segment to lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentLoss {
    /// Offset in the stream of a byte that it holds; 0 is the first behind the SYN. The FIN is the one behind the last.
    pub offset: u32,
    /// How many of its transmissions are lost, from the first on.
    pub times: u32,
}

/// The chosen losses of one direction of a link.
#[derive(Debug, Default)]
pub struct SegmentLosses {
    losses: Vec<SegmentLoss>,
    /// The first byte of each stream.
    first: HashMap<FourTuple, SeqNum>,
}

impl SegmentLosses {
    /// These, of whatever stream.
    pub fn new(losses: Vec<SegmentLoss>) -> Self {
        Self { losses, first: HashMap::new() }
    }

    /// Whether this packet is lost.
    pub fn takes(&mut self, packet: &[u8]) -> bool {
        if self.losses.is_empty() {
            return false;
        }
        let Ok(Parsed::Tcp(packet)) = parse(packet, ChecksumMode::Software) else { return false };
        if packet.tcp.flags.contains(TcpFlags::SYN) {
            self.first.insert(packet.tuple, packet.tcp.seq + 1);
            return false;
        }
        let Some(first) = self.first.get(&packet.tuple) else { return false };
        let start = packet.tcp.seq.distance(*first).max(0) as u32;
        let fin = packet.tcp.flags.contains(TcpFlags::FIN);
        let end = start + packet.payload.len() as u32 + u32::from(fin);
        let hit = self.losses.iter_mut().find(|loss| loss.times > 0 && (start..end).contains(&loss.offset));
        hit.is_some_and(|loss| {
            loss.times -= 1;
            true
        })
    }
}
