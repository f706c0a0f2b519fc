//! Round-trip time and the retransmission time-out (RFC 6298).

use crate::base::time::Duration;

/// The estimator of RFC 6298 §2.
#[derive(Debug)]
pub(super) struct RttEstimator {
    /// Smoothed round trip and its variation; none before the first sample.
    smoothed: Option<(Duration, Duration)>,
    /// The shortest sample so far: the path without queues.
    shortest: Option<Duration>,
    /// The smoothed round trip by those samples alone that no delayed ACK made longer.
    prompt: Option<Duration>,
    initial_rto: Duration,
    min_rto: Duration,
    max_rto: Duration,
    /// How often the time-out was doubled since the last sample.
    backoff: u32,
}

impl RttEstimator {
    /// Without a sample.
    pub(super) fn new(initial_rto: Duration, min_rto: Duration, max_rto: Duration) -> Self {
        Self { smoothed: None, shortest: None, prompt: None, initial_rto, min_rto, max_rto, backoff: 0 }
    }

    /// Takes a measured round trip. RFC 6298 §3 (Karn): the caller measures no segment that was sent twice, unless
    /// timestamps tell which transmission was acknowledged.
    pub(super) fn sample(&mut self, rtt: Duration) {
        self.smoothed = Some(match self.smoothed {
            // RFC 6298 §2.2.
            None => (rtt, rtt / 2),
            // RFC 6298 §2.3, with alpha 1/8 and beta 1/4.
            Some((srtt, rttvar)) => {
                let error = srtt.abs_diff(rtt);
                (srtt - srtt / 8 + rtt / 8, rttvar - rttvar / 4 + error / 4)
            }
        });
        self.shortest = Some(self.shortest.map_or(rtt, |shortest| shortest.min(rtt)));
        self.backoff = 0;
    }

    /// Takes a round trip that the peer's ACK did not wait in.
    pub(super) fn sample_prompt(&mut self, rtt: Duration) {
        self.prompt = Some(self.prompt.map_or(rtt, |prompt| prompt - prompt / 8 + rtt / 8));
    }

    /// RFC 6298 §5.5: the timer expired, the time-out doubles.
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(31);
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
        self.base_rto().saturating_mul(1 << self.backoff).min(self.max_rto)
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
            Some((srtt, rttvar)) => srtt + (rttvar * 4).max(self.min_rto),
        }
    }

    /// The smoothed round trip.
    pub(super) fn srtt(&self) -> Option<Duration> {
        self.smoothed.map(|(srtt, _)| srtt)
    }

    /// The smoothed round trip without delayed ACKs; before the first such sample, the shortest one.
    pub(super) fn prompt(&self) -> Option<Duration> {
        self.prompt.or(self.shortest)
    }

    /// The shortest round trip.
    pub(super) fn shortest(&self) -> Option<Duration> {
        self.shortest
    }

    /// The variation of the smoothed round trip.
    pub(super) fn rttvar(&self) -> Option<Duration> {
        self.smoothed.map(|(_, rttvar)| rttvar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        rtt.sample(ms(400));
        assert_eq!((rtt.srtt(), rtt.rttvar()), (Some(ms(400)), Some(ms(200))));
        assert_eq!(rtt.rto(), ms(400 + 4 * 200));
        rtt.sample(ms(800));
        assert_eq!((rtt.srtt(), rtt.rttvar()), (Some(ms(450)), Some(ms(250))));
        for _ in 0..200 {
            rtt.sample(ms(100));
        }
        assert!(rtt.rto() >= ms(300) && rtt.rto() < ms(302), "{:?}", rtt.rto());
    }

    #[test]
    fn the_prompt_round_trip_begins_with_the_shortest_and_hears_of_no_delayed_acks() {
        let mut rtt = estimator();
        assert_eq!(rtt.prompt(), None);
        [2, 40, 40].into_iter().for_each(|delayed| rtt.sample(ms(delayed)));
        assert_eq!(rtt.prompt(), Some(ms(2)));
        rtt.sample_prompt(ms(8));
        rtt.sample_prompt(ms(16));
        assert_eq!(rtt.prompt(), Some(ms(9)));
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
        rtt.sample(ms(10));
        assert_eq!(rtt.rto(), ms(210));
    }

    #[test]
    fn a_lost_syn_makes_the_first_time_out_longer() {
        let mut rtt = estimator();
        rtt.back_off();
        rtt.restart_after_syn_timeout();
        assert_eq!(rtt.rto(), ms(3000));
    }
}
