//! ADD_ADDR, REMOVE_ADDR and MP_PRIO: RFC 8684 §3.3.8 and §3.4.

use super::*;
use crate::base::PortId;
use crate::base::time::Duration;
use crate::stack::message::Command;
use crate::tcp::CloseReason;
use crate::wire::mptcp::{AddAddr, AddressId, MpJoin, MpPrio, RemoveAddr, ShortOrLong};
use crate::wire::tcp::OPTIONS_MAX;
use std::net::IpAddr;

fn announce(
    host: &mut Host,
    now: Instant,
    stream: &crate::stack::StreamShared,
    id: u8,
    addr: IpAddr,
    port: Option<u16>,
) {
    let connection = name_of(stream);
    let command = Command::Announce { connection, id: AddressId(id), addr, port };
    host.stack.handle_command(now, command, &mut host.cache);
}

fn withdraw(host: &mut Host, now: Instant, stream: &crate::stack::StreamShared, id: u8) {
    let command = Command::Withdraw { connection: name_of(stream), id: AddressId(id) };
    host.stack.handle_command(now, command, &mut host.cache);
}

fn add_addrs(segments: &[Segment]) -> Vec<AddAddr> {
    let options = segments.iter().flat_map(|segment| &segment.options.mptcp);
    options
        .filter_map(|option| match option {
            MptcpOption::AddAddr(add) => Some(*add),
            _ => None,
        })
        .collect()
}

fn removals(segments: &[Segment]) -> Vec<Vec<u8>> {
    let options = segments.iter().flat_map(|segment| &segment.options.mptcp);
    options
        .filter_map(|option| match option {
            MptcpOption::RemoveAddr(removal) => Some(removal.address_ids.iter().map(|id| id.0).collect()),
            _ => None,
        })
        .collect()
}

fn removal(ids: &[u8]) -> MptcpOption {
    MptcpOption::RemoveAddr(RemoveAddr { address_ids: ids.iter().copied().map(AddressId).collect() })
}

/// A server with a confirmed connection from a peer.
fn confirmed() -> (Host, Peer, Arc<StreamShared>) {
    confirmed_by(b"x")
}

/// An announcement by the peer, with a good HMAC.
fn announcement(peer: &Peer, id: u8, addr: IpAddr, port: Option<u16>) -> MptcpOption {
    let hmac = peer.keys().announce_hmac_sent(AddressId(id), addr, port);
    MptcpOption::AddAddr(AddAddr::Announce { address_id: AddressId(id), addr, port, hmac })
}

#[test]
fn pitfall_19_an_announcement_is_repeated_until_it_is_echoed() {
    let (mut host, mut peer, stream) = confirmed();
    announce(&mut host, NOW, &stream, 3, address(2, 3), None);
    let (mut now, mut times) = (NOW, Vec::new());
    while now < Instant::from_millis(10_000) {
        if !add_addrs(&peer.receive(&mut host, now)).is_empty() {
            times.push(now.as_millis());
        }
        now += Duration::from_millis(100);
    }
    assert_eq!(times, [1, 1001, 2001, 4001, 8001]);
    let echo = AddAddr::Echo { address_id: AddressId(3), addr: address(2, 3), port: None };
    peer.send(&mut host, now, ACK, &[MptcpOption::AddAddr(echo)], b"");
    for _ in 0..300 {
        assert!(add_addrs(&peer.receive(&mut host, now)).is_empty(), "it was echoed");
        now += Duration::from_millis(100);
    }
    host.finish();
}

#[test]
fn pitfall_19_what_we_echo_has_no_hmac() {
    let (mut host, mut peer, _stream) = confirmed();
    let mut now = NOW;
    for (addr, port) in [(address(9, 3), None), (address(9, 4), Some(99)), (IpAddr::from([1u16; 8]), Some(7))]
    {
        peer.send(&mut host, now, ACK, &[announcement(&peer, 3, addr, port)], b"");
        let said = peer.receive(&mut host, now);
        assert_eq!(add_addrs(&said), [AddAddr::Echo { address_id: AddressId(3), addr, port }]);
        now += Duration::from_secs(1);
    }
    host.finish();
}

#[test]
fn an_announcement_with_a_wrong_hmac_is_ignored() {
    let (mut host, mut peer, stream) = confirmed();
    let forged = AddAddr::Announce { address_id: AddressId(3), addr: address(9, 3), port: None, hmac: 1 };
    peer.send(&mut host, NOW, ACK, &[MptcpOption::AddAddr(forged)], b"");
    assert!(add_addrs(&peer.receive(&mut host, NOW)).is_empty());
    assert!(reports(&mut host).is_empty());
    let counted = host.stack.connection(name_of(&stream)).map(|it| it.misbehaviour().bad_announcements);
    assert_eq!(counted, Some(1));
    host.finish();
}

#[test]
fn pitfall_20_an_address_without_a_port_is_joined_at_that_of_the_subflow_that_told_of_it() {
    let (mut host, mut peer, stream) = connected_client(options());
    peer.send_data(&mut host, NOW, 0, b"x");
    reports(&mut host);
    for (id, port, expected) in [(3, None, PORT), (4, Some(99), 99)] {
        peer.send(&mut host, NOW, ACK, &[announcement(&peer, id, address(9, usize::from(id)), port)], b"");
        peer.receive(&mut host, NOW);
        let announced = reports(&mut host).into_iter().find_map(|report| match report {
            Report::AddressAnnounced { remote, .. } => Some(remote.port),
            _ => None,
        });
        assert_eq!(announced, Some(expected));
    }
    host.read(&stream);
    host.finish();
}

#[test]
fn pitfall_21_announcements_go_out_on_acks_of_their_own_and_options_fit() {
    let v6 = IpAddr::from([0xfd00, 1, 2, 3, 4, 5, 6, 7]);
    for (addr, port) in [(address(2, 3), None), (address(2, 3), Some(99)), (v6, None), (v6, Some(99))] {
        let mut pair = Pair::new();
        let (client, server) = pair.connect_joined(0, options());
        pair.server.write(&server, &pattern(100_000));
        announce(&mut pair.server, pair.now, &server, 3, addr, port);
        let mut seen = 0;
        pair.run(Duration::from_millis(500), &mut |_, bytes| {
            let segment = Segment::parse(&bytes);
            assert!(segment.options.wire_len() <= OPTIONS_MAX);
            if let [AddAddr::Announce { .. }] = add_addrs(std::slice::from_ref(&segment))[..] {
                seen += 1;
                assert!(segment.payload.is_empty(), "an announcement in the place of a mapping");
                assert!(segment.options.dss().is_none(), "{addr} {port:?}: there is no news beside it");
            }
            Some(bytes)
        });
        assert_eq!(seen, 1, "{addr} {port:?}");
        assert!(pair.client.read(&client) == pattern(100_000));
    }
}

#[test]
fn pitfall_21_what_is_new_is_acknowledged_beside_an_announcement() {
    let (mut host, mut peer, stream) = confirmed();
    for (data, news) in [(&b"yes"[..], true), (b"", false)] {
        if news {
            peer.send_data(&mut host, NOW, 1, data);
        }
        announce(&mut host, NOW, &stream, 3 + u8::from(news), address(2, 3), None);
        let said = peer.receive(&mut host, NOW);
        let told: Vec<&Segment> =
            said.iter().filter(|it| !add_addrs(std::slice::from_ref(it)).is_empty()).collect();
        let [told] = told[..] else { panic!("{} announcements", told.len()) };
        let data_ack = told.options.dss().and_then(|dss| dss.data_ack);
        let expected = news.then(|| ShortOrLong::Long(peer.data_seq(4).raw()));
        assert_eq!(data_ack, expected);
    }
    host.read(&stream);
    host.finish();
}

#[test]
fn pitfall_02_keys_are_not_repeated_to_a_peer_that_has_signed_with_ours() {
    for signed in [false, true] {
        let (mut host, mut peer, stream) = connected_client(options());
        let add = match announcement(&peer, 3, address(9, 3), None) {
            MptcpOption::AddAddr(AddAddr::Announce { address_id, addr, port, hmac }) => {
                AddAddr::Announce { address_id, addr, port, hmac: hmac ^ u64::from(!signed) }
            }
            other => panic!("{other:?}"),
        };
        peer.send(&mut host, NOW, ACK, &[MptcpOption::AddAddr(add)], b"");
        host.write(&stream, b"hello");
        let said = peer.receive(&mut host, NOW);
        let repeats =
            |segment: &Segment| segment.option(|it| matches!(it, MptcpOption::Capable(_))).is_some();
        assert_eq!(said.iter().any(repeats), !signed);
        assert_eq!(add_addrs(&said).len(), usize::from(signed));
        host.finish();
    }
}

#[test]
fn pitfall_22_timestamps_give_way_where_an_announcement_needs_their_room() {
    let mut pair = Pair::new();
    let (_client, server) = pair.connect_joined(0, options());
    announce(&mut pair.server, pair.now, &server, 3, IpAddr::from([1u16; 8]), Some(99));
    let (mut with, mut without) = (0, 0);
    pair.run(Duration::from_millis(500), &mut |up, bytes| {
        let segment = Segment::parse(&bytes);
        let announces = !add_addrs(std::slice::from_ref(&segment)).is_empty();
        match segment.options.timestamps {
            Some(_) => with += u32::from(announces),
            None => {
                without += 1;
                assert!(announces && !up, "left out for nothing");
            }
        }
        Some(bytes)
    });
    // The echo has no HMAC, and room for timestamps.
    assert_eq!((with, without), (1, 1));
}

#[test]
fn pitfall_24_an_id_that_gets_another_address_was_removed_before() {
    let (mut host, mut peer, _stream) = confirmed();
    let said = |host: &mut Host, peer: &mut Peer, addr| {
        peer.send(host, NOW, ACK, &[announcement(peer, 3, addr, None)], b"");
        peer.receive(host, NOW);
        reports(host)
            .into_iter()
            .filter_map(|report| match report {
                Report::AddressAnnounced { remote, .. } => Some(Some(remote.addr)),
                Report::AddressWithdrawn { .. } => Some(None),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(said(&mut host, &mut peer, address(9, 3)), [Some(address(9, 3))]);
    assert_eq!(said(&mut host, &mut peer, address(9, 3)), []);
    assert_eq!(said(&mut host, &mut peer, address(8, 3)), [None, Some(address(8, 3))]);
    host.finish();
}

#[test]
fn pitfall_25_removals_are_a_list() {
    let mut pair = Pair::new();
    let (_client, server) = pair.connect_joined(1, options());
    for id in [4, 5, 6] {
        announce(&mut pair.server, pair.now, &server, id, address(2, usize::from(id)), None);
    }
    pair.run_clean();
    reports(&mut pair.client);
    for id in [4, 5, 6] {
        withdraw(&mut pair.server, pair.now, &server, id);
    }
    let mut lists = Vec::new();
    pair.run(Duration::from_millis(200), &mut |_, bytes| {
        lists.extend(raw_options(&bytes).into_iter().filter(|option| option[2] >> 4 == 4));
        Some(bytes)
    });
    assert_eq!(lists, [[30, 6, 0x40, 4, 5, 6]]);
    let withdrawn: Vec<u8> = reports(&mut pair.client)
        .into_iter()
        .filter_map(|report| match report {
            Report::AddressWithdrawn { id, .. } => Some(id.0),
            _ => None,
        })
        .collect();
    assert_eq!(withdrawn, [4, 5, 6]);
}

#[test]
fn pitfall_26_the_address_of_the_first_subflow_is_removed_as_id_0() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(1, options());
    withdraw(&mut pair.client, pair.now, &client, 0);
    let mut seen = Vec::new();
    pair.run(Duration::from_secs(3), &mut |_, bytes| {
        let segment = Segment::parse(&bytes);
        let path = path_of(&bytes);
        seen.extend(removals(std::slice::from_ref(&segment)).into_iter().map(|ids| (path, ids)));
        Some(bytes)
    });
    assert_eq!(seen, [(1, vec![0])], "and on a subflow that stays (pitfall 27)");
    let left = |host: &Host, stream: &crate::stack::StreamShared| {
        host.stack.connection(name_of(stream)).map(|it| it.tuples().map(|(id, ..)| id.0).collect::<Vec<_>>())
    };
    assert_eq!(left(&pair.client, &client), Some(vec![1]));
    assert_eq!(left(&pair.server, &server), Some(vec![1]), "the peer resets its end, or hears of ours");
    let bytes = pattern(100_000);
    assert!(pair.upload(&client, &server, &bytes, &mut |_, bytes| Some(bytes)) == bytes);
}

#[test]
fn pitfall_27_nothing_is_signalled_on_the_path_that_dies() {
    let mut pair = Pair::new();
    let (client, _server) = pair.connect_joined(2, options());
    withdraw(&mut pair.client, pair.now, &client, 1);
    withdraw(&mut pair.client, pair.now, &client, 0);
    let mut paths = Vec::new();
    pair.run(Duration::from_millis(300), &mut |_, bytes| {
        let lists = removals(std::slice::from_ref(&Segment::parse(&bytes)));
        paths.extend(lists.into_iter().map(|ids| (path_of(&bytes), ids)));
        Some(bytes)
    });
    let mut ids: Vec<u8> =
        paths.iter().filter(|(path, _)| *path == 2).flat_map(|(_, ids)| ids.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, [0, 1], "{paths:?}");
    assert!(paths.iter().all(|(path, ids)| !ids.contains(path)), "{paths:?}");
    // The last one: there is nothing to say it on.
    withdraw(&mut pair.client, pair.now, &client, 2);
    pair.run(Duration::from_millis(300), &mut |_, bytes| {
        assert!(removals(std::slice::from_ref(&Segment::parse(&bytes))).is_empty());
        Some(bytes)
    });
}

#[test]
fn pitfall_28_a_removal_asks_first_and_a_path_that_answers_stays() {
    for answers in [true, false] {
        let (mut host, mut peer, mut joined, _stream) = two_subflows();
        let mut now = NOW + Duration::from_millis(10);
        peer.send(&mut host, now, ACK, &[removal(&[1])], b"");
        let asked = joined.receive(&mut host, now);
        assert!(asked.iter().any(|segment| segment.tcp.seq.before(joined.ack)), "a keep-alive");
        assert!(!asked.iter().any(|segment| segment.has(RST)));
        now += Duration::from_millis(10);
        if answers {
            joined.data_ack(&mut host, now, 0);
        }
        let mut reset = false;
        for _ in 0..30 {
            now += Duration::from_millis(100);
            reset |= joined.receive(&mut host, now).iter().any(|segment| segment.has(RST));
        }
        assert_eq!(reset, !answers);
        let told = reports(&mut host).iter().any(|report| matches!(report, Report::AddressWithdrawn { .. }));
        assert!(told, "for joins it is gone in either case");
        host.finish();
    }
}

#[test]
fn pitfall_28_a_path_that_the_peer_has_just_withdrawn_does_not_stand_in_for_one_whose_nic_fails() {
    for withdrawn in [true, false] {
        let (mut host, _peer, mut joined, _stream) = two_subflows();
        let gone = if withdrawn { vec![removal(&[0])] } else { vec![] };
        joined.send(&mut host, NOW, ACK, &gone, b"");
        reports(&mut host);
        let down = Command::PortState { port: joined.port, up: false };
        host.stack.handle_command(NOW, down, &mut host.cache);
        host.turn(NOW);
        let ended = reports(&mut host).iter().any(|report| matches!(report, Report::SubflowClosed { .. }));
        assert_eq!(ended, !withdrawn, "what is left of the connection is on that NIC");
        host.finish();
    }
}

#[test]
fn pitfall_28_a_link_that_fails_ends_no_subflow_in_favour_of_one_that_is_being_asked_whether_it_lives() {
    for answers in [true, false] {
        let (mut host, mut peer, mut joined, _stream) = two_subflows();
        let mut now = NOW + Duration::from_millis(10);
        peer.send(&mut host, now, ACK, &[removal(&[1])], b"");
        joined.receive(&mut host, now);
        now += Duration::from_millis(10);
        if answers {
            joined.data_ack(&mut host, now, 0);
        }
        reports(&mut host);
        let down = Command::PortState { port: PortId(0), up: false };
        host.stack.handle_command(now, down, &mut host.cache);
        host.turn(now);
        let ended = reports(&mut host).into_iter().any(|report| match report {
            Report::SubflowClosed { subflow, reason, .. } => {
                (subflow.0, reason) == (0, CloseReason::PathDown)
            }
            _ => false,
        });
        assert_eq!(ended, answers);
        host.finish();
    }
}

#[test]
fn pitfall_28_ids_that_are_not_known_are_ignored() {
    let (mut host, mut peer, _stream) = confirmed();
    peer.send(&mut host, NOW, ACK, &[removal(&[7, 8, 200])], b"");
    let said = peer.receive(&mut host, NOW);
    assert!(said.is_empty() && reports(&mut host).is_empty());
    host.finish();
}

#[test]
fn pitfall_29_what_was_announced_or_joined_from_is_withdrawn_though_it_is_in_no_use() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(1, options());
    announce(&mut pair.client, pair.now, &client, 5, address(1, 5), None);
    pair.run_clean();
    // The join's subflow ends; the peer still knows its id.
    let (connection, subflow) = (name_of(&client), crate::mptcp::SubflowId(1));
    let close = Command::CloseSubflow { connection, subflow };
    pair.client.stack.handle_command(pair.now, close, &mut pair.client.cache);
    pair.run_clean();
    for (id, told) in [(5, true), (1, true), (6, false)] {
        withdraw(&mut pair.client, pair.now, &client, id);
        let mut lists = Vec::new();
        pair.run(Duration::from_millis(300), &mut |_, bytes| {
            lists.extend(removals(std::slice::from_ref(&Segment::parse(&bytes))));
            Some(bytes)
        });
        assert_eq!(lists, if told { vec![vec![id]] } else { vec![] });
    }
    assert!(pair.upload(&client, &server, b"on", &mut |_, bytes| Some(bytes)) == b"on");
}

fn is_backup(host: &Host, stream: &crate::stack::StreamShared, subflow: usize) -> bool {
    let connection = host.stack.connection(name_of(stream)).expect("alive");
    connection.figures().nth(subflow).expect("a subflow").backup
}

#[test]
fn pitfall_30_what_we_ask_for_and_what_the_peer_asks_for_are_two_things() {
    let (mut host, mut peer, stream) = confirmed();
    let set = |host: &mut Host, backup| {
        let (connection, subflow) = (name_of(&stream), crate::mptcp::SubflowId(0));
        let command = Command::SetBackup { connection, subflow, backup };
        host.stack.handle_command(NOW, command, &mut host.cache);
    };
    let prio = |backup| MptcpOption::Prio(MpPrio { backup });
    peer.send(&mut host, NOW, ACK, &[prio(true)], b"");
    peer.receive(&mut host, NOW);
    assert!(is_backup(&host, &stream, 0));
    set(&mut host, true);
    let said = peer.receive(&mut host, NOW);
    assert!(said.iter().any(|segment| segment.option(|option| *option == prio(true)).is_some()));
    peer.send(&mut host, NOW, ACK, &[prio(false)], b"");
    peer.receive(&mut host, NOW);
    assert!(is_backup(&host, &stream, 0), "we have asked for it, too");
    set(&mut host, false);
    let said = peer.receive(&mut host, NOW);
    assert!(said.iter().any(|segment| segment.option(|option| *option == prio(false)).is_some()));
    assert!(!is_backup(&host, &stream, 0));
    host.finish();
}

#[test]
fn pitfall_30_a_join_asks_on_its_syn_and_the_other_side_does_not_echo_it() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(0, options());
    pair.join(&client, 1, true);
    let mut flags = Vec::new();
    pair.run(Duration::from_millis(300), &mut |_, bytes| {
        flags.extend(Segment::parse(&bytes).options.mptcp.iter().filter_map(|option| match option {
            MptcpOption::Join(MpJoin::Syn { backup, .. } | MpJoin::SynAck { backup, .. }) => Some(*backup),
            _ => None,
        }));
        Some(bytes)
    });
    assert_eq!(flags, [true, false]);
    assert!(is_backup(&pair.client, &client, 1) && is_backup(&pair.server, &server, 1));
}

#[test]
fn pitfall_31_a_backup_carries_data_only_when_nothing_else_can() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(0, options());
    pair.join(&client, 1, true);
    pair.run_clean();
    let bytes = pattern(400_000);
    let mut on_backup = 0;
    let arrived = pair.upload(&client, &server, &bytes, &mut |up, bytes| {
        on_backup += usize::from(up && path_of(&bytes) == 1) * Segment::parse(&bytes).payload.len();
        Some(bytes)
    });
    assert!(arrived == bytes && on_backup == 0, "{on_backup} bytes while the primary was only full");
    let arrived = pair.upload(&client, &server, &bytes, &mut |up, bytes| {
        on_backup += usize::from(up && path_of(&bytes) == 1) * Segment::parse(&bytes).payload.len();
        (path_of(&bytes) == 1).then_some(bytes)
    });
    assert!(arrived == bytes && on_backup >= 400_000, "{on_backup} bytes");
}

#[test]
fn data_acks_have_the_length_of_the_peers_data_sequence_numbers() {
    let (mut host, mut peer, stream) = confirmed();
    for short in [true, false] {
        let mut dss = peer.dss(if short { 1 } else { 2 }, b"y", 0, false);
        if let Some(mapping) = &mut dss.mapping
            && short
        {
            mapping.data_seq = ShortOrLong::Short(peer.data_seq(1).raw() as u32);
        }
        peer.send(&mut host, NOW, ACK, &[MptcpOption::Dss(dss)], b"y");
        let said = peer.receive(&mut host, NOW);
        let ack = said.iter().find_map(|segment| segment.options.dss()?.data_ack).expect("a data ACK");
        assert_eq!(matches!(ack, ShortOrLong::Short(_)), short);
    }
    assert_eq!(host.read(&stream), b"yy");
    host.finish();
}
