use super::*;
use crate::base::SeqNum;
use crate::wire::mptcp::{CapableFlags, MpCapable, MptcpOption, VERSION};
use crate::wire::{
    ChecksumMode, Endpoint, FourTuple, LinkHeader, Packet, Parsed, SegmentRepr, TcpFlags, TcpOptions,
    TcpRepr, emit, parse,
};

const NOW: Instant = Instant::ZERO;
const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;

/// A segment with MP_CAPABLE and a payload of `len` bytes.
fn frame(addr: IpAddr, vlan: Option<u16>, flags: TcpFlags, seq: u32, len: usize) -> Vec<u8> {
    let capable = MpCapable::Syn { version: VERSION, flags: CapableFlags(CapableFlags::HMAC_SHA256) };
    let mut options = TcpOptions { window_scale: Some(7), mss: Some(1460), ..Default::default() };
    options.mptcp.push(MptcpOption::Capable(capable));
    let link = LinkHeader { vlan, ..Default::default() };
    let tcp = TcpRepr { seq: SeqNum::new(seq), ack: SeqNum::new(2), flags, window: 3000, urgent: 0 };
    let tuple = FourTuple { local: Endpoint::new(addr, 1), remote: Endpoint::new(addr, 2) };
    let segment = SegmentRepr { link: &link, tuple, ecn: 0, tcp, options: &options };
    let mut frame: Vec<u8> = (0..128 + len).map(|at| at as u8).collect();
    let start = emit(&segment, &mut frame, 128..128 + len, ChecksumMode::Software);
    frame.split_off(start)
}

fn addrs() -> [IpAddr; 2] {
    [[10, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()]
}

fn parsed(frame: &[u8]) -> Packet {
    match parse(frame, ChecksumMode::Software) {
        Ok(Parsed::Tcp(packet)) => packet,
        other => panic!("a broken packet: {other:?}"),
    }
}

fn passed(kind: Middlebox, from: End, frame: Vec<u8>) -> Vec<Packet> {
    Station::new(kind).pass(NOW, from, frame).forward.iter().map(|frame| parsed(frame)).collect()
}

#[test]
fn each_strips_what_it_says_and_keeps_the_checksum_right() {
    let strippers = [
        Middlebox::None,
        Middlebox::StripAll,
        Middlebox::StripSyn,
        Middlebox::StripFirstSyn,
        Middlebox::StripSynAck,
        Middlebox::StripNonSyn,
        Middlebox::DropSynWithMptcp,
    ];
    for (addr, vlan) in addrs().into_iter().flat_map(|addr| [(addr, None), (addr, Some(5))]) {
        let stripped = |kind, flags| {
            let packets = passed(kind, End::A, frame(addr, vlan, flags, 1, 5));
            let packet = packets.first()?;
            // A window scale means something on a SYN only.
            let scale = flags.contains(SYN).then_some(7);
            assert_eq!((packet.options.window_scale, packet.payload.len()), (scale, 5), "the rest stays");
            Some(packet.options.mptcp.is_empty())
        };
        let by_flags = |flags| strippers.map(|kind| stripped(kind, flags));
        let (no, yes) = (Some(false), Some(true));
        assert_eq!(by_flags(SYN), [no, yes, yes, yes, no, no, None]);
        assert_eq!(by_flags(SYN | ACK), [no, yes, yes, no, yes, no, None]);
        assert_eq!(by_flags(ACK), [no, yes, no, no, no, yes, no]);
    }
}

#[test]
fn what_is_taken_apart_is_the_same_when_put_together() {
    for (addr, vlan) in addrs().into_iter().flat_map(|addr| [(addr, None), (addr, Some(5))]) {
        let frame = frame(addr, vlan, SYN | ACK, 7, 33);
        let segment = Segment::parse(&frame).expect("a segment");
        assert_eq!((segment.seq(), segment.ack(), segment.payload.len()), (7, 2, 33));
        assert_eq!(parsed(&segment.to_frame()), parsed(&frame));
    }
}

#[test]
fn what_is_no_tcp_passes_as_it_is() {
    for len in 0..60 {
        let packet = vec![0x45; len];
        let passed = Station::new(Middlebox::StripAll).pass(NOW, End::A, packet.clone());
        assert_eq!(passed, Passed { forward: vec![packet], ..Passed::default() });
    }
}

#[test]
fn one_that_splits_repeats_options_or_not_and_loses_no_byte() {
    let whole = frame(addrs()[0], None, ACK | TcpFlags::FIN, 100, 250);
    let payload = whole[whole.len() - 250..].to_vec();
    for (kind, with_options) in [
        (Middlebox::Split(100), [true, true, true]),
        (Middlebox::SplitOptionsOnce(100), [true, false, false]),
    ] {
        let frames = Station::new(kind).pass(NOW, End::B, whole.clone()).forward;
        let parts: Vec<Packet> = frames.iter().map(|frame| parsed(frame)).collect();
        let seqs: Vec<u32> = parts.iter().map(|part| part.tcp.seq.raw()).collect();
        assert_eq!(seqs, [100, 200, 300]);
        let options: Vec<bool> = parts.iter().map(|part| !part.options.mptcp.is_empty()).collect();
        assert_eq!(options, with_options);
        let fins: Vec<bool> = parts.iter().map(|part| part.tcp.flags.contains(TcpFlags::FIN)).collect();
        assert_eq!(fins, [false, false, true]);
        let bytes: Vec<u8> = frames
            .iter()
            .zip(&parts)
            .flat_map(|(frame, part)| frame[frame.len() - part.payload.len()..].to_vec())
            .collect();
        assert_eq!(bytes, payload);
    }
}

#[test]
fn one_that_coalesces_makes_one_of_two_and_holds_nothing_back_for_ever() {
    let addr = addrs()[0];
    let mut station = Station::new(Middlebox::Coalesce);
    let first = station.pass(NOW, End::A, frame(addr, None, ACK, 100, 50));
    let until = NOW + COALESCE_WAIT;
    assert_eq!((first.forward.len(), first.release_at), (0, Some(until)));
    let second = station.pass(NOW, End::A, frame(addr, None, ACK, 150, 60));
    let [both] = &second.forward[..] else { panic!("{second:?}") };
    assert_eq!((parsed(both).payload.len(), parsed(both).tcp.seq.raw()), (110, 100));
    assert_eq!(station.release(until, End::A), None, "it is gone");
    // One that does not follow sends the first on its way; one that nothing follows goes when its time has come.
    station.pass(NOW, End::A, frame(addr, None, ACK, 300, 50));
    let other = station.pass(NOW, End::A, frame(addr, None, ACK, 500, 50));
    assert_eq!(other.forward.iter().map(|frame| parsed(frame).tcp.seq.raw()).collect::<Vec<_>>(), [300]);
    assert_eq!(station.release(NOW, End::A), None, "not yet");
    let late = station.release(until, End::A).expect("its time has come");
    assert_eq!(parsed(&late).tcp.seq.raw(), 500);
}

#[test]
fn a_nat_maps_both_ways_and_lets_no_stranger_in() {
    for addr in addrs() {
        let mut station = Station::new(Middlebox::Nat);
        let stranger = station.pass(NOW, End::B, frame(addr, None, SYN, 1, 0));
        assert_eq!(stranger, Passed::default());
        let out = station.pass(NOW, End::A, frame(addr, None, SYN, 1, 0)).forward;
        let seen = parsed(&out[0]).tuple.remote;
        assert_eq!((seen.addr, seen.port), (nat_address(addr), 1 + NAT_PORTS));
        assert_eq!(
            (before_nat(seen), before_nat(Endpoint::new(addr, 1))),
            (Some(Endpoint::new(addr, 1)), None)
        );
        let mut answer = Segment::parse(&out[0]).expect("a segment");
        let (source, destination) = (answer.source(), answer.destination());
        answer.set_source(destination);
        answer.set_destination(source);
        let back = station.pass(NOW, End::B, answer.to_frame()).forward;
        assert_eq!(parsed(&back[0]).tuple.local, Endpoint::new(addr, 1));
    }
}

#[test]
fn a_proxy_acknowledges_what_passes_once() {
    let addr = addrs()[0];
    let mut station = Station::new(Middlebox::EarlyAck(0));
    station.pass(NOW, End::A, frame(addr, None, SYN, 99, 0));
    let mut syn_ack = Segment::parse(&frame(addr, None, SYN | ACK, 1, 0)).expect("a segment");
    syn_ack.set_source((addr, 2));
    syn_ack.set_destination((addr, 1));
    syn_ack.set_ack(100);
    station.pass(NOW, End::B, syn_ack.to_frame());
    let acked = |station: &mut Station, seq, len| {
        let passed = station.pass(NOW, End::A, frame(addr, None, ACK, seq, len));
        assert_eq!(passed.forward.len(), 1);
        passed.back.first().map(|ack| (parsed(ack).tcp.ack.raw(), parsed(ack).tuple.remote.port))
    };
    assert_eq!(acked(&mut station, 100, 50), Some((150, 2)));
    assert_eq!(acked(&mut station, 100, 50), None, "it has acknowledged that");
    assert_eq!(acked(&mut station, 200, 50), None, "there is a gap before it");
    assert_eq!(acked(&mut station, 150, 70), Some((220, 2)));
}

#[test]
fn the_byte_that_is_changed_is_the_same_in_every_transmission() {
    let addr = addrs()[0];
    let mut station = Station::new(Middlebox::ChangePayload(60));
    station.pass(NOW, End::A, frame(addr, None, SYN, 99, 0));
    for (seq, len, changed) in [(100, 50, None), (150, 50, Some(10)), (140, 50, Some(20)), (161, 50, None)] {
        let before = frame(addr, None, ACK, seq, len);
        let after = station.pass(NOW, End::A, before.clone()).forward.remove(0);
        assert_eq!(parsed(&after).payload.len(), len);
        let start = before.len() - len;
        let place = before[start..].iter().zip(&after[start..]).position(|(before, after)| before != after);
        assert_eq!(place, changed);
    }
}
