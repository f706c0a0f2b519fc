//! Timestamps (RFC 7323 §3 to §5): our clock, the peer's latest, and protection against wrapped sequence numbers.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::wire::Timestamps;
use serde::{Deserialize, Serialize};

/// RFC 7323 §5.5: after so long without a segment, the peer's latest timestamp is no longer comparable.
const OUTDATED: Duration = Duration::from_secs(24 * 24 * 60 * 60);

/// The clock and TS.Recent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TimestampClock {
    offset: u32,
    /// TS.Recent, and when it was taken.
    recent: Option<(u32, Instant)>,
}

impl TimestampClock {
    /// `offset` is added to our clock.
    pub(super) fn new(offset: u32) -> Self {
        Self { offset, recent: None }
    }

    /// Our clock: milliseconds.
    pub(super) fn ticks(&self, now: Instant) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.offset)
    }

    /// The option of a segment that leaves now.
    pub(super) fn option(&self, now: Instant) -> Timestamps {
        Timestamps { value: self.ticks(now), echo: self.recent.map_or(0, |(value, _)| value) }
    }

    /// RFC 7323 §5.3 R1: whether a segment with this value is older than one that was accepted.
    pub(super) fn is_old(&self, now: Instant, value: u32) -> bool {
        self.recent
            .is_some_and(|(recent, at)| (value.wrapping_sub(recent) as i32) < 0 && now.since(at) < OUTDATED)
    }

    /// By how much the value is older than the latest, in ticks of the peer's clock; 0 if it isn't.
    pub(super) fn age(&self, value: u32) -> u32 {
        self.recent.map_or(0, |(recent, _)| (recent.wrapping_sub(value) as i32).max(0) as u32)
    }

    /// Whether the value is later than the latest: a SYN that reuses a connection in TIME-WAIT (RFC 6191).
    pub(super) fn is_newer(&self, value: u32) -> bool {
        self.recent.is_some_and(|(recent, _)| (value.wrapping_sub(recent) as i32) > 0)
    }

    /// RFC 7323 §4.3: takes the value of an acceptable segment that begins at or before the last acknowledgment we
    /// sent.
    pub(super) fn update(&mut self, now: Instant, value: u32) {
        if !self.is_old(now, value) {
            self.recent = Some((value, now));
        }
    }

    /// RFC 7323 §4.1: the round trip that an echo measures, a millisecond at least (the clock's resolution).
    pub(super) fn round_trip(&self, now: Instant, echo: u32) -> Option<Duration> {
        let elapsed = self.ticks(now).wrapping_sub(echo) as i32;
        (echo != 0 && elapsed >= 0).then(|| Duration::from_millis(elapsed.max(1) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_values_are_known_across_the_wrap_and_until_they_are_outdated() {
        let at = Instant::from_millis;
        let mut clock = TimestampClock::new(u32::MAX);
        assert!(!clock.is_old(at(1), 5));
        clock.update(at(1), u32::MAX - 1);
        clock.update(at(2), 3);
        assert_eq!(clock.option(at(6)), Timestamps { value: 5, echo: 3 });
        assert!(clock.is_old(at(3), u32::MAX) && !clock.is_old(at(3), 3));
        clock.update(at(3), 2);
        assert_eq!(clock.option(at(6)).echo, 3);
        assert!(!clock.is_old(at(3) + OUTDATED, u32::MAX));
        assert_eq!(clock.round_trip(at(50), 9), Some(Duration::from_millis(40)));
        assert_eq!(clock.round_trip(at(5), 9), None);
    }
}
