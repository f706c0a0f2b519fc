//! How long segments may be, found out from the segments themselves (RFC 4821, RFC 8899): on many paths no ICMP error comes
//! back that would tell (RFC 2923).
//!
//! Downwards, black holes: where retransmissions of a long segment are lost one after the other, a short one is tried. If
//! that passes, segments were too long. If not, it was an outage, and nothing changes.
//!
//! Upwards, probes: one segment of data that is longer than the others. If it arrives, so will others. If it is lost again
//! and again, half-way is tried; the loss of one says nothing about congestion.

use crate::base::time::Duration;
use crate::base::{Instant, SeqNum};
use crate::wire::Mss;
use serde::{Deserialize, Serialize};

/// RFC 8899 §4.3: so many time-outs in a row of a long segment make a short one be tried.
const TIMEOUTS_TO_BASE: u32 = 3;
/// And so many a still shorter one.
const TIMEOUTS_TO_LEAST: u32 = 5;
/// RFC 8899 §5.1.2, BASE_PLPMTU: 1200 bytes over IPv4. (Over IPv6 that is a little less than the 1280 which always pass.)
const BASE: Mss = Mss::new(1200 - 40);
/// RFC 8899 §5.1.2 would have 68 bytes; RFC 1122 §3.3.2 lets every host take 576, and less lets nobody send in earnest.
const LEAST: Mss = Mss::new(576 - 40);
/// RFC 8899 §5.1.2, MAX_PROBES: a probe may be lost for other reasons.
const ATTEMPTS: u8 = 3;
/// RFC 8899 §5.1.1, PMTU_RAISE_TIMER; RFC 8201 §4: not less than five minutes after an ICMP error, either.
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// The search ends when no more than so many bytes can be gained.
const STEP_MIN: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// RFC 8899 §5.2, Search Complete: as long as they get, until something is tried again.
    Settled { raise_at: Option<Instant> },
    /// A shorter segment is on its way: `before` is what they were.
    Trying { before: Mss },
    /// RFC 8899 §5.2, Search: a probe of `size` is to be sent, or was sent and ends at `end`. What has `failing` is too long.
    Probing { size: Mss, end: Option<SeqNum>, attempts: u8, failing: Option<Mss> },
}

/// The search.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PathMtu {
    /// What both ends would take.
    ceiling: Mss,
    phase: Phase,
}

impl PathMtu {
    /// Both ends would take `ceiling`, and so does the path until it shows that it does not.
    pub(super) fn new(ceiling: Mss) -> Self {
        Self { ceiling, phase: Phase::Settled { raise_at: None } }
    }

    /// The retransmission timer expired `timeouts` times in a row. `first` is the length of the segment in question, with
    /// our options, `mss` what segments have now. What they shall have from now on, if that changes.
    pub(super) fn on_timeout(&mut self, timeouts: u32, first: usize, mss: Mss) -> Option<Mss> {
        if let Phase::Trying { before } = self.phase {
            // The short one did not pass, either.
            self.phase = Phase::Settled { raise_at: None };
            return Some(before);
        }
        let trial = match timeouts {
            TIMEOUTS_TO_BASE => BASE,
            TIMEOUTS_TO_LEAST => LEAST,
            _ => return None,
        };
        if first <= trial.get() {
            return None;
        }
        self.phase = Phase::Trying { before: mss };
        Some(trial)
    }

    /// Something was acknowledged up to `una`; segments have `mss`. What they shall have from now on, if that changes.
    pub(super) fn on_advance(&mut self, now: Instant, una: SeqNum, mss: Mss) -> Option<Mss> {
        match self.phase {
            Phase::Settled { raise_at: Some(at) } if at <= now => self.search(now, mss, None),
            Phase::Settled { .. } => {}
            // RFC 8899 §5.2: the base is confirmed, and the search begins.
            Phase::Trying { .. } => self.search(now, mss, None),
            Phase::Probing { size, end: Some(end), failing, .. } if una.at_or_after(end) => {
                self.search(now, size, failing);
                return Some(size);
            }
            Phase::Probing { .. } => {}
        }
        None
    }

    /// An ICMP error has told (RFC 1191, RFC 8201).
    pub(super) fn on_too_big(&mut self, now: Instant) {
        self.phase = Phase::Settled { raise_at: Some(now + RAISE_AFTER) };
    }

    /// What the next segment may have as a probe.
    pub(super) fn probe(&self) -> Option<Mss> {
        match self.phase {
            Phase::Probing { size, end: None, .. } => Some(size),
            Phase::Probing { .. } | Phase::Settled { .. } | Phase::Trying { .. } => None,
        }
    }

    /// The probe has left; it ends at `end`.
    pub(super) fn on_probe_sent(&mut self, sent_end: SeqNum) {
        if let Phase::Probing { end, .. } = &mut self.phase {
            *end = Some(sent_end);
        }
    }

    /// Where the probe ends that is on its way.
    pub(super) fn probe_end(&self) -> Option<SeqNum> {
        match self.phase {
            Phase::Probing { end, .. } => end,
            Phase::Settled { .. } | Phase::Trying { .. } => None,
        }
    }

    /// The probe is lost, and its bytes are sent again in segments of `mss`.
    pub(super) fn on_probe_lost(&mut self, now: Instant, mss: Mss) {
        let Phase::Probing { size, end, attempts, .. } = &mut self.phase else { return };
        (*end, *attempts) = (None, *attempts + 1);
        if *attempts >= ATTEMPTS {
            let failing = *size;
            self.search(now, mss, Some(failing));
        }
    }

    /// Goes on with the search between `mss`, which passes, and `failing`, which does not.
    fn search(&mut self, now: Instant, mss: Mss, failing: Option<Mss>) {
        let size = match failing {
            // RFC 8899 §5.3.2: first what is most likely, that all is as it was.
            None => self.ceiling,
            Some(failing) => Mss::new((mss.raw() + failing.raw()) / 2),
        };
        self.phase = if size.get() < mss.get() + STEP_MIN {
            Phase::Settled { raise_at: (mss < self.ceiling).then_some(now + RAISE_AFTER) }
        } else {
            Phase::Probing { size, end: None, attempts: 0, failing }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Mss = Mss::new(1460);

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn an_outage_changes_nothing() {
        let mut path = PathMtu::new(FULL);
        assert_eq!((1..=2).find_map(|n| path.on_timeout(n, 1460, FULL)), None);
        assert_eq!(path.on_timeout(3, 1460, FULL), Some(BASE));
        assert_eq!(path.on_timeout(4, 1160, BASE), Some(FULL));
        assert_eq!(path.on_timeout(5, 1460, FULL), Some(LEAST));
        assert_eq!(path.on_timeout(6, 536, LEAST), Some(FULL));
        assert_eq!((7..=15).find_map(|n| path.on_timeout(n, 1460, FULL)), None);
        assert_eq!(path.on_advance(at(9), SeqNum::new(1), FULL), None);
        assert_eq!(path.probe(), None);
        assert_eq!(path.on_timeout(3, 1160, FULL), None, "short ones are not helped by that");
    }

    /// A path that lets `passes` through: what is found, with how many losses, and what follows then.
    fn found(passes: u16) -> (u16, u32, Phase) {
        let mut path = PathMtu::new(FULL);
        let mut mss = path.on_timeout(3, 1460, FULL).expect("a trial");
        let (mut una, mut lost) = (SeqNum::new(0), 0);
        path.on_advance(at(1), una, mss);
        while let Some(size) = path.probe() {
            path.on_probe_sent(una + 10);
            assert_eq!(path.probe(), None, "one at a time");
            assert_eq!(path.on_advance(at(1), una + 9, mss), None, "not yet");
            if size.raw() > passes {
                lost += 1;
                path.on_probe_lost(at(1), mss);
            } else {
                una += 10;
                mss = path.on_advance(at(1), una, mss).expect("longer");
            }
        }
        (mss.raw(), lost, path.phase)
    }

    #[test]
    fn the_search_finds_what_passes() {
        let settled = Phase::Settled { raise_at: None };
        assert_eq!(found(1460), (1460, 0, settled), "there was no black hole");
        let raised = Phase::Settled { raise_at: Some(at(1) + RAISE_AFTER) };
        for passes in (1160..1460).step_by(7) {
            let (mss, lost, phase) = found(passes);
            assert!(mss <= passes && passes - mss < 2 * STEP_MIN as u16, "{mss} of {passes}");
            assert!(lost <= 18, "{lost} probes were lost");
            assert_eq!(phase, raised);
        }
    }

    #[test]
    fn what_an_icmp_error_has_told_is_tried_again_later() {
        let mut path = PathMtu::new(FULL);
        path.on_too_big(at(0));
        let (mss, una) = (Mss::new(1000), SeqNum::new(5));
        assert_eq!(path.on_advance(at(599_999), una, mss), None);
        assert_eq!(path.probe(), None);
        assert_eq!(path.on_advance(at(600_000), una, mss), None);
        assert_eq!(path.probe(), Some(FULL));
    }
}
