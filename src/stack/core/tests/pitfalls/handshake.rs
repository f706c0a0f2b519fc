//! MP_CAPABLE: RFC 8684 §3.1.

use super::*;
use crate::base::time::Duration;
use crate::mptcp::crypto::KeyMaterial;
use crate::stack::stream::StreamState;
use crate::wire::mptcp::{CapableFlags, Key, MpCapable, ShortOrLong, VERSION, dss_checksum};
use crate::wire::{TcpFlags, checksum};
use sha2::{Digest, Sha256};

const A: u8 = CapableFlags::CHECKSUM;
const B: u8 = CapableFlags::EXTENSIBILITY;
const C: u8 = CapableFlags::NO_JOIN_HERE;
const HMAC: u8 = CapableFlags::HMAC_SHA256;

fn capable(segment: &Segment) -> Option<&MpCapable> {
    segment.options.mptcp.iter().find_map(|option| match option {
        MptcpOption::Capable(capable) => Some(capable),
        _ => None,
    })
}

fn syn(version: u8, flags: u8) -> MptcpOption {
    MptcpOption::Capable(MpCapable::Syn { version, flags: CapableFlags(flags) })
}

/// A server that has answered the SYN of a client, which knows its key from that.
fn answered() -> (Host, Peer) {
    let mut host = server(options());
    let mut peer = client_of(0);
    peer.send(&mut host, NOW, SYN, &[syn(VERSION, HMAC)], b"");
    let answer = peer.receive(&mut host, NOW);
    let Some(MpCapable::SynAck { sender_key, .. }) = capable(&answer[0]) else { panic!("no key") };
    peer.remote = Some(KeyMaterial::new(*sender_key));
    (host, peer)
}

/// The option of a client's first data: both keys, and the mapping of `data_len` bytes.
fn keys_and_mapping(peer: &Peer, data_len: u16) -> MptcpOption {
    MptcpOption::Capable(MpCapable::Data {
        version: VERSION,
        flags: H,
        sender_key: peer.local.key,
        receiver_key: peer.remote.expect("known").key,
        data_len,
        checksum: None,
    })
}

#[test]
fn pitfall_01_the_option_has_the_lengths_of_version_1() {
    for (options, data_len) in [(options(), 22), (with_checksums(), 24)] {
        let mut pair = Pair::new();
        let mut lengths = Vec::new();
        pair.server.listen(PORT, options);
        let client = pair.client.connect(pair.now, Endpoint::new(address(2, 0), PORT), options);
        let mut tap = |_: bool, bytes: Vec<u8>| {
            let capables = raw_options(&bytes).into_iter().filter(|option| option[2] >> 4 == 0);
            lengths.extend(capables.map(|option| option.len()));
            Some(bytes)
        };
        pair.run(Duration::from_millis(100), &mut tap);
        pair.client.write(&client, &pattern(100));
        pair.run(Duration::from_millis(100), &mut tap);
        assert_eq!(lengths, [4, 12, 20, data_len]);
    }
}

#[test]
fn pitfall_01_a_syn_with_a_key_is_answered_as_plain_tcp() {
    let mut host = server(options());
    let mut peer = client_of(0);
    let version_0 = MpCapable::SynAck { version: 0, flags: CapableFlags(HMAC), sender_key: Key(7) };
    peer.send(&mut host, NOW, SYN, &[MptcpOption::Capable(version_0)], b"");
    let answer = peer.receive(&mut host, NOW);
    assert!(answer[0].has(SYN | ACK) && answer[0].options.mptcp.is_empty());
    peer.send(&mut host, NOW, ACK, &[], b"");
    peer.receive(&mut host, NOW);
    let stream = host.accept.pop().expect("accepted");
    assert_eq!(stream.fallback(), fell_back(FallbackReason::Unsupported));
    host.finish();
}

#[test]
fn pitfall_02_keys_are_repeated_on_the_first_data_until_it_is_acknowledged() {
    let mut pair = Pair::new();
    pair.server.listen(PORT, options());
    let client = pair.client.connect(pair.now, Endpoint::new(address(2, 0), PORT), options());
    // Every third ACK is lost, and the first data once.
    let (mut third_acks, mut first_data) = (0, 0);
    let mut middlebox = |up: bool, bytes: Vec<u8>| {
        match capable(&Segment::parse(&bytes)) {
            Some(MpCapable::Ack { .. }) if up => third_acks += 1,
            Some(MpCapable::Data { .. }) if first_data == 0 => first_data += 1,
            Some(MpCapable::Data { .. }) => {
                first_data += 1;
                return Some(bytes);
            }
            _ => return Some(bytes),
        }
        None
    };
    pair.run(Duration::from_millis(100), &mut middlebox);
    assert_eq!(client.state(), StreamState::Open);
    pair.client.write(&client, &pattern(5_000));
    pair.run(Duration::from_secs(3), &mut middlebox);
    assert!(third_acks >= 1 && first_data == 2, "{third_acks} third ACKs, the first data {first_data} times");
    let accepted = pair.server.accept.pop().expect("accepted");
    assert_eq!((client.fallback(), accepted.fallback()), (Some(None), Some(None)));
    assert!(pair.server.read(&accepted) == pattern(5_000));
}

#[test]
fn pitfall_03_keys_mapping_and_checksum_stand_side_by_side() {
    let (mut host, mut peer) = client();
    let flags = CapableFlags(HMAC | A);
    let answer = peer.syn_ack(VERSION, flags);
    let stream = peer.accept(&mut host, NOW, options(), &[answer]);
    let third = peer.receive(&mut host, NOW);
    peer.learn_key(&third[0]);
    host.write(&stream, b"hello");
    let data = peer.receive(&mut host, NOW);
    let payload_sum = checksum::sum(0, b"hello");
    let expected = MpCapable::Data {
        version: VERSION,
        flags,
        sender_key: peer.remote.expect("known").key,
        receiver_key: peer.local.key,
        data_len: 5,
        checksum: Some(dss_checksum(peer.host_data_seq(0), 1, 5, payload_sum)),
    };
    assert_eq!((capable(&data[0]), &data[0].payload[..]), (Some(&expected), &b"hello"[..]));
    host.finish();
}

#[test]
fn pitfall_04_nothing_is_acknowledged_as_data_before_the_peers_key_is_known() {
    let (mut host, mut peer) = answered();
    // The second data overtakes the third ACK and the first data.
    let late = peer.seq;
    peer.seq += 5;
    peer.send_data(&mut host, NOW, 5, b"world");
    let said = peer.receive(&mut host, NOW);
    assert!(said.iter().all(|segment| segment.options.dss().is_none()), "a data ACK without the peer's key");
    // The first one, which brings the keys.
    let keys = keys_and_mapping(&peer, 5);
    peer.send_at(&mut host, NOW, late, ACK, &[keys], b"hello");
    peer.seq = late + 5;
    peer.send_data(&mut host, NOW, 5, b"world");
    let said = peer.receive(&mut host, NOW);
    let acked = said.iter().filter_map(|segment| segment.options.dss()?.data_ack).next_back();
    assert_eq!(acked.map(|ack| ack.resolve(peer.data_seq(0))), Some(peer.data_seq(10)));
    let stream = host.accept.pop().expect("accepted");
    assert_eq!((stream.fallback(), host.read(&stream)), (Some(None), b"helloworld".to_vec()));
    host.finish();
}

#[test]
fn pitfall_05_flags_and_versions_that_we_do_not_know_mean_tcp_but_for_a_higher_version_on_the_syn() {
    for (version, flags, agreed) in [
        (VERSION, HMAC, true),
        (VERSION, HMAC | B, false),
        (VERSION, 0, false),
        (VERSION, 0x02, false),
        (0, HMAC, false),
        (2, HMAC, true),
        (15, HMAC, true),
    ] {
        let mut host = server(options());
        let mut peer = client_of(0);
        peer.send(&mut host, NOW, SYN, &[syn(version, flags)], b"");
        let answer = peer.receive(&mut host, NOW);
        let answered = capable(&answer[0]).map(MpCapable::version);
        assert_eq!(answered, agreed.then_some(VERSION), "to version {version}, flags {flags:#x}");
        host.finish();
    }
    for (version, flags, agreed) in [
        (VERSION, HMAC, true),
        (VERSION, HMAC | B, false),
        (VERSION, 0, false),
        (VERSION, HMAC | 0x02, false),
        (0, HMAC, false),
        (2, HMAC, false),
    ] {
        let (mut host, mut peer) = client();
        let answer = peer.syn_ack(version, CapableFlags(flags));
        let stream = peer.accept(&mut host, NOW, options(), &[answer]);
        let third = peer.receive(&mut host, NOW);
        assert_eq!(capable(&third[0]).is_some(), agreed, "version {version}, flags {flags:#x}");
        let expected = if agreed { Some(None) } else { fell_back(FallbackReason::Unsupported) };
        assert_eq!(stream.fallback(), expected);
        host.finish();
    }
}

#[test]
fn pitfall_06_one_side_that_requires_checksums_has_them_in_both_directions() {
    for (client_requires, server_requires) in [(false, false), (true, false), (false, true), (true, true)] {
        let of = |requires| if requires { with_checksums() } else { options() };
        let agreed = client_requires || server_requires;
        let mut pair = Pair::new();
        pair.server.listen(PORT, of(server_requires));
        let client = pair.client.connect(pair.now, Endpoint::new(address(2, 0), PORT), of(client_requires));
        let (mut said, mut mapped) = (Vec::new(), [0, 0]);
        let mut tap = |up: bool, bytes: Vec<u8>| {
            let segment = Segment::parse(&bytes);
            said.extend(capable(&segment).map(|capable| capable.flags().has(A)));
            if let Some(mapping) = segment.options.dss().and_then(|dss| dss.mapping) {
                assert_eq!(mapping.checksum.is_some(), agreed);
                mapped[usize::from(up)] += 1;
            }
            Some(bytes)
        };
        pair.run(Duration::from_millis(100), &mut tap);
        let server = pair.server.accept.pop().expect("accepted");
        pair.client.write(&client, &pattern(50_000));
        pair.server.write(&server, &pattern(50_000));
        pair.run(Duration::from_millis(500), &mut tap);
        assert!(mapped[0] > 10 && mapped[1] > 10);
        // On the SYN, the SYN/ACK, and the confirmation, which comes with the third ACK and the first data.
        assert_eq!(said, [client_requires, agreed, agreed, agreed]);
        assert!(pair.server.read(&server) == pattern(50_000) && pair.client.read(&client) == pattern(50_000));
    }
}

#[test]
fn pitfall_06_who_does_not_want_checksums_ignores_an_offer_that_requires_them() {
    let never = ConnectOptions { checksum: ChecksumPolicy::Never, ..options() };
    let unsupported = fell_back(FallbackReason::Unsupported);
    let mut pair = Pair::new();
    let (client, server) = pair.connect(with_checksums(), never);
    let lost = fell_back(FallbackReason::SynAckWithoutCapable);
    assert_eq!((client.fallback(), server.fallback()), (lost, unsupported));
    let mut pair = Pair::new();
    let (client, server) = pair.connect(never, with_checksums());
    let lost = fell_back(FallbackReason::AckWithoutCapable);
    assert_eq!((client.fallback(), server.fallback()), (unsupported, lost));
    let mut pair = Pair::new();
    let (client, server) = pair.connect(never, options());
    assert_eq!((client.fallback(), server.fallback()), (Some(None), Some(None)));
}

#[test]
fn pitfall_07_an_address_that_is_not_to_be_joined_is_not_joined() {
    let behind_a_balancer = ConnectOptions { no_join_here: true, ..options() };
    let mut pair = Pair::new();
    let (client, _server) = pair.connect(options(), behind_a_balancer);
    pair.client.write(&client, &pattern(10));
    pair.run_clean();
    let told = reports(&mut pair.client)
        .into_iter()
        .any(|report| matches!(report, Report::Established { no_join_remote: true, .. }));
    assert!(told, "the path manager is told");
    // Not to its address and port, from whatever address of ours.
    let open = |pair: &mut Pair, remote: Endpoint| {
        pair.open(&client, FourTuple { remote, ..ends(1) }, 1, false);
        let mut syns = 0;
        pair.run(Duration::from_millis(100), &mut |up, bytes| {
            syns += u32::from(up && Segment::parse(&bytes).has(SYN));
            Some(bytes)
        });
        (syns, pair.client.stack.connection(name_of(&client)).map(|it| it.tuples().count()))
    };
    assert_eq!(open(&mut pair, Endpoint::new(address(2, 0), PORT)), (0, Some(1)));
    // To another address of it, which it has announced, joins go.
    assert_eq!(open(&mut pair, Endpoint::new(address(2, 1), PORT)), (1, Some(2)));
}

#[test]
fn pitfall_07_and_who_joins_it_all_the_same_is_refused() {
    let behind_a_balancer = ConnectOptions { no_join_here: true, ..options() };
    let mut host = server(behind_a_balancer);
    let mut peer = client_of(0);
    let syn_flags = HMAC;
    let stream = peer.connect(&mut host, NOW, CapableFlags(syn_flags));
    peer.send_data(&mut host, NOW, 0, b"x");
    peer.receive(&mut host, NOW);
    let mut joining =
        peer.another(Endpoint::new(address(9, 1), 50_001), Endpoint::new(address(2, 0), PORT), 0);
    joining.send(&mut host, NOW, SYN, &[joining.join_syn(1, 77)], b"");
    assert_eq!(reset_reason(&joining.receive(&mut host, NOW)), Some(ResetReason::Prohibited));
    host.read(&stream);
    host.finish();
}

#[test]
fn pitfall_08_a_syn_that_comes_again_without_the_option_makes_plain_tcp() {
    let mut host = server(options());
    let mut peer = client_of(0);
    let isn = peer.seq;
    peer.send(&mut host, NOW, SYN, &[syn(VERSION, HMAC)], b"");
    assert!(capable(&peer.receive(&mut host, NOW)[0]).is_some());
    peer.seq = isn;
    peer.send(&mut host, NOW, SYN, &[], b"");
    let again = peer.receive(&mut host, NOW);
    assert!(again[0].has(SYN | ACK) && again[0].options.mptcp.is_empty());
    peer.send(&mut host, NOW, ACK, &[], b"");
    peer.receive(&mut host, NOW);
    let stream = host.accept.pop().expect("accepted");
    assert_eq!(stream.fallback(), fell_back(FallbackReason::SynWithoutCapable));
    host.finish();
}

#[test]
fn pitfall_08_and_so_it_does_where_we_sent_it() {
    let (mut host, mut peer) = client();
    let stream = host.connect(NOW, peer.tuple.local, options());
    let mut now = NOW;
    let mut with_option = Vec::new();
    while with_option.len() < 4 {
        with_option.extend(peer.receive(&mut host, now).iter().map(|syn| capable(syn).is_some()));
        now += Duration::from_millis(500);
    }
    assert_eq!(with_option, [true, true, true, false]);
    // A SYN/ACK to an earlier SYN has been on its way for long.
    let late = peer.syn_ack(VERSION, H);
    peer.send(&mut host, now, SYN | ACK, &[late], b"");
    let third = peer.receive(&mut host, now);
    assert!(third[0].has(ACK) && third[0].options.mptcp.is_empty());
    assert_eq!(stream.fallback(), fell_back(FallbackReason::SynWithoutAnswer));
    host.finish();
}

#[test]
fn pitfall_09_a_key_whose_token_is_taken_is_not_used() {
    let mut host = server(options());
    let mut dice = host.stack.prng.clone();
    let [taken, next] = [(); 2].map(|()| KeyMaterial::new(Key(dice.next_u64())));
    host.stack.tokens.insert(taken.token, Default::default());
    assert_eq!(host.stack.new_key(), next);
}

#[test]
fn pitfall_10_token_and_first_byte_are_the_right_ends_of_the_digest() {
    let mut host = server(options());
    let mut peer = client_of(0);
    let stream = peer.connect(&mut host, NOW, H);
    let key = peer.remote.expect("known").key;
    let digest: [u8; 32] = Sha256::digest(key.0.to_be_bytes()).into();
    let idsn = u64::from_be_bytes(digest[24..].try_into().expect("eight bytes"));
    peer.send_data(&mut host, NOW, 0, b"x");
    host.write(&stream, b"y");
    let said = peer.receive(&mut host, NOW);
    let mapping = said.iter().find_map(|segment| segment.options.dss()?.mapping).expect("data");
    assert_eq!(mapping.data_seq, crate::wire::mptcp::ShortOrLong::Long(idsn.wrapping_add(1)));
    // The token is what a join names.
    let token = u32::from_be_bytes(digest[..4].try_into().expect("four bytes"));
    assert_eq!(
        host.stack.connection(name_of(&stream)).and_then(|it| it.token()).map(|token| token.0),
        Some(token)
    );
    host.read(&stream);
    host.finish();
}

#[test]
fn pitfall_47_a_port_without_a_listener_takes_joins_and_refuses_connections() {
    let mut pair = Pair::new();
    let (client, _server) = pair.connect_joined(0, options());
    // Joins go by their token, to any port (RFC 8684 §3.2).
    let mut tuple = ends(1);
    tuple.remote.port = 8080;
    pair.open(&client, tuple, 1, false);
    pair.run_clean();
    let joined = |report: &Report| matches!(report, Report::SubflowEstablished { tuple, .. } if tuple.remote.port == 8080);
    assert!(reports(&mut pair.client).iter().any(joined));
    let mut peer = client_of(1);
    peer.tuple.remote.port = 8080;
    peer.send(&mut pair.server, pair.now, SYN, &[syn(VERSION, HMAC)], b"");
    let answer = peer.receive(&mut pair.server, pair.now);
    assert!(answer[0].has(TcpFlags::RST), "{:?}", answer[0].tcp);
}

#[test]
fn pitfall_48_where_syns_with_the_option_are_dropped_one_without_it_gets_through() {
    for _ in 0..2 {
        // And the next connection tries MPTCP again: nothing is remembered of the last one.
        let mut pair = Pair::new();
        pair.server.listen(PORT, options());
        let client = pair.client.connect(pair.now, Endpoint::new(address(2, 0), PORT), options());
        let mut dropped = 0;
        pair.run(Duration::from_secs(5), &mut |_, bytes| {
            let segment = Segment::parse(&bytes);
            let drops = segment.has(SYN) && !segment.options.mptcp.is_empty();
            dropped += u32::from(drops);
            (!drops).then_some(bytes)
        });
        assert_eq!((client.state(), dropped), (StreamState::Open, 3));
        assert_eq!(client.fallback(), fell_back(FallbackReason::SynWithoutAnswer));
        let server = pair.server.accept.pop().expect("accepted");
        assert_eq!(server.fallback(), fell_back(FallbackReason::SynWithoutCapable));
    }
}

#[test]
fn the_c_flag_is_on_each_of_our_options() {
    let mut pair = Pair::new();
    let mut flags = Vec::new();
    pair.server.listen(PORT, ConnectOptions { no_join_here: true, ..options() });
    pair.client.connect(pair.now, Endpoint::new(address(2, 0), PORT), options());
    pair.run(Duration::from_millis(100), &mut |up, bytes| {
        flags.extend(capable(&Segment::parse(&bytes)).map(|capable| (up, capable.flags().has(C))));
        Some(bytes)
    });
    assert_eq!(flags, [(true, false), (false, true), (true, false)]);
}

#[test]
fn first_data_that_lies_behind_a_gap_does_not_say_how_long_our_acknowledgments_are() {
    for (gap, is_long) in [(5, false), (0, true)] {
        let (mut host, mut peer) = answered();
        let keys = keys_and_mapping(&peer, 10);
        let payload = &b"helloworld"[gap..];
        peer.send_at(&mut host, NOW, peer.seq + gap as u32, ACK, &[keys], payload);
        let said = peer.receive(&mut host, NOW);
        let data_ack = said.iter().find_map(|segment| segment.options.dss()?.data_ack);
        assert_eq!(data_ack.map(|it| matches!(it, ShortOrLong::Long(_))), Some(is_long), "a gap of {gap}");
        host.finish();
    }
}

#[test]
fn a_syn_that_we_cannot_agree_to_is_not_counted_as_one_of_mptcp() {
    for (flags, expected) in [(H, 1), (CapableFlags(H.0 | CapableFlags::EXTENSIBILITY), 0)] {
        let mut host = server(options());
        let mut peer = client_of(0);
        let syn = MptcpOption::Capable(MpCapable::Syn { version: 1, flags });
        peer.send(&mut host, NOW, SYN, &[syn], b"");
        peer.receive(&mut host, NOW);
        assert_eq!(host.stack.worker_counters().mptcp.get(crate::mptcp::Mib::CapableSynRx), expected);
        host.finish();
    }
}
