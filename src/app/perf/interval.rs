//! Cuts a running test into intervals: when the next one ends, and what each stream and subflow did in it. Time and
//! counters are inputs.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::stack::stream::SubflowInfo;

/// A rest of an interval shorter than this share of it gets no line of its own.
const SMALLEST_REST: f64 = 0.1;

/// What a stream's counters say at one moment.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Bytes sent or received so far.
    pub bytes: u64,
    /// Its subflows' counters; none where the transport has no figures.
    pub subflows: Vec<SubflowInfo>,
}

impl Sample {
    fn retransmits(&self) -> Option<u64> {
        (!self.subflows.is_empty()).then(|| self.subflows.iter().map(|subflow| subflow.retransmits).sum())
    }

    fn subflow(&self, like: &SubflowInfo) -> Option<&SubflowInfo> {
        self.subflows.iter().find(|other| other.tuple == like.tuple)
    }
}

/// What a stream did in an interval, or in the whole test.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamFigures {
    /// Its name on the wire.
    pub id: u32,
    /// Whether this end sends.
    pub sender: bool,
    /// Bytes sent or received.
    pub bytes: u64,
    /// Segments sent again; `None` where the transport has no figures.
    pub retransmits: Option<u64>,
    /// Its subflows.
    pub subflows: Vec<SubflowFigures>,
}

/// What a subflow did in an interval, or in the whole test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubflowFigures {
    /// Its state at the end of it.
    pub info: SubflowInfo,
    /// Payload bytes sent (again, too) or received in it.
    pub bytes: u64,
    /// Segments sent again in it.
    pub retransmits: u64,
}

impl StreamFigures {
    fn between(id: u32, sender: bool, before: &Sample, after: &Sample) -> Self {
        let carried = |info: &SubflowInfo| if sender { info.bytes_sent } else { info.bytes_received };
        let subflows = after.subflows.iter().map(|info| {
            let old = before.subflow(info);
            SubflowFigures {
                info: *info,
                bytes: carried(info).saturating_sub(old.map_or(0, carried)),
                retransmits: info.retransmits.saturating_sub(old.map_or(0, |old| old.retransmits)),
            }
        });
        let retransmits =
            after.retransmits().map(|count| count.saturating_sub(before.retransmits().unwrap_or(0)));
        Self {
            id,
            sender,
            bytes: after.bytes.saturating_sub(before.bytes),
            retransmits,
            subflows: subflows.collect(),
        }
    }

    /// The windows of its live subflows together, in bytes.
    pub fn cwnd(&self) -> Option<u64> {
        let live = self.subflows.iter().filter(|subflow| subflow.info.alive);
        (!self.subflows.is_empty()).then(|| live.map(|subflow| u64::from(subflow.info.cwnd)).sum())
    }

    /// The shortest round-trip time of its live subflows, and that subflow's variation, in microseconds.
    pub fn rtt_us(&self) -> Option<(u32, u32)> {
        let live = self.subflows.iter().filter(|subflow| subflow.info.alive && subflow.info.srtt_us != 0);
        live.map(|subflow| (subflow.info.srtt_us, subflow.info.rttvar_us)).min()
    }
}

/// One interval of a test.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    /// Where it begins, in seconds from where the counted (or the omitted) part begins.
    pub start_secs: f64,
    /// Where it ends.
    pub end_secs: f64,
    /// It belongs to the part that does not count.
    pub omitted: bool,
    /// The streams.
    pub streams: Vec<StreamFigures>,
}

/// The extremes of what intervals showed of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Extremes {
    /// The largest window, in bytes.
    pub max_cwnd: u64,
    /// The longest round-trip time, in microseconds.
    pub max_rtt_us: u32,
    /// The shortest.
    pub min_rtt_us: u32,
    /// The mean over intervals.
    pub mean_rtt_us: u32,
}

/// A stream over the whole counted part.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamTotal {
    /// The sums.
    pub figures: StreamFigures,
    /// The extremes.
    pub extremes: Extremes,
}

/// All that was counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Totals {
    /// How long the counted part took.
    pub seconds: f64,
    /// The streams.
    pub streams: Vec<StreamTotal>,
}

#[derive(Debug, Clone, Default)]
struct Metered {
    id: u32,
    sender: bool,
    /// Where the counted part began.
    base: Sample,
    /// Where the interval began.
    last: Sample,
    max_cwnd: u64,
    min_rtt_us: Option<u32>,
    max_rtt_us: u32,
    rtt_sum_us: u64,
    rtt_count: u64,
}

/// Cuts a test into intervals.
#[derive(Debug)]
pub struct Meter {
    /// The start of the part that runs, omitted or counted.
    part: Instant,
    omit_end: Option<Instant>,
    interval: Option<Duration>,
    interval_start: Instant,
    /// When the interval ends.
    tick: Option<Instant>,
    streams: Vec<Metered>,
}

impl Meter {
    /// A test that begins now, with streams of these ids and directions (true: this end sends). Without `interval`
    /// there are none.
    pub fn new(
        now: Instant,
        omit: Duration,
        interval: Option<Duration>,
        streams: impl IntoIterator<Item = (u32, bool)>,
    ) -> Self {
        Self {
            part: now,
            omit_end: (!omit.is_zero()).then(|| now + omit),
            interval,
            interval_start: now,
            tick: interval.map(|interval| now + interval),
            streams: streams
                .into_iter()
                .map(|(id, sender)| Metered { id, sender, ..Metered::default() })
                .collect(),
        }
    }

    /// When [`Meter::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.tick, self.omit_end) {
            (Some(tick), Some(omit_end)) => Some(tick.min(omit_end)),
            (tick, omit_end) => tick.or(omit_end),
        }
    }

    /// Whether the omitted part still runs.
    pub fn is_omitting(&self) -> bool {
        self.omit_end.is_some()
    }

    /// The interval that ends now, if one does. `samples` are in the order of the streams.
    pub fn handle_timeout(&mut self, now: Instant, samples: &[Sample]) -> Option<Interval> {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return None;
        }
        let interval = self.interval.map(|_| self.cut(now, samples));
        if self.omit_end.is_some_and(|omit_end| now >= omit_end) {
            self.omit_end = None;
            self.part = now;
            self.interval_start = now;
            self.tick = self.interval.map(|interval| now + interval);
            for (stream, sample) in self.streams.iter_mut().zip(samples) {
                stream.base = sample.clone();
                stream.last = sample.clone();
            }
        }
        interval
    }

    /// The test is over: its last interval, where that is worth a line, and the totals.
    pub fn finish(&mut self, now: Instant, samples: &[Sample]) -> (Option<Interval>, Totals) {
        let rest = now.since(self.interval_start);
        let worth = |interval: Duration| rest.as_secs_f64() >= SMALLEST_REST * interval.as_secs_f64();
        let nothing_yet = self.interval_start == self.part && !rest.is_zero();
        let last =
            self.interval.filter(|interval| worth(*interval) || nothing_yet).map(|_| self.cut(now, samples));
        // A test that ended within the omitted part has counted nothing.
        let omitted = self.is_omitting();
        let totals = self.streams.iter().zip(samples).map(|(stream, sample)| {
            let base = if omitted { sample } else { &stream.base };
            StreamTotal {
                figures: StreamFigures::between(stream.id, stream.sender, base, sample),
                extremes: stream.extremes(),
            }
        });
        let seconds = if omitted { 0.0 } else { now.since(self.part).as_secs_f64() };
        (last, Totals { seconds, streams: totals.collect() })
    }

    fn cut(&mut self, now: Instant, samples: &[Sample]) -> Interval {
        let streams: Vec<StreamFigures> = self
            .streams
            .iter_mut()
            .zip(samples)
            .map(|(stream, sample)| {
                let figures = StreamFigures::between(stream.id, stream.sender, &stream.last, sample);
                stream.last = sample.clone();
                stream.note(&figures);
                figures
            })
            .collect();
        let interval = Interval {
            start_secs: self.interval_start.since(self.part).as_secs_f64(),
            end_secs: now.since(self.part).as_secs_f64(),
            omitted: self.is_omitting(),
            streams,
        };
        self.interval_start = now;
        // The next tick counts from where this one was due, so that lateness does not add up.
        if let (Some(interval), Some(tick)) = (self.interval, self.tick) {
            let next = tick + interval;
            self.tick = Some(if next > now { next } else { now + interval });
        }
        interval
    }
}

impl Metered {
    fn note(&mut self, figures: &StreamFigures) {
        self.max_cwnd = self.max_cwnd.max(figures.cwnd().unwrap_or(0));
        if let Some((rtt_us, _)) = figures.rtt_us() {
            self.max_rtt_us = self.max_rtt_us.max(rtt_us);
            self.min_rtt_us = Some(self.min_rtt_us.map_or(rtt_us, |least| least.min(rtt_us)));
            self.rtt_sum_us += u64::from(rtt_us);
            self.rtt_count += 1;
        }
    }

    fn extremes(&self) -> Extremes {
        Extremes {
            max_cwnd: self.max_cwnd,
            max_rtt_us: self.max_rtt_us,
            min_rtt_us: self.min_rtt_us.unwrap_or(0),
            mean_rtt_us: self.rtt_sum_us.checked_div(self.rtt_count).unwrap_or(0) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PortId;
    use crate::wire::{Endpoint, FourTuple};
    use std::net::{IpAddr, Ipv4Addr};

    const SECOND: Duration = Duration::from_secs(1);

    fn bytes(bytes: u64) -> Sample {
        Sample { bytes, subflows: Vec::new() }
    }

    fn subflow(port: u16, bytes_sent: u64, retransmits: u64, srtt_us: u32) -> SubflowInfo {
        let end = |port| Endpoint::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        SubflowInfo {
            tuple: FourTuple { local: end(port), remote: end(5201) },
            port: PortId(0),
            alive: true,
            backup: false,
            bytes_sent,
            bytes_received: 0,
            retransmits,
            srtt_us,
            rttvar_us: 1,
            cwnd: 1000,
            ssthresh: 0,
            mss: 1400,
        }
    }

    #[test]
    fn intervals_follow_each_other_and_sum_up() {
        let mut meter = Meter::new(Instant::ZERO, Duration::ZERO, Some(SECOND), [(1, true)]);
        assert_eq!(meter.poll_timeout(), Some(Instant::from_millis(1000)));
        assert_eq!(meter.handle_timeout(Instant::from_millis(999), &[bytes(5)]), None);
        let first = meter.handle_timeout(Instant::from_millis(1002), &[bytes(10)]).unwrap();
        assert_eq!((first.start_secs, first.streams[0].bytes), (0.0, 10));
        // 2 ms late, but the next is due at 2 s all the same.
        assert_eq!(meter.poll_timeout(), Some(Instant::from_millis(2000)));
        let (last, totals) = meter.finish(Instant::from_millis(1500), &[bytes(25)]);
        assert_eq!(last.unwrap().streams[0].bytes, 15);
        assert_eq!((totals.seconds, totals.streams[0].figures.bytes), (1.5, 25));
    }

    #[test]
    fn a_tiny_rest_gets_no_line_but_counts() {
        let mut meter = Meter::new(Instant::ZERO, Duration::ZERO, Some(SECOND), [(1, true)]);
        meter.handle_timeout(Instant::from_millis(1000), &[bytes(10)]).unwrap();
        let (last, totals) = meter.finish(Instant::from_millis(1001), &[bytes(11)]);
        assert_eq!((last, totals.streams[0].figures.bytes), (None, 11));
        // The only interval gets one, however short.
        let mut meter = Meter::new(Instant::ZERO, Duration::ZERO, Some(SECOND), [(1, true)]);
        assert!(meter.finish(Instant::from_millis(1), &[bytes(11)]).0.is_some());
    }

    #[test]
    fn omitted_seconds_do_not_count() {
        let mut meter = Meter::new(Instant::ZERO, SECOND, Some(SECOND), [(1, false)]);
        let omitted = meter.handle_timeout(Instant::from_millis(1000), &[bytes(100)]).unwrap();
        assert!(omitted.omitted && !meter.is_omitting());
        let counted = meter.handle_timeout(Instant::from_millis(2000), &[bytes(130)]).unwrap();
        assert_eq!((counted.omitted, counted.start_secs, counted.streams[0].bytes), (false, 0.0, 30));
        let (_, totals) = meter.finish(Instant::from_millis(2000), &[bytes(130)]);
        assert_eq!((totals.seconds, totals.streams[0].figures.bytes), (1.0, 30));
    }

    #[test]
    fn a_test_that_ends_while_omitting_counted_nothing() {
        let mut meter = Meter::new(Instant::ZERO, SECOND, None, [(1, false)]);
        let (last, totals) = meter.finish(Instant::from_millis(500), &[bytes(100)]);
        assert_eq!((last, totals.seconds, totals.streams[0].figures.bytes), (None, 0.0, 0));
    }

    #[test]
    fn subflows_are_told_apart_by_their_ends() {
        let mut meter = Meter::new(Instant::ZERO, Duration::ZERO, Some(SECOND), [(1, true)]);
        let sample = Sample { bytes: 10, subflows: vec![subflow(1, 10, 1, 50)] };
        meter.handle_timeout(Instant::from_millis(1000), &[sample]).unwrap();
        let sample = Sample { bytes: 40, subflows: vec![subflow(2, 12, 0, 30), subflow(1, 28, 4, 70)] };
        let second = meter.handle_timeout(Instant::from_millis(2000), std::slice::from_ref(&sample)).unwrap();
        let stream = &second.streams[0];
        let carried: Vec<_> = stream.subflows.iter().map(|s| (s.bytes, s.retransmits)).collect();
        assert_eq!(carried, [(12, 0), (18, 3)]);
        assert_eq!(
            (stream.retransmits, stream.cwnd(), stream.rtt_us()),
            (Some(3), Some(2000), Some((30, 1)))
        );
        let (_, totals) = meter.finish(Instant::from_millis(2000), &[sample]);
        let extremes = totals.streams[0].extremes;
        assert_eq!((extremes.min_rtt_us, extremes.max_rtt_us, extremes.mean_rtt_us), (30, 50, 40));
    }
}
