//! RACK (RFC 8985 §6): a segment is lost when one that was sent later has arrived and enough time has passed for it to
//! be late and not lost. How much is enough adapts to the reordering that is seen. It knows times and the order of
//! transmissions; which segments are missing is the send queue's matter.

use crate::base::time::Duration;
use crate::base::{Instant, SeqNum};
use crate::tcp::recovery::DUPLICATES_THRESHOLD;
use crate::tcp::send::{News, TransmitOrder};
use serde::{Deserialize, Serialize};

/// RFC 8985 §6.2 step 4: a reordering window that was enlarged is kept for so many recoveries.
const PERSIST: u8 = 16;
/// min(mult * min_RTT / 4, SRTT): beyond this a larger factor changes nothing on any path worth the name.
const MULTIPLIER_MAX: u8 = 200;

/// The state of loss detection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rack {
    /// RACK.segment: when the most recently sent segment that was delivered was sent, and its place in the order.
    latest: Option<(Instant, TransmitOrder)>,
    /// RACK.rtt.
    rtt: Duration,
    /// RACK.fack: the highest sequence number that was delivered.
    forward: SeqNum,
    /// How often a segment arrived behind its successors (RACK.reordering_seen, when it is not 0).
    reorderings: u32,
    /// By how many bytes at most.
    distance: u32,
    /// RACK.reo_wnd, RACK.reo_wnd_mult, RACK.reo_wnd_persist.
    window: Duration,
    multiplier: u8,
    persist: u8,
    /// RACK.dsack_round: the window grows at most once a round trip.
    dsack_round: Option<SeqNum>,
}

impl Rack {
    /// `first` is the sequence number of the stream's first byte.
    pub(super) fn new(first: SeqNum) -> Self {
        Self {
            latest: None,
            rtt: Duration::ZERO,
            forward: first,
            reorderings: 0,
            distance: 0,
            window: Duration::ZERO,
            multiplier: 1,
            persist: 0,
            dsack_round: None,
        }
    }

    /// RFC 8985 §6.2 steps 2 and 3.
    pub(super) fn on_delivered(&mut self, now: Instant, news: &News) {
        if let Some(latest) = news.latest {
            self.rtt = now.since(latest.sent_at);
            if self.latest.is_none_or(|(_, order)| latest.order.is_after(order)) {
                self.latest = Some((latest.sent_at, latest.order));
            }
        }
        if let Some(end) = news.lowest_original
            && end.before(self.forward)
        {
            self.reorderings = self.reorderings.saturating_add(1);
            self.distance = self.distance.max(self.forward.distance(end) as u32);
        }
        if let Some(highest) = news.highest {
            self.forward = self.forward.max(highest);
        }
    }

    /// RFC 8985 §6.2 step 4: a retransmission was for nothing, so the window may be too small. `nxt` is SND.NXT.
    pub(super) fn on_spurious(&mut self, nxt: SeqNum) {
        if self.dsack_round.is_none() {
            self.dsack_round = Some(nxt);
            self.multiplier = (self.multiplier + 1).min(MULTIPLIER_MAX);
            self.persist = PERSIST;
        }
    }

    /// What was taken for lost had only been late: reordering, though no segment that was sent once shows it.
    pub(super) fn on_undone(&mut self) {
        self.reorderings = self.reorderings.saturating_add(1);
    }

    /// SND.UNA is `una`.
    pub(super) fn on_advance(&mut self, una: SeqNum) {
        self.dsack_round.take_if(|round| una.at_or_after(*round));
    }

    /// An episode of recovery is over.
    pub(super) fn on_recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.multiplier = 1;
        }
    }

    /// RFC 8985 §6.2 step 4: the reordering window, for what is judged next. `held`: segments that are selectively
    /// acknowledged.
    pub(super) fn update_window(
        &mut self,
        recovering: bool,
        held: u32,
        min_rtt: Option<Duration>,
        srtt: Option<Duration>,
    ) {
        if self.reorderings == 0 && (recovering || held >= DUPLICATES_THRESHOLD) {
            self.window = Duration::ZERO;
            return;
        }
        let window = min_rtt.unwrap_or_default() * u32::from(self.multiplier) / 4;
        self.window = window.min(srtt.unwrap_or_default());
    }

    /// Whether a transmission left before one that was delivered.
    pub(super) fn is_sent_before(&self, order: TransmitOrder) -> bool {
        self.latest.is_some_and(|(_, latest)| latest.is_after(order))
    }

    /// RFC 8985 §6.2 step 5: when something that left at `sent_at` has to be taken for lost.
    pub(super) fn is_late_at(&self, sent_at: Instant) -> Instant {
        sent_at + self.rtt + self.window
    }

    /// When all that left before a delivered segment is late at the latest: the reordering timer's time.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.latest.map(|(sent_at, _)| self.is_late_at(sent_at))
    }

    /// RFC 8985 §6.3: what left at or before this time is lost when the retransmission timer expires.
    pub(super) fn lost_before(&self, now: Instant) -> Instant {
        now.back(self.rtt + self.window)
    }

    /// How often segments arrived behind their successors.
    pub(super) fn reorderings(&self) -> u32 {
        self.reorderings
    }

    /// By how many bytes at most.
    pub(super) fn reordering_distance(&self) -> u32 {
        self.distance
    }

    /// The reordering window.
    #[cfg(test)]
    pub(super) fn window(&self) -> Duration {
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Option<Duration> = Some(Duration::from_millis(40));
    const SRTT: Option<Duration> = Some(Duration::from_millis(50));

    fn at(raw: u32) -> SeqNum {
        SeqNum::new(raw)
    }

    fn rack() -> Rack {
        Rack::new(at(1))
    }

    fn window(rack: &mut Rack, recovering: bool, held: u32) -> u64 {
        rack.update_window(recovering, held, RTT, SRTT);
        rack.window().as_millis()
    }

    /// Tells of reordering.
    fn reorder(rack: &mut Rack) {
        let mut news = News::new(Instant::ZERO, false);
        news.highest = Some(at(5001));
        rack.on_delivered(Instant::ZERO, &news);
        (news.highest, news.lowest_original) = (Some(at(1001)), Some(at(1001)));
        rack.on_delivered(Instant::ZERO, &news);
    }

    #[test]
    fn without_reordering_three_segments_or_a_recovery_need_no_window() {
        let mut rack = rack();
        assert_eq!(window(&mut rack, false, 2), 10);
        assert_eq!(window(&mut rack, false, 3), 0);
        assert_eq!(window(&mut rack, true, 1), 0);
        reorder(&mut rack);
        assert_eq!((rack.reorderings(), rack.reordering_distance()), (1, 4000));
        assert_eq!((window(&mut rack, false, 3), window(&mut rack, true, 1)), (10, 10));
    }

    #[test]
    fn the_window_grows_with_duplicates_once_a_round_trip_and_up_to_a_round_trip() {
        let mut rack = rack();
        reorder(&mut rack);
        rack.on_spurious(at(9001));
        rack.on_spurious(at(9001));
        assert_eq!(window(&mut rack, true, 1), 20);
        rack.on_advance(at(9000));
        rack.on_spurious(at(9500));
        assert_eq!(window(&mut rack, true, 1), 20);
        for _ in 0..10 {
            rack.on_advance(at(9001));
            rack.on_spurious(at(9001));
        }
        assert_eq!(window(&mut rack, true, 1), 50, "SRTT");
    }

    #[test]
    fn a_larger_window_is_kept_for_sixteen_recoveries() {
        let mut rack = rack();
        reorder(&mut rack);
        rack.on_spurious(at(9001));
        for _ in 0..15 {
            rack.on_recovered();
            assert_eq!(window(&mut rack, true, 1), 20);
        }
        rack.on_recovered();
        assert_eq!(window(&mut rack, true, 1), 10);
    }

    #[test]
    fn no_round_trip_no_window() {
        let mut rack = rack();
        rack.update_window(false, 0, None, None);
        assert_eq!((rack.window(), rack.settles_at()), (Duration::ZERO, None));
    }
}
