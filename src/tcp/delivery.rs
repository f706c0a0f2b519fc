//! How fast the network delivers: draft-cheng-iccrg-delivery-rate-estimation-02. Each segment takes a snapshot of what
//! was delivered when it left; its acknowledgment gives the rate in between. What was in flight when it left is noted, too, for
//! algorithms that want to know how much was too much (draft-ietf-ccwg-bbr-06 §4.1).

use crate::base::Instant;
use crate::base::time::Duration;
use crate::cc::{LostSample, RateSample};
use crate::tcp::send::{Losses, Transmission};
use serde::{Deserialize, Serialize};

/// Times in a snapshot are kept in so many nanoseconds, as 32 bits: 68 seconds at most.
const TICK_NANOS: u64 = 16;

/// What was delivered when a segment left. Small: every segment in flight has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// P.delivered, the low half.
    delivered: u32,
    /// P.sent_time - P.first_sent_time, in ticks.
    sending: u32,
    /// P.sent_time - P.delivered_time, in ticks.
    waiting: u32,
    /// P.tx_in_flight, which is below 2^31, and in the highest bit P.is_app_limited.
    in_flight: u32,
}

/// In [`Snapshot::in_flight`].
const APP_LIMITED: u32 = 1 << 31;

impl Snapshot {
    /// The segment has left, and now so much is in flight.
    pub(super) fn note_in_flight(&mut self, bytes: u32) {
        self.in_flight = (self.in_flight & APP_LIMITED) | (bytes & !APP_LIMITED);
    }

    fn is_app_limited(self) -> bool {
        self.in_flight & APP_LIMITED != 0
    }

    fn in_flight_bytes(self) -> u64 {
        u64::from(self.in_flight & !APP_LIMITED)
    }
}

/// The state of estimation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Delivery {
    /// C.delivered, C.delivered_time, C.first_sent_time.
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// C.app_limited: until so much is delivered, the sender had nothing to send at some moment.
    app_limited_to: Option<u64>,
    /// The latest rate that says something about the network.
    rate: Option<RateSample>,
}

impl Delivery {
    /// Nothing delivered.
    pub(super) fn new(now: Instant) -> Self {
        Self { delivered: 0, delivered_at: now, first_sent_at: now, app_limited_to: None, rate: None }
    }

    /// §3.2: a segment leaves. `idle`: nothing is in flight, so the network has nothing to deliver until now.
    pub(super) fn snapshot(&mut self, now: Instant, idle: bool) -> Snapshot {
        if idle {
            (self.first_sent_at, self.delivered_at) = (now, now);
        }
        Snapshot {
            delivered: self.delivered as u32,
            sending: ticks(now.since(self.first_sent_at)),
            waiting: ticks(now.since(self.delivered_at)),
            in_flight: if self.app_limited_to.is_some() { APP_LIMITED } else { 0 },
        }
    }

    /// §3.3: `bytes` were delivered, and `latest` is the most recently sent of their segments.
    pub(super) fn on_delivered(
        &mut self,
        now: Instant,
        bytes: u32,
        latest: Option<Transmission>,
        min_rtt: Option<Duration>,
    ) -> Option<RateSample> {
        self.delivered += u64::from(bytes);
        self.app_limited_to.take_if(|end| self.delivered > *end);
        if bytes > 0 {
            self.delivered_at = now;
        }
        let Transmission { sent_at, snapshot, .. } = latest?;
        self.first_sent_at = sent_at;
        let acking = now.since(sent_at) + span(snapshot.waiting);
        let interval = acking.max(span(snapshot.sending));
        let delivered_bytes = self.since(snapshot);
        if interval.is_zero() || min_rtt.is_some_and(|min_rtt| interval < min_rtt) {
            // Shorter than a round trip: a retransmission for nothing makes it look so.
            return None;
        }
        let sample = RateSample {
            delivered_bytes,
            interval,
            prior_delivered_bytes: self.delivered - delivered_bytes,
            in_flight_bytes: snapshot.in_flight_bytes(),
            rtt: now.since(sent_at),
            app_limited: snapshot.is_app_limited(),
        };
        // What an application-limited sender measures is a lower bound.
        let says_more = |before: RateSample| sample.bytes_per_second() >= before.bytes_per_second();
        if !sample.app_limited || self.rate.is_none_or(says_more) {
            self.rate = Some(sample);
        }
        Some(sample)
    }

    /// Bytes delivered since a segment left.
    fn since(&self, snapshot: Snapshot) -> u64 {
        u64::from((self.delivered as u32).wrapping_sub(snapshot.delivered))
    }

    /// What an algorithm is told of losses. None where nothing was lost.
    pub(super) fn lost(&self, losses: &Losses, selective: bool) -> Option<LostSample> {
        let Transmission { snapshot, .. } = losses.latest?;
        Some(LostSample {
            bytes: u64::from(losses.bytes),
            in_flight_bytes: snapshot.in_flight_bytes(),
            prior_delivered_bytes: self.delivered - self.since(snapshot),
            delivered_bytes: self.delivered,
            app_limited: snapshot.is_app_limited(),
            selective,
        })
    }

    /// §3.4: there is room in the window, and nothing to send. `pipe` bytes are in the network.
    pub(super) fn on_app_limited(&mut self, pipe: u32) {
        self.app_limited_to = Some(self.delivered + u64::from(pipe));
    }

    /// All that was delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The latest rate that says something about the network.
    pub(super) fn rate(&self) -> Option<RateSample> {
        self.rate
    }

    /// Whether the sender lacks data.
    pub(super) fn is_app_limited(&self) -> bool {
        self.app_limited_to.is_some()
    }
}

fn ticks(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos() / TICK_NANOS).unwrap_or(u32::MAX)
}

fn span(ticks: u32) -> Duration {
    Duration::from_nanos(u64::from(ticks) * TICK_NANOS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::send::TransmitOrder;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn sent(delivery: &mut Delivery, millis: u64, idle: bool) -> Transmission {
        let snapshot = delivery.snapshot(at(millis), idle);
        Transmission { sent_at: at(millis), order: TransmitOrder::default(), snapshot }
    }

    const MIN_RTT: Option<Duration> = Some(Duration::from_millis(10));

    #[test]
    fn the_rate_is_what_was_delivered_between_sending_and_acknowledgment() {
        let mut delivery = Delivery::new(at(0));
        // A segment of 1000 bytes each millisecond; each is acknowledged 10 ms later.
        let mut segments: Vec<Transmission> =
            (0..10).map(|ms| sent(&mut delivery, 100 + ms, ms == 0)).collect();
        let mut last = None;
        for ms in 10..50 {
            last = delivery.on_delivered(at(100 + ms), 1000, Some(segments.remove(0)), MIN_RTT);
            segments.push(sent(&mut delivery, 100 + ms, false));
        }
        let sample = last.expect("long enough");
        assert_eq!((sample.delivered_bytes, sample.interval), (10_000, Duration::from_millis(10)));
        assert_eq!(sample.bytes_per_second(), 1_000_000);
        assert_eq!((delivery.delivered(), sample.prior_delivered_bytes), (40_000, 30_000));
    }

    #[test]
    fn what_was_in_flight_is_told_of_what_arrived_and_of_what_was_lost() {
        let mut delivery = Delivery::new(at(0));
        delivery.on_app_limited(500);
        let mut first = sent(&mut delivery, 0, true);
        first.snapshot.note_in_flight(1000);
        let mut second = sent(&mut delivery, 1, false);
        second.snapshot.note_in_flight(2000);
        let sample = delivery.on_delivered(at(11), 1000, Some(second), MIN_RTT).expect("long enough");
        assert_eq!((sample.in_flight_bytes, sample.app_limited), (2000, true));
        let losses = Losses { segments: 1, bytes: 1000, latest: Some(first), ..Losses::default() };
        let lost = delivery.lost(&losses, true).expect("one was lost");
        assert_eq!((lost.bytes, lost.in_flight_bytes, lost.app_limited), (1000, 1000, true));
        assert_eq!((lost.prior_delivered_bytes, lost.delivered_bytes), (0, 1000));
        assert_eq!(delivery.lost(&Losses::default(), true), None);
    }

    #[test]
    fn acknowledgments_that_come_together_do_not_make_it_faster() {
        let mut delivery = Delivery::new(at(0));
        let first = sent(&mut delivery, 0, true);
        delivery.on_delivered(at(10), 1000, Some(first), MIN_RTT);
        let segments: Vec<Transmission> = (0..20).map(|ms| sent(&mut delivery, 10 + ms, ms == 0)).collect();
        // They were held up and come all at once: sending took longer.
        delivery.on_delivered(at(39), 19_000, Some(segments[18]), MIN_RTT);
        let after = sent(&mut delivery, 39, false);
        let sample = delivery.on_delivered(at(49), 1000, Some(after), MIN_RTT).expect("long enough");
        assert_eq!(sample.interval, Duration::from_millis(11), "from the sending of the last one delivered");
    }

    #[test]
    fn too_short_is_no_sample_and_a_lower_bound_no_news() {
        let mut delivery = Delivery::new(at(0));
        let segment = sent(&mut delivery, 0, true);
        assert_eq!(delivery.on_delivered(at(9), 1000, Some(segment), MIN_RTT), None);
        let segment = sent(&mut delivery, 20, true);
        delivery.on_delivered(at(30), 50_000, Some(segment), MIN_RTT);
        assert!(!delivery.is_app_limited());
        delivery.on_app_limited(1000);
        let segment = sent(&mut delivery, 40, true);
        let sample = delivery.on_delivered(at(50), 1000, Some(segment), MIN_RTT).expect("long enough");
        assert!(sample.app_limited && delivery.is_app_limited());
        assert_eq!(delivery.rate().map(|rate| rate.delivered_bytes), Some(50_000), "100 bytes/ms say less");
        let segment = sent(&mut delivery, 60, true);
        delivery.on_delivered(at(70), 1, Some(segment), MIN_RTT);
        assert!(!delivery.is_app_limited(), "the gap has been delivered");
    }

    #[test]
    fn long_waits_do_not_wrap() {
        let mut delivery = Delivery::new(at(0));
        let segment = sent(&mut delivery, 1_000_000, false);
        let sample = delivery.on_delivered(at(1_000_010), 1, Some(segment), MIN_RTT).expect("long enough");
        assert!(sample.interval > Duration::from_secs(60));
    }
}
