//! What implementers of RFC 8684 get wrong, row by row. `tests/pitfalls.rs` has the rows.

mod addresses;
mod data;
mod endings;
mod falling;
mod handshake;
mod joins;

use super::pair::*;
use super::peer::*;
use crate::base::Instant;
use crate::mptcp::{ChecksumPolicy, ConnectOptions, FallbackReason};
use crate::stack::StreamShared;
use crate::stack::message::Report;
use crate::wire::mptcp::{MptcpOption, ResetReason};
use crate::wire::{Endpoint, FourTuple};
use std::sync::Arc;

const PORT: u16 = 80;
const NOW: Instant = Instant::from_millis(1);

fn options() -> ConnectOptions {
    ConnectOptions::default()
}

fn with_checksums() -> ConnectOptions {
    ConnectOptions { checksum: ChecksumPolicy::Required, ..options() }
}

/// The host with the number 2, where somebody listens.
fn server(options: ConnectOptions) -> Host {
    let mut host = Host::new(2, 1500);
    host.listen(PORT, options);
    host
}

/// A peer of [`server`], from its own NIC `port` to the server's.
fn client_of(port: usize) -> Peer {
    let local = Endpoint::new(address(9, port), 50_000 + port as u16);
    Peer::new(local, Endpoint::new(address(2, port), PORT), port)
}

/// Another subflow of a peer of [`server`], between their second NICs.
fn second_of(peer: &Peer) -> Peer {
    peer.another(Endpoint::new(address(9, 1), 50_001), Endpoint::new(address(2, 1), PORT), 1)
}

/// A server and a client that has sent these bytes, so that either may join subflows.
fn confirmed_by(bytes: &[u8]) -> (Host, Peer, Arc<StreamShared>) {
    let mut host = server(options());
    let mut peer = client_of(0);
    let stream = peer.connect(&mut host, NOW, H);
    peer.send_data(&mut host, NOW, 0, bytes);
    peer.receive(&mut host, NOW);
    assert_eq!(host.read(&stream), bytes);
    reports(&mut host);
    (host, peer, stream)
}

/// A server with two subflows from a peer, which has sent five bytes.
fn two_subflows() -> (Host, Peer, Peer, Arc<StreamShared>) {
    let (mut host, peer, stream) = confirmed_by(b"hello");
    let mut joined = second_of(&peer);
    joined.join(&mut host, NOW, 1);
    reports(&mut host);
    (host, peer, joined, stream)
}

/// The host with the number 1, which opens connections, and a peer that it opens them to.
fn client() -> (Host, Peer) {
    let host = Host::new(1, 1500);
    let peer = Peer::new(Endpoint::new(address(9, 0), PORT), Endpoint::new(address(1, 0), 40_000), 0);
    (host, peer)
}

/// [`client`] with an established MPTCP connection to its peer, and without a DSS so far.
fn connected_client(options: ConnectOptions) -> (Host, Peer, Arc<StreamShared>) {
    let (mut host, mut peer) = client();
    let answer = peer.syn_ack(crate::wire::mptcp::VERSION, H);
    let stream = peer.accept(&mut host, NOW, options, &[answer]);
    let third = peer.receive(&mut host, NOW);
    peer.learn_key(&third[0]);
    (host, peer, stream)
}

fn reports(host: &mut Host) -> Vec<Report> {
    Pair::reports(host)
}

/// What a reset among these segments says.
fn reset_reason(segments: &[Segment]) -> Option<ResetReason> {
    let resets = segments.iter().filter(|segment| segment.has(RST));
    resets.flat_map(|segment| &segment.options.mptcp).find_map(|option| match option {
        MptcpOption::Reset(reset) => Some(reset.reason),
        _ => None,
    })
}

/// Bytes of the options of kind 30 in a frame, in order.
fn raw_options(frame: &[u8]) -> Vec<Vec<u8>> {
    let tcp = &frame[34..];
    let mut list = &tcp[20..usize::from(tcp[12] >> 4) * 4];
    let mut found = Vec::new();
    while let [kind, rest @ ..] = list {
        match (kind, rest.first()) {
            (0, _) => break,
            (1, _) => list = rest,
            (kind, Some(len)) => {
                let (option, rest) = list.split_at(usize::from(*len));
                if *kind == 30 {
                    found.push(option.to_vec());
                }
                list = rest;
            }
            (_, None) => break,
        }
    }
    found
}

fn fell_back(reason: FallbackReason) -> Option<Option<FallbackReason>> {
    Some(Some(reason))
}

/// Ends of a subflow between NICs of a pair.
fn ends(port: usize) -> FourTuple {
    FourTuple {
        local: Endpoint::new(address(1, port), 40_000 + port as u16),
        remote: Endpoint::new(address(2, port), PORT),
    }
}
