//! Round-trip time and the retransmission time-out (RFC 6298).

use crate::base::Instant;
use crate::base::time::Duration;
use serde::{Deserialize, Serialize};

/// How long the shortest round trip is remembered: paths change (RFC 8985 §6.2 step 1).
const SHORTEST_WINDOW: Duration = Duration::from_secs(300);

/// Smoothed values have so many bits behind the nanoseconds, so that samples of little weight are not lost.
const FRACTION_BITS: u32 = 16;
/// Longer round trips than this (an hour) are taken for this long.
const NANOS_MAX: u64 = 3_600_000_000_000;

/// SRTT and RTTVAR, in fractions of a nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Smoothed {
    srtt: u64,
    rttvar: u64,
}

/// The shortest round trip of the last minutes: of half of [`SHORTEST_WINDOW`] at least, and of all of it at most.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct RecentMin {
    since: Instant,
    current: u64,
    previous: u64,
}

/// The estimator of RFC 6298 §2.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RttEstimator {
    /// None before the first sample.
    smoothed: Option<Smoothed>,
    shortest: Option<RecentMin>,
    /// The smoothed round trip by those samples alone that no delayed ACK made longer, in fractions.
    prompt: Option<u64>,
    /// The last round trip that was measured, of whichever kind, in nanoseconds.
    latest: u64,
    initial_rto: Duration,
    min_rto: Duration,
    max_rto: Duration,
    /// How often the time-out was doubled since the last sample.
    backoff: u32,
    /// RFC 4015 §3.1 step 11: a time-out was spurious. What was smoothed then is the least of what holds after the next
    /// sample.
    spurious: Option<Smoothed>,
}

impl RttEstimator {
    /// Without a sample.
    pub(super) fn new(initial_rto: Duration, min_rto: Duration, max_rto: Duration) -> Self {
        Self {
            smoothed: None,
            shortest: None,
            prompt: None,
            latest: u64::MAX,
            initial_rto,
            min_rto,
            max_rto,
            backoff: 0,
            spurious: None,
        }
    }

    /// Takes a measured round trip. RFC 6298 §3 (Karn): the caller measures no segment that was sent twice, unless
    /// timestamps tell which transmission was acknowledged. `share`: of about 2^share samples that a round trip gives this
    /// is one, and has so much less weight (RFC 7323 §4.2 and appendix G).
    pub(super) fn sample(&mut self, now: Instant, rtt: Duration, share: u32) {
        self.shorten(now, nanos(rtt));
        let rtt = fine(rtt);
        let first = Smoothed { srtt: rtt, rttvar: rtt / 2 };
        let next = match self.smoothed {
            // RFC 6298 §2.2.
            None => first,
            // RFC 6298 §2.3, with alpha 1/8 and beta 1/4.
            Some(Smoothed { srtt, rttvar }) => Smoothed {
                rttvar: approach(rttvar, srtt.abs_diff(rtt), 2 + share),
                srtt: approach(srtt, rtt, 3 + share),
            },
        };
        self.smoothed = Some(match self.spurious.take() {
            None => next,
            Some(before) => {
                Smoothed { srtt: first.srtt.max(before.srtt), rttvar: first.rttvar.max(before.rttvar) }
            }
        });
        self.backoff = 0;
    }

    /// Takes a round trip for the shortest one only: of a selective acknowledgment, which SRTT does not go by (RFC 7323
    /// §4.1).
    pub(super) fn sample_shortest(&mut self, now: Instant, rtt: Duration) {
        self.shorten(now, nanos(rtt));
    }

    fn shorten(&mut self, now: Instant, rtt: u64) {
        self.latest = rtt;
        let recent =
            self.shortest.get_or_insert(RecentMin { since: now, current: u64::MAX, previous: u64::MAX });
        if now.since(recent.since) >= SHORTEST_WINDOW / 2 {
            *recent = RecentMin { since: now, current: u64::MAX, previous: recent.current };
        }
        recent.current = recent.current.min(rtt);
    }

    /// Takes a round trip that the peer's ACK did not wait in.
    pub(super) fn sample_prompt(&mut self, rtt: Duration) {
        let rtt = fine(rtt);
        self.prompt = Some(self.prompt.map_or(rtt, |prompt| approach(prompt, rtt, 3)));
    }

    /// RFC 6298 §5.5: the timer expired, the time-out doubles.
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(31);
    }

    /// RFC 4015 §3.1 steps 0 and 11: the time-out was spurious, so it was too short for this path.
    pub(super) fn on_spurious_timeout(&mut self) {
        self.spurious = self.smoothed;
    }

    /// The path answers again: the time-out is what it was, until the next sample.
    pub(super) fn end_back_off(&mut self) {
        self.backoff = 0;
    }

    /// RFC 6298 §5.7: the SYN timed out, so data begins with a longer time-out, unless a round trip was measured.
    pub(super) fn restart_after_syn_timeout(&mut self) {
        self.initial_rto = self.initial_rto.max(Duration::from_secs(3));
        self.backoff = 0;
    }

    /// The time-out now, back-off included.
    pub(super) fn rto(&self) -> Duration {
        self.rto_doubled(self.backoff)
    }

    /// The time-out, doubled `doublings` times: for timers that back off on their own.
    pub(super) fn rto_doubled(&self, doublings: u32) -> Duration {
        self.base_rto().saturating_mul(1 << doublings.min(31)).min(self.max_rto)
    }

    fn base_rto(&self) -> Duration {
        match self.smoothed {
            None => self.initial_rto,
            // RFC 6298 §2.3: SRTT + max(G, 4 * RTTVAR). On a steady path the variation goes to nothing, and a
            // single delayed ACK would look like loss; so the minimum counts on top of the round trip.
            Some(Smoothed { srtt, rttvar }) => coarse(srtt) + coarse(4 * rttvar).max(self.min_rto),
        }
    }

    /// The smoothed round trip.
    pub(super) fn srtt(&self) -> Option<Duration> {
        self.smoothed.map(|smoothed| coarse(smoothed.srtt))
    }

    /// What a window is paced by: the smoothed round trip, or the last one where that was shorter. The smoothed one stays behind
    /// a queue that drains by as many round trips as it smooths over, eight (RFC 6298 §2.3).
    pub(super) fn pacing_round_trip(&self) -> Option<Duration> {
        self.srtt().map(|srtt| srtt.min(Duration::from_nanos(self.latest)))
    }

    /// The smoothed round trip without delayed ACKs; before the first such sample, the shortest one.
    pub(super) fn prompt(&self) -> Option<Duration> {
        self.prompt.map(coarse).or(self.shortest())
    }

    /// The shortest round trip of the last minutes.
    pub(super) fn shortest(&self) -> Option<Duration> {
        self.shortest.map(|recent| Duration::from_nanos(recent.current.min(recent.previous)))
    }

    /// The variation of the smoothed round trip.
    pub(super) fn rttvar(&self) -> Option<Duration> {
        self.smoothed.map(|smoothed| coarse(smoothed.rttvar))
    }

    /// How often the time-out was doubled since the last sample.
    pub(super) fn backoff(&self) -> u32 {
        self.backoff
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().min(NANOS_MAX)
}

fn fine(duration: Duration) -> u64 {
    nanos(duration) << FRACTION_BITS
}

fn coarse(fractions: u64) -> Duration {
    Duration::from_nanos(fractions >> FRACTION_BITS)
}

/// Goes 1/2^shift of the way from `value` to `target`.
fn approach(value: u64, target: u64, shift: u32) -> u64 {
    value - (value >> shift) + (target >> shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn estimator() -> RttEstimator {
        RttEstimator::new(ms(1000), ms(200), ms(120_000))
    }

    #[test]
    fn samples_are_smoothed_as_the_rfc_says() {
        let mut rtt = estimator();
        assert_eq!((rtt.rto(), rtt.srtt()), (ms(1000), None));
        rtt.sample(NOW, ms(400), 0);
        assert_eq!((rtt.srtt(), rtt.rttvar()), (Some(ms(400)), Some(ms(200))));
        assert_eq!(rtt.rto(), ms(400 + 4 * 200));
        rtt.sample(NOW, ms(800), 0);
        assert_eq!((rtt.srtt(), rtt.rttvar()), (Some(ms(450)), Some(ms(250))));
        for _ in 0..200 {
            rtt.sample(NOW, ms(100), 0);
        }
        assert!(rtt.rto() >= ms(300) && rtt.rto() < ms(302), "{:?}", rtt.rto());
    }

    #[test]
    fn many_samples_in_a_round_trip_weigh_as_much_as_one() {
        let (mut one, mut many) = (estimator(), estimator());
        [&mut one, &mut many].into_iter().for_each(|rtt| rtt.sample(NOW, ms(100), 0));
        for _ in 0..5 {
            one.sample(NOW, ms(300), 0);
            (0..64).for_each(|_| many.sample(NOW, ms(300), 6));
        }
        let (one, many) = (one.srtt().expect("measured"), many.srtt().expect("measured"));
        assert!(one.abs_diff(many) < ms(8), "{one:?} {many:?}");
    }

    #[test]
    fn the_prompt_round_trip_begins_with_the_shortest_and_hears_of_no_delayed_acks() {
        let mut rtt = estimator();
        assert_eq!(rtt.prompt(), None);
        [2, 40, 40].into_iter().for_each(|delayed| rtt.sample(NOW, ms(delayed), 0));
        assert_eq!(rtt.prompt(), Some(ms(2)));
        rtt.sample_prompt(ms(8));
        rtt.sample_prompt(ms(16));
        assert_eq!(rtt.prompt(), Some(ms(9)));
    }

    #[test]
    fn the_shortest_is_forgotten_after_some_minutes() {
        let mut rtt = estimator();
        let at = |seconds: u64| Instant::from_millis(seconds * 1000);
        rtt.sample(at(0), ms(10), 0);
        for seconds in (10..300).step_by(10) {
            rtt.sample(at(seconds), ms(50), 0);
        }
        assert_eq!(rtt.shortest(), Some(ms(10)));
        for seconds in (300..460).step_by(10) {
            rtt.sample(at(seconds), ms(50), 0);
        }
        assert_eq!(rtt.shortest(), Some(ms(50)), "the path has changed");
    }

    #[test]
    fn back_off_doubles_to_the_maximum_until_a_sample() {
        let mut rtt = estimator();
        for expected in [1000, 2000, 4000, 8000] {
            assert_eq!(rtt.rto(), ms(expected));
            rtt.back_off();
        }
        (0..100).for_each(|_| rtt.back_off());
        assert_eq!(rtt.rto(), ms(120_000));
        rtt.sample(NOW, ms(10), 0);
        assert_eq!(rtt.rto(), ms(210));
    }

    #[test]
    fn a_lost_syn_makes_the_first_time_out_longer() {
        let mut rtt = estimator();
        rtt.back_off();
        rtt.restart_after_syn_timeout();
        assert_eq!(rtt.rto(), ms(3000));
    }

    #[test]
    fn a_spurious_time_out_makes_the_next_ones_longer() {
        let mut rtt = estimator();
        (0..50).for_each(|_| rtt.sample(NOW, ms(100), 0));
        rtt.on_spurious_timeout();
        rtt.sample(NOW, ms(600), 0);
        assert_eq!((rtt.srtt(), rtt.rttvar()), (Some(ms(600)), Some(ms(300))), "begun anew");
        rtt.on_spurious_timeout();
        rtt.sample(NOW, ms(10), 0);
        assert_eq!((rtt.srtt(), rtt.rttvar()), (Some(ms(600)), Some(ms(300))), "and not less than before");
    }
}
