//! What an application sees of its connection's subflows, and the words that a snapshot keeps it in.

use crate::base::PortId;
use crate::wire::{Endpoint, FourTuple};
use std::net::{IpAddr, Ipv6Addr};

/// Subflows whose figures a snapshot holds; a connection with more shows its first ones.
pub const SNAPSHOT_SUBFLOWS: usize = 8;
/// Words of a snapshot that one subflow takes.
pub(super) const SUBFLOW_WORDS: usize = 11;

/// Figures of one subflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubflowInfo {
    /// Its ends.
    pub tuple: FourTuple,
    /// Its NIC.
    pub port: PortId,
    /// Whether it is established and usable.
    pub alive: bool,
    /// Used only as a backup.
    pub backup: bool,
    /// Payload bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Segments retransmitted.
    pub retransmits: u64,
    /// Smoothed round-trip time, in microseconds; 0 before the first sample.
    pub srtt_us: u32,
    /// Its variation, in microseconds.
    pub rttvar_us: u32,
    /// Congestion window, in bytes.
    pub cwnd: u32,
    /// Slow start threshold, in bytes.
    pub ssthresh: u32,
    /// Segment size for data, in bytes.
    pub mss: u16,
}

/// Figures of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// How many subflows there are (the snapshot shows the first [`SNAPSHOT_SUBFLOWS`], dead ones included).
    pub subflows: u32,
    /// The peer's window, in bytes.
    pub send_window: u32,
    /// Bytes sent again on another subflow.
    pub reinjected: u64,
    /// The subflows.
    pub subflow: [Option<SubflowInfo>; SNAPSHOT_SUBFLOWS],
}

fn pack_addr(addr: IpAddr) -> [u64; 2] {
    let bits = match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

fn unpack_addr(words: [u64; 2]) -> IpAddr {
    let v6 = Ipv6Addr::from_bits(u128::from(words[0]) << 64 | u128::from(words[1]));
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Marks a used slot of the snapshot.
const USED: u64 = 1 << 63;

impl SubflowInfo {
    pub(super) fn to_words(self) -> [u64; SUBFLOW_WORDS] {
        let Self {
            tuple,
            port,
            alive,
            backup,
            bytes_sent,
            bytes_received,
            retransmits,
            srtt_us,
            rttvar_us,
            cwnd,
            ssthresh,
            mss,
        } = self;
        let [local_high, local_low] = pack_addr(tuple.local.addr);
        let [remote_high, remote_low] = pack_addr(tuple.remote.addr);
        let ports = u64::from(tuple.local.port) << 16 | u64::from(tuple.remote.port);
        let small =
            USED | u64::from(port.0) << 32 | u64::from(mss) << 16 | u64::from(backup) << 1 | u64::from(alive);
        [
            local_high,
            local_low,
            remote_high,
            remote_low,
            ports,
            small,
            bytes_sent,
            bytes_received,
            retransmits,
            pair(srtt_us, rttvar_us),
            pair(cwnd, ssthresh),
        ]
    }

    pub(super) fn from_words(words: &[u64]) -> Option<Self> {
        let &[lh, ll, rh, rl, ports, small, bytes_sent, bytes_received, retransmits, round_trip, window] =
            words
        else {
            return None;
        };
        (small & USED != 0).then(|| SubflowInfo {
            tuple: FourTuple {
                local: Endpoint::new(unpack_addr([lh, ll]), (ports >> 16) as u16),
                remote: Endpoint::new(unpack_addr([rh, rl]), ports as u16),
            },
            port: PortId((small >> 32) as u16),
            alive: small & 1 != 0,
            backup: small & 2 != 0,
            bytes_sent,
            bytes_received,
            retransmits,
            srtt_us: (round_trip >> 32) as u32,
            rttvar_us: round_trip as u32,
            cwnd: (window >> 32) as u32,
            ssthresh: window as u32,
            mss: (small >> 16) as u16,
        })
    }
}
