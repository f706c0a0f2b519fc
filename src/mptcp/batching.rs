//! When the end of what was written may leave although it does not fill a segment: Nagle's algorithm (RFC 9293 §3.7.4), and
//! applications that say that more follows (Linux's `TCP_CORK` and `MSG_MORE`). Full segments never wait here.

use crate::base::{DataSeq, Instant};
use crate::mptcp::Tuning;
use serde::{Deserialize, Serialize};

/// The state of one connection's batching.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Batching {
    nagle: bool,
    cork: bool,
    /// The application has said of what it wrote last that more follows.
    more: bool,
    /// And it is waited for.
    more_waits: bool,
    /// Behind the last byte that was sent in a segment that was not full.
    small_end: Option<DataSeq>,
    /// What is held back leaves at this time, whatever.
    release_at: Option<Instant>,
    /// What was written before this byte may leave.
    release_to: Option<DataSeq>,
    /// By time, so that nothing more is expected.
    overdue: bool,
}

impl Batching {
    /// With the settings that a connection begins with.
    pub fn new(tuning: &Tuning) -> Self {
        Self { nagle: !tuning.nodelay, cork: tuning.cork, ..Self::default() }
    }

    /// The settings have changed.
    pub fn tune(&mut self, tuning: &Tuning) {
        (self.nagle, self.cork) = (!tuning.nodelay, tuning.cork);
    }

    /// The application has written, and says whether more follows.
    pub fn set_more(&mut self, more: bool) {
        (self.more, self.more_waits) = (more, more);
    }

    /// What was written, and ends before `end`, leaves now, full segment or not.
    pub fn flush(&mut self, end: DataSeq) {
        self.release_to = Some(end);
    }

    /// Whether small pieces are to be put together while they wait.
    pub fn gathers(&self) -> bool {
        self.nagle || self.cork || self.more
    }

    /// Whether what does not fill a segment has to wait, when `una` is the oldest byte that is not acknowledged and
    /// `next` the first that was not sent.
    pub fn holds(&self, una: DataSeq, next: DataSeq) -> bool {
        // RFC 9293 §3.7.4: only so long as an earlier segment is on the way; and as Minshall has it, one that was not
        // full, either: the end of a long write does not wait for its beginning.
        let nagle = self.nagle && self.small_end.is_some_and(|end| end.after(una));
        let released = self.release_to.is_some_and(|end| end.after(next));
        !released && (self.cork || self.more_waits || nagle)
    }

    /// Something is held back; not beyond `until`.
    pub fn hold(&mut self, until: Instant) {
        self.release_at.get_or_insert(until);
    }

    /// When [`Batching::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.release_at
    }

    /// RFC 9293 §3.8.6.2.1, the override time-out: what is held back, up to `end`, leaves.
    pub fn handle_timeout(&mut self, now: Instant, end: DataSeq) {
        if self.release_at.is_some_and(|at| at <= now) {
            (self.release_at, self.release_to, self.overdue) = (None, Some(end), true);
        }
    }

    /// The peer has acknowledged something new. Linux waits no longer for what `MSG_MORE` has announced.
    pub fn on_acknowledged(&mut self) {
        self.more_waits = false;
    }

    /// A piece that ends before `end` was given to a subflow; it fills a segment, or does not.
    pub fn on_sent(&mut self, end: DataSeq, full: bool) {
        if !full {
            self.small_end = Some(end);
        }
        self.release_at = None;
        self.release_to.take_if(|to| to.at_or_before(end));
    }

    /// Whether the end of what was written is the end of a message (PSH), as it leaves now.
    pub fn pushes(&mut self) -> bool {
        std::mem::take(&mut self.overdue) || !self.more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> DataSeq = DataSeq::new;

    #[test]
    fn nagle_waits_for_small_segments_only() {
        let mut batching = Batching::new(&Tuning { nodelay: false, ..Tuning::default() });
        assert!(!batching.holds(AT(0), AT(0)), "nothing is on the way");
        batching.on_sent(AT(1000), true);
        assert!(!batching.holds(AT(0), AT(1000)), "a full one");
        batching.on_sent(AT(1100), false);
        let holds = |batching: &Batching, una| batching.holds(AT(una), AT(1100));
        assert!(holds(&batching, 0) && holds(&batching, 1099) && !holds(&batching, 1100));
        batching.flush(AT(1200));
        assert!(!holds(&batching, 0));
        batching.on_sent(AT(1200), false);
        assert!(batching.holds(AT(1100), AT(1200)), "a flush is for what was there");
        batching.tune(&Tuning::default());
        assert!(!batching.holds(AT(1100), AT(1200)));
    }

    #[test]
    fn a_cork_holds_until_it_is_pulled_or_time_is_up() {
        let at = Instant::from_millis;
        let mut batching = Batching::new(&Tuning { cork: true, ..Tuning::default() });
        assert!(batching.holds(AT(0), AT(0)));
        batching.hold(at(200));
        batching.hold(at(300));
        batching.handle_timeout(at(199), AT(5));
        assert!(batching.holds(AT(0), AT(0)) && batching.poll_timeout() == Some(at(200)));
        batching.handle_timeout(at(200), AT(5));
        assert!(!batching.holds(AT(0), AT(0)) && batching.pushes());
        batching.on_sent(AT(5), false);
        assert!(batching.holds(AT(5), AT(5)));
        batching.tune(&Tuning::default());
        assert!(!batching.holds(AT(5), AT(5)));
    }

    #[test]
    fn more_waits_for_the_rest_or_an_acknowledgment_and_is_no_end() {
        let mut batching = Batching::new(&Tuning::default());
        batching.set_more(true);
        assert!(batching.holds(AT(0), AT(0)) && batching.gathers());
        batching.on_acknowledged();
        assert!(!batching.holds(AT(0), AT(0)) && !batching.pushes());
        batching.set_more(true);
        batching.set_more(false);
        assert!(!batching.holds(AT(0), AT(0)) && batching.pushes());
    }
}
