//! Whether an episode of recovery was for nothing: every retransmission of it arrived twice (D-SACK, RFC 2883 and
//! RFC 3708), or the first acknowledgment echoes a timestamp from before the first retransmission (Eifel, RFC 3522). It
//! knows the episode; going back is the controller's matter (RFC 4015).

use crate::base::SeqNum;
use serde::{Deserialize, Serialize};

/// An episode of recovery, until the next one begins. It is remembered beyond its end: duplicates are reported late.
#[derive(Debug, Serialize, Deserialize)]
struct Episode {
    /// SND.UNA when it began.
    start: SeqNum,
    /// Bytes retransmitted, and those of them that arrived twice.
    retransmitted: u64,
    duplicated: u64,
    /// RFC 3522 RetransmitTS: the timestamp on the first retransmission, if that was of the oldest segment.
    stamp: Option<u32>,
}

/// The state of detection.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Undo {
    episode: Option<Episode>,
    /// RFC 3522 §3.2 step 5: the peer is known to report duplicates.
    peer_reports_duplicates: bool,
    /// Segments that were reported to have arrived twice.
    duplicates: u64,
}

impl Undo {
    /// An episode begins.
    pub(super) fn begin(&mut self, una: SeqNum) {
        self.episode = Some(Episode { start: una, retransmitted: 0, duplicated: 0, stamp: None });
    }

    /// It was right, or has been undone.
    pub(super) fn settle(&mut self) {
        self.episode = None;
    }

    /// Whether there is an episode that may turn out to have been for nothing.
    pub(super) fn is_open(&self) -> bool {
        self.episode.is_some()
    }

    /// `bytes` were retransmitted; `stamp` is the timestamp of a segment that was the oldest.
    pub(super) fn on_retransmitted(&mut self, bytes: u32, stamp: Option<u32>) {
        if let Some(episode) = &mut self.episode {
            if episode.retransmitted == 0 {
                episode.stamp = stamp;
            }
            episode.retransmitted += u64::from(bytes);
        }
    }

    /// The peer reports that `start..end` arrived twice. `retransmissions` have left so far. False when that can't be
    /// our doing: the network duplicates, too.
    pub(super) fn on_duplicate(&mut self, start: SeqNum, end: SeqNum, retransmissions: u64) -> bool {
        self.peer_reports_duplicates = true;
        self.duplicates += 1;
        if self.duplicates > retransmissions {
            return false;
        }
        if let Some(episode) = &mut self.episode
            && start.at_or_after(episode.start)
        {
            episode.duplicated += u64::from(end.distance(start) as u32);
        }
        true
    }

    /// Whether every retransmission of the episode arrived twice.
    pub(super) fn is_all_duplicated(&self) -> bool {
        self.episode
            .as_ref()
            .is_some_and(|episode| episode.retransmitted > 0 && episode.duplicated >= episode.retransmitted)
    }

    /// Whether an episode ends without a retransmission: what was missing came by itself.
    pub(super) fn is_without_retransmission(&self) -> bool {
        self.episode.as_ref().is_some_and(|episode| episode.retransmitted == 0)
    }

    /// RFC 3522 §3.2 steps 4 to 6: SND.UNA advanced for the first time since the first retransmission. `echo` is the
    /// echoed timestamp, `duplicate` whether something is reported to have arrived twice, `all` whether nothing is
    /// outstanding any more. True when the original had arrived.
    pub(super) fn is_original_acknowledged(&mut self, echo: Option<u32>, duplicate: bool, all: bool) -> bool {
        // It decides on the first one.
        let Some(stamp) = self.episode.as_mut().and_then(|episode| episode.stamp.take()) else {
            return false;
        };
        let Some(echo) = echo else { return false };
        let is_before = (echo.wrapping_sub(stamp) as i32) < 0;
        is_before && !duplicate && (self.peer_reports_duplicates || !all)
    }

    /// Segments that were reported to have arrived twice.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(raw: u32) -> SeqNum {
        SeqNum::new(raw)
    }

    fn episode() -> Undo {
        let mut undo = Undo::default();
        undo.begin(at(1001));
        undo.on_retransmitted(1000, Some(500));
        undo
    }

    #[test]
    fn all_retransmissions_have_to_come_twice() {
        let mut undo = episode();
        undo.on_retransmitted(1000, None);
        assert!(undo.on_duplicate(at(1001), at(2001), 2));
        assert!(!undo.is_all_duplicated());
        assert!(undo.on_duplicate(at(2001), at(3001), 2));
        assert!(undo.is_all_duplicated());
        undo.settle();
        assert!(!undo.is_all_duplicated() && !undo.is_open());
    }

    #[test]
    fn duplicates_from_before_the_episode_say_nothing_about_it() {
        let mut undo = episode();
        undo.on_duplicate(at(1), at(1001), 5);
        assert!(!undo.is_all_duplicated());
    }

    #[test]
    fn more_duplicates_than_retransmissions_are_the_networks() {
        let mut undo = episode();
        assert!(undo.on_duplicate(at(1), at(1001), 1));
        assert!(!undo.on_duplicate(at(1001), at(2001), 1));
        assert_eq!(undo.duplicates(), 2);
    }

    #[test]
    fn the_first_echo_tells_which_transmission_arrived() {
        let decide = |echo, duplicate, all| episode().is_original_acknowledged(echo, duplicate, all);
        assert!(decide(Some(499), false, false));
        assert!(!decide(Some(500), false, false), "the same tick: nobody knows");
        assert!(!decide(Some(501), false, false) && !decide(None, false, false));
        assert!(!decide(Some(499), true, false), "all ACKs were lost: that was a good reason");
        assert!(!decide(Some(499), false, true), "so it may have been here");
        let mut undo = episode();
        undo.on_duplicate(at(1), at(2), 9);
        assert!(undo.is_original_acknowledged(Some(499), false, true), "the peer would have said so");
        assert!(!undo.is_original_acknowledged(Some(499), false, true), "only the first one counts");
    }
}
