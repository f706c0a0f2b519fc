//! Falling back to TCP (RFC 8684 §3.7): why, and what is said about it. The decisions are the connection's.

use crate::base::time::Duration;
use crate::base::{DataSeq, Instant};
use crate::mptcp::SubflowId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a connection is plain TCP although MPTCP was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FallbackReason {
    /// Nobody asked for MPTCP here (`--plain-tcp`).
    NotWanted,
    /// The peer's SYN had no MP_CAPABLE.
    SynWithoutCapable,
    /// The peer's SYN/ACK had no MP_CAPABLE: the peer doesn't speak MPTCP, or a middlebox removed it.
    SynAckWithoutCapable,
    /// We sent SYNs with MP_CAPABLE in vain, then one without it.
    SynWithoutAnswer,
    /// The third ACK, or the first data, came without MP_CAPABLE.
    AckWithoutCapable,
    /// Data or acknowledgments came without DSS before MPTCP was confirmed.
    NoDss,
    /// The peer asked for something that we don't do: another version, checksums, no HMAC-SHA256.
    Unsupported,
    /// The peer fell back and said so by an infinite mapping.
    PeerFellBack,
    /// A DSS checksum failed: a middlebox has changed the payload.
    BadChecksum,
    /// It failed at the peer, which said so by MP_FAIL.
    PeerSawBadChecksum,
    /// MPTCP's options had passed, and do so no more.
    OptionsLost,
}

impl FallbackReason {
    /// All reasons, in an order that does not change within a process.
    pub const ALL: &[FallbackReason] = &[
        FallbackReason::NotWanted,
        FallbackReason::SynWithoutCapable,
        FallbackReason::SynAckWithoutCapable,
        FallbackReason::SynWithoutAnswer,
        FallbackReason::AckWithoutCapable,
        FallbackReason::NoDss,
        FallbackReason::Unsupported,
        FallbackReason::PeerFellBack,
        FallbackReason::BadChecksum,
        FallbackReason::PeerSawBadChecksum,
        FallbackReason::OptionsLost,
    ];

    /// In words, for reports.
    pub fn describe(self) -> &'static str {
        match self {
            FallbackReason::NotWanted => "plain TCP was asked for",
            FallbackReason::SynWithoutCapable => "the peer's SYN had no MP_CAPABLE",
            FallbackReason::SynAckWithoutCapable => {
                "the peer's SYN/ACK had no MP_CAPABLE (no MPTCP there, or a middlebox removed it)"
            }
            FallbackReason::SynWithoutAnswer => "SYNs with MP_CAPABLE were not answered",
            FallbackReason::AckWithoutCapable => "the peer's third ACK had no MP_CAPABLE",
            FallbackReason::NoDss => "the peer's first segments had no DSS",
            FallbackReason::Unsupported => "the peer asked for a version or flags that are not supported",
            FallbackReason::PeerFellBack => "the peer fell back (infinite mapping)",
            FallbackReason::BadChecksum => "a middlebox changed the payload (DSS checksum)",
            FallbackReason::PeerSawBadChecksum => {
                "a middlebox changed the payload (DSS checksum, said the peer)"
            }
            FallbackReason::OptionsLost => "MPTCP options stopped passing on the way",
        }
    }
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}

/// How often MP_FAIL is said again before we give up on the peer's answer.
const FAIL_REPEATS: u32 = 6;

/// A checksum has failed on the only subflow: nothing of the peer's data can be believed until it says, by an infinite
/// mapping, that we shall take what comes as it is. Until then every ACK of ours carries MP_FAIL. Our own data goes on
/// as before: the two directions fall back apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The subflow.
    pub subflow: SubflowId,
    /// Where the mapping that failed begins.
    pub data_seq: DataSeq,
    /// When MP_FAIL is said again.
    pub repeat_at: Instant,
    repeats: u32,
}

impl Failure {
    /// The mapping at `data_seq` has failed; the peer is given `wait` to answer.
    pub fn new(now: Instant, subflow: SubflowId, data_seq: DataSeq, wait: Duration) -> Self {
        Self { subflow, data_seq, repeat_at: now + wait, repeats: 0 }
    }

    /// No answer came in time. False when it is not worth waiting any longer.
    pub fn repeat(&mut self, now: Instant, wait: Duration) -> bool {
        self.repeats += 1;
        self.repeat_at = now + wait * 2u32.pow(self.repeats);
        self.repeats <= FAIL_REPEATS
    }
}

/// What our segments still say after we have fallen back, until the peer is seen to know it: the infinite mapping of our
/// data. Nothing else on such a segment is MPTCP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Farewell {
    /// The data sequence number of the oldest byte that the peer has not acknowledged as data, and where that byte lies in
    /// the subflow (RFC 8684 §3.7: the mapping acts retroactively).
    pub data_seq: DataSeq,
    /// Relative to the SYN.
    pub subflow_seq: u32,
    /// We answer a MP_FAIL of the peer with one of ours, on a segment of its own: it began here.
    pub fail: Option<DataSeq>,
    /// Bytes of the subflow's stream that had been sent. Once more than these are acknowledged, the peer has had a segment
    /// that says it.
    pub sent_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_said_again_with_back_off_and_not_for_ever() {
        let wait = Duration::from_millis(100);
        let mut failure = Failure::new(Instant::ZERO, SubflowId(0), DataSeq::new(5), wait);
        let mut times = Vec::new();
        while failure.repeat(failure.repeat_at, wait) {
            times.push(failure.repeat_at.as_millis());
        }
        assert_eq!(times, [300, 700, 1500, 3100, 6300, 12700]);
    }

    #[test]
    fn every_reason_is_in_the_list_and_has_words_of_its_own() {
        let mut words: Vec<&str> = FallbackReason::ALL.iter().map(|reason| reason.describe()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), FallbackReason::ALL.len());
        assert_eq!(FallbackReason::ALL.last(), Some(&FallbackReason::OptionsLost));
    }
}
