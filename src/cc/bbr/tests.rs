//! BBR on a path of one bottleneck, packet by packet: the cases of draft-ietf-ccwg-bbr-06 appendix A.

use super::*;
use crate::base::time::Duration;
use crate::cc::RateSample;

const SEGMENT: u64 = 1000;

/// A packet in the network, or lost.
#[derive(Debug, Clone, Copy)]
struct Packet {
    number: u64,
    sent_at: Instant,
    arrives_at: Option<Instant>,
    first_sent_at: Instant,
    delivered: u64,
    delivered_at: Instant,
    in_flight: u64,
    app_limited: bool,
}

/// A sender with [`Bbr`], a queue before a line, and a peer that acknowledges every packet.
struct Path {
    bbr: Bbr,
    now: Instant,
    /// Bytes a second, and how many wait at most.
    rate: u64,
    buffer: u64,
    rtt: Duration,
    /// What the application gives, in bytes a second; None for all that may be sent.
    supply: Option<u64>,
    /// Each so manieth packet is lost, too.
    lossy: Option<u64>,
    /// Acknowledgments come at multiples of this.
    slot: Option<Duration>,
    line_free_at: Instant,
    next_send_at: Instant,
    sent: u64,
    supplied_from: Instant,
    packets: std::collections::VecDeque<Packet>,
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    in_flight: u64,
    app_limited_to: Option<u64>,
    recovery_ends: Option<u64>,
    peak: u64,
    states: Vec<State>,
}

impl Path {
    fn new(rate: u64, rtt: Duration, buffer: u64) -> Self {
        let start = Instant::from_millis(1000);
        Self {
            bbr: Bbr::new(Window::new(SEGMENT, Window::initial(SEGMENT))),
            now: start,
            rate,
            buffer,
            rtt,
            supply: None,
            lossy: None,
            slot: None,
            line_free_at: start,
            next_send_at: start,
            sent: 0,
            supplied_from: start,
            packets: Default::default(),
            delivered: 0,
            delivered_at: start,
            first_sent_at: start,
            in_flight: 0,
            app_limited_to: None,
            recovery_ends: None,
            peak: 0,
            states: vec![State::Startup],
        }
    }

    /// A path of 10,000 packets a second and 20 ms, with a queue of two bandwidth-delay products.
    fn usual() -> Self {
        Self::new(10_000_000, Duration::from_millis(20), 400_000)
    }

    /// The line becomes slower, for what waits before it, too.
    fn slow_down(&mut self, rate: u64) {
        let (now, rtt, old) = (self.now, self.rtt, self.rate);
        let later = |at: Instant| now + at.since(now).mul_f64(old as f64 / rate as f64);
        for arrives_at in self.packets.iter_mut().filter_map(|packet| packet.arrives_at.as_mut()) {
            if *arrives_at > now + rtt {
                *arrives_at = later(arrives_at.back(rtt)) + rtt;
            }
        }
        self.line_free_at = later(self.line_free_at);
        self.rate = rate;
    }

    /// When the application gives the next packet.
    fn supplied_at(&self) -> Instant {
        match self.supply {
            None => self.now,
            Some(0) => Instant::from_nanos(u64::MAX),
            Some(rate) => self.supplied_from + Duration::from_nanos(1_000_000_000 * SEGMENT / rate),
        }
    }

    fn send(&mut self) {
        if self.in_flight == 0 {
            (self.first_sent_at, self.delivered_at) = (self.now, self.now);
        }
        self.in_flight += SEGMENT;
        self.sent += 1;
        self.supplied_from = self.now;
        self.peak = self.peak.max(self.in_flight);
        let waits = self.line_free_at.since(self.now);
        let is_full = path::times(self.rate, waits) + SEGMENT > self.buffer;
        let is_lost = is_full || self.lossy.is_some_and(|lossy| self.sent.is_multiple_of(lossy));
        let arrives_at = (!is_lost).then(|| {
            let serialized = Duration::from_nanos(1_000_000_000 * SEGMENT / self.rate);
            self.line_free_at = self.line_free_at.max(self.now) + serialized;
            self.line_free_at + self.rtt
        });
        self.packets.push_back(Packet {
            number: self.sent,
            sent_at: self.now,
            arrives_at,
            first_sent_at: self.first_sent_at,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            in_flight: self.in_flight,
            app_limited: self.app_limited_to.is_some(),
        });
        self.bbr.on_sent(self.now, SEGMENT, self.in_flight);
        let rate = self.bbr.pacing_rate().expect("it has one");
        self.next_send_at =
            self.next_send_at.max(self.now) + Duration::from_nanos(1_000_000_000 * SEGMENT / rate);
    }

    /// The first packet in the network arrived: those before it are lost.
    fn acknowledge(&mut self) {
        let mut lost: Vec<Packet> = Vec::new();
        let packet = loop {
            let packet = self.packets.pop_front().expect("something is in the network");
            match packet.arrives_at {
                None => lost.push(packet),
                Some(_) => break packet,
            }
        };
        self.delivered += SEGMENT;
        self.app_limited_to.take_if(|end| self.delivered > *end);
        self.in_flight -= SEGMENT * (1 + lost.len() as u64);
        let acking = self.now.since(packet.delivered_at);
        let sending = packet.sent_at.since(packet.first_sent_at);
        (self.delivered_at, self.first_sent_at) = (self.now, packet.sent_at);
        if self.recovery_ends.is_some_and(|end| packet.number > end) {
            self.recovery_ends = None;
            self.bbr.on_recovered(self.now, u64::MAX);
        }
        if let Some(last) = lost.last() {
            let sample = LostSample {
                bytes: SEGMENT * lost.len() as u64,
                in_flight_bytes: last.in_flight,
                prior_delivered_bytes: last.delivered,
                delivered_bytes: self.delivered,
                app_limited: last.app_limited,
                selective: true,
            };
            self.bbr.on_lost(self.now, &sample);
            if self.recovery_ends.is_none() {
                self.bbr.on_loss(self.now, self.in_flight);
                self.recovery_ends = Some(self.sent);
            }
        }
        let rtt = self.now.since(packet.sent_at);
        let rate = RateSample {
            delivered_bytes: self.delivered - packet.delivered,
            interval: acking.max(sending),
            prior_delivered_bytes: packet.delivered,
            in_flight_bytes: packet.in_flight,
            rtt,
            app_limited: packet.app_limited,
        };
        let ack = AckSample {
            acked_bytes: SEGMENT,
            flight_bytes: self.peak,
            pipe_bytes: self.in_flight,
            delivered_bytes: self.delivered,
            srtt: Some(rtt),
            rate: Some(rate),
            recovering: self.recovery_ends.is_some(),
            ..AckSample::default()
        };
        self.bbr.on_ack(self.now, &ack);
        if self.states.last() != Some(&self.bbr.state) {
            self.states.push(self.bbr.state);
            self.peak = self.in_flight;
        }
    }

    /// One event, until `until` at most; true when there was one.
    fn step(&mut self, until: Instant) -> bool {
        let in_slot = |at: Instant| match self.slot {
            None => at,
            Some(slot) => Instant::from_nanos(at.as_nanos().next_multiple_of(slot.as_nanos())),
        };
        let arrival = self.packets.iter().find_map(|packet| packet.arrives_at).map(in_slot);
        let may_send = self.in_flight + SEGMENT <= self.bbr.window();
        let supplied_at = self.supplied_at();
        let departure = may_send.then(|| self.next_send_at.max(supplied_at));
        if may_send && supplied_at > self.next_send_at.max(self.now) {
            self.app_limited_to = Some(self.delivered + self.in_flight);
        }
        let (at, is_arrival) = match (arrival, departure) {
            (Some(arrival), Some(departure)) => (arrival.min(departure), arrival <= departure),
            (Some(arrival), None) => (arrival, true),
            (None, Some(departure)) => (departure, false),
            (None, None) => panic!("nothing in the network, and nothing may leave: {:?}", self.bbr),
        };
        if at > until {
            self.now = until;
            return false;
        }
        self.now = self.now.max(at);
        if is_arrival {
            self.acknowledge()
        } else {
            self.send()
        }
        true
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Until `state` is reached; within a minute.
    fn reach(&mut self, state: State) {
        let until = self.now + Duration::from_secs(60);
        while self.bbr.state != state {
            assert!(self.step(until), "{state:?} was not reached: {:?}", self.states);
        }
    }

    /// Until another state than `state` is reached.
    fn leave(&mut self, state: State) -> State {
        let until = self.now + Duration::from_secs(60);
        while self.bbr.state == state {
            assert!(self.step(until), "{state:?} was not left: {:?}", self.bbr);
        }
        self.bbr.state
    }

    fn bdp(&self) -> u64 {
        path::times(self.rate, self.rtt)
    }
}

#[test]
fn startup_ends_when_the_rate_no_longer_grows_and_the_rate_is_right() {
    for (rate, millis) in [(100_000, 1), (100_000, 300), (10_000_000, 20), (1_250_000_000, 1)] {
        let rtt = Duration::from_millis(millis);
        let buffer = 3 * path::times(rate, rtt) + 100_000;
        let mut path = Path::new(rate, rtt, buffer);
        assert_eq!(path.leave(State::Startup), State::Drain);
        assert!(path.bbr.full.now && path.bbr.full.reached && path.bbr.full.rounds == 3);
        let off = path.bbr.bandwidth.get().abs_diff(rate) as f64 / rate as f64;
        assert!(off < 0.02, "{} at {rate}", path.bbr.bandwidth.get());
        assert!(path.bbr.ssthresh() < u64::MAX);
    }
}

#[test]
fn startup_ends_by_loss_even_if_the_application_limits() {
    let mut path = Path::usual();
    path.supply = Some(8_000_000);
    path.lossy = Some(20);
    assert_eq!(path.leave(State::Startup), State::Drain);
    assert!(path.bbr.full.reached);
    assert!(path.bbr.inflight_long < UNBOUNDED);
    // Too few losses to be sure of: a round has 160 packets, and 2 % are three.
    let mut path = Path::usual();
    path.supply = Some(8_000_000);
    path.lossy = Some(90);
    path.run(Duration::from_secs(2));
    assert_eq!(path.bbr.state, State::Startup);
}

#[test]
fn drain_ends_when_the_queue_is_gone() {
    let mut path = Path::usual();
    path.reach(State::Drain);
    assert_eq!(State::Drain.pacing_gain(), 0.5);
    let round = path.bbr.rounds.count;
    assert!(path.in_flight > path.bdp());
    assert!(path.leave(State::Drain).is_probe_bw());
    assert!(path.bbr.rounds.count <= round + 2);
    assert!(path.in_flight <= path.bbr.inflight(path.bbr.rate(), 1.0));
}

#[test]
fn drain_ends_after_three_rounds_when_the_queue_stays() {
    let mut path = Path::usual();
    path.reach(State::Drain);
    let round = path.bbr.rounds.count;
    // Somebody else takes over most of the line.
    path.slow_down(2_000_000);
    assert!(path.leave(State::Drain).is_probe_bw());
    assert_eq!(path.bbr.rounds.count, round + 4, "more than three rounds later");
}

#[test]
fn the_cycle_goes_round_and_uses_the_path() {
    let mut path = Path::usual();
    path.run(Duration::from_secs(2));
    let before = path.delivered;
    path.run(Duration::from_secs(20));
    let goodput = (path.delivered - before) / 20;
    assert!(goodput > 9_500_000, "{goodput} of {}", path.rate);
    let cycles =
        path.states.windows(4).filter(|four| *four == [State::Down, State::Cruise, State::Refill, State::Up]);
    assert!(cycles.count() >= 8, "{:?}", path.states);
    let probes = path.states.iter().filter(|state| **state == State::ProbeRtt).count();
    assert!((3..=5).contains(&probes), "every five seconds: {probes}");
}

#[test]
fn up_ends_on_a_plateau_of_the_rate() {
    let mut path = Path::usual();
    path.reach(State::Up);
    assert_eq!(path.leave(State::Up), State::Down);
    assert!(path.bbr.full.now);
    assert_eq!(path.bbr.inflight_long, UNBOUNDED, "nothing was lost");
}

#[test]
fn up_ends_on_loss_and_the_next_time_is_careful() {
    // A queue of a tenth of the path: more than that is lost.
    let mut path = Path::new(10_000_000, Duration::from_millis(20), 20_000);
    path.run(Duration::from_secs(1));
    path.reach(State::Up);
    assert_eq!(path.leave(State::Up), State::Down);
    assert!(path.bbr.probe.was_too_high && path.bbr.undo.state == Some(State::Up));
    let bound = path.bbr.inflight_long;
    assert!((path.bdp() * 7 / 10..=path.bdp() + 40_000).contains(&bound), "{bound}");
    path.reach(State::Up);
    let until = path.now + Duration::from_secs(1);
    while path.bbr.state == State::Up && path.step(until) {}
    // §5.3.3.4.2: it is left where the last one had become too much.
    assert!(path.states.ends_with(&[State::Up, State::Down]));
    path.run(Duration::from_secs(10));
    let before = path.delivered;
    path.run(Duration::from_secs(10));
    let goodput = (path.delivered - before) / 10;
    assert!(goodput > 8_500_000, "a shallow queue is enough: {goodput}");
}

#[test]
fn up_goes_on_while_the_application_limits_and_nothing_is_lost() {
    let mut path = Path::usual();
    path.reach(State::Up);
    path.supply = Some(3_000_000);
    path.run(Duration::from_secs(3));
    assert_eq!(path.bbr.state, State::Up);
    let mut path = Path::usual();
    path.supply = Some(1_000_000);
    path.run(Duration::from_secs(4));
    assert_eq!(path.bbr.state, State::Startup);
}

#[test]
fn down_ends_when_there_is_headroom_or_after_a_while() {
    let mut path = Path::usual();
    path.reach(State::Down);
    assert_eq!(State::Down.pacing_gain(), 0.9);
    assert_eq!(path.leave(State::Down), State::Cruise);
    assert!(path.in_flight <= path.bbr.inflight(path.bbr.bandwidth.get(), 1.0));
    path.reach(State::ProbeRtt);
    path.reach(State::Up);
    path.reach(State::Down);
    // What is in flight stays above the estimate, for the line has become slower.
    path.slow_down(path.rate / 10 * 8);
    let began = path.now;
    assert_eq!(path.leave(State::Down), State::Refill);
    assert!(path.now > began + Duration::from_millis(500));
}

#[test]
fn the_path_without_queues_is_looked_at_every_five_seconds() {
    let mut path = Path::usual();
    path.reach(State::Cruise);
    let before = path.bbr.window();
    path.reach(State::ProbeRtt);
    let began = path.now;
    assert!((5000..5500).contains(&began.since(Instant::from_millis(1000)).as_millis()));
    let rate = path.bbr.bandwidth.get();
    assert_eq!(path.leave(State::ProbeRtt), State::Cruise);
    let took = path.now.since(began);
    assert!((200..300).contains(&took.as_millis()), "{took:?}");
    assert!(path.bbr.bandwidth.get() >= rate, "what was held back says nothing");
    assert!(path.bbr.window() >= before * 9 / 10, "{} of {before}", path.bbr.window());
    let without = path.bbr.min_rtt.get().expect("measured");
    assert!(without < path.rtt + Duration::from_millis(1), "{without:?}");
}

#[test]
fn who_was_silent_has_drained_the_queue_already() {
    let mut path = Path::usual();
    path.reach(State::Cruise);
    path.supply = Some(0);
    path.run(Duration::from_secs(6));
    assert_eq!(path.in_flight, 0);
    path.supply = None;
    path.states.clear();
    path.run(Duration::from_secs(2));
    assert!(!path.states.contains(&State::ProbeRtt), "{:?}", path.states);
    assert!(path.delivered > 10_000_000);
}

#[test]
fn acknowledgments_that_come_in_lumps_do_not_slow_it_down() {
    let mut path = Path::usual();
    path.slot = Some(Duration::from_millis(10));
    path.leave(State::Startup);
    let off = path.bbr.bandwidth.get().abs_diff(path.rate) as f64 / path.rate as f64;
    assert!(off < 0.1, "{}", path.bbr.bandwidth.get());
    path.run(Duration::from_secs(3));
    assert!(path.bbr.aggregation.get() > path.bdp() / 4, "{}", path.bbr.aggregation.get());
    let before = path.delivered;
    path.run(Duration::from_secs(4));
    assert!((path.delivered - before) / 4 > 9_000_000, "{}", (path.delivered - before) / 4);
}

#[test]
fn losses_at_random_are_borne_up_to_the_threshold() {
    let goodput = |lossy| {
        let mut path = Path::usual();
        path.lossy = Some(lossy);
        path.run(Duration::from_secs(10));
        let before = path.delivered;
        path.run(Duration::from_secs(20));
        (path.delivered - before) / 20
    };
    let (one, ten) = (goodput(100), goodput(10));
    assert!(one > 7_000_000, "one percent: {one}");
    assert!(ten < one / 2, "ten percent is more than it bears: {ten}");
}

#[test]
fn a_loss_that_was_none_is_taken_back() {
    // Startup was left for losses that were none.
    let mut path = Path::usual();
    path.lossy = Some(20);
    path.supply = Some(8_000_000);
    path.leave(State::Startup);
    path.bbr.on_undo(path.now);
    assert_eq!((path.bbr.state, path.bbr.full.reached), (State::Startup, false));
    assert_eq!(path.bbr.inflight_long, UNBOUNDED);
    // And so was ProbeBW_UP.
    let mut path = Path::new(10_000_000, Duration::from_millis(20), 20_000);
    path.run(Duration::from_secs(1));
    path.reach(State::Up);
    path.leave(State::Up);
    path.bbr.on_undo(path.now);
    assert_eq!(path.bbr.state, State::Refill);
}

#[test]
fn a_time_out_leaves_one_segment_and_recovery_gives_it_back() {
    let mut path = Path::usual();
    path.reach(State::Cruise);
    let before = path.bbr.window();
    path.bbr.on_rto(path.now, path.in_flight, false);
    assert_eq!(path.bbr.window(), SEGMENT);
    path.bbr.on_recovered(path.now, u64::MAX);
    assert_eq!(path.bbr.window(), before);
}

#[test]
fn a_mark_counts_as_a_loss_outside_of_probing() {
    let mut path = Path::usual();
    path.reach(State::Cruise);
    path.bbr.on_ecn(path.now, path.in_flight);
    path.run(path.rtt * 2);
    assert!(path.bbr.bandwidth_short < UNBOUNDED && path.bbr.inflight_short < UNBOUNDED);
    path.reach(State::Refill);
    assert_eq!(path.bbr.bandwidth_short, UNBOUNDED, "forgotten when more is tried");
}
