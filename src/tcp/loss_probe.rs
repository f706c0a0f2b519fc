//! TLP (RFC 8985 §7): when acknowledgments fail to come, one segment is sent to ask for one. Its acknowledgment shows
//! what of the tail is lost, long before the retransmission timer would.

use crate::base::SeqNum;
use crate::base::time::Duration;
use serde::{Deserialize, Serialize};

/// RFC 8985 §7.2: without a round trip, a second.
const WITHOUT_RTT: Duration = Duration::from_secs(1);
/// What the interval is longer than two round trips by: two ends that nap when they have nothing to do, and a scheduler
/// that runs something else, make an ACK late by this much on the shortest path. (Linux adds two ticks.)
const MARGIN: Duration = Duration::from_millis(2);

/// A probe that was sent (TLP.end_seq, TLP.is_retrans).
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Probe {
    /// SND.NXT behind it.
    end: SeqNum,
    /// It was sent before.
    retransmission: bool,
}

/// The state of loss probes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LossProbe {
    sent: Option<Probe>,
    /// A probe has to leave.
    due: bool,
    /// A round trip was measured since the last probe.
    measured: bool,
}

impl LossProbe {
    /// None sent.
    pub(super) fn new() -> Self {
        Self { sent: None, due: false, measured: true }
    }

    /// RFC 8985 §7.1: fast recovery or a time-out begins.
    pub(super) fn reset(&mut self) {
        (self.sent, self.due) = (None, false);
    }

    /// RFC 8985 §7.3: whether a probe may be sent: none is on its way, and the last one has not kept round trips from
    /// being measured.
    pub(super) fn is_allowed(&self) -> bool {
        self.sent.is_none() && self.measured
    }

    /// Whether one was sent, and its fate is not known.
    pub(super) fn is_on_its_way(&self) -> bool {
        self.sent.is_some()
    }

    /// RFC 8985 §7.2: how long to wait for an acknowledgment. `alone`: one segment is in flight, whose acknowledgment
    /// the peer may delay by `ack_delay`.
    pub(super) fn interval(srtt: Option<Duration>, alone: bool, ack_delay: Duration) -> Duration {
        match srtt {
            None => WITHOUT_RTT,
            Some(srtt) => 2 * srtt + MARGIN.max(if alone { ack_delay } else { Duration::ZERO }),
        }
    }

    /// Its time has come.
    pub(super) fn expire(&mut self) {
        self.due = self.is_allowed();
    }

    /// Whether a probe has to leave.
    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    /// It has left; SND.NXT is `nxt`.
    pub(super) fn on_sent(&mut self, nxt: SeqNum, retransmission: bool) {
        (self.due, self.measured) = (false, false);
        self.sent = Some(Probe { end: nxt, retransmission });
    }

    /// A round trip was measured.
    pub(super) fn on_measured(&mut self) {
        self.measured = true;
    }

    /// Something was delivered: nothing is overdue any more.
    pub(super) fn cancel(&mut self) {
        self.due = false;
    }

    /// RFC 8985 §7.4.2 (TLP_process_ack): takes an acknowledgment. `duplicate` is what it reports to have arrived twice,
    /// `bare` that it acknowledges nothing new and has no SACK. True when the probe has repaired a loss, which nothing
    /// else shows.
    pub(super) fn on_ack(&mut self, ack: SeqNum, duplicate: Option<(SeqNum, SeqNum)>, bare: bool) -> bool {
        let Some(probe) = self.sent.filter(|probe| ack.at_or_after(probe.end)) else { return false };
        let arrived_twice = duplicate.is_some_and(|(_, end)| end == probe.end) || (bare && ack == probe.end);
        if !probe.retransmission || arrived_twice {
            self.sent = None;
            return false;
        }
        if ack.after(probe.end) {
            self.sent = None;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(raw: u32) -> SeqNum {
        SeqNum::new(raw)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn sent(retransmission: bool) -> LossProbe {
        let mut probe = LossProbe::new();
        probe.expire();
        assert!(probe.is_due());
        probe.on_sent(at(1001), retransmission);
        probe
    }

    #[test]
    fn two_round_trips_and_a_delayed_acknowledgment() {
        assert_eq!(LossProbe::interval(None, true, ms(50)), ms(1000));
        assert_eq!(LossProbe::interval(Some(ms(30)), false, ms(50)), ms(62));
        assert_eq!(LossProbe::interval(Some(ms(30)), true, ms(50)), ms(110));
    }

    #[test]
    fn one_at_a_time_and_only_if_a_round_trip_was_measured_since() {
        let mut probe = sent(false);
        assert!(!probe.is_allowed());
        probe.on_ack(at(1001), None, false);
        assert!(!probe.is_allowed());
        probe.expire();
        assert!(!probe.is_due());
        probe.on_measured();
        assert!(probe.is_allowed());
    }

    #[test]
    fn a_probe_with_new_data_repairs_nothing() {
        let mut probe = sent(false);
        assert!(!probe.on_ack(at(1001), None, false) && !probe.on_ack(at(2001), None, false));
    }

    #[test]
    fn a_retransmission_repairs_unless_it_arrived_twice() {
        assert!(sent(true).on_ack(at(1002), None, false));
        let mut probe = sent(true);
        assert!(!probe.on_ack(at(1000), None, false) && !probe.on_ack(at(1001), None, false));
        assert!(
            probe.on_ack(at(1500), None, false),
            "what followed it is acknowledged, and nothing came twice"
        );
        let mut probe = sent(true);
        assert!(!probe.on_ack(at(1001), Some((at(1), at(1001))), false));
        assert!(!probe.on_ack(at(1500), None, false), "D-SACK");
        let mut probe = sent(true);
        assert!(
            !probe.on_ack(at(1001), None, true) && !probe.on_ack(at(1500), None, false),
            "a bare duplicate"
        );
        let mut probe = sent(true);
        assert!(!probe.on_ack(at(1001), Some((at(1), at(501))), false));
        assert!(probe.on_ack(at(1500), None, false), "something else came twice");
    }
}
