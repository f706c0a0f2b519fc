//! How large the receive window should be: enough for what the paths carry and no more. A window beyond that only makes
//! queues, and spreads the data over more memory than caches hold.
//!
//! The receiver knows how fast its application reads, and from the handshakes and its own data how long a round trip is
//! (dynamic right-sizing, after Fisk and Feng, 2001). RFC 8684 §3.3.4: the round trip that counts is the longest one.

use crate::base::Instant;
use crate::base::time::Duration;
use serde::{Deserialize, Serialize};

/// What a window is at the start, and never less.
const LIMIT_MIN: u64 = 1 << 20;
/// So many bandwidth-delay products: two to grow into while the sender speeds up, and twice that for a retransmission on
/// one path while the others go on (§3.3.4).
const PRODUCTS: u64 = 4;
/// The shortest time over which reading is measured.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The window's tuner of one connection.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Autotune {
    grown: u64,
    since: Option<Instant>,
    bytes: u64,
}

impl Autotune {
    /// What the window may be now.
    pub fn limit(&self) -> u64 {
        self.grown.max(LIMIT_MIN)
    }

    /// The application has read `bytes`; `round_trip` gives the longest of all subflows, without
    /// their queues. It is not asked for while too little time has passed for any.
    pub fn on_read(&mut self, now: Instant, bytes: u64, round_trip: impl FnOnce() -> Duration) {
        self.bytes += bytes;
        let since = *self.since.get_or_insert(now);
        let elapsed = now.since(since);
        if elapsed < INTERVAL_MIN {
            return;
        }
        let round_trip = round_trip();
        if elapsed < round_trip {
            return;
        }
        let product = u128::from(self.bytes) * u128::from(round_trip.as_nanos())
            / u128::from(elapsed.as_nanos()).max(1);
        let wanted = u64::try_from(product).unwrap_or(u64::MAX).saturating_mul(PRODUCTS);
        // It only grows: what has been promised to the peer holds anyway.
        self.grown = self.grown.max(wanted);
        (self.since, self.bytes) = (Some(now), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads at `rate` bytes a second for a second, but never more than a window a round trip.
    fn after_a_second(tuner: &mut Autotune, rate: u64, round_trip_ms: u64) -> u64 {
        for ms in 0..1000 {
            let by_window = tuner.limit() / round_trip_ms;
            tuner.on_read(Instant::from_millis(ms), (rate / 1000).min(by_window), || {
                Duration::from_millis(round_trip_ms)
            });
        }
        tuner.limit()
    }

    #[test]
    fn a_long_fat_path_gets_its_product_and_a_short_one_no_more_than_the_least() {
        // 1 Gbit/s over 100 ms: 12.5 MB on the way.
        let limit = after_a_second(&mut Autotune::default(), 125_000_000, 100);
        assert!((25_000_000..=60_000_000).contains(&limit), "{limit}");
        // 10 Gbit/s over a millisecond: 1.25 MB.
        let limit = after_a_second(&mut Autotune::default(), 1_250_000_000, 1);
        assert!((1_250_000..=6_000_000).contains(&limit), "{limit}");
        assert_eq!(after_a_second(&mut Autotune::default(), 1_000_000, 1), LIMIT_MIN);
    }
}
