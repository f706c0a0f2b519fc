//! MP_JOIN: RFC 8684 §3.2.

use super::*;
use crate::base::time::Duration;
use crate::stack::message::Command;
use crate::tcp::CloseReason;
use crate::wire::mptcp::{AddAddr, AddressId, Key, MpCapable, MpJoin, MpTcpRst};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// HMAC-SHA256 as RFC 2104 has it, worked out here and not by the code under test.
fn hmac(sender: Key, receiver: Key, message: &[u8]) -> [u8; 32] {
    let key = [sender.0.to_be_bytes(), receiver.0.to_be_bytes()].concat();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Everything that a pair says while a connection is made and joined and the server announces an address: the keys of the
/// client and of the server, and all other options as bytes.
fn overheard() -> ([Key; 2], Vec<Vec<u8>>) {
    let mut pair = Pair::new();
    let (mut keys, mut options) = (None, Vec::new());
    pair.server.listen(PORT, super::options());
    let client = pair.client.connect(pair.now, Endpoint::new(address(2, 0), PORT), super::options());
    let mut tap = |_: bool, bytes: Vec<u8>| {
        for option in &Segment::parse(&bytes).options.mptcp {
            if let MptcpOption::Capable(MpCapable::Ack { sender_key, receiver_key, .. }) = option {
                keys = Some([*sender_key, *receiver_key]);
            }
        }
        options.extend(raw_options(&bytes));
        Some(bytes)
    };
    pair.run(Duration::from_millis(100), &mut tap);
    pair.client.write(&client, b"x");
    pair.run(Duration::from_millis(100), &mut tap);
    pair.join(&client, 1, false);
    let accepted = pair.server.accept.pop().expect("accepted");
    let connection = name_of(&accepted);
    for (id, port) in [(5, None), (6, Some(4711))] {
        let addr = address(2, usize::from(id));
        let announce = Command::Announce { connection, id: AddressId(id), addr, port };
        pair.server.stack.handle_command(pair.now, announce, &mut pair.server.cache);
    }
    pair.run(Duration::from_millis(100), &mut tap);
    (keys.expect("overheard"), options)
}

fn subtype(wanted: u8) -> impl Fn(&&Vec<u8>) -> bool {
    move |option| option[2] >> 4 == wanted
}

#[test]
fn pitfall_11_each_hmac_is_cut_at_its_own_end() {
    let ([client, server], options) = overheard();
    let joins: Vec<&Vec<u8>> = options.iter().filter(subtype(1)).collect();
    let [syn, syn_ack, ack, ..] = &joins[..] else { panic!("{joins:?}") };
    let (client_nonce, server_nonce) = (&syn[8..12], &syn_ack[12..16]);
    let by_server = hmac(server, client, &[server_nonce, client_nonce].concat());
    assert_eq!(syn_ack[4..12], by_server[..8], "SYN/ACK: the leftmost 64 bits");
    let by_client = hmac(client, server, &[client_nonce, server_nonce].concat());
    assert_eq!(ack[4..24], by_client[..20], "ACK: the leftmost 160 bits");
    // RFC 8684 §3.4.1: over id, address and port, which is 0 where there is none; the rightmost 64 bits.
    let announced =
        |id| options.iter().filter(subtype(3)).find(|it| it[2] & 1 == 0 && it[3] == id).expect("announced");
    let plain = announced(5);
    let expected = hmac(server, client, &[5, 10, 0, 5, 2, 0, 0]);
    assert_eq!((plain.len(), &plain[8..]), (16, &expected[24..]));
    let with_port = announced(6);
    let [high, low] = 4711u16.to_be_bytes();
    let expected = hmac(server, client, &[6, 10, 0, 6, 2, high, low]);
    assert_eq!(
        (with_port.len(), &with_port[8..10], &with_port[10..]),
        (18, &[high, low][..], &expected[24..])
    );
}

#[test]
fn pitfall_12_the_three_forms_have_their_lengths() {
    let (_, options) = overheard();
    let lengths: Vec<usize> = options.iter().filter(subtype(1)).map(|option| option.len()).collect();
    assert_eq!(lengths, [12, 16, 24]);
}

#[test]
fn pitfall_13_the_third_ack_of_a_join_has_no_address_id() {
    let (_, options) = overheard();
    let third = options.iter().filter(subtype(1)).find(|option| option.len() == 24).expect("a third ACK");
    assert_eq!(third[2..4], [0x10, 0], "the bits are reserved");
    let syn = options.iter().filter(subtype(1)).find(|option| option.len() == 12).expect("a SYN");
    assert_eq!(syn[3], 1, "where the SYN has it");
}

#[test]
fn pitfall_14_no_data_before_the_third_ack_of_a_join_is_acknowledged() {
    for lost_up in [true, false] {
        let mut pair = Pair::new();
        let (client, server) = pair.connect_joined(0, options());
        pair.join(&client, 1, false);
        let (mut thirds, mut data, mut lost) = (0, 0, 0);
        let mut bytes = pattern(100_000);
        let mut arrived = Vec::new();
        pair.client.write(&client, &bytes);
        // The third ACK is lost three times, or what answers it is.
        pair.run(Duration::from_secs(10), &mut |up, packet| {
            if path_of(&packet) != 1 {
                return Some(packet);
            }
            let segment = Segment::parse(&packet);
            let is_third = segment.option(|it| matches!(it, MptcpOption::Join(MpJoin::Ack { .. }))).is_some();
            thirds += u32::from(is_third);
            let is_fourth = !up && !segment.has(SYN);
            data += u32::from(up && !segment.payload.is_empty());
            assert!(lost == 3 || data == 0, "data on a join that is not confirmed");
            if lost < 3 && if lost_up { is_third } else { is_fourth } {
                lost += 1;
                return None;
            }
            Some(packet)
        });
        assert_eq!((lost, thirds), (3, 4), "lost on the way up: {lost_up}");
        arrived.extend(pair.server.read(&server));
        pair.client.write(&client, &bytes);
        pair.run(Duration::from_secs(1), &mut |up, packet| {
            data += u32::from(up && path_of(&packet) == 1 && !Segment::parse(&packet).payload.is_empty());
            Some(packet)
        });
        assert!(data > 0, "then it carries data");
        arrived.extend(pair.server.read(&server));
        bytes.extend_from_within(..);
        assert!(arrived == bytes);
    }
}

#[test]
fn the_first_data_on_a_join_of_ours_waits_a_moment() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(0, options());
    pair.join(&client, 1, false);
    let bytes = pattern(100_000);
    let mut data = [0, 0];
    for (count, patience) in data.iter_mut().zip([Duration::from_millis(10), Duration::from_millis(500)]) {
        // The first time it is all through before the moment is over.
        pair.client.write(&client, &bytes);
        pair.run(patience, &mut |up, packet| {
            *count += u32::from(up && path_of(&packet) == 1 && !Segment::parse(&packet).payload.is_empty());
            Some(packet)
        });
        assert!(pair.server.read(&server) == bytes);
        pair.run(Duration::from_millis(50), &mut |_, packet| Some(packet));
    }
    assert!(data[0] == 0 && data[1] > 0, "{data:?}");
}

fn misbehaviour(host: &Host, stream: &crate::stack::StreamShared) -> crate::mptcp::Misbehaviour {
    host.stack.connection(name_of(stream)).map(|it| it.misbehaviour()).expect("alive")
}

#[test]
fn pitfall_15_a_wrong_hmac_is_reset_with_its_reason_and_the_connection_goes_on() {
    // In the third ACK, and none at all.
    for hmac in [Some([7; 20]), None] {
        let mut host = server(options());
        let mut peer = client_of(0);
        let stream = peer.connect(&mut host, NOW, H);
        peer.send_data(&mut host, NOW, 0, b"hello");
        peer.receive(&mut host, NOW);
        let mut joining = second_of(&peer);
        joining.send(&mut host, NOW, SYN, &[joining.join_syn(1, 77)], b"");
        joining.receive(&mut host, NOW);
        let third: Vec<_> = hmac.map(|hmac| MptcpOption::Join(MpJoin::Ack { hmac })).into_iter().collect();
        joining.send(&mut host, NOW, ACK, &third, b"");
        assert_eq!(reset_reason(&joining.receive(&mut host, NOW)), Some(ResetReason::MptcpError));
        assert_eq!(misbehaviour(&host, &stream).bad_joins, 1);
        peer.send_data(&mut host, NOW, 5, b"world");
        peer.receive(&mut host, NOW);
        assert_eq!(host.read(&stream), b"helloworld");
        host.finish();
    }
}

/// A client whose peer has sent a byte, so that it may join; it has begun to, and here is the other end of that.
fn joining_client() -> (Host, Peer, Peer, Arc<StreamShared>, u32) {
    let (mut host, mut peer, stream) = connected_client(options());
    peer.send_data(&mut host, NOW, 0, b"x");
    peer.receive(&mut host, NOW);
    let mut joined =
        peer.another(Endpoint::new(address(9, 1), PORT), Endpoint::new(address(1, 1), 40_001), 1);
    host.open(NOW, &stream, joined.tuple.reversed(), 1, false);
    let syns = joined.receive(&mut host, NOW);
    let Some(MptcpOption::Join(MpJoin::Syn { nonce, .. })) = syns[0].options.mptcp.first() else {
        panic!("no join")
    };
    let nonce = *nonce;
    (host, peer, joined, stream, nonce)
}

#[test]
fn pitfall_15_and_so_it_is_on_the_syn_ack() {
    for answer in [
        Some(MpJoin::SynAck { backup: false, address_id: AddressId(1), hmac: 7, nonce: 8 }),
        Some(MpJoin::Ack { hmac: [7; 20] }),
        None,
    ] {
        let (mut host, mut peer, mut joined, stream, _) = joining_client();
        let answer: Vec<_> = answer.map(MptcpOption::Join).into_iter().collect();
        joined.send(&mut host, NOW, SYN | ACK, &answer, b"");
        assert_eq!(reset_reason(&joined.receive(&mut host, NOW)), Some(ResetReason::MptcpError));
        peer.send_data(&mut host, NOW, 1, b"y");
        peer.receive(&mut host, NOW);
        assert_eq!(host.read(&stream), b"xy");
        host.finish();
    }
}

#[test]
fn what_the_peer_says_on_a_reset_is_told() {
    for code in 0..=7 {
        let (mut host, _peer, mut joined, stream, _) = joining_client();
        let words = MpTcpRst { transient: code % 2 == 0, flags: 0, reason: ResetReason::from_code(code) };
        joined.send(&mut host, NOW, RST | ACK, &[MptcpOption::Reset(words)], b"");
        joined.receive(&mut host, NOW);
        let told = reports(&mut host).into_iter().find_map(|report| match report {
            Report::SubflowClosed { reason, reset, .. } => Some((reason, reset)),
            _ => None,
        });
        assert_eq!(told, Some((CloseReason::Refused, Some(words))));
        host.read(&stream);
        host.finish();
    }
}

/// An upload over two subflows of which the second loses its options: from when it joins (but for MP_JOIN) or later, on the
/// way up, down, or both. What the reset of it says, if it is reset.
fn upload_with_options_lost(from_the_join: bool, up: bool, down: bool) -> Option<ResetReason> {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(if from_the_join { 0 } else { 1 }, options());
    if from_the_join {
        pair.join(&client, 1, false);
    }
    let mut reset = None;
    let bytes = pattern(600_000);
    let arrived = pair.upload(&client, &server, &bytes, &mut |upwards, packet| {
        if path_of(&packet) != 1 {
            return Some(packet);
        }
        let segment = Segment::parse(&packet);
        if segment.has(RST) {
            reset = reset.or(reset_reason(&[segment]));
            return Some(packet);
        }
        let strips = if upwards { up } else { down };
        let is_join = |option: &MptcpOption| matches!(option, MptcpOption::Join(_));
        Some(if strips { strip(&packet, |option| !is_join(option)) } else { packet })
    });
    assert!(arrived == bytes, "{} of {}", arrived.len(), bytes.len());
    assert_eq!((client.fallback(), server.fallback()), (Some(None), Some(None)));
    let closed = reports(&mut pair.client).into_iter().filter_map(|report| match report {
        Report::SubflowClosed { tuple, .. } => Some(tuple),
        _ => None,
    });
    assert_eq!(closed.collect::<Vec<_>>(), if reset.is_some() { vec![ends(1)] } else { vec![] });
    reset
}

#[test]
fn pitfall_16_a_joined_subflow_that_loses_its_options_is_reset_alone() {
    let interference = Some(ResetReason::MiddleboxInterference);
    for from_the_join in [true, false] {
        assert_eq!(upload_with_options_lost(from_the_join, true, true), interference);
        assert_eq!(upload_with_options_lost(from_the_join, true, false), interference);
    }
    assert_eq!(upload_with_options_lost(true, false, true), interference, "no DSS has ever come back");
    // Where they have passed before, data ACKs that come by the other subflow are enough.
    assert_eq!(upload_with_options_lost(false, false, true), None);
}

#[test]
fn pitfall_17_the_first_subflow_that_loses_its_options_early_falls_back() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect(options(), options());
    let bytes = pattern(50_000);
    let arrived = pair.upload(&client, &server, &bytes, &mut |_, packet| Some(strip(&packet, |_| true)));
    assert!(arrived == bytes);
    assert_eq!(client.fallback(), fell_back(FallbackReason::NoDss));
    assert_eq!(server.fallback(), fell_back(FallbackReason::NoDss));
}

#[test]
fn pitfall_17_but_not_once_another_has_joined() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(1, options());
    let bytes = pattern(600_000);
    let mut reset = None;
    let arrived = pair.upload(&client, &server, &bytes, &mut |_, packet| {
        if path_of(&packet) != 0 {
            return Some(packet);
        }
        let segment = Segment::parse(&packet);
        if segment.has(RST) {
            reset = reset.or(reset_reason(&[segment]));
            return Some(packet);
        }
        Some(strip(&packet, |_| true))
    });
    assert!(arrived == bytes);
    assert_eq!(reset, Some(ResetReason::MiddleboxInterference));
    assert_eq!((client.fallback(), server.fallback()), (Some(None), Some(None)));
}

/// The echo of an announcement that was never made: what a peer may have to say without a DSS beside it.
fn echo() -> MptcpOption {
    MptcpOption::AddAddr(AddAddr::Echo { address_id: AddressId(9), addr: [10, 9, 9, 9].into(), port: None })
}

#[test]
fn pitfall_18_a_signal_alone_confirms_a_join_and_does_not_confirm_the_first_subflow() {
    let (mut host, _peer, mut joined, stream, host_nonce) = joining_client();
    let nonce = 88;
    let hmac = joined.keys().join_hmac_sent(nonce, host_nonce).syn_ack();
    let answer = MpJoin::SynAck { backup: false, address_id: AddressId(1), hmac, nonce };
    joined.send(&mut host, NOW, SYN | ACK, &[MptcpOption::Join(answer)], b"");
    joined.receive(&mut host, NOW);
    joined.send(&mut host, NOW, ACK, &[echo()], b"");
    assert_eq!(reset_reason(&joined.receive(&mut host, NOW)), None);
    let established = |report: &Report| matches!(report, Report::SubflowEstablished { .. });
    assert!(reports(&mut host).iter().any(established));
    host.read(&stream);
    host.finish();

    let (mut host, mut peer, stream) = connected_client(options());
    peer.send(&mut host, NOW, ACK, &[echo()], b"");
    peer.receive(&mut host, NOW);
    let allowed = |report: &Report| matches!(report, Report::JoinsAllowed { .. });
    assert!(!reports(&mut host).iter().any(allowed), "no DSS has come");
    assert_eq!(stream.fallback(), Some(None), "nor is it a sign against MPTCP");
    host.finish();
}

#[test]
fn pitfall_50_no_join_before_a_dss_has_come() {
    let mut pair = Pair::new();
    let (client, _server) = pair.connect(options(), options());
    let mut syns = 0;
    let mut count = |_: bool, bytes: Vec<u8>| {
        syns += u32::from(Segment::parse(&bytes).has(SYN));
        Some(bytes)
    };
    pair.join(&client, 1, false);
    pair.run(Duration::from_millis(200), &mut count);
    let refused = |report: &Report| {
        matches!(report, Report::SubflowClosed { reason: CloseReason::NoResources, established: false, .. })
    };
    let allowed = |report: &Report| matches!(report, Report::JoinsAllowed { .. });
    let before = reports(&mut pair.client);
    assert!(before.iter().any(refused) && !before.iter().any(allowed));
    pair.client.write(&client, b"x");
    pair.run(Duration::from_millis(200), &mut count);
    assert!(reports(&mut pair.client).iter().any(allowed));
    pair.join(&client, 1, false);
    pair.run(Duration::from_millis(200), &mut count);
    assert_eq!(syns, 2, "a SYN and a SYN/ACK");
}
