//! Explicit congestion notification: negotiation and the classic echo of RFC 3168, and the accurate echo that DCTCP needs
//! (RFC 8257 §3.2). What a mark means for the window is the controller's matter.

use crate::base::SeqNum;
use crate::wire::TcpFlags;
use crate::wire::ip::CONGESTION_EXPERIENCED;
use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

/// Changes of the mark within what one ACK would acknowledge that are told apart; more are told together.
const CHANGES_MAX: usize = 8;

/// ECT(0), RFC 3168 §6.1.2: the two ECN bits of a packet whose sender understands marks.
const CAPABLE: u8 = 2;

/// Whether congestion marks are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum EcnMode {
    /// Neither asked for nor accepted.
    Off,
    /// Accepted when the peer asks (Linux's `tcp_ecn=2`).
    #[default]
    Accept,
    /// Asked for, too. A SYN that has to be repeated asks no more: some middleboxes drop those that do.
    Request,
}

/// How the receiver echoes marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum EcnEcho {
    /// RFC 3168 §6.1.3: from a mark until the sender says that it has reduced its window.
    #[default]
    Classic,
    /// RFC 8257 §3.2: exactly while marks come, with an ACK at each change. For both ends of a data centre only: it is
    /// not negotiated.
    Accurate,
}

/// The state of ECN.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ecn {
    mode: EcnMode,
    echo: EcnEcho,
    agreed: bool,
    /// Our SYN asked, or our SYN/ACK accepted.
    offered: bool,
    /// We once sent a SYN that did not ask: RFC 3168 §6.1.1 rules ECN out then.
    ruled_out: bool,
    /// ACKs say that marks came.
    echoing: bool,
    /// The next new segment says that the window was reduced.
    reduced: bool,
    /// RFC 8257 §3.2: acknowledgments that have to leave before that of the latest data, because what they acknowledge
    /// was marked, or was not, unlike that.
    changes: ArrayVec<(SeqNum, bool), CHANGES_MAX>,
}

impl Ecn {
    /// Nothing agreed.
    pub(super) fn new(mode: EcnMode, echo: EcnEcho) -> Self {
        Self {
            mode,
            echo,
            agreed: false,
            offered: false,
            ruled_out: false,
            echoing: false,
            reduced: false,
            changes: ArrayVec::new(),
        }
    }

    /// The flags of a SYN that leaves, the how manieth it is counted from 0.
    pub(super) fn on_syn_sent(&mut self, before: u32) -> TcpFlags {
        // RFC 3168 §6.1.1.1: a SYN that was not answered is repeated without the request.
        self.offered = self.mode == EcnMode::Request && before == 0 && !self.ruled_out;
        self.ruled_out |= !self.offered;
        if self.offered { TcpFlags::ECE | TcpFlags::CWR } else { TcpFlags::NONE }
    }

    /// Whether a RST in answer to our SYN may be due to its asking for ECN (RFC 3168 §6.1.1.1). Then it is sent again
    /// without.
    pub(super) fn falls_back(&mut self) -> bool {
        let again = self.offered && !self.ruled_out;
        self.ruled_out |= again;
        again
    }

    /// The peer's SYN came, with `flags`.
    pub(super) fn on_syn(&mut self, flags: TcpFlags) {
        // RFC 3168 §6.1.1: an ECN-setup SYN has both flags.
        self.agreed = self.mode != EcnMode::Off && flags.contains(TcpFlags::ECE | TcpFlags::CWR);
    }

    /// The peer's SYN/ACK came, with `flags`.
    pub(super) fn on_syn_ack(&mut self, flags: TcpFlags) {
        // RFC 3168 §6.1.1: ECE alone. Both are the reflection of a peer that echoes reserved bits (§6.1.1.2).
        let accepts = flags.contains(TcpFlags::ECE) && !flags.contains(TcpFlags::CWR);
        self.agreed = self.offered && !self.ruled_out && accepts;
    }

    /// The flags of a SYN/ACK that leaves.
    pub(super) fn syn_ack_flags(&self) -> TcpFlags {
        if self.agreed { TcpFlags::ECE } else { TcpFlags::NONE }
    }

    /// Whether both ends agreed.
    pub(super) fn is_agreed(&self) -> bool {
        self.agreed
    }

    /// Payload within the window arrived, with these ECN bits and flags. `before` is what an ACK would have acknowledged
    /// without it, if that was not acknowledged yet. True when an ACK has to leave at once.
    pub(super) fn on_data(&mut self, codepoint: u8, flags: TcpFlags, before: Option<SeqNum>) -> bool {
        if !self.agreed {
            return false;
        }
        let marked = codepoint == CONGESTION_EXPERIENCED;
        match self.echo {
            EcnEcho::Classic => {
                // RFC 3168 §6.1.3, erratum 3639: CWR first, then the mark.
                if flags.contains(TcpFlags::CWR) {
                    self.echoing = false;
                }
                self.echoing |= marked;
                false
            }
            EcnEcho::Accurate if self.echoing == marked => false,
            EcnEcho::Accurate => {
                if let Some(ack) = before
                    && !self.changes.is_full()
                {
                    self.changes.push((ack, self.echoing));
                }
                self.echoing = marked;
                true
            }
        }
    }

    /// Whether an acknowledgment of less than all has to leave first.
    pub(super) fn has_change(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Takes it: what it acknowledges, and its flags.
    pub(super) fn take_change(&mut self) -> Option<(SeqNum, TcpFlags)> {
        let (ack, marked) = self.changes.pop_at(0)?;
        Some((ack, if marked { TcpFlags::ECE } else { TcpFlags::NONE }))
    }

    /// Whether an acknowledgment with `flags` echoes a mark.
    pub(super) fn is_echo(&self, flags: TcpFlags) -> bool {
        self.agreed && flags.contains(TcpFlags::ECE) && !flags.contains(TcpFlags::SYN)
    }

    /// The window was reduced, for whatever reason (RFC 3168 §6.1.2).
    pub(super) fn on_reduced(&mut self) {
        self.reduced = self.agreed;
    }

    /// The flags of a segment that leaves. `is_new`: it has payload that was never sent.
    pub(super) fn flags(&mut self, is_new: bool) -> TcpFlags {
        let mut flags = TcpFlags::NONE;
        if self.echoing {
            flags = flags | TcpFlags::ECE;
        }
        // RFC 3168 §6.1.2: on the first new data, and not on retransmissions.
        if is_new && std::mem::take(&mut self.reduced) {
            flags = flags | TcpFlags::CWR;
        }
        flags
    }

    /// The ECN bits of a packet that leaves. RFC 3168 §6.1.4, §6.1.5: only of new data; not of retransmissions, pure
    /// acknowledgments or probes.
    pub(super) fn codepoint(&self, is_new: bool) -> u8 {
        if self.agreed && is_new { CAPABLE } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: TcpFlags = TcpFlags::NONE;
    const ECE: TcpFlags = TcpFlags::ECE;
    const CWR: TcpFlags = TcpFlags::CWR;

    fn client() -> Ecn {
        Ecn::new(EcnMode::Request, EcnEcho::Classic)
    }

    fn server(echo: EcnEcho) -> Ecn {
        let mut ecn = Ecn::new(EcnMode::Accept, echo);
        ecn.on_syn(ECE | CWR);
        ecn
    }

    #[test]
    fn both_ends_have_to_say_so() {
        for (mode, expected) in [(EcnMode::Off, NONE), (EcnMode::Accept, ECE), (EcnMode::Request, ECE)] {
            let mut ecn = Ecn::new(mode, EcnEcho::Classic);
            ecn.on_syn(ECE | CWR);
            assert_eq!(ecn.syn_ack_flags(), expected, "{mode:?}");
            ecn.on_syn(ECE);
            assert_eq!(ecn.syn_ack_flags(), NONE, "one flag is no request");
        }
        let mut ecn = client();
        assert_eq!(ecn.on_syn_sent(0), ECE | CWR);
        ecn.on_syn_ack(ECE | CWR);
        assert!(!ecn.is_agreed(), "a reflection");
        ecn.on_syn_ack(ECE);
        assert!(ecn.is_agreed());
        let mut passive = Ecn::new(EcnMode::Accept, EcnEcho::Classic);
        assert_eq!(passive.on_syn_sent(0), NONE);
        passive.on_syn_ack(ECE);
        assert!(!passive.is_agreed(), "nobody asked");
    }

    #[test]
    fn a_syn_that_is_repeated_asks_no_more_and_rules_it_out() {
        let mut ecn = client();
        ecn.on_syn_sent(0);
        assert_eq!(ecn.on_syn_sent(1), NONE);
        ecn.on_syn_ack(ECE);
        assert!(!ecn.is_agreed());
        let mut refused = client();
        refused.on_syn_sent(0);
        assert!(refused.falls_back() && !refused.falls_back(), "once");
        assert_eq!(refused.on_syn_sent(0), NONE);
        assert!(!Ecn::new(EcnMode::Accept, EcnEcho::Classic).falls_back());
    }

    #[test]
    fn the_classic_echo_lasts_until_the_sender_has_reduced() {
        let mut ecn = server(EcnEcho::Classic);
        ecn.on_data(2, NONE, None);
        assert_eq!(ecn.flags(false), NONE);
        ecn.on_data(CONGESTION_EXPERIENCED, NONE, None);
        ecn.on_data(2, NONE, None);
        assert_eq!((ecn.flags(false), ecn.flags(true)), (ECE, ECE));
        ecn.on_data(2, CWR, None);
        assert_eq!(ecn.flags(false), NONE);
        ecn.on_data(CONGESTION_EXPERIENCED, CWR, None);
        assert_eq!(ecn.flags(false), ECE, "CWR first, then the mark");
    }

    #[test]
    fn the_accurate_echo_follows_each_change() {
        let mut ecn = server(EcnEcho::Accurate);
        assert!(!ecn.on_data(2, NONE, None));
        assert!(ecn.on_data(CONGESTION_EXPERIENCED, NONE, None) && ecn.flags(false) == ECE);
        assert!(!ecn.on_data(CONGESTION_EXPERIENCED, CWR, None) && ecn.flags(false) == ECE);
        assert!(ecn.on_data(2, NONE, None) && ecn.flags(false) == NONE);
        assert!(!ecn.has_change(), "nothing was owed");
        for ack in 1..20 {
            let codepoint = if ack % 2 == 1 { CONGESTION_EXPERIENCED } else { 2 };
            ecn.on_data(codepoint, NONE, Some(SeqNum::new(ack)));
        }
        assert_eq!(ecn.take_change(), Some((SeqNum::new(1), NONE)));
        assert_eq!(ecn.take_change(), Some((SeqNum::new(2), ECE)));
        assert_eq!(std::iter::from_fn(|| ecn.take_change()).count(), CHANGES_MAX - 2, "the rest together");
    }

    #[test]
    fn a_reduction_is_told_once_with_new_data() {
        let mut ecn = server(EcnEcho::Classic);
        ecn.on_reduced();
        assert_eq!((ecn.flags(false), ecn.flags(true), ecn.flags(true)), (NONE, CWR, NONE));
        assert_eq!((ecn.codepoint(true), ecn.codepoint(false)), (2, 0));
    }

    #[test]
    fn without_agreement_nothing_is_said_or_believed() {
        let mut ecn = Ecn::new(EcnMode::Accept, EcnEcho::Classic);
        ecn.on_syn(NONE);
        ecn.on_reduced();
        ecn.on_data(CONGESTION_EXPERIENCED, NONE, None);
        assert_eq!((ecn.flags(true), ecn.codepoint(true), ecn.is_echo(ECE)), (NONE, 0, false));
    }
}
