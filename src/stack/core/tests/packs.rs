//! Packets that take more than a frame: several segments leave in one, and are segments again where they arrive.

use super::pair::*;
use crate::base::PortId;
use crate::base::pool::{PACKET_FRAMES, RX_PACKET_MAX};
use crate::base::time::Duration;
use crate::mptcp::{ChecksumPolicy, ConnectOptions};
use crate::stack::StreamShared;
use crate::wire::mptcp::MpCapable;
use crate::wire::{Malformed, MptcpOption};
use std::sync::Arc;

const MTU: u16 = 9000;
/// An Ethernet frame of this MTU.
const FULL: usize = MTU as usize + 14;

fn jumbo(options: ConnectOptions) -> (Pair, Arc<StreamShared>, Arc<StreamShared>) {
    let mut pair = Pair::with_mtu(MTU);
    let (client, server) = pair.connect(options, options);
    (pair, client, server)
}

/// Sends `bytes` in whole segments; gives the lengths of the client's packets, and asserts that all arrives. `drops` takes packets
/// by their number and length.
fn send(
    (pair, client, server): (&mut Pair, &StreamShared, &StreamShared),
    bytes: &[u8],
    mut drops: impl FnMut(usize, usize) -> bool,
) -> Vec<usize> {
    let mut lens = Vec::new();
    let mut arrived = Vec::new();
    for part in bytes.chunks(400_000) {
        pair.client.write_in(client.chunk_len(), client, part);
        pair.run(Duration::from_secs(8), &mut |up, packet| {
            let taken = up && drops(lens.len(), packet.len());
            if up {
                lens.push(packet.len());
            }
            (!taken).then_some(packet)
        });
        arrived.extend(pair.server.read(server));
    }
    assert!(arrived == bytes, "{} of {} bytes arrived, or others", arrived.len(), bytes.len());
    lens
}

fn finish((pair, client, server): (Pair, Arc<StreamShared>, Arc<StreamShared>)) {
    drop((client, server));
    pair.client.finish();
    pair.server.finish();
}

#[test]
fn full_packets_take_all_that_their_frames_hold() {
    for mptcp in [true, false] {
        let mut ends = jumbo(ConnectOptions { mptcp, ..ConnectOptions::default() });
        let bytes = pattern(3_000_000);
        let lens = send((&mut ends.0, &ends.1, &ends.2), &bytes, |_, _| false);
        let full = lens.iter().filter(|len| (FULL - 8..=FULL).contains(*len)).count();
        let most = lens.iter().max().copied().unwrap_or_default();
        assert!(most <= FULL, "{most} bytes");
        let data = lens.iter().filter(|len| **len > 1000).count();
        assert!(4 * full > 3 * data && full > 200, "mptcp {mptcp}: {full} of {data}");
        finish(ends);
    }
}

#[test]
fn a_mapping_covers_the_whole_packet() {
    let mut ends = jumbo(ConnectOptions::default());
    let (pair, client, server) = (&mut ends.0, &ends.1, &ends.2);
    let mut checked = 0;
    for part in pattern(2_000_000).chunks(400_000) {
        pair.client.write_in(client.chunk_len(), client, part);
        pair.run(Duration::from_secs(2), &mut |up, packet| {
            let Segment { payload, options, .. } = Segment::parse(&packet);
            if up && payload.len() > RX_PACKET_MAX {
                // RFC 8684 §3.1: the first data maps itself, with the keys.
                let mapped = options.mptcp.iter().find_map(|option| match option {
                    MptcpOption::Dss(dss) => dss.mapping.map(|mapping| mapping.len),
                    MptcpOption::Capable(MpCapable::Data { data_len, .. }) => Some(*data_len),
                    _ => None,
                });
                assert_eq!(mapped.map(usize::from), Some(payload.len()));
                checked += 1;
            }
            Some(packet)
        });
        assert!(pair.server.read(server) == part);
    }
    assert!(checked > 100, "{checked}");
    finish(ends);
}

#[test]
fn what_is_lost_is_sent_again_in_parts() {
    let mut ends = jumbo(ConnectOptions::default());
    let mut lost = 0;
    let lens = send((&mut ends.0, &ends.1, &ends.2), &pattern(4_000_000), |number, len| {
        let takes = len > RX_PACKET_MAX && number % 40 == 7;
        lost += usize::from(takes);
        takes
    });
    assert!(lost > 3, "{lost}");
    // They go on: losses are of another kind.
    assert!(lens[lens.len() - 40..].iter().any(|len| *len > RX_PACKET_MAX), "{lens:?}");
    finish(ends);
}

#[test]
fn a_path_that_carries_no_such_packets_and_does_not_say_so_gets_none_soon() {
    let mut ends = jumbo(ConnectOptions::default());
    let lens = send((&mut ends.0, &ends.1, &ends.2), &pattern(4_000_000), |_, len| len > RX_PACKET_MAX);
    assert!(lens.iter().any(|len| *len > RX_PACKET_MAX), "it was tried");
    let last = lens[lens.len() / 2..].iter().filter(|len| **len > RX_PACKET_MAX).count();
    assert_eq!(last, 0, "of {}", lens.len());
    // Ten minutes later it is asked again, and now it carries them.
    ends.0.now += Duration::from_secs(601);
    let lens = send((&mut ends.0, &ends.1, &ends.2), &pattern(2_000_000), |_, _| false);
    assert!(lens.iter().filter(|len| **len > RX_PACKET_MAX).count() > 50, "{lens:?}");
    finish(ends);
}

#[test]
fn where_mappings_have_checksums_each_segment_leaves_alone() {
    let mut ends = jumbo(ConnectOptions { checksum: ChecksumPolicy::Required, ..ConnectOptions::default() });
    let lens = send((&mut ends.0, &ends.1, &ends.2), &pattern(1_000_000), |_, _| false);
    assert!(lens.iter().all(|len| *len <= RX_PACKET_MAX));
    finish(ends);
}

#[test]
fn a_packet_of_too_many_frames_is_dropped_and_counted_and_what_follows_is_taken() {
    let mut ends = jumbo(ConnectOptions::default());
    let (pair, client, server) = (&mut ends.0, &ends.1, &ends.2);
    let before = pair.server.cache.pool().used();
    for place in 0..PACKET_FRAMES + 3 {
        pair.server.deliver_part(pair.now, PortId(0), &[7; 100], place < PACKET_FRAMES + 2);
    }
    assert_eq!(pair.server.cache.pool().used(), before);
    assert_eq!(pair.server.stack.counters().malformed[Malformed::Truncated as usize], 1);
    send((pair, client, server), &pattern(100_000), |_, _| false);
    // The end of one does not come: it is given back at the end.
    pair.server.deliver_part(pair.now, PortId(0), &[7; 100], true);
    finish(ends);
}

#[test]
fn on_several_paths_packets_are_as_full_as_on_one() {
    let mut pair = Pair::with_mtu(MTU);
    let (client, server) = pair.connect_joined(1, ConnectOptions::default());
    let mut lens = [Vec::new(), Vec::new()];
    for part in pattern(6_000_000).chunks(400_000) {
        pair.client.write_in(client.chunk_len(), &client, part);
        pair.run(Duration::from_secs(2), &mut |up, packet| {
            if up && packet.len() > 1000 {
                lens[usize::from(path_of(&packet) != 1)].push(packet.len());
            }
            Some(packet)
        });
        assert!(pair.server.read(&server) == part);
    }
    for (path, lens) in lens.iter().enumerate() {
        let full = lens.iter().filter(|len| (FULL - 8..=FULL).contains(*len)).count();
        assert!(4 * full > 3 * lens.len() && full > 100, "path {path}: {full} of {}", lens.len());
    }
    finish((pair, client, server));
}
