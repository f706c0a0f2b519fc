//! The transmission control block: one end of a connection. It composes the structs of this module and dispatches
//! between them; `input.rs` has what arrives, `acknowledgment.rs` what is acknowledged by it, `output.rs` what leaves (several segments in one packet: `packing.rs`),
//! `expiry.rs` what time brings, `liveness.rs` how long a silent peer is borne with, `opening.rs` data in the
//! handshake, `figures.rs` what is told of it all.

mod acknowledgment;
mod expiry;
mod figures;
mod input;
mod liveness;
mod opening;
mod output;
mod packing;

pub use input::Accepted;
pub use output::{Following, Outgoing, OutgoingKind, OutgoingPayload};

use crate::base::time::Duration;
use crate::base::{Chunk, DataSeq, Instant, PoolCache, SeqNum};
use crate::cc::{CongestionControl, Controller};
use crate::tcp::ack::{AckSchedule, ChallengeLimit};
use crate::tcp::chrono::Chrono;
use crate::tcp::delivery::Delivery;
use crate::tcp::ecn::Ecn;
use crate::tcp::event::Events;
use crate::tcp::fast_open::Opening;
use crate::tcp::frto::Frto;
use crate::tcp::handshake::{Agreed, Handshake};
use crate::tcp::keep_alive::Keeper;
use crate::tcp::loss_probe::LossProbe;
use crate::tcp::pacing::{self, Pacing};
use crate::tcp::packs::Packs;
use crate::tcp::path_mtu::PathMtu;
use crate::tcp::prr::Prr;
use crate::tcp::rack::Rack;
use crate::tcp::recovery::Recovery;
use crate::tcp::recv::Receiver;
use crate::tcp::rtt::RttEstimator;
use crate::tcp::send::SendQueue;
use crate::tcp::timer::{Timer, Timers};
use crate::tcp::timestamps::TimestampClock;
use crate::tcp::undo::Undo;
use crate::tcp::validation::Validation;
use crate::tcp::window::{ReceiveWindow, SendWindow};
use crate::tcp::{CloseReason, State, TcpConfig, TcpCounters, TcpEvent, WindowOwner};
use crate::wire::{Mss, TcpFlags, TcpOptions, TcpRepr};
use serde::{Deserialize, Serialize};

/// A RST that has to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum PendingReset {
    /// In answer to a segment; the connection goes on. With this sequence number.
    Answer(SeqNum),
    /// The connection is aborted, and is over when the RST has left. With this sequence number, where the peer is not
    /// thought to get what is in flight.
    Abort(Option<SeqNum>),
}

/// Probing a window that holds us back (RFC 9293 §3.8.6.1).
#[derive(Debug, Default, Serialize, Deserialize)]
struct Persist {
    /// How often the timer has fired since the window closed: its back-off.
    rounds: u32,
    /// Probes since the peer answered.
    unanswered: u32,
    /// A probe has to leave.
    probe_due: bool,
    /// The next segment may be cut to what the window takes, however little that is.
    cut: bool,
}

/// One end of a connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tcb {
    config: TcpConfig,
    state: State,
    /// Whether our SYN came first.
    is_active: bool,
    iss: SeqNum,
    agreed: Agreed,
    handshake: Handshake,
    opening: Opening,
    clock: TimestampClock,
    send: SendQueue,
    rack: Rack,
    probe: LossProbe,
    recovery: Recovery,
    prr: Prr,
    undo: Undo,
    frto: Frto,
    ecn: Ecn,
    congestion: CongestionControl,
    validation: Validation,
    delivery: Delivery,
    /// Bytes of what was delivered that were acknowledged with a congestion mark.
    delivered_marked: u64,
    /// Bytes delivered that the window may yet grow by: they lie beyond something that is missing.
    growth: u64,
    /// When data left last.
    data_sent_at: Instant,
    pacing: Pacing,
    chrono: Chrono,
    rtt: RttEstimator,
    peer_window: SendWindow,
    receive: Receiver,
    window: ReceiveWindow,
    acks: AckSchedule,
    challenges: ChallengeLimit,
    timers: Timers,
    persist: Persist,
    keeper: Keeper,
    /// When an acceptable segment arrived last.
    heard_at: Instant,
    /// None wait where a connection rests.
    #[serde(skip)]
    events: Events,
    reset: Option<PendingReset>,
    /// Expirations of the retransmission timer since the last advance of SND.UNA.
    timeouts: u32,
    /// RFC 9293 §3.7.1's SendMSS, lowered by the path (RFC 1191, RFC 8899).
    mss: Mss,
    path_mtu: PathMtu,
    packs: Packs,
    /// The caller has more to queue behind what is queued.
    more_behind: bool,
    /// The latest `now`, for calls that have none.
    now: Instant,
    counters: TcpCounters,
}

impl Tcb {
    /// An active open: SYN-SENT. The SYN leaves at the next [`Tcb::poll_transmit`].
    pub fn connect(now: Instant, config: TcpConfig, iss: SeqNum) -> Self {
        Self::new(now, config, iss, State::SynSent)
    }

    /// A passive open: SYN-RECEIVED, in answer to a SYN with `options`. The SYN/ACK leaves at the next
    /// [`Tcb::poll_transmit`]. Payload of the SYN is left to the peer's retransmission, unless
    /// [`Tcb::take_syn_payload`] takes it.
    pub fn accept(now: Instant, config: TcpConfig, iss: SeqNum, syn: &TcpRepr, options: &TcpOptions) -> Self {
        let mut tcb = Self::new(now, config, iss, State::SynReceived);
        tcb.learn_peer(now, syn, options);
        tcb.ecn.on_syn(syn.flags);
        tcb
    }

    /// RFC 4987 §3.6: the SYN/ACK was sent without a connection, as a SYN cookie; its answer is about to be handled. Behind
    /// [`Tcb::accept`].
    pub fn assume_answered(&mut self, now: Instant) {
        debug_assert!(self.state == State::SynReceived, "in answer to a SYN");
        self.emit_handshake(now);
        self.handshake.forget_time();
    }

    fn new(now: Instant, config: TcpConfig, iss: SeqNum, state: State) -> Self {
        let agreed = Agreed::nothing();
        Self {
            config,
            state,
            is_active: state == State::SynSent,
            iss,
            agreed,
            handshake: Handshake::new(),
            opening: Opening::default(),
            clock: TimestampClock::new(config.timestamp_offset),
            send: SendQueue::new(iss + 1),
            rack: Rack::new(iss + 1),
            probe: LossProbe::new(),
            recovery: Recovery::new(),
            prr: Prr::default(),
            undo: Undo::default(),
            frto: Frto::new(),
            ecn: Ecn::new(config.ecn, config.ecn_echo),
            congestion: CongestionControl::new(config.congestion, config.mss.get() as u64, false),
            validation: Validation::new(),
            delivery: Delivery::new(now),
            delivered_marked: 0,
            growth: 0,
            data_sent_at: now,
            pacing: Pacing::new(config.mss.get() as u64),
            chrono: Chrono::new(now),
            rtt: RttEstimator::new(config.initial_rto, config.min_rto, config.max_rto),
            peer_window: SendWindow::default(),
            receive: Receiver::new(SeqNum::default()),
            window: ReceiveWindow::new(config.window_owner, config.mss.get() as u32),
            acks: AckSchedule::new(),
            challenges: ChallengeLimit::default(),
            timers: Timers::default(),
            persist: Persist::default(),
            keeper: Keeper::default(),
            heard_at: now,
            events: Events::default(),
            reset: None,
            timeouts: 0,
            mss: config.mss.min(agreed.peer_mss),
            path_mtu: PathMtu::new(config.mss.min(agreed.peer_mss)),
            packs: Packs::default(),
            more_behind: false,
            now,
            counters: TcpCounters::default(),
        }
    }

    /// Takes what the peer's SYN or SYN/ACK says.
    fn learn_peer(&mut self, now: Instant, syn: &TcpRepr, options: &TcpOptions) {
        self.agreed = Agreed::new(&self.config, options);
        self.mss = self.config.mss.min(self.agreed.peer_mss);
        self.path_mtu = PathMtu::new(self.mss);
        self.receive = Receiver::new(syn.seq);
        let (peer_shift, our_shift) = self.agreed.shifts.unwrap_or_default();
        self.window.set_shift(our_shift);
        // Without the ACK bit (a SYN) the field means nothing, and whatever we get acknowledged is later.
        let ack = if syn.flags.contains(TcpFlags::ACK) { syn.ack } else { self.iss };
        self.peer_window = SendWindow::new(peer_shift, syn.window, syn.seq, ack);
        if let Some(timestamps) = options.timestamps.filter(|_| self.agreed.timestamps) {
            self.clock.update(now, timestamps.value);
        }
    }

    /// Our SYN is acknowledged.
    fn establish(&mut self, now: Instant) {
        match self.handshake.sent_once_at() {
            Some(sent_at) => self.rtt.sample(now, now.since(sent_at), 0),
            // RFC 6298 §5.7 is about a SYN that timed out, not about one whose time nobody knows.
            None if self.handshake.transmissions() > 1 => self.rtt.restart_after_syn_timeout(),
            None => {}
        }
        let careful = self.handshake.transmissions() > 1;
        self.congestion = CongestionControl::new(self.config.congestion, self.payload_max(0) as u64, careful);
        self.timers.stop(Timer::Retransmit);
        self.timeouts = 0;
        self.state = State::Established;
        if self.send.has_fin() {
            // RFC 9293 §3.10.4: a CLOSE in SYN-RECEIVED takes effect now.
            self.state = self.state.after_close();
        }
        self.heard_at = now;
        self.start_keep_alive();
        self.events.push(TcpEvent::Established);
    }

    /// The connection is over.
    fn finish(&mut self, reason: CloseReason) {
        self.stop();
        self.events.push(TcpEvent::Closed(reason));
    }

    /// CLOSED: nothing more is to happen but a RST that is due.
    fn stop(&mut self) {
        self.state = State::Closed;
        self.timers.stop_all();
        self.acks.clear();
        self.persist = Persist::default();
    }

    /// Changes who enforces the peer's window and owns ours: when MPTCP is agreed, or given up.
    pub fn set_window_owner(&mut self, owner: WindowOwner) {
        self.config.window_owner = owner;
        self.window.set_owner(owner, self.receive.received());
        self.update_persist();
    }

    /// Whether [`Tcb::poll_event`] would give one.
    pub fn has_event(&self) -> bool {
        self.events.has_some()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<TcpEvent> {
        self.events.poll()
    }

    /// The next payload in order, with the offset of its first byte in the peer's stream (0 is the first byte behind
    /// the SYN; it never wraps).
    pub fn poll_received(&mut self) -> Option<(u64, Chunk)> {
        self.receive.poll()
    }

    /// Queues a segment. `data_seq` is the caller's tag of its first byte, which comes back at every transmission.
    /// The caller asks [`Tcb::send_room`] first; what is more stays queued until there is room. A segment longer
    /// than [`Tcb::payload_max`] is split when it leaves.
    ///
    /// # Panics
    /// When the chunk is empty, or when [`Tcb::close`] was called before.
    pub fn enqueue(&mut self, chunk: Chunk, data_seq: DataSeq) {
        assert!(!chunk.is_empty(), "a segment has payload");
        assert!(!self.send.has_fin(), "nothing is queued behind the FIN");
        self.send.push(chunk, data_seq);
        self.update_persist();
    }

    /// Whether the caller has more to queue behind what is queued: then the last segment queued is not the end of what
    /// was given, and has no PSH.
    pub fn set_more_behind(&mut self, more: bool) {
        self.more_behind = more;
    }

    /// An ACK without payload leaves at the next [`Tcb::poll_transmit`], before any data.
    pub fn request_ack(&mut self) {
        self.acks.request();
    }

    /// An ACK leaves at the next [`Tcb::poll_transmit`]; data or a FIN may carry it.
    pub fn acknowledge(&mut self) {
        self.acks.immediately();
    }

    /// The ACK that was asked for may be on data or on a FIN.
    pub fn let_payload_acknowledge(&mut self) {
        self.acks.let_payload_carry();
    }

    /// The SYN/ACK leaves once more at the next [`Tcb::poll_transmit`]: a peer that has had it answers with an ACK, and one that
    /// knows nothing of us with a RST. Only where the third ACK is still to come.
    pub fn repeat_syn_ack(&mut self) {
        if self.state == State::SynReceived {
            self.handshake.send_again();
        }
    }

    /// A window probe leaves at the next [`Tcb::poll_transmit`]: an old sequence number makes the peer answer with
    /// its window (RFC 9293 §3.8.6.1).
    pub fn probe(&mut self, now: Instant) {
        self.now = now;
        self.persist.probe_due = true;
    }

    /// No more data follows: FIN behind what is queued. Before the peer's SYN it ends the connection.
    pub fn close(&mut self, now: Instant) {
        self.now = now;
        match self.state {
            State::SynSent => self.finish(CloseReason::Aborted),
            State::SynReceived if !self.send.has_fin() => self.send.push_fin(),
            state if state.takes_data() => {
                self.send.push_fin();
                self.state = state.after_close();
                self.update_persist();
            }
            _ => {}
        }
    }

    /// Ends the connection at once: a RST leaves at the next [`Tcb::poll_transmit`] where the peer knows of us, and
    /// then comes [`TcpEvent::Closed`].
    pub fn abort(&mut self, now: Instant) {
        use State::*;
        self.now = now;
        match self.state {
            // RFC 9293 §3.10.5.
            SynReceived | Established | FinWait1 | FinWait2 | CloseWait => {
                // RFC 5961 §3.2: a RST is believed at once only where the peer expects the next byte. What is on its way
                // gets there before it; what has timed out does not, and the peer is taken at its word: RFC 9293
                // §3.5.2 has the number of a reset from the ACK field of what it answers.
                let is_stuck = self.timeouts > 0 && self.send.flight() > 0;
                let expected = is_stuck.then_some(self.send.una());
                self.stop();
                self.reset = Some(PendingReset::Abort(expected));
            }
            SynSent | Closing | LastAck | TimeWait => self.finish(CloseReason::Aborted),
            Closed => {}
        }
    }

    /// Gives all chunks back. The connection is over then, if it was not; only a RST that was due still leaves.
    pub fn drop_all(&mut self, cache: &mut PoolCache) {
        self.send.drop_all(cache);
        self.receive.drop_all(cache);
        self.stop();
    }

    /// Tells of room for received payload. With [`WindowOwner::Subflow`]: free buffer space for what
    /// [`Tcb::poll_received`] has not given yet; the right edge never moves back, and a window that opened wide is
    /// told to the peer at once. With [`WindowOwner::Connection`]: what headers show.
    pub fn set_receive_window(&mut self, bytes: u32) {
        if self.window.set(bytes, self.receive.delivered(), self.receive.received())
            && self.state.receives_data()
        {
            self.acks.immediately();
        }
    }

    /// The window of an arriving segment in bytes.
    pub fn scaled_window(&self, tcp: &TcpRepr) -> u32 {
        if tcp.flags.contains(TcpFlags::SYN) {
            return u32::from(tcp.window);
        }
        self.peer_window.scale(tcp.window)
    }

    /// Payload bytes of a full segment to which the caller adds `reserved_options` bytes of options. Now and then more, for
    /// one segment that probes the path (RFC 8899).
    pub fn payload_max(&self, reserved_options: usize) -> usize {
        // The congestion window has to take the probe, or nothing would ever leave.
        let is_taken = |size: &Mss| self.recovery.is_open() && self.window() >= size.get() as u64;
        let probe = self.path_mtu.probe().filter(is_taken);
        self.payload_of(probe.unwrap_or(self.mss), reserved_options)
    }

    /// Segments have `mss` from now on.
    fn set_mss(&mut self, mss: Mss) {
        self.mss = mss;
        self.congestion.set_segment_bytes(self.payload_of(mss, 0) as u64);
    }

    /// Bytes of new payload that may leave now, over what is queued: what the congestion window, and with
    /// [`WindowOwner::Subflow`] the peer's window, let go. 0 unless data may be sent at all, and 0 while lost
    /// segments wait, which go first, or pacing holds segments back; [`Tcb::poll_timeout`] says when it no longer does.
    ///
    /// With [`WindowOwner::Subflow`] and a peer's window that has no room for a segment, room for one is told when
    /// nothing else is queued: it waits here, so that the persist timer runs exactly when there is something to send.
    pub fn send_room(&self) -> usize {
        let lost_first = self.send.has_lost() && !self.holds_back_lost();
        if !self.takes_data() || self.send.has_fin() || lost_first || !self.pacing.allows(self.now) {
            return 0;
        }
        let congestion = self.window().saturating_sub(u64::from(self.pipe()));
        let unsent = self.send.unsent();
        let room = match self.config.window_owner {
            WindowOwner::Connection => congestion,
            WindowOwner::Subflow => {
                let usable = self.usable_window();
                let segment = self.payload_max(0) as u32;
                if usable < segment && unsent == 0 && self.send.flight() == 0 {
                    return segment as usize;
                }
                congestion.min(u64::from(usable))
            }
        };
        room.saturating_sub(u64::from(unsent)) as usize
    }

    /// Bytes of new data that a loss probe which is due would take (RFC 8985 §7.3): neither the congestion window nor pacing is
    /// asked. 0 where nothing is to be probed, or the queue has new data itself.
    pub fn probe_room(&self) -> usize {
        let asks =
            self.probe.is_due() && self.takes_data() && !self.send.has_fin() && self.send.unsent() == 0;
        if asks { self.usable_window() as usize } else { 0 }
    }

    /// RFC 9293 §3.8.6.2.1: the usable window, SND.UNA + SND.WND - SND.NXT.
    fn usable_window(&self) -> u32 {
        self.peer_window.bytes().saturating_sub(self.send.flight())
    }

    /// What may be in the network: the congestion window, or what PRR makes of it while it comes down.
    fn window(&self) -> u64 {
        self.prr.window().unwrap_or_else(|| self.congestion.window())
    }

    /// RFC 5682: whether lost segments wait until it is known whether the time-out was spurious.
    fn holds_back_lost(&self) -> bool {
        self.frto.holds_back() && !self.recovery.is_forced()
    }

    /// How fast segments may leave, in bytes a second; `None` for as fast as the windows allow.
    fn pacing_rate(&self) -> Option<u64> {
        let from = self.config.pacing?;
        if let Some(rate) = self.congestion.pacing_rate() {
            // Its window is larger than what the path holds: without pacing there would be a queue on the shortest path, too.
            return Some(rate);
        }
        if self.rtt.shortest()? < from {
            return None;
        }
        // What is in the network already counts, too: recovery does not slow down what follows it.
        let window = self.congestion.window().max(u64::from(self.pipe()));
        Some(pacing::window_rate(window, self.congestion.ssthresh(), self.rtt.pacing_round_trip()?))
    }

    /// RFC 6675 §4: bytes in the network. Without SACK each duplicate acknowledgment stands for one segment that
    /// has left it.
    fn pipe(&self) -> u32 {
        let pipe = self.send.pipe();
        match self.recovery.left() {
            0 => pipe,
            left => {
                let segments = self.send.segments_in_flight().max(1) as u64;
                let left_bytes = u64::from(self.send.flight()) * u64::from(left) / segments;
                pipe.saturating_sub(u32::try_from(left_bytes).unwrap_or(u32::MAX))
            }
        }
    }

    /// Runs the persist timer while the peer's window is all that holds back what is queued (RFC 9293 §3.8.6.1).
    fn update_persist(&mut self) {
        let held_back = self.config.window_owner == WindowOwner::Subflow
            && self.state.transmits()
            && self.send.flight() == 0
            && self.send.next_new().is_some_and(|index| self.window_for(index).is_none());
        if !held_back {
            self.timers.stop(Timer::Persist);
            self.persist.rounds = 0;
            self.persist.unanswered = 0;
        } else if !self.timers.is_running(Timer::Persist) {
            let wait = self.rtt.rto_doubled(self.persist.rounds);
            self.timers.set(Timer::Persist, self.now + wait);
        }
        self.update_user_timeout();
    }

    /// State of the connection.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether data can be sent: the handshake is complete, or began with data ([`Tcb::take_syn_payload`]), and we have not
    /// closed.
    pub fn is_established(&self) -> bool {
        self.takes_data()
    }

    /// Our initial sequence number.
    pub fn iss(&self) -> SeqNum {
        self.iss
    }

    /// The peer's initial sequence number; meaningless in SYN-SENT.
    pub fn irs(&self) -> SeqNum {
        self.receive.irs()
    }

    /// SND.UNA.
    pub fn snd_una(&self) -> SeqNum {
        match self.state {
            State::SynSent | State::SynReceived => self.iss,
            _ => self.send.una(),
        }
    }

    /// SND.NXT.
    pub fn snd_nxt(&self) -> SeqNum {
        self.send.nxt()
    }

    /// RCV.NXT.
    pub fn rcv_nxt(&self) -> SeqNum {
        self.receive.nxt()
    }

    /// Payload bytes of our stream that the peer acknowledged.
    pub fn acked_bytes(&self) -> u64 {
        self.send.acked()
    }

    /// Payload bytes of our stream that were sent.
    pub fn sent_bytes(&self) -> u64 {
        self.send.offset(self.send.nxt())
    }

    /// Payload bytes of the peer's stream that arrived in order.
    pub fn received_bytes(&self) -> u64 {
        self.receive.received()
    }

    /// When an acceptable segment came last.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Whether our FIN was acknowledged.
    pub fn is_fin_acked(&self) -> bool {
        self.send.is_fin_acked()
    }

    /// Bytes sent and not acknowledged (a FIN counts as one).
    pub fn in_flight(&self) -> usize {
        self.send.flight() as usize
    }

    /// Bytes queued and never sent (a FIN counts as one).
    pub fn unsent(&self) -> usize {
        self.send.unsent() as usize
    }

    /// The peer's window as it was shown last on this subflow, in bytes from SND.UNA.
    pub fn peer_window(&self) -> u32 {
        self.peer_window.bytes()
    }

    /// The congestion window, in bytes.
    pub fn congestion_window(&self) -> u64 {
        self.congestion.window()
    }

    /// The variation of the smoothed round trip.
    pub fn rttvar(&self) -> Option<Duration> {
        self.rtt.rttvar()
    }

    /// The caller has found that this connection holds up others: it shall send less for now.
    pub fn penalise(&mut self, now: Instant) {
        self.congestion.on_penalty(now);
    }

    /// The peer has answered a probe ([`Tcb::probe`]) after retransmissions had gone unanswered: the path is back. What is
    /// lost is sent again now, and not when the timer, which has backed off, expires.
    pub fn revive(&mut self, now: Instant) {
        self.now = now;
        self.timeouts = 0;
        self.rtt.end_back_off();
        if self.state.transmits() && self.send.flight() > 0 {
            // What is known was learned before the path went silent: F-RTO and RACK could tell nothing by it.
            self.frto.stop();
            self.timers.stop(Timer::Reordering);
            self.timers.stop(Timer::LossProbe);
            self.send.mark_lost_by_timeout(None);
            self.recovery.on_timeout(self.send.nxt());
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        }
    }

    /// The smoothed round trip.
    pub fn srtt(&self) -> Option<Duration> {
        self.rtt.srtt()
    }

    /// The shortest round trip so far: the path without queues.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.rtt.shortest()
    }

    /// The round trip that a segment sent now can expect: the path's own, and the queue that we keep on it, which is
    /// the share of the window in flight in the smoothed one without delayed ACKs. Unlike the smoothed round trip it does
    /// not stay behind when a path falls idle, nor do the delayed ACKs of lone segments keep a path from more than that.
    pub fn expected_rtt(&self) -> Option<Duration> {
        let (prompt, shortest) = (self.rtt.prompt()?, self.rtt.shortest()?);
        let window = self.congestion.window().max(1);
        let queue = u128::from(prompt.as_nanos()) * u128::from(self.send.flight()) / u128::from(window);
        Some(shortest + Duration::from_nanos(u64::try_from(queue).unwrap_or(u64::MAX)))
    }

    /// The retransmission time-out, back-off included.
    pub fn rto(&self) -> Duration {
        self.rtt.rto()
    }

    /// How often the retransmission timer expired since the peer acknowledged something new.
    pub fn consecutive_timeouts(&self) -> u32 {
        self.timeouts
    }

    /// Effective maximum segment size: the smaller of both ends', lowered by the path.
    pub fn mss(&self) -> Mss {
        self.mss
    }

    /// It has nothing to do for a while, and is about to be written down: forgets what will be of no use then.
    pub fn prepare_rest(&mut self) {
        if !self.timers.is_running(Timer::Pacing) {
            self.pacing.rest();
        }
    }

    /// Checks what must hold at any time.
    #[cfg(test)]
    pub(in crate::tcp) fn check(&self) {
        if self.state != State::Closed {
            self.send.check();
        }
    }
}
