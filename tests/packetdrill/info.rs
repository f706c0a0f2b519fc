//! `struct tcp_info` as Linux lays it out (include/uapi/linux/tcp.h), from what [`TcpInfo`] has. A field is added here as
//! soon as the stack knows it; those that it does not know are zero.

use braid::base::time::Duration;
use braid::tcp::{State, TcpInfo};
use braid::wire::Mss;

/// Bytes of the structure as of Linux 6.18. packetdrill takes fewer or more.
const LEN: usize = 328;

/// What is beside the figures of TCP.
#[derive(Debug, Clone, Copy)]
pub struct Beside {
    /// The connection's state.
    pub state: State,
    /// Effective segment size.
    pub mss: Mss,
    /// What we advertise.
    pub advertised_mss: u16,
    /// Payload bytes of a full segment, options taken off: Linux counts windows in segments of this size.
    pub payload_max: usize,
    /// Bytes given by the application and not sent yet.
    pub unsent: u64,
}

/// Linux's numbers of the states (include/net/tcp_states.h).
fn state_number(state: State) -> u8 {
    match state {
        State::Established => 1,
        State::SynSent => 2,
        State::SynReceived => 3,
        State::FinWait1 => 4,
        State::FinWait2 => 5,
        State::TimeWait => 6,
        State::Closed => 7,
        State::CloseWait => 8,
        State::LastAck => 9,
        State::Closing => 11,
    }
}

fn micros(duration: Option<Duration>) -> u32 {
    duration.map_or(0, |duration| u32::try_from(duration.as_micros()).unwrap_or(u32::MAX))
}

/// A structure that is written field by field, each at its natural place.
struct Layout {
    bytes: [u8; LEN],
}

impl Layout {
    fn u8(&mut self, at: usize, value: u8) {
        self.bytes[at] = value;
    }

    fn u32(&mut self, at: usize, value: u64) {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        self.bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
}

/// The structure.
pub fn tcp_info(info: &TcpInfo, beside: &Beside) -> [u8; LEN] {
    let mut out = Layout { bytes: [0; LEN] };
    let segment = beside.payload_max.max(1) as u64;
    let segments = |bytes: u64| bytes.div_ceil(segment);
    out.u8(0, state_number(beside.state)); // tcpi_state
    // 1 ca_state, 2 retransmits, 3 probes, 4 backoff, 5 options, 6 wscale, 7 app_limited: not known yet.
    out.u32(8, u64::from(micros(Some(info.rto)))); // tcpi_rto
    out.u32(16, segment); // tcpi_snd_mss
    out.u32(24, segments(u64::from(info.in_flight))); // tcpi_unacked
    // 28 sacked, 32 lost, 36 retrans: not known yet. 44..60 times of the last segments: nor these.
    out.u32(60, u64::from(beside.mss.raw()) + 40); // tcpi_pmtu
    out.u32(68, u64::from(micros(info.srtt))); // tcpi_rtt
    out.u32(72, u64::from(micros(info.rttvar))); // tcpi_rttvar
    let ssthresh = if info.ssthresh == u64::MAX { 0x7fff_ffff } else { info.ssthresh / segment };
    out.u32(76, ssthresh); // tcpi_snd_ssthresh
    out.u32(80, info.cwnd / segment); // tcpi_snd_cwnd
    out.u32(84, u64::from(beside.advertised_mss)); // tcpi_advmss
    // 88 reordering: not known yet.
    out.u32(100, info.counters.retransmits); // tcpi_total_retrans
    out.u64(120, info.bytes_acked); // tcpi_bytes_acked
    out.u64(128, info.bytes_received); // tcpi_bytes_received
    out.u32(136, info.counters.segments_sent); // tcpi_segs_out
    out.u32(140, info.counters.segments_received); // tcpi_segs_in
    out.u32(144, beside.unsent); // tcpi_notsent_bytes
    out.u32(148, u64::from(micros(info.min_rtt))); // tcpi_min_rtt
    // 152..200 data segments, delivery rate, busy and limited times, delivered: not known yet.
    out.u64(200, info.bytes_sent); // tcpi_bytes_sent
    out.u32(224, info.counters.out_of_order); // tcpi_rcv_ooopack
    out.u32(228, u64::from(info.peer_window)); // tcpi_snd_wnd
    out.bytes
}
