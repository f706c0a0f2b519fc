//! An attacker who sees a flow and forges segments of it, each right behind one that has just arrived. What it does a host must
//! survive without a byte changed: everything that needs the exact next sequence number is left out, as no TCP without
//! authentication could tell it from the peer's own.

use crate::base::Prng;
use crate::sim::middlebox::segment::Segment;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What the payload of a forged segment is exclusive-ored with.
const CHANGE: u8 = 0x5a;
/// How far beside the flow's numbers those are that are guessed.
const BESIDE: u64 = 30_000;

/// What an attacker forges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgery {
    /// A RST inside the window (RFC 5961 §3).
    Reset,
    /// A SYN with an old sequence number (RFC 5961 §4).
    Syn,
    /// A SYN/ACK with one.
    SynAck,
    /// An old acknowledgment, without payload.
    OldAck,
    /// An acknowledgment of what was never sent (RFC 5961 §5).
    FutureAck,
    /// The same payload again, with other bytes.
    OtherBytes,
    /// Payload far beyond the window.
    BeyondWindow,
}

impl Forgery {
    const ALL: [Self; 7] = [
        Self::Reset,
        Self::Syn,
        Self::SynAck,
        Self::OldAck,
        Self::FutureAck,
        Self::OtherBytes,
        Self::BeyondWindow,
    ];
}

/// The source and destination of a direction of a flow.
type Direction = [(IpAddr, u16); 2];

/// An attacker at one link.
#[derive(Debug)]
pub struct Attacker {
    chance: f64,
    prng: Prng,
    /// Behind the highest sequence number that each direction has shown.
    highest: BTreeMap<Direction, u32>,
}

impl Attacker {
    /// One that forges a segment behind so many of all.
    pub fn new(chance: f64, prng: Prng) -> Self {
        Self { chance, prng, highest: BTreeMap::new() }
    }

    /// A packet is about to arrive, and this one right behind it.
    pub fn answer(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let segment = Segment::parse(packet)?;
        let direction = [segment.source(), segment.destination()];
        let end = segment.seq().wrapping_add(segment.payload.len() as u32);
        let end = end.wrapping_add(u32::from(segment.is_syn()) + u32::from(segment.is_fin()));
        let highest = self.highest.entry(direction).or_insert(end);
        if segment.is_syn() || end.wrapping_sub(*highest) as i32 > 0 {
            *highest = end;
        }
        let highest = *highest;
        let attacks = self.prng.chance(self.chance);
        let forgery = Forgery::ALL[self.prng.below(Forgery::ALL.len() as u64) as usize];
        let by = 1 + self.prng.below(BESIDE) as u32;
        // A connection that is not there yet, or any more, is none to attack.
        if !attacks || segment.is_syn() || segment.is_reset() || !segment.is_ack() {
            return None;
        }
        forge(forgery, segment, highest, by).map(|forged| forged.to_frame())
    }
}

/// Makes a forgery of a segment; `highest` is behind all that its sender has sent, `by` how far beside.
fn forge(forgery: Forgery, mut segment: Segment, highest: u32, by: u32) -> Option<Segment> {
    match forgery {
        Forgery::Reset => {
            segment.make_bare(Segment::RST);
            segment.set_seq(highest.wrapping_add(by));
        }
        Forgery::Syn | Forgery::SynAck => {
            let acks = if forgery == Forgery::SynAck { Segment::ACK } else { 0 };
            segment.make_bare(Segment::SYN | acks);
            segment.set_seq(segment.seq().wrapping_sub(by));
        }
        Forgery::OldAck => {
            segment.make_bare(Segment::ACK);
            segment.set_ack(segment.ack().wrapping_sub(by));
        }
        Forgery::FutureAck => {
            segment.make_bare(Segment::ACK);
            segment.set_ack(segment.ack().wrapping_add((1 << 28) + by));
        }
        Forgery::OtherBytes if segment.payload.is_empty() => return None,
        Forgery::OtherBytes => segment.payload.iter_mut().for_each(|byte| *byte ^= CHANGE),
        Forgery::BeyondWindow if segment.payload.is_empty() => return None,
        Forgery::BeyondWindow => segment.set_seq(highest.wrapping_add((1 << 28) + by)),
    }
    Some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SeqNum;
    use crate::wire::{
        ChecksumMode, Endpoint, FourTuple, LinkHeader, MacAddr, Parsed, SegmentRepr, TcpFlags, TcpOptions,
        TcpRepr, emit, parse,
    };

    fn data() -> Vec<u8> {
        let link = LinkHeader { src: MacAddr([2; 6]), dst: MacAddr([4; 6]), vlan: None };
        let end = |host, port| Endpoint::new([10, 0, 0, host].into(), port);
        let tcp = TcpRepr {
            seq: SeqNum::new(5_000),
            ack: SeqNum::new(90_000),
            flags: TcpFlags::ACK,
            window: 7,
            urgent: 0,
        };
        let tuple = FourTuple { local: end(1, 80), remote: end(2, 4_000) };
        let options = TcpOptions::default();
        let mut frame = [0; 400];
        frame[200..300].fill(1);
        let segment = SegmentRepr { link: &link, tuple, ecn: 0, tcp, options: &options };
        let start = emit(&segment, &mut frame, 200..300, ChecksumMode::Software);
        frame[start..300].to_vec()
    }

    #[test]
    fn every_forgery_is_a_whole_segment_that_needs_no_exact_number() {
        let mut attacker = Attacker::new(1.0, Prng::new(3));
        let mut kinds = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let Some(forged) = attacker.answer(&data()) else { continue };
            let Ok(Parsed::Tcp(packet)) = parse(&forged, ChecksumMode::Software) else {
                panic!("{forged:?}")
            };
            let (seq, flags) = (packet.tcp.seq.raw(), packet.tcp.flags);
            assert!(!flags.contains(TcpFlags::RST) || seq > 5_100, "never the next one");
            assert!(!flags.contains(TcpFlags::SYN) || seq != 5_100);
            assert!(packet.payload.is_empty() || seq == 5_000 || seq > 1 << 28, "old, or far beyond");
            kinds.insert((flags.bits(), packet.payload.len(), seq == 5_000, packet.tcp.ack.raw() > 90_000));
        }
        assert_eq!(kinds.len(), 7, "{kinds:?}");
    }

    #[test]
    fn what_begins_and_ends_a_connection_is_left_alone() {
        let mut attacker = Attacker::new(1.0, Prng::new(3));
        let mut syn = Segment::parse(&data()).expect("a segment");
        syn.make_bare(Segment::SYN);
        assert!((0..50).all(|_| attacker.answer(&syn.to_frame()).is_none()));
        assert!(attacker.answer(b"short").is_none());
    }
}
