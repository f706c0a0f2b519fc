//! F-RTO (RFC 5682): after a retransmission time-out, new data instead of more retransmissions shows whether the
//! acknowledgments that come are for what was sent before it. Then the time-out was spurious.

use crate::base::SeqNum;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// Not under way.
    Off,
    /// The first segment was sent again: step 2, the first acknowledgment.
    First,
    /// It came, and new data may leave: step 3, the second one.
    Second,
}

/// What an acknowledgment says to F-RTO.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrtoAck {
    /// SND.UNA, and whether it advanced.
    pub(super) una: SeqNum,
    pub(super) advanced: bool,
    /// SND.NXT.
    pub(super) nxt: SeqNum,
    /// SACK is agreed.
    pub(super) sack: bool,
    /// The lowest end of what was sent only once and is known to be delivered now.
    pub(super) lowest_original: Option<SeqNum>,
    /// The highest end of what is known to be delivered now.
    pub(super) highest: Option<SeqNum>,
    /// It is a duplicate in the sense of RFC 5681, or has SACK and acknowledges nothing new.
    pub(super) duplicate: bool,
}

/// What F-RTO says to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet, or not its business.
    None,
    /// Step 2b: new data rather than retransmissions, if there is any.
    SendNew,
    /// The time-out was right.
    Conventional,
    /// It was not: what was sent before it arrives.
    Spurious,
}

/// The state of F-RTO.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Frto {
    phase: Phase,
    /// RecoveryPoint: SND.NXT at the time-out.
    point: SeqNum,
    /// SND.NXT when the second step began.
    new_from: SeqNum,
}

impl Frto {
    /// Not under way.
    pub(super) fn new() -> Self {
        Self { phase: Phase::Off, point: SeqNum::default(), new_from: SeqNum::default() }
    }

    /// The timer expired. `allowed`: no recovery was under way, or this one began with a time-out of the same segment.
    pub(super) fn on_timeout(&mut self, allowed: bool, nxt: SeqNum) {
        self.phase = if allowed { Phase::First } else { Phase::Off };
        self.point = nxt;
    }

    /// Whether retransmissions are held back, but for the first one.
    pub(super) fn holds_back(&self) -> bool {
        self.phase != Phase::Off
    }

    /// Whether new data has been asked for.
    pub(super) fn is_in_second_step(&self) -> bool {
        self.phase == Phase::Second
    }

    /// The owner had its chance, and SND.NXT is `nxt`: without new data the time-out is taken to be right (step 2b). True
    /// when that is so.
    pub(super) fn on_turn_over(&mut self, nxt: SeqNum) -> bool {
        let nothing = self.phase == Phase::Second && nxt == self.new_from;
        if nothing {
            self.phase = Phase::Off;
        }
        nothing
    }

    /// It ends: whatever it was about is decided otherwise.
    pub(super) fn stop(&mut self) {
        self.phase = Phase::Off;
    }

    /// RFC 5682 §2.1 steps 2 and 3, and §3.1 with SACK.
    pub(super) fn on_ack(&mut self, ack: &FrtoAck) -> Verdict {
        let verdict = self.judge(ack);
        match verdict {
            Verdict::Conventional | Verdict::Spurious => self.phase = Phase::Off,
            Verdict::SendNew => (self.phase, self.new_from) = (Phase::Second, ack.nxt),
            Verdict::None => {}
        }
        verdict
    }

    fn judge(&self, ack: &FrtoAck) -> Verdict {
        // §3.1 step 3b: what was sent before the time-out, and only then, arrives. With SACK the first acknowledgment
        // may show it, for what had arrived before it would have been reported.
        let is_original = ack.lowest_original.is_some_and(|end| end.at_or_before(self.point));
        let is_beyond = ack.highest.is_some_and(|end| end.after(self.point));
        match self.phase {
            Phase::Off => Verdict::None,
            // Step 2a: all that was outstanding is acknowledged at once. It may have been here, and its ACKs lost.
            Phase::First if ack.advanced && ack.una.at_or_after(self.point) => Verdict::Conventional,
            Phase::First | Phase::Second if ack.sack && is_original && !is_beyond => Verdict::Spurious,
            Phase::First if ack.advanced => Verdict::SendNew,
            // §2.1 step 2a: a duplicate. §3.1 step 2 waits.
            Phase::First if ack.duplicate && !ack.sack => Verdict::Conventional,
            Phase::First => Verdict::None,
            // §2.1 step 3b: it acknowledges what was not retransmitted after the time-out.
            Phase::Second if !ack.sack && ack.advanced => Verdict::Spurious,
            // Step 3a.
            Phase::Second if is_beyond || ack.duplicate => Verdict::Conventional,
            Phase::Second => Verdict::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: u32 = 10_001;

    fn at(raw: u32) -> SeqNum {
        SeqNum::new(raw)
    }

    /// Ten segments of 1000 bytes from 1 on were outstanding at the time-out.
    fn frto() -> Frto {
        let mut frto = Frto::new();
        frto.on_timeout(true, at(POINT));
        frto
    }

    fn ack(sack: bool, una: u32, advanced: bool) -> FrtoAck {
        FrtoAck {
            una: at(una),
            advanced,
            nxt: at(POINT),
            sack,
            lowest_original: None,
            highest: advanced.then_some(at(una)),
            duplicate: !advanced,
        }
    }

    #[test]
    fn two_advances_without_sack_show_that_the_original_came() {
        let mut frto = frto();
        assert!(frto.holds_back());
        assert_eq!(frto.on_ack(&ack(false, 1001, true)), Verdict::SendNew);
        assert!(!frto.on_turn_over(at(POINT + 2000)), "something new was sent");
        assert_eq!(frto.on_ack(&ack(false, 2001, true)), Verdict::Spurious);
        assert!(!frto.holds_back());
    }

    #[test]
    fn a_duplicate_without_sack_shows_that_it_was_lost() {
        let mut frto = frto();
        assert_eq!(frto.on_ack(&ack(false, 1, false)), Verdict::Conventional);
        let mut frto = super::tests::frto();
        frto.on_ack(&ack(false, 1001, true));
        assert_eq!(frto.on_ack(&ack(false, 1001, false)), Verdict::Conventional);
    }

    #[test]
    fn an_advance_over_all_shows_nothing() {
        assert_eq!(frto().on_ack(&ack(false, POINT, true)), Verdict::Conventional);
        let all = FrtoAck { lowest_original: Some(at(2001)), ..ack(true, POINT, true) };
        assert_eq!(frto().on_ack(&all), Verdict::Conventional);
    }

    #[test]
    fn with_sack_what_was_sent_once_and_arrives_is_proof() {
        let original = |una, advanced, end| FrtoAck {
            lowest_original: Some(at(end)),
            highest: Some(at(end)),
            ..ack(true, una, advanced)
        };
        assert_eq!(frto().on_ack(&original(1, false, 3001)), Verdict::Spurious, "a SACK of what was late");
        assert_eq!(frto().on_ack(&original(2001, true, 2001)), Verdict::Spurious);
        let mut frto = frto();
        assert_eq!(frto.on_ack(&ack(true, 1, false)), Verdict::None, "an old duplicate");
        assert_eq!(frto.on_ack(&ack(true, 1001, true)), Verdict::SendNew);
        // The new data arrives, and before it nothing has: the time-out was right.
        let beyond = FrtoAck { duplicate: false, ..original(1001, false, POINT + 1000) };
        assert_eq!(frto.on_ack(&beyond), Verdict::Conventional);
    }

    #[test]
    fn without_new_data_it_gives_up() {
        let mut frto = frto();
        frto.on_ack(&ack(true, 1001, true));
        assert!(frto.on_turn_over(at(POINT)) && !frto.holds_back());
    }

    #[test]
    fn in_a_recovery_it_stays_off() {
        let mut frto = Frto::new();
        frto.on_timeout(false, at(POINT));
        assert_eq!(frto.on_ack(&ack(true, 1001, true)), Verdict::None);
    }
}
