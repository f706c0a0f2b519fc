//! What an acknowledgment tells an algorithm: enough for those that count bytes (NewReno, CUBIC), marks (DCTCP), round
//! trips (HyStart++, wVegas) or rates (BBR).

use crate::base::time::Duration;
use serde::{Deserialize, Serialize};

/// How fast the network delivered the segments that an acknowledgment is about
/// (draft-cheng-iccrg-delivery-rate-estimation-02 §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RateSample {
    /// Bytes delivered over the interval.
    pub delivered_bytes: u64,
    /// The longer of the time in which they were sent and the time in which they were acknowledged; never zero.
    pub interval: Duration,
    /// All that had been delivered on the connection when the segment left that was acknowledged now: BBR's rounds go
    /// by it.
    pub prior_delivered_bytes: u64,
    /// Bytes in the network when that segment had left, itself included.
    pub in_flight_bytes: u64,
    /// Its round trip: of all that were acknowledged now it left last.
    pub rtt: Duration,
    /// The sender had nothing to send at some moment of the interval, so the network may be faster.
    pub app_limited: bool,
}

impl RateSample {
    /// Bytes a second.
    pub fn bytes_per_second(&self) -> u64 {
        let nanos = u128::from(self.interval.as_nanos()).max(1);
        u64::try_from(u128::from(self.delivered_bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
    }
}

/// What an acknowledgment tells an algorithm. Bytes are payload bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AckSample {
    /// Bytes that were delivered and that we did not know of, cumulatively or selectively acknowledged.
    pub acked_bytes: u64,
    /// What a window that goes by loss may grow by. By what lies beyond something that is missing only when that has come,
    /// too, and where the path is known to reorder (RFC 3042 §2); by nothing while loss or a mark is answered.
    pub growth_bytes: u64,
    /// Those of the acknowledged bytes that an ACK with ECN-Echo acknowledged (RFC 8257 §3.3's BytesMarked).
    pub marked_bytes: u64,
    /// The most that was in flight during the last round trip, in bytes: a window that was not used does not grow.
    pub flight_bytes: u64,
    /// Bytes in the network after this acknowledgment.
    pub pipe_bytes: u64,
    /// All that was ever delivered, this included.
    pub delivered_bytes: u64,
    /// A new round trip begins with this acknowledgment: what was outstanding when the last one began is acknowledged.
    pub round_start: bool,
    /// A round trip that this acknowledgment measured.
    pub rtt: Option<Duration>,
    /// The smoothed round trip.
    pub srtt: Option<Duration>,
    /// The shortest round trip of the last minutes: the path without queues (wVegas's baseRTT, BBR's starting point).
    pub min_rtt: Option<Duration>,
    /// How fast the network delivered.
    pub rate: Option<RateSample>,
    /// Loss or a congestion mark is being answered.
    pub recovering: bool,
}

/// Segments that were found lost, all at once. Bytes are payload bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LostSample {
    /// Bytes that are taken to be lost now, and were not before.
    pub bytes: u64,
    /// Bytes in the network when that of them had left which left last, itself included.
    pub in_flight_bytes: u64,
    /// All that had been delivered on the connection by then.
    pub prior_delivered_bytes: u64,
    /// All that has been delivered by now.
    pub delivered_bytes: u64,
    /// The sender had nothing to send at some moment before it left.
    pub app_limited: bool,
    /// The peer acknowledges selectively: more than one loss a round trip can be seen.
    pub selective: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_bytes_over_the_interval() {
        let rate =
            |delivered_bytes, interval| RateSample { delivered_bytes, interval, ..RateSample::default() };
        assert_eq!(rate(1500, Duration::from_millis(10)).bytes_per_second(), 150_000);
        assert_eq!(rate(1 << 30, Duration::from_nanos(1)).bytes_per_second(), (1 << 30) * 1_000_000_000);
        assert_eq!(rate(u64::MAX, Duration::ZERO).bytes_per_second(), u64::MAX, "no division by nothing");
    }
}
