//! `struct tcp_info` as Linux lays it out (include/uapi/linux/tcp.h), from what [`TcpInfo`] has. A field is added here as
//! soon as the stack knows it; those that it does not know are zero.

use braid::base::time::Duration;
use braid::tcp::{AgreedOptions, RecoveryPhase, State, TcpInfo};

/// Bytes of the structure as of Linux 6.18. packetdrill takes fewer or more.
const LEN: usize = 328;

/// Where tcpi_options is, and its bit for data of a SYN that was taken.
pub const OPTIONS_AT: usize = 5;
pub const SYN_DATA: u8 = 32;

/// What is beside the figures of TCP.
#[derive(Debug, Clone, Copy)]
pub struct Beside {
    /// What we advertise.
    pub advertised_mss: u16,
    /// Payload bytes of a full segment, options taken off: Linux counts windows in segments of this size.
    pub payload_max: usize,
    /// All data of the SYN was taken.
    pub syn_data: bool,
    /// Bytes of our SYN that were taken: they count as a part of it.
    pub syn_bytes: u64,
    /// Bytes given by the application and not sent yet, wherever they wait.
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

/// Linux's numbers of `enum tcp_ca_state`. It counts a state of doubt, too: something is held beyond a gap, and nothing is
/// taken to be lost.
fn recovery_number(info: &TcpInfo) -> u8 {
    match info.recovery {
        RecoveryPhase::Open if info.sacked_segments > 0 => 1,
        RecoveryPhase::Open => 0,
        RecoveryPhase::Reducing => 2,
        RecoveryPhase::Fast => 3,
        RecoveryPhase::Timeout => 4,
    }
}

/// The structure.
pub fn tcp_info(info: &TcpInfo, beside: &Beside) -> [u8; LEN] {
    let mut out = Layout { bytes: [0; LEN] };
    let segment = beside.payload_max.max(1) as u64;
    let AgreedOptions { timestamps, sack, ecn, window_shifts } = info.agreed;
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    let (peer_shift, our_shift) = window_shifts.unwrap_or_default();
    out.u8(0, state_number(info.state)); // tcpi_state
    out.u8(1, recovery_number(info)); // tcpi_ca_state
    out.u8(2, u8::try_from(info.backoff).unwrap_or(u8::MAX)); // tcpi_retransmits
    out.u8(3, 0); // tcpi_probes: those without an answer are not told
    out.u8(4, u8::try_from(info.backoff).unwrap_or(u8::MAX)); // tcpi_backoff
    let options = bit(timestamps, 1) | bit(sack, 2) | bit(window_shifts.is_some(), 4) | bit(ecn, 8);
    out.u8(OPTIONS_AT, options | bit(beside.syn_data, SYN_DATA)); // tcpi_options
    out.u8(6, (peer_shift & 15) | our_shift << 4); // tcpi_snd_wscale, tcpi_rcv_wscale
    out.u8(7, bit(info.app_limited, 1)); // tcpi_delivery_rate_app_limited
    out.u32(8, u64::from(micros(Some(info.rto)))); // tcpi_rto
    out.u32(12, u64::from(micros(Some(info.ato)))); // tcpi_ato
    out.u32(16, segment); // tcpi_snd_mss
    out.u32(20, u64::from(info.receive_mss)); // tcpi_rcv_mss
    out.u32(24, u64::from(info.unacked_segments)); // tcpi_unacked
    out.u32(28, u64::from(info.sacked_segments)); // tcpi_sacked
    out.u32(32, u64::from(info.lost_segments)); // tcpi_lost
    out.u32(36, u64::from(info.resent_segments)); // tcpi_retrans
    // 44..60, when data and ACKs were sent and received last, are not told.
    out.u32(60, info.mss as u64 + 40); // tcpi_pmtu
    out.u32(68, u64::from(micros(info.srtt))); // tcpi_rtt
    out.u32(72, u64::from(micros(info.rttvar))); // tcpi_rttvar
    let ssthresh = if info.ssthresh == u64::MAX { 0x7fff_ffff } else { info.ssthresh / segment };
    out.u32(76, ssthresh); // tcpi_snd_ssthresh
    out.u32(80, info.cwnd / segment); // tcpi_snd_cwnd
    out.u32(84, u64::from(beside.advertised_mss)); // tcpi_advmss
    out.u32(88, u64::from(info.reordering_segments)); // tcpi_reordering
    out.u32(100, info.counters.retransmits); // tcpi_total_retrans
    out.u64(104, info.pacing_rate.unwrap_or(u64::MAX)); // tcpi_pacing_rate
    out.u64(112, u64::MAX); // tcpi_max_pacing_rate
    out.u64(120, info.bytes_acked); // tcpi_bytes_acked
    out.u64(128, info.bytes_received); // tcpi_bytes_received
    out.u32(136, info.counters.segments_sent); // tcpi_segs_out
    out.u32(140, info.counters.segments_received); // tcpi_segs_in
    out.u32(144, beside.unsent); // tcpi_notsent_bytes
    out.u32(148, u64::from(micros(info.min_rtt))); // tcpi_min_rtt
    // 152, 156, segments with data, are not told.
    out.u64(160, info.delivery_rate.unwrap_or(0)); // tcpi_delivery_rate
    out.u64(168, u64::from(micros(Some(info.busy)))); // tcpi_busy_time
    out.u64(176, u64::from(micros(Some(info.peer_window_limited)))); // tcpi_rwnd_limited
    out.u64(184, u64::from(micros(Some(info.send_buffer_limited)))); // tcpi_sndbuf_limited
    // Linux counts the SYN, or the SYN/ACK.
    let opened = u64::from(!matches!(info.state, State::SynSent | State::SynReceived));
    let delivered = info.delivered.saturating_sub(beside.syn_bytes).div_ceil(segment);
    out.u32(192, opened + delivered); // tcpi_delivered
    out.u32(196, info.delivered_marked / segment); // tcpi_delivered_ce
    out.u64(200, info.bytes_sent + info.counters.bytes_retransmitted); // tcpi_bytes_sent
    out.u64(208, info.counters.bytes_retransmitted); // tcpi_bytes_retrans
    out.u32(216, info.duplicates_reported); // tcpi_dsack_dups
    out.u32(220, u64::from(info.reorderings)); // tcpi_reord_seen
    out.u32(224, info.counters.out_of_order); // tcpi_rcv_ooopack
    out.u32(228, u64::from(info.peer_window)); // tcpi_snd_wnd
    out.u32(248, info.counters.congestion_marks); // tcpi_received_ce
    out.bytes
}
