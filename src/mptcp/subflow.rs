//! One subflow of a connection: a TCP endpoint with what MPTCP knows about it. Its packets are written in `subflow/emit.rs`.

use crate::base::time::Duration;
use crate::base::{DataSeq, Instant, PoolCache};
use crate::mptcp::inbound::Inbound;
use crate::mptcp::signalling::{DATA_OPTIONS, Options, ResetWords, Signalling, SubflowSide};
use crate::mptcp::signals::SignalQueue;
use crate::mptcp::subflow_set::SubflowSlot;
use crate::mptcp::{Path, SubflowId};
use crate::tcp::{CloseReason, OutgoingKind, State, Tcb};
use crate::wire::mptcp::{AddressId, ResetReason, ShortOrLong};
use crate::wire::{FourTuple, MptcpOption};
use serde::{Deserialize, Serialize};

mod emit;

pub use emit::Emitted;

/// Between signals where no round trip was measured.
const SIGNAL_PAUSE: Duration = Duration::from_millis(100);

/// How a subflow came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The first one, by MP_CAPABLE (or a plain TCP connection).
    Initial,
    /// We joined it.
    JoinActive {
        /// Our nonce.
        nonce: u32,
        /// The peer's, from its SYN/ACK.
        remote_nonce: Option<u32>,
    },
    /// The peer joined it.
    JoinPassive {
        /// Our nonce.
        nonce: u32,
        /// The peer's.
        remote_nonce: u32,
    },
}

/// Where a subflow stands as MPTCP sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The three-way handshake runs.
    Handshake,
    /// RFC 8684 §3.2: our third ACK with the HMAC has to be acknowledged before data may be sent. Repeated at this
    /// time, counted.
    Confirming {
        /// When the ACK is sent again.
        repeat_at: Instant,
        /// How often it was.
        repeats: u32,
    },
    /// It can carry data.
    Ready,
}

/// So many retransmission time-outs in a row, and the path is stale.
const STALE_TIMEOUTS: u32 = 2;
/// How often a stale path is asked whether it is back. TCP's own retransmissions back off to minutes.
const STALE_PROBES: Duration = Duration::from_millis(500);
/// How long the first data on a subflow waits that we have joined ([`Subflow::begin_settling`]): longer than a scheduler
/// keeps a peer's application from running, where that has been put off in the middle of a read.
const SETTLE: Duration = Duration::from_millis(30);

/// How long a subflow that is in doubt ([`Subflow::doubt`]) may show life before its peer is asked: most do, and nothing has
/// to be said.
const DOUBT_WAIT: Duration = Duration::from_secs(1);
/// How long after a question the next one follows; it doubles.
const DOUBT_PAUSE: Duration = Duration::from_secs(2);
/// The longest wait.
const DOUBT_PAUSE_MAX: Duration = Duration::from_secs(60);
/// After so many without an answer it is given up, if its peer gives reason for doubt again: longer than an outage that it is
/// to survive, and not as long as a peer without a subflow waits for one.
const DOUBTS_MAX: u32 = 3;
/// So many answers in a row that do not acknowledge our DATA_FIN, and no option gets to the peer. One may be to a question
/// that was asked for another reason, while ours was lost.
const DEAF_ANSWERS: u32 = 2;

/// The probing of a stale path.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Probing {
    asked_at: Option<Instant>,
    next_at: Instant,
}

/// The wait for an answer on a path that the peer says is gone.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Removal {
    asked_at: Instant,
    ends_at: Instant,
}

/// Questions whether the peer has lost a subflow.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Doubt {
    /// When the last question left; before the first one, since when there is reason to ask.
    asked_at: Instant,
    next_at: Instant,
    unanswered: u32,
}

/// The search for a subflow over which no option gets to the peer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Deafness {
    /// When the peer was asked for an ACK behind our DATA_FIN.
    asked_at: Instant,
    /// Answers before, that did not acknowledge it.
    answers: u32,
}

/// A subflow.
#[derive(Debug, Serialize, Deserialize)]
pub struct Subflow {
    /// Its name.
    pub id: SubflowId,
    /// Its place in sets of subflows.
    pub slot: SubflowSlot,
    /// The TCP endpoint.
    pub tcb: Tcb,
    /// Its ends.
    pub tuple: FourTuple,
    /// Its way out.
    pub path: Path,
    /// How it came about.
    pub role: Role,
    /// Where it stands.
    pub phase: Phase,
    /// Our id of its local address.
    pub local_id: AddressId,
    /// The peer's id of its remote address.
    pub remote_id: AddressId,
    /// We want it used only as a backup.
    pub local_backup: bool,
    /// The peer does.
    pub remote_backup: bool,
    /// What it has received.
    pub inbound: Inbound,
    /// What a reset of ours says.
    pub reset_words: ResetWords,
    /// Why it ends, where we end it by a reset.
    pub close_reason: CloseReason,
    /// A DSS has come on it: options pass.
    pub dss_seen: bool,
    /// The last segment came without any option of MPTCP.
    pub bare: bool,
    signals: SignalQueue,
    /// The last DATA_ACK that it has said.
    said: Option<ShortOrLong>,
    /// It carries all sent data before this byte, or was not to take it over from the subflows that do.
    pub looked_at: DataSeq,
    /// When its congestion window was halved because it held up the others.
    pub penalised_at: Option<Instant>,
    /// The peer has withdrawn its address.
    removal: Option<Removal>,
    /// It is stale while others may live.
    probing: Option<Probing>,
    /// The peer seems to have lost it.
    doubt: Option<Doubt>,
    /// Our DATA_FIN was said here again and again.
    deafness: Option<Deafness>,
    /// We have joined, and hold our first data back until then.
    settles_at: Option<Instant>,
    /// It was reported as established.
    pub established: bool,
    /// SYNs sent so far.
    syns: u32,
}

impl Subflow {
    /// A subflow whose handshake begins.
    pub fn new(id: SubflowId, slot: SubflowSlot, tcb: Tcb, tuple: FourTuple, path: Path, role: Role) -> Self {
        Self {
            id,
            slot,
            tcb,
            tuple,
            path,
            role,
            phase: Phase::Handshake,
            local_id: AddressId(0),
            remote_id: AddressId(0),
            local_backup: false,
            remote_backup: false,
            inbound: Inbound::default(),
            reset_words: ResetWords::default(),
            close_reason: CloseReason::Aborted,
            dss_seen: false,
            bare: false,
            signals: SignalQueue::default(),
            said: None,
            looked_at: DataSeq::default(),
            penalised_at: None,
            removal: None,
            probing: None,
            doubt: None,
            deafness: None,
            settles_at: None,
            established: false,
            syns: 0,
        }
    }

    /// Whether it was opened by MP_CAPABLE.
    pub fn is_initial(&self) -> bool {
        self.role == Role::Initial
    }

    /// A join that we have begun and that nothing has answered yet.
    pub fn is_unanswered_join(&self) -> bool {
        matches!(self.role, Role::JoinActive { .. }) && self.phase == Phase::Handshake
    }

    /// A join of the peer's that we have answered, and whose third ACK has not come.
    pub fn is_unconfirmed_join(&self) -> bool {
        matches!(self.role, Role::JoinPassive { .. }) && self.phase == Phase::Handshake
    }

    /// Used only as a backup, because either side wants it.
    pub fn is_backup(&self) -> bool {
        self.local_backup || self.remote_backup
    }

    /// Nothing is sent and not acknowledged, nor queued.
    pub fn is_idle(&self) -> bool {
        self.queued() == 0
    }

    /// It has lately shown life: no time-out has expired, nor has the peer said that its address is gone.
    pub fn is_alive(&self) -> bool {
        self.can_signal() && self.tcb.consecutive_timeouts() == 0 && self.removal.is_none()
    }

    /// It can carry data, and has lately shown life.
    pub fn is_usable(&self) -> bool {
        self.is_alive() && self.tcb.is_established()
    }

    /// The peer has acknowledged our join. Linux (up to 6.18 at least) acknowledges it before it has taken it in, if its
    /// application is just reading, and then takes whatever came on the subflow meanwhile for what the connection expects
    /// next: data in the wrong place, and no checksum tells. So the first data waits until the application has most likely
    /// come back from that read. To a peer that does not need it, that costs the subflow a moment of its life.
    pub fn begin_settling(&mut self, now: Instant) {
        self.settles_at = Some(now + SETTLE);
    }

    /// Until then data is held back.
    pub fn settles_at(&self) -> Option<Instant> {
        self.settles_at
    }

    /// The moment is over.
    pub fn end_settling(&mut self, now: Instant) {
        self.settles_at.take_if(|at| *at <= now);
    }

    /// RFC 8684 §3.4.2: the peer has withdrawn its address; the path is asked whether it still lives.
    pub fn begin_removal(&mut self, now: Instant) {
        let ends_at = now + self.tcb.rto();
        self.removal.get_or_insert(Removal { asked_at: now, ends_at });
        self.tcb.probe(now);
    }

    /// Something has arrived. It is an answer if it can be one: what was on its way before the path went proves nothing, nor
    /// does the peer's data (`has_payload`) prove that ours gets through.
    pub fn handle_sign_of_life(&mut self, now: Instant, has_payload: bool) {
        let shortest = self.tcb.min_rtt().unwrap_or_default();
        self.removal.take_if(|removal| now.since(removal.asked_at) >= shortest);
        let answers = |asked_at: Instant| !has_payload && now.since(asked_at) >= shortest;
        if self.probing.is_some_and(|probing| probing.asked_at.is_some_and(answers)) {
            self.probing = None;
            if self.tcb.consecutive_timeouts() > 0 {
                self.tcb.revive(now);
            }
        }
    }

    /// A retransmission timer has expired, and there are other subflows: a path where that happens again and again is not
    /// used, and asked from time to time whether it is back.
    pub fn note_timeout(&mut self, now: Instant) {
        if self.tcb.consecutive_timeouts() >= STALE_TIMEOUTS && self.probing.is_none() {
            self.probing = Some(Probing { asked_at: None, next_at: now + STALE_PROBES });
        }
    }

    /// When a stale path is asked next.
    pub fn probe_at(&self) -> Option<Instant> {
        self.probing.map(|probing| probing.next_at)
    }

    /// Asks a stale path whether it is back, if that is due.
    pub fn handle_probe_timer(&mut self, now: Instant) {
        let Some(probing) = self.probing.as_mut().filter(|probing| probing.next_at <= now) else { return };
        if self.tcb.consecutive_timeouts() == 0 || !self.tcb.is_established() {
            self.probing = None;
            return;
        }
        *probing = Probing { asked_at: Some(now), next_at: now + STALE_PROBES };
        self.tcb.probe(now);
    }

    /// Whether something has come that can be an answer to what was asked then. What was on its way already comes within half
    /// a round trip; an answer may take less than the shortest that was measured, which was of a longer segment.
    pub fn has_answered(&self, asked_at: Instant) -> bool {
        self.tcb.heard_at() > asked_at + self.tcb.min_rtt().unwrap_or_default() / 2
    }

    /// The peer behaves as if it had lost this subflow. Unless it is soon heard of, it is asked (RFC 9293 §3.8.4) until it
    /// answers: a host that does not know it any more does so by a RST (§3.10.7.1).
    pub fn doubt(&mut self, now: Instant) {
        match self.doubt.filter(|doubt| !self.has_answered(doubt.asked_at)) {
            None => {
                let next_at = now + DOUBT_WAIT.max(self.tcb.rto());
                self.doubt = self.is_open().then_some(Doubt { asked_at: now, next_at, unanswered: 0 });
            }
            // Not before the last question could be answered.
            Some(doubt) if doubt.unanswered > DOUBTS_MAX && now >= doubt.asked_at + self.tcb.rto() => {
                if self.is_open() {
                    self.reset(now, ResetReason::UnacceptablePerformance.into());
                }
            }
            // Nothing has been asked yet.
            Some(doubt) if doubt.unanswered == 0 => {}
            // Another sign of it: the next question does not wait out its back-off.
            Some(doubt) => {
                let next_at = doubt.next_at.min((doubt.asked_at + self.tcb.rto()).max(now));
                self.doubt = Some(Doubt { next_at, ..doubt });
            }
        }
    }

    /// When the peer is asked again.
    pub fn doubt_at(&self) -> Option<Instant> {
        self.doubt.map(|doubt| doubt.next_at)
    }

    /// Asks, and asks again, unless it has answered.
    pub fn handle_doubt_timer(&mut self, now: Instant) {
        let Some(doubt) = self.doubt.filter(|doubt| doubt.next_at <= now) else { return };
        let over = self.has_answered(doubt.asked_at) || !self.is_open();
        self.doubt = (!over).then(|| {
            let pause = (DOUBT_PAUSE * 2u32.pow(doubt.unanswered.min(8))).min(DOUBT_PAUSE_MAX);
            let next_at = now + pause.max(self.tcb.rto());
            self.tcb.probe(now);
            Doubt { asked_at: now, next_at, unanswered: doubt.unanswered + 1 }
        });
    }

    /// Says the DATA_FIN, and asks the peer for an ACK behind it: a peer that does not see the options owes none.
    pub fn ask_about_fin(&mut self, now: Instant) {
        let answers = self.deafness.filter(|before| self.has_answered(before.asked_at));
        let answers = answers.map_or(0, |before| before.answers + 1);
        self.deafness = Some(Deafness { asked_at: now, answers });
        self.tcb.request_ack();
        self.tcb.probe(now);
    }

    /// The peer has answered again and again, without acknowledging the DATA_FIN.
    pub fn is_deaf(&self) -> bool {
        self.deafness.is_some_and(|deafness| {
            deafness.answers + u32::from(self.has_answered(deafness.asked_at)) >= DEAF_ANSWERS
        })
    }

    /// When the wait for an answer ends.
    pub fn removal_at(&self) -> Option<Instant> {
        self.removal.map(|removal| removal.ends_at)
    }

    /// Whether the wait has ended without an answer.
    pub fn end_removal(&mut self, now: Instant) -> bool {
        self.removal.take_if(|removal| removal.ends_at <= now).is_some()
    }

    /// It can send ACKs, and with them signals.
    pub fn can_signal(&self) -> bool {
        self.phase == Phase::Ready && self.tcb.state() != State::Closed
    }

    /// It is ready, and we have not closed our half of it.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Ready && self.tcb.is_established()
    }

    /// Payload bytes of a full data segment.
    pub fn payload_max(&self, multipath: bool) -> usize {
        self.tcb.payload_max(if multipath { DATA_OPTIONS } else { 0 })
    }

    /// Full data segments that one packet takes.
    pub fn packet_segments(&self, multipath: bool) -> usize {
        self.tcb.packet_segments(if multipath { DATA_OPTIONS } else { 0 })
    }

    /// Bytes that are sent and not acknowledged, or queued.
    pub fn queued(&self) -> usize {
        self.tcb.in_flight() + self.tcb.unsent()
    }

    /// Bytes that the peer's window has left, as it was shown on this subflow. RFC 8684 §3.3.5: a middlebox may show less than
    /// the peer did.
    pub fn window_left(&self) -> usize {
        (self.tcb.peer_window() as usize).saturating_sub(self.queued())
    }

    /// Sends `signal` on an ACK soon.
    pub fn signal(&mut self, now: Instant, signal: MptcpOption) {
        self.signals.push(signal);
        self.handle_signal_timer(now);
    }

    /// Removals of addresses that it was to tell of, one after the other.
    pub fn take_removals(&mut self) -> Option<MptcpOption> {
        self.signals.take_removals()
    }

    /// Nothing is to be signalled any more.
    pub fn clear_signals(&mut self) {
        self.signals.clear();
    }

    /// When the next signal may be sent, if one has to wait.
    pub fn signal_at(&self) -> Option<Instant> {
        self.signals.poll_timeout()
    }

    /// A signal that had to wait may be sent now.
    pub fn handle_signal_timer(&mut self, now: Instant) {
        if self.signals.is_due(now) {
            self.tcb.request_ack();
        }
    }

    /// When something is due on it, but for what its connection knows of bytes without a mapping.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let repeat = match self.phase {
            Phase::Confirming { repeat_at, .. } => Some(repeat_at),
            Phase::Handshake | Phase::Ready => None,
        };
        let own =
            [repeat, self.removal_at(), self.signal_at(), self.probe_at(), self.doubt_at(), self.settles_at];
        own.into_iter().flatten().chain(self.tcb.poll_timeout()).min()
    }

    /// SYNs sent so far.
    pub fn syns(&self) -> u32 {
        self.syns
    }

    /// Ends it by a reset that says why.
    pub fn reset(&mut self, now: Instant, words: ResetWords) {
        self.reset_words = words;
        self.tcb.abort(now);
    }

    /// Frees every frame that the subflow holds.
    pub fn release(&mut self, cache: &mut PoolCache) {
        self.tcb.drop_all(cache);
        self.inbound.clear(cache);
    }

    /// What of it its segments say.
    fn side(&self) -> SubflowSide {
        let Self { role, phase, local_id, local_backup: backup, said, .. } = *self;
        SubflowSide { role, phase, local_id, backup, said }
    }

    /// The options of the next segment without payload.
    fn ack_options(&self, now: Instant, signalling: &Signalling) -> Options {
        signalling.on_ack(&self.side(), self.signal_due(now, signalling))
    }

    fn signal_due(&self, now: Instant, signalling: &Signalling) -> Option<&MptcpOption> {
        self.signals.front(now).filter(|_| self.phase == Phase::Ready && signalling.takes_signals())
    }

    /// Option bytes that the next SYN or SYN/ACK has of MPTCP.
    pub fn handshake_len(&self, signalling: &Signalling) -> usize {
        let kind = match self.tcb.state() {
            State::SynSent => OutgoingKind::Syn,
            _ => OutgoingKind::SynAck,
        };
        let option = signalling.on_handshake(&self.side(), kind, self.syns + 1);
        option.map_or(0, |option| option.wire_len().next_multiple_of(4))
    }
}
