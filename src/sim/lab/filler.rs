//! Cross traffic: packets at a constant rate that nobody answers, on and off for random times.

use crate::base::time::Duration;
use crate::base::{Instant, Prng};
use crate::sim::lab::fabric::LineId;

/// What cross traffic is like.
#[derive(Debug, Clone, PartialEq)]
pub struct FillerSpec {
    /// The lines that it takes.
    pub lines: Vec<LineId>,
    /// Bits a second while it is on; at least 1.
    pub rate_bps: u64,
    /// Bytes of a packet; at least 1.
    pub packet_len: u16,
    /// How long it is on and off at a time, on average; the times are exponentially distributed. `None`: always on.
    pub on_off: Option<(Duration, Duration)>,
    /// When it begins.
    pub start: Instant,
}

/// Cross traffic.
#[derive(Debug)]
pub struct Filler {
    route: u32,
    packet_len: u16,
    interval: Duration,
    on_off: Option<(Duration, Duration)>,
    on_until: Instant,
    next_at: Instant,
    prng: Prng,
}

impl Filler {
    /// Cross traffic that has not begun, along a route.
    pub fn new(spec: &FillerSpec, route: u32, prng: Prng) -> Self {
        let FillerSpec { lines: _, rate_bps, packet_len, on_off, start } = *spec;
        let nanos = u64::from(packet_len) * 8_000_000_000 / rate_bps.max(1);
        let mut filler = Self {
            route,
            packet_len,
            interval: Duration::from_nanos(nanos.max(1)),
            on_off,
            on_until: start,
            next_at: start,
            prng,
        };
        filler.next_period(start);
        filler
    }

    /// Its route.
    pub fn route(&self) -> u32 {
        self.route
    }

    /// Bytes of its packets.
    pub fn packet_len(&self) -> u16 {
        self.packet_len
    }

    /// When its next packet leaves.
    pub fn next_at(&self) -> Instant {
        self.next_at
    }

    /// A packet has left.
    pub fn advance(&mut self, now: Instant) {
        self.next_at = now + self.interval;
        if self.next_at >= self.on_until {
            let ended = self.on_until;
            self.next_period(ended);
        }
    }

    /// The next time that it is on, when the last ended at `ended`.
    fn next_period(&mut self, ended: Instant) {
        let Some((on, off)) = self.on_off else {
            self.on_until = Instant::from_nanos(u64::MAX);
            return;
        };
        self.next_at = ended + exponential(&mut self.prng, off);
        self.on_until = self.next_at + exponential(&mut self.prng, on);
    }
}

/// An exponentially distributed time.
pub fn exponential(prng: &mut Prng, mean: Duration) -> Duration {
    // 1 - unit() is never 0.
    mean.mul_f64(-(1.0 - prng.unit()).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_on_for_its_share_of_the_time() {
        let ms = Duration::from_millis;
        let spec = FillerSpec {
            lines: Vec::new(),
            rate_bps: 100_000_000,
            packet_len: 1250,
            on_off: Some((ms(10), ms(100))),
            start: Instant::ZERO,
        };
        let mut filler = Filler::new(&spec, 0, Prng::new(3));
        let mut packets = 0;
        while filler.next_at() < Instant::from_millis(1_000_000) {
            filler.advance(filler.next_at());
            packets += 1;
        }
        // 10 packets a millisecond, a part in eleven of the time.
        let expected = 1_000_000.0 * 10.0 / 11.0;
        assert!((0.95..1.05).contains(&(f64::from(packets) / expected)), "{packets}");
    }
}
