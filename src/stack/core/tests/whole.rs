//! Whole lives of connections between two stacks, and frames that no good peer sends.

use super::pair::*;
use crate::base::time::Duration;
use crate::base::{PortId, Prng};
use crate::cc::CongestionAlgorithm;
use crate::mptcp::{ConnectOptions, FallbackReason, SchedulerKind};
use crate::stack::message::{Command, Report};
use crate::stack::stream::StreamState;
use crate::tcp::CloseReason;
use crate::wire::mptcp::{MpCapable, MpJoin};
use crate::wire::{
    ChecksumMode, Endpoint, FourTuple, MptcpOption, Parsed, SegmentRepr, TcpFlags, TcpOptions, emit, parse,
};
use proptest::prelude::*;
use std::net::IpAddr;

fn options(mptcp: bool) -> ConnectOptions {
    ConnectOptions { mptcp, ..Default::default() }
}

/// While a NIC takes nothing, everything that wakes a connection finds it in the list of those that have something to send.
#[test]
fn a_connection_waits_for_its_nic_once() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect(options(true), options(true));
    for _ in 0..100 {
        pair.client.write(&client, &pattern(1000));
        pair.client.stack.handle_doorbell();
        pair.client.stack.settle(pair.now, &mut pair.client.cache);
        let sent = pair.client.stack.poll_transmit(pair.now, &[0; PORTS], &mut pair.client.cache);
        assert!(sent.is_none(), "there is no room");
    }
    assert_eq!(pair.client.stack.senders.len(), 1);
    pair.run_clean();
    assert_eq!(pair.server.read(&server).len(), 100_000);
}

#[test]
fn data_flows_both_ways_over_two_subflows_and_all_ends_in_order() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect(options(true), options(true));
    assert_eq!((client.fallback(), server.fallback()), (Some(None), Some(None)));
    let (up, down) = (pattern(300_000), pattern(200_000));
    pair.client.write(&client, &up[..1000]);
    pair.run_clean();
    assert!(
        Pair::reports(&mut pair.client).iter().any(|report| matches!(report, Report::JoinsAllowed { .. }))
    );
    pair.join(&client, 1, false);
    pair.run_clean();
    let joined = |report: &Report| matches!(report, Report::SubflowEstablished { .. });
    assert!(Pair::reports(&mut pair.client).iter().any(joined));
    assert!(Pair::reports(&mut pair.server).iter().any(joined));

    // No more at a time than the rings hold.
    let (mut arrived_up, mut arrived_down) = (pair.server.read(&server), Vec::new());
    for (up, down) in up[1000..].chunks(120_000).zip(down.chunks(80_000)) {
        pair.client.write(&client, up);
        pair.server.write(&server, down);
        pair.run_clean();
        arrived_up.extend(pair.server.read(&server));
        arrived_down.extend(pair.client.read(&client));
    }
    client.close_send();
    server.close_send();
    pair.run_clean();
    assert!(arrived_up == up && arrived_down == down, "the bytes differ");
    assert!(client.is_sent() && server.is_sent() && client.is_drained() && server.is_drained());
    for info in [client.info(), server.info()] {
        let info = info.expect("published");
        let sent: Vec<u64> = info.subflow.iter().flatten().map(|subflow| subflow.bytes_sent).collect();
        assert!(sent.len() == 2 && sent.iter().all(|bytes| *bytes > 20_000), "{info:?}");
    }
    client.abandon();
    server.abandon();
    pair.run(Duration::from_secs(70), &mut |_, bytes| Some(bytes));
    assert_eq!(pair.client.stack.connection_count() + pair.server.stack.connection_count(), 0);
    assert!(pair.client.stack.poll_timeout().is_none(), "idle means no timer");
    assert_eq!(client.close_reason(), Some(CloseReason::Finished));
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn congestion_control_and_scheduler_change_while_data_moves() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect_joined(1, options(true));
    let connection = name_of(&client);
    let mut packets = 0;
    for ((_, congestion), (_, scheduler)) in
        CongestionAlgorithm::ALL.iter().zip(SchedulerKind::ALL.iter().cycle())
    {
        let (congestion, scheduler) = (*congestion, *scheduler);
        for command in [
            Command::SetCongestion { connection, congestion },
            Command::SetScheduler { connection, scheduler },
        ] {
            pair.client.tell(pair.now, command);
        }
        let details = pair.client.stack.connection(connection).expect("it lives").details(pair.now);
        assert_eq!((details.congestion, details.scheduler), (congestion, scheduler));
        // Loss now and then has each of them shrink its windows, too.
        let mut lossy = |_, bytes| {
            packets += 1;
            (packets % 37 != 0).then_some(bytes)
        };
        let arrived = pair.upload(&client, &server, &pattern(300_000), &mut lossy);
        assert!(arrived == pattern(300_000), "{congestion:?}, {scheduler:?}");
    }
    // A subflow that comes later has it, too.
    pair.join(&client, 2, false);
    pair.run_clean();
    assert!(
        pair.upload(&client, &server, &pattern(100_000), &mut |_, bytes| Some(bytes)) == pattern(100_000)
    );
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn plain_tcp_where_either_side_wants_it() {
    for (client_mptcp, server_mptcp, expected) in [
        (false, true, [FallbackReason::NotWanted, FallbackReason::SynWithoutCapable]),
        (true, false, [FallbackReason::SynAckWithoutCapable, FallbackReason::NotWanted]),
    ] {
        let mut pair = Pair::new();
        let (client, server) = pair.connect(options(client_mptcp), options(server_mptcp));
        assert_eq!([client.fallback(), server.fallback()], expected.map(|reason| Some(Some(reason))));
        let bytes = pattern(100_000);
        pair.client.write(&client, &bytes);
        client.close_send();
        pair.run_clean();
        assert!(pair.server.read(&server) == bytes, "the bytes differ");
        assert!(server.is_drained());
        pair.client.finish();
        pair.server.finish();
    }
}

/// Between the worker's last look at a stream and the end of its connection the application may leave. It has seen that
/// the connection still is, so what it left unread is up to the worker.
#[test]
fn an_application_that_leaves_while_its_connection_ends_loses_no_frames() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect(options(true), options(true));
    pair.client.write(&client, &pattern(3000));
    client.close_send();
    pair.run_clean();
    server.close_send();
    let (id, _) = server.identity().expect("named");
    let mut left = false;
    for _ in 0..2000 {
        let from_client = pair.client.turn(pair.now);
        let host = &mut pair.server;
        host.stack.handle_timeout(pair.now, &mut host.cache);
        host.stack.handle_doorbell();
        host.stack.settle(pair.now, &mut host.cache);
        if !left && host.stack.connection(id).is_some_and(|it| it.is_closed()) {
            assert_ne!(server.state(), StreamState::Closed, "the application sees no end yet");
            server.abandon();
            left = true;
        }
        let mut from_server = Vec::new();
        while let Some((port, packet)) = host.stack.poll_transmit(pair.now, &[64; PORTS], &mut host.cache) {
            from_server.push((port, host.cache.pool().tx_bytes(&packet).to_vec()));
            host.cache.complete(packet.index);
        }
        // TIME-WAIT takes its time.
        pair.now += Duration::from_millis(if from_client.len() + from_server.len() > 0 { 1 } else { 100 });
        from_client.iter().for_each(|(port, bytes)| pair.server.deliver(pair.now, *port, bytes));
        from_server.iter().for_each(|(port, bytes)| pair.client.deliver(pair.now, *port, bytes));
    }
    assert!(left, "the connection did not end");
    client.abandon();
    pair.client.finish();
    pair.server.finish();
}

/// A transfer through a middlebox, both ways; returns why each side fell back.
fn through(middlebox: Middlebox<'_>) -> [Option<FallbackReason>; 2] {
    let mut pair = Pair::new();
    pair.server.listen(80, options(true));
    let client = pair.client.connect(pair.now, Endpoint::new(address(2, 0), 80), options(true));
    pair.run(Duration::from_secs(5), middlebox);
    let server = pair.server.accept.pop().expect("accepted");
    let bytes = pattern(50_000);
    pair.client.write(&client, &bytes);
    pair.run(Duration::from_secs(5), middlebox);
    assert!(pair.server.read(&server) == bytes, "the bytes differ");
    pair.server.write(&server, &bytes);
    server.close_send();
    client.close_send();
    pair.run(Duration::from_secs(5), middlebox);
    assert!(pair.client.read(&client) == bytes, "the bytes differ");
    assert!(client.is_drained() && server.is_drained());
    let reasons = [client.fallback().expect("known"), server.fallback().expect("known")];
    pair.client.finish();
    pair.server.finish();
    reasons
}

#[test]
fn falls_back_when_a_middlebox_removes_options() {
    let capable = |option: &MptcpOption| matches!(option, MptcpOption::Capable(_));
    let flags = |bytes: &[u8]| match parse(bytes, ChecksumMode::Software) {
        Ok(Parsed::Tcp(packet)) => packet.tcp.flags,
        _ => panic!("a good packet"),
    };
    let is_syn = |bytes: &[u8]| flags(bytes).contains(TcpFlags::SYN);
    // From the SYN; from the SYN/ACK; from everything but the SYNs.
    let reasons =
        through(&mut |up, bytes| Some(if up && is_syn(&bytes) { strip(&bytes, capable) } else { bytes }));
    assert_eq!(
        reasons,
        [Some(FallbackReason::SynAckWithoutCapable), Some(FallbackReason::SynWithoutCapable)]
    );
    let reasons =
        through(&mut |up, bytes| Some(if !up && is_syn(&bytes) { strip(&bytes, capable) } else { bytes }));
    assert_eq!(
        reasons,
        [Some(FallbackReason::SynAckWithoutCapable), Some(FallbackReason::AckWithoutCapable)]
    );
    let reasons = through(&mut |_, bytes| Some(if is_syn(&bytes) { bytes } else { strip(&bytes, |_| true) }));
    assert_eq!(reasons, [Some(FallbackReason::NoDss), Some(FallbackReason::AckWithoutCapable)]);
}

#[test]
fn a_lost_third_ack_is_made_up_for_by_the_first_data() {
    let mut dropped = false;
    let reasons = through(&mut |up, bytes| {
        let Ok(Parsed::Tcp(packet)) = parse(&bytes, ChecksumMode::Software) else { panic!("a good packet") };
        let third = up
            && packet
                .options
                .mptcp
                .iter()
                .any(|it| matches!(it, MptcpOption::Capable(MpCapable::Ack { .. })));
        if third && !dropped {
            dropped = true;
            return None;
        }
        Some(bytes)
    });
    assert!(dropped);
    assert_eq!(reasons, [None, None]);
}

#[test]
fn a_subflow_that_dies_in_silence_loses_nothing() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect(options(true), options(true));
    pair.client.write(&client, &pattern(1000));
    pair.run_clean();
    pair.join(&client, 1, false);
    pair.run_clean();
    pair.server.read(&server);
    let bytes = pattern(500_000);
    let (mut count, mut arrived) = (0, Vec::new());
    for part in bytes.chunks(200_000) {
        pair.client.write(&client, part);
        pair.run(Duration::from_secs(5), &mut |_, packet| {
            count += 1;
            (count < 100 || path_of(&packet) != 1).then_some(packet)
        });
        arrived.extend(pair.server.read(&server));
    }
    assert!(arrived == bytes, "the bytes differ");
    assert!(client.info().expect("published").reinjected > 0);
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn an_unknown_token_is_answered_with_a_reset_and_counted() {
    let mut pair = Pair::new();
    let (client, server) = pair.connect(options(true), options(true));
    pair.client.write(&client, &pattern(10));
    pair.run_clean();
    pair.join(&client, 1, false);
    pair.run(Duration::from_millis(500), &mut |up, bytes| {
        if !up || path_of(&bytes) != 1 {
            return Some(bytes);
        }
        Some(edit(&bytes, |segment| {
            for option in &mut segment.options.mptcp {
                if let MptcpOption::Join(MpJoin::Syn { token, .. }) = option {
                    token.0 ^= 1;
                }
            }
        }))
    });
    assert_eq!(pair.server.stack.counters().unknown_tokens, 1);
    let closed = Pair::reports(&mut pair.client)
        .into_iter()
        .any(|report| matches!(report, Report::SubflowClosed { reason: CloseReason::Refused, .. }));
    assert!(closed, "the join was refused; the connection goes on");
    assert_eq!(client.state(), StreamState::Open);
    assert_eq!(pair.server.read(&server).len(), 10);
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn connections_beyond_the_limit_are_dropped_and_counted() {
    let mut pair = Pair::new();
    pair.server.listen(80, options(true));
    let template = SegmentRepr {
        link: &pair.client.path(0).link,
        tuple: FourTuple { local: Endpoint::new(address(1, 0), 1), remote: Endpoint::new(address(2, 0), 80) },
        ecn: 0,
        tcp: crate::wire::TcpRepr {
            seq: Default::default(),
            ack: Default::default(),
            flags: TcpFlags::SYN,
            window: 1000,
            urgent: 0,
        },
        options: &TcpOptions::default(),
    };
    for port in 1..=20 {
        let mut segment = template.clone();
        segment.tuple.local.port = port;
        let mut frame = vec![0; 256];
        let start = emit(&segment, &mut frame, 128..128, ChecksumMode::Software);
        pair.server.deliver(pair.now, PortId(0), &frame[start..128]);
    }
    assert_eq!(pair.server.stack.connection_count(), 16);
    assert_eq!(pair.server.stack.counters().refused_connections, 4);
    pair.server.finish();
}

#[test]
fn a_stray_segment_is_answered_with_a_reset() {
    let mut pair = Pair::new();
    let stream = pair.client.connect(pair.now, Endpoint::new(address(2, 0), 81), options(true));
    pair.run_clean();
    assert_eq!(stream.close_reason(), Some(CloseReason::Refused));
    assert_eq!(pair.server.stack.counters().resets_sent, 1);
    pair.client.finish();
}

/// The packets of a whole life of a connection with two subflows, to start mutations from.
fn recorded() -> Vec<(bool, Vec<u8>)> {
    let mut packets = Vec::new();
    let mut pair = Pair::new();
    pair.server.listen(80, options(true));
    let client = pair.client.connect(pair.now, Endpoint::new(address(2, 0), 80), options(true));
    let mut tap = |up: bool, bytes: Vec<u8>| {
        packets.push((up, bytes.clone()));
        Some(bytes)
    };
    pair.run(Duration::from_millis(100), &mut tap);
    let server = pair.server.accept.pop().expect("accepted");
    pair.client.write(&client, &pattern(3000));
    pair.run(Duration::from_millis(100), &mut tap);
    pair.join(&client, 1, false);
    pair.server.write(&server, &pattern(3000));
    pair.run(Duration::from_millis(100), &mut tap);
    client.close_send();
    server.close_send();
    pair.run(Duration::from_millis(100), &mut tap);
    packets
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Frames that were damaged behind a good checksum, cut, repeated, and pure noise: the stack may do what it likes
    /// with them but panic, or lose a frame.
    #[test]
    fn no_frame_makes_the_stack_panic(
        seed in any::<u64>(),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut prng = Prng::new(seed);
        let mut pair = Pair::new();
        pair.server.listen(80, options(true));
        let client = pair.client.connect(pair.now, Endpoint::new(address(2, 0), 80), options(true));
        let recorded = recorded();
        let mut damage = |up: bool, bytes: Vec<u8>| {
            let _ = up;
            let mut bytes = bytes;
            if prng.chance(0.3) && !bytes.is_empty() {
                // Behind the checksum's back: TCP header and options, with the checksum made right again.
                if let Ok(Parsed::Tcp(packet)) = parse(&bytes, ChecksumMode::Off) {
                    let at = 34 + prng.below((packet.payload.start - 34) as u64) as usize;
                    bytes[at] = prng.next_u32() as u8;
                    mend_checksum(&mut bytes);
                }
            }
            if prng.chance(0.02) {
                let len = prng.below(bytes.len() as u64) as usize;
                bytes.truncate(len);
            }
            Some(bytes)
        };
        for round in 0..6 {
            pair.run(Duration::from_millis(50), &mut damage);
            let (up, replay) = &recorded[(seed as usize + round) % recorded.len()];
            let host = if *up { &mut pair.server } else { &mut pair.client };
            host.deliver(pair.now, PortId(0), replay);
            host.deliver(pair.now, PortId(1), &noise);
            if client.state() == StreamState::Open {
                pair.client.write(&client, &pattern(2000));
                pair.join(&client, 1, false);
            }
        }
        pair.client.read(&client);
        pair.client.finish();
        let streams: Vec<_> = std::iter::from_fn(|| pair.server.accept.pop()).collect();
        pair.server.stack.clear(pair.now, &mut pair.server.cache);
        streams.iter().for_each(|stream| drop(pair.server.read(stream)));
        prop_assert_eq!(pair.server.cache.pool().used(), 0);
    }
}

/// Makes the TCP checksum of an IPv4 packet right.
fn mend_checksum(bytes: &mut [u8]) {
    let (source, destination) = (
        IpAddr::from([bytes[26], bytes[27], bytes[28], bytes[29]]),
        IpAddr::from([bytes[30], bytes[31], bytes[32], bytes[33]]),
    );
    let tcp = &mut bytes[34..];
    tcp[16..18].fill(0);
    let pseudo = crate::wire::checksum::pseudo_header_sum(&source, &destination, 6, tcp.len());
    let sum = !crate::wire::checksum::sum(pseudo, tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
}
