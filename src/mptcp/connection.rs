//! One connection over its subflows. It composes the parts and dispatches to them: handshakes and fall-back in
//! `establish.rs`, arriving packets in `receive.rs`, leaving ones in `transmit.rs`, the end in `closing.rs`.
//!
//! A connection that is plain TCP, from the start or by falling back, is the same thing with one subflow, no options,
//! and data sequence numbers that follow from the subflow's.

use crate::base::time::Duration;
use crate::base::{Chunk, DataSeq, Instant, PoolCache, SeqNum};
use crate::mptcp::addr::Addresses;
use crate::mptcp::autotune::Autotune;
use crate::mptcp::crypto::{KeyMaterial, Keys};
use crate::mptcp::data_recv::ReceiveQueue;
use crate::mptcp::data_send::SendQueue;
use crate::mptcp::sched::LowestRtt;
use crate::mptcp::subflow::{Phase, Role, Signalling, Subflow};
use crate::mptcp::{ConnectOptions, FallbackReason, Path, SubflowId};
use crate::tcp::{CloseReason, Tcb, TcpConfig, TcpInfo, WindowOwner};
use crate::wire::mptcp::{AddressId, MpPrio, RemoveAddr, ResetReason, Token};
use crate::wire::{Endpoint, FourTuple, IcmpError, MptcpOption, Mss, Packet};
use std::collections::VecDeque;
use std::net::IpAddr;

mod closing;
mod establish;
mod receive;
mod transmit;

pub use establish::JoinRequest;
pub use transmit::Transmit;

/// Subflows of one connection, those in their handshake included. More are refused.
pub const SUBFLOWS_MAX: usize = 32;
/// Bytes that wait to be sent for the first time: the application is asked for more when there is less.
const UNSENT_MAX: u64 = 256 * 1024;
/// Ended subflows whose figures are kept for reports.
const HISTORY_MAX: usize = 16;
/// RFC 8684 §3.3.3: how long a connection without a subflow lives on (break before make).
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(60);
/// The same when the peer reset the last subflow: a peer that is gone should not be waited for long.
const ORPHAN_RESET_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Our SYN offers MPTCP.
    Offering,
    /// Our SYN/ACK did, with our key.
    Answering,
    /// Both keys are known. `confirmed`: a DSS has come.
    Multipath { confirmed: bool },
    /// TCP.
    Plain(FallbackReason),
}

/// How far our side of the data stream is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SendSide {
    /// The application may write.
    Open,
    /// It has finished; its data is on the way out.
    Closing,
    /// DATA_FIN (or FIN) is sent and not acknowledged.
    FinSent,
    /// Everything has been acknowledged.
    Finished,
}

/// What happened, for the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// The first handshake is over.
    Established,
    /// It is known now whether the connection is MPTCP: a fall-back after establishment changes it.
    FellBack(FallbackReason),
    /// Subflows may be joined from now on.
    JoinsAllowed,
    /// A joined subflow is established.
    SubflowEstablished(SubflowId),
    /// A subflow is over.
    SubflowClosed {
        /// Which.
        id: SubflowId,
        /// Its ends.
        tuple: FourTuple,
        /// Why.
        reason: CloseReason,
        /// It had been established.
        established: bool,
    },
    /// The peer announced an address.
    AddressAnnounced(AddressId, Endpoint),
    /// The peer withdrew an address.
    AddressWithdrawn(AddressId),
    /// The connection is over. Nothing follows.
    Closed(CloseReason),
}

/// What a connection is made with.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The ends of the first subflow.
    pub tuple: FourTuple,
    /// Its way out.
    pub path: Path,
    /// How the application wants it.
    pub options: ConnectOptions,
    /// The stack's settings of TCP; path and options refine them.
    pub tcp: TcpConfig,
    /// Our key.
    pub key: KeyMaterial,
    /// Initial sequence number of the first subflow.
    pub iss: SeqNum,
}

/// Figures of a subflow, dead or alive.
#[derive(Debug, Clone, Copy)]
pub struct SubflowFigures {
    /// Its name.
    pub id: SubflowId,
    /// Its ends.
    pub tuple: FourTuple,
    /// Its way out.
    pub path: Path,
    /// Whether it can carry data.
    pub alive: bool,
    /// Used only as a backup.
    pub backup: bool,
    /// Effective segment size.
    pub mss: Mss,
    /// TCP's figures.
    pub tcp: TcpInfo,
}

/// What peers did that they should not, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Misbehaviour {
    /// Mappings that contradict earlier ones.
    pub mapping_conflicts: u64,
    /// Mappings beyond the table's limit.
    pub mappings_refused: u64,
    /// Announcements with a wrong HMAC.
    pub bad_announcements: u64,
    /// Joins with a wrong HMAC, or without one.
    pub bad_joins: u64,
    /// DATA_ACKs of what was never sent.
    pub bad_data_acks: u64,
    /// Segments that no mapping covers, on subflows that were reset for it.
    pub unmapped: u64,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    options: ConnectOptions,
    tcp: TcpConfig,
    initiator: bool,
    mode: Mode,
    local: KeyMaterial,
    remote: Option<KeyMaterial>,
    subflows: Vec<Subflow>,
    next_subflow: u32,
    /// Subflows were joined at some time: the connection can't fall back any more.
    ever_joined: bool,
    first_tuple: FourTuple,
    send: SendQueue,
    receive: ReceiveQueue,
    /// Data sequence number of the first byte of each direction, for plain TCP.
    receive_base: DataSeq,
    /// The first data byte that the peer's window does not cover.
    send_edge: DataSeq,
    send_side: SendSide,
    /// Bytes of the receive buffer that the application holds, or that wait for it elsewhere.
    unread: u64,
    /// What the receive buffer may be now: what the paths need, and what the worker has frames for.
    receive_limit: u64,
    autotune: Autotune,
    scheduler: LowestRtt,
    addresses: Addresses,
    /// RFC 8684 §3.1, flag C of the peer.
    no_join_remote: bool,
    /// DATA_FIN, data that was dropped behind a subflow's ACK, and probes of a closed window are repeated at this time.
    data_timer: Option<Instant>,
    data_backoff: u32,
    /// No subflow is left: the end, unless one comes.
    orphan_at: Option<Instant>,
    fast_close: bool,
    joins_allowed: bool,
    closed: bool,
    /// Where the turn over subflows begins, so that none starves.
    turn: usize,
    history: Vec<SubflowFigures>,
    misbehaviour: Misbehaviour,
    events: VecDeque<ConnectionEvent>,
}

impl Connection {
    /// Opens a connection.
    pub fn connect(now: Instant, setup: &Setup) -> Self {
        let mode = if setup.options.mptcp { Mode::Offering } else { Mode::Plain(FallbackReason::NotWanted) };
        let mut connection = Self::new(setup, mode, true);
        let config = connection.subflow_config(&setup.path, setup.tuple, WindowOwner::Subflow);
        let tcb = Tcb::connect(now, config, setup.iss);
        connection.first_subflow(tcb, setup);
        connection
    }

    /// Answers a SYN.
    pub fn accept(now: Instant, setup: &Setup, syn: &Packet) -> Self {
        let (mode, no_join_remote) = establish::answer(setup.options.mptcp, syn);
        let mut connection = Self::new(setup, mode, false);
        connection.no_join_remote = no_join_remote;
        let config = connection.subflow_config(&setup.path, setup.tuple, WindowOwner::Subflow);
        let tcb = Tcb::accept(now, config, setup.iss, &syn.tcp, &syn.options);
        connection.first_subflow(tcb, setup);
        connection
    }

    fn new(setup: &Setup, mode: Mode, initiator: bool) -> Self {
        let first = setup.key.first_byte();
        let autotune = Autotune::default();
        let receive_limit = autotune.limit().min(u64::from(setup.options.receive_buffer));
        Self {
            options: setup.options,
            tcp: TcpConfig { congestion: setup.options.congestion, ..setup.tcp },
            initiator,
            mode,
            local: setup.key,
            remote: None,
            subflows: Vec::new(),
            next_subflow: 0,
            ever_joined: false,
            first_tuple: setup.tuple,
            send: SendQueue::new(first),
            receive: ReceiveQueue::new(DataSeq::default()),
            receive_base: DataSeq::default(),
            send_edge: first,
            send_side: SendSide::Open,
            unread: 0,
            receive_limit,
            autotune,
            scheduler: LowestRtt,
            addresses: Addresses::default(),
            no_join_remote: false,
            data_timer: None,
            data_backoff: 0,
            orphan_at: None,
            fast_close: false,
            joins_allowed: false,
            closed: false,
            turn: 0,
            history: Vec::new(),
            misbehaviour: Misbehaviour::default(),
            events: VecDeque::new(),
        }
    }

    fn first_subflow(&mut self, tcb: Tcb, setup: &Setup) {
        self.push_subflow(tcb, setup.tuple, setup.path, Role::Initial);
    }

    fn push_subflow(&mut self, tcb: Tcb, tuple: FourTuple, path: Path, role: Role) -> SubflowId {
        let id = SubflowId(self.next_subflow);
        self.next_subflow += 1;
        self.subflows.push(Subflow::new(id, tcb, tuple, path, role));
        id
    }

    /// TCP's settings for a subflow over `path`.
    fn subflow_config(&self, path: &Path, tuple: FourTuple, window_owner: WindowOwner) -> TcpConfig {
        let headers = if tuple.remote.addr.is_ipv4() { 40 } else { 60 };
        // One frame holds a segment in both directions: no descriptor chains are needed.
        let frame = crate::base::pool::RX_PACKET_MAX - 18 - headers;
        let mss = usize::from(path.mtu).saturating_sub(headers).min(frame);
        // The smallest shift with which 16 bits can say the whole buffer.
        let buffer = self.options.receive_buffer.max(1);
        let window_scale = (0..14).find(|shift| buffer >> shift <= 0xffff).unwrap_or(14) as u8;
        TcpConfig { mss: Mss::new(mss as u16), window_scale, window_owner, ..self.tcp }
    }

    // ---- what it is ----

    /// Our token, once the connection is MPTCP.
    pub fn token(&self) -> Option<Token> {
        matches!(self.mode, Mode::Multipath { .. }).then_some(self.local.token)
    }

    /// Our token, whatever became of it: the worker's table knows it until the end.
    pub fn reserved_token(&self) -> Token {
        self.local.token
    }

    /// We opened it.
    pub fn is_initiator(&self) -> bool {
        self.initiator
    }

    /// Why it is not MPTCP; `None` while it is, or may become so.
    pub fn fallback(&self) -> Option<FallbackReason> {
        match self.mode {
            Mode::Plain(reason) => Some(reason),
            Mode::Offering | Mode::Answering | Mode::Multipath { .. } => None,
        }
    }

    /// The first subflow's ends.
    pub fn first_tuple(&self) -> FourTuple {
        self.first_tuple
    }

    /// Flag C of the peer: no subflow may be opened to the first subflow's remote address and port.
    pub fn no_join_remote(&self) -> bool {
        self.no_join_remote
    }

    /// It is over; nothing more happens.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What the peer did wrong.
    pub fn misbehaviour(&self) -> Misbehaviour {
        self.misbehaviour
    }

    /// Bytes sent again on another subflow.
    pub fn reinjected_bytes(&self) -> u64 {
        self.send.reinjected_bytes()
    }

    /// The peer's window beyond what it has acknowledged, in bytes.
    pub fn send_window(&self) -> u64 {
        self.send_edge.distance(self.send.una()).max(0) as u64
    }

    /// Bytes of the application that the peer has acknowledged.
    pub fn acknowledged_bytes(&self) -> u64 {
        self.send.una().distance(self.local.first_byte()).max(0) as u64
    }

    /// The next data byte expected.
    pub fn data_ack(&self) -> DataSeq {
        self.receive.next()
    }

    /// Figures of all subflows, the first ones first, ended ones included.
    pub fn figures(&self) -> impl Iterator<Item = SubflowFigures> + '_ {
        self.history
            .iter()
            .copied()
            .chain(self.subflows.iter().map(|subflow| figures(subflow, subflow.established)))
    }

    /// How many subflows there are and were.
    pub fn subflow_count(&self) -> usize {
        self.subflows.len() + self.history.len()
    }

    /// The subflow with these ends.
    pub fn subflow_by_tuple(&self, tuple: &FourTuple) -> Option<SubflowId> {
        self.subflows.iter().find(|subflow| subflow.tuple == *tuple).map(|subflow| subflow.id)
    }

    /// The ends of every subflow, and the port that it uses.
    pub fn tuples(&self) -> impl Iterator<Item = (SubflowId, FourTuple, Path)> + '_ {
        self.subflows.iter().map(|subflow| (subflow.id, subflow.tuple, subflow.path))
    }

    /// As [`Connection::tuples`], with the peer's id of its address.
    pub fn tuples_with_ids(&self) -> impl Iterator<Item = (SubflowId, FourTuple, Path, AddressId)> + '_ {
        self.subflows.iter().map(|subflow| (subflow.id, subflow.tuple, subflow.path, subflow.remote_id))
    }

    fn index(&self, id: SubflowId) -> Option<usize> {
        self.subflows.iter().position(|subflow| subflow.id == id)
    }

    fn keys(&self) -> Option<Keys> {
        Some(Keys { local: self.local, remote: self.remote? })
    }

    fn is_multipath(&self) -> bool {
        matches!(self.mode, Mode::Multipath { .. })
    }

    fn signalling(&self) -> Signalling {
        match (self.mode, self.keys()) {
            (Mode::Plain(_), _) => Signalling::Plain,
            (Mode::Offering, _) => Signalling::Offering,
            (Mode::Answering, _) => Signalling::Answering(self.local),
            (Mode::Multipath { confirmed }, Some(keys)) => Signalling::Multipath {
                keys,
                confirmed,
                initiator: self.initiator,
                data_ack: self.receive.next(),
                data_fin: self.says_data_fin(confirmed).then_some(self.send.end()),
                fast_close: self.fast_close,
            },
            (Mode::Multipath { .. }, None) => unreachable!("a multipath connection has both keys"),
        }
    }

    /// Whether pure ACKs carry the DATA_FIN now. RFC 8684 §3.1: the initiator's keys may have been lost with its third
    /// ACK, and a responder that lacks them understands no DATA_FIN. No data will follow that brings them, and both
    /// don't fit into one segment: they take turns until a DSS shows that the responder has the keys.
    fn says_data_fin(&self, confirmed: bool) -> bool {
        let keys_turn = self.initiator && !confirmed && !self.data_backoff.is_multiple_of(2);
        self.send_side == SendSide::FinSent && !keys_turn
    }

    // ---- the application's side ----

    /// Bytes that the application may give now.
    pub fn write_room(&self) -> u64 {
        match self.send_side {
            SendSide::Open => {
                let buffer = u64::from(self.options.send_buffer).saturating_sub(self.send.buffered());
                // What waits to be sent stays in the caches only if it is not much.
                buffer.min(UNSENT_MAX.saturating_sub(self.send.unsent_bytes()))
            }
            SendSide::Closing | SendSide::FinSent | SendSide::Finished => 0,
        }
    }

    /// Takes data to send.
    pub fn write(&mut self, chunk: Chunk) {
        debug_assert!(self.send_side == SendSide::Open, "nothing is written after the end");
        self.send.push(chunk);
    }

    /// Payload bytes that make one segment on every subflow.
    pub fn chunk_len(&self) -> usize {
        let multipath = self.options.mptcp && self.fallback().is_none();
        self.subflows.iter().map(|subflow| subflow.payload_max(multipath)).min().unwrap_or(536)
    }

    /// The next received chunk, in order.
    pub fn read(&mut self) -> Option<Chunk> {
        let chunk = self.receive.pop()?;
        self.unread += chunk.len as u64;
        Some(chunk)
    }

    /// Puts a chunk back for which there was no room.
    pub fn unread(&mut self, chunk: Chunk) {
        self.unread -= chunk.len as u64;
        self.receive.push_back(chunk);
    }

    /// Whether [`Connection::read`] would give a chunk.
    pub fn has_data(&self) -> bool {
        self.receive.ready_bytes() > 0
    }

    /// The application has read `bytes` of what [`Connection::read`] gave. Tells the peer when the window has opened
    /// by enough to matter.
    pub fn consumed(&mut self, now: Instant, bytes: u64) {
        debug_assert!(bytes <= self.unread);
        let round_trip =
            self.subflows.iter().filter_map(|subflow| subflow.tcb.min_rtt()).max().unwrap_or_default();
        self.autotune.on_read(now, bytes, round_trip);
        self.unread -= bytes;
        let gain = self.receive.window_gain(self.receive_free());
        let left = self.receive.window_left();
        let segment = self.chunk_len() as u64;
        // RFC 9293 §3.8.6.2.2: move the edge by at least a segment or half the buffer. With plenty left, the ACKs of
        // arriving data tell of it soon enough.
        let step = (2 * segment).min(self.receive_limit / 2).max(1);
        if gain >= step && left < self.receive_limit / 4 {
            self.acknowledge_now();
        }
    }

    /// What the worker has frames for, in bytes. The receive buffer is no larger from now on (promised windows hold).
    pub fn set_receive_limit(&mut self, bytes: u64) {
        self.receive_limit = self.autotune.limit().min(bytes).min(u64::from(self.options.receive_buffer));
    }

    /// Bytes that the application has to read until it should tell (half the buffer).
    pub fn read_step(&self) -> u64 {
        (self.receive_limit / 4).max(1)
    }

    /// The peer has finished, and all of its data has been read.
    pub fn is_read_finished(&self) -> bool {
        self.receive.is_finished() && !self.has_data()
    }

    /// Everything that was written, and the end, has been acknowledged.
    pub fn is_write_finished(&self) -> bool {
        self.send_side == SendSide::Finished
    }

    fn receive_free(&self) -> u64 {
        self.receive_limit.saturating_sub(self.unread + self.receive.ready_bytes())
    }

    fn acknowledge_now(&mut self) {
        if let Some(index) = self.best_subflow() {
            self.subflows[index].tcb.request_ack();
        }
    }

    /// The subflow for signals: established, alive, the fastest.
    fn best_subflow(&self) -> Option<usize> {
        let able = |subflow: &&Subflow| subflow.can_signal();
        self.subflows
            .iter()
            .filter(able)
            .min_by_key(|subflow| (!subflow.is_usable(), subflow.tcb.srtt().unwrap_or_default(), subflow.id))
            .and_then(|best| self.index(best.id))
    }

    // ---- the path manager's side ----

    /// Tells the peer of an address. Does nothing on plain TCP.
    pub fn announce(&mut self, now: Instant, id: AddressId, addr: IpAddr, port: Option<u16>) {
        if self.is_multipath() {
            self.addresses.announce(now, id, addr, port);
        }
    }

    /// Tells the peer that an address is gone, and resets the subflows from it.
    pub fn withdraw(&mut self, now: Instant, id: AddressId, cache: &mut PoolCache) {
        if !self.is_multipath() {
            return;
        }
        let known = self.addresses.withdraw(id);
        let leaving =
            |subflow: &Subflow| subflow.local_id == id && (id != AddressId(0) || subflow.is_initial());
        let used: Vec<SubflowId> = self.subflows.iter().filter(|s| leaving(s)).map(|s| s.id).collect();
        if known || !used.is_empty() {
            // Pitfall 27: on a subflow that stays.
            let stays = self.subflows.iter_mut().find(|s| !used.contains(&s.id) && s.is_usable());
            if let Some(subflow) = stays {
                let mut removal = RemoveAddr { address_ids: Default::default() };
                removal.address_ids.push(id);
                subflow.signal(MptcpOption::RemoveAddr(removal));
            }
        }
        for subflow in used {
            self.end_subflow(now, subflow, CloseReason::PathDown, cache);
        }
    }

    /// Resets a subflow because the path manager says so.
    pub fn close_subflow(&mut self, now: Instant, id: SubflowId, cache: &mut PoolCache) {
        if let Some(index) = self.index(id) {
            self.subflows[index].reset_reason = ResetReason::Prohibited;
            self.subflows[index].tcb.abort(now);
            self.drain_events(now, id, None, cache);
        }
    }

    /// Asks the peer to use a subflow only as a backup, or again as any other (RFC 8684 §3.3.8).
    pub fn set_backup(&mut self, id: SubflowId, backup: bool) {
        if let Some(index) = self.index(id) {
            self.subflows[index].local_backup = backup;
            self.subflows[index].signal(MptcpOption::Prio(MpPrio { backup }));
        }
    }

    /// A NIC can pass no packets: its subflows end, unless that would leave none.
    pub fn handle_port_down(&mut self, now: Instant, port: crate::base::PortId, cache: &mut PoolCache) {
        let survivors = self.subflows.iter().any(|s| s.path.port != port && s.phase == Phase::Ready);
        if !self.is_multipath() || !survivors {
            return;
        }
        let dying: Vec<SubflowId> =
            self.subflows.iter().filter(|s| s.path.port == port).map(|s| s.id).collect();
        for id in dying {
            self.end_subflow(now, id, CloseReason::PathDown, cache);
        }
    }

    /// The next hop's link address has changed.
    pub fn handle_neighbour(
        &mut self,
        port: crate::base::PortId,
        before: crate::wire::MacAddr,
        after: crate::wire::MacAddr,
    ) {
        for subflow in &mut self.subflows {
            if subflow.path.port == port && subflow.path.link.dst == before {
                subflow.path.link.dst = after;
            }
        }
    }

    /// An ICMP error about one of our segments.
    pub fn handle_icmp(&mut self, now: Instant, id: SubflowId, error: &IcmpError, cache: &mut PoolCache) {
        if let Some(index) = self.index(id) {
            self.subflows[index].tcb.handle_icmp(now, error);
            self.drain_events(now, id, None, cache);
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ConnectionEvent> {
        self.events.pop_front()
    }

    // ---- time ----

    /// When [`Connection::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let subflows = self.subflows.iter().flat_map(|subflow| {
            let repeat = match subflow.phase {
                Phase::Confirming { repeat_at, .. } => Some(repeat_at),
                Phase::Handshake | Phase::Ready => None,
            };
            [subflow.tcb.poll_timeout(), repeat, subflow.removal_at()]
        });
        let own = [self.data_timer, self.orphan_at, self.announce_at()];
        subflows.chain(own).flatten().min()
    }

    fn announce_at(&self) -> Option<Instant> {
        // Only a subflow that lives can carry an announcement.
        self.best_subflow()?;
        self.addresses.poll_timeout()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, cache: &mut PoolCache) {
        let ids: Vec<SubflowId> = self.due_subflows(now);
        for id in ids {
            let Some(index) = self.index(id) else { continue };
            self.subflows[index].tcb.handle_timeout(now);
            self.handle_subflow_timers(now, index);
            self.drain_events(now, id, None, cache);
        }
        if self.data_timer.is_some_and(|at| at <= now) {
            self.handle_data_timer(now);
        }
        if self.orphan_at.is_some_and(|at| at <= now) {
            self.orphan_at = None;
            self.finish(CloseReason::TimedOut, cache);
        }
        self.send_announcements(now);
    }

    fn due_subflows(&self, now: Instant) -> Vec<SubflowId> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let is_due = |s: &&Subflow| {
            due(s.tcb.poll_timeout())
                || due(s.removal_at())
                || matches!(s.phase, Phase::Confirming { repeat_at, .. } if repeat_at <= now)
        };
        self.subflows.iter().filter(is_due).map(|s| s.id).collect()
    }

    fn handle_subflow_timers(&mut self, now: Instant, index: usize) {
        let alone = self.subflows.len() == 1;
        let subflow = &mut self.subflows[index];
        if let Phase::Confirming { repeat_at, repeats } = subflow.phase
            && repeat_at <= now
        {
            if repeats >= self.tcp.syn_retries {
                subflow.reset_reason = ResetReason::Unspecified;
                subflow.tcb.abort(now);
            } else {
                let wait = subflow.tcb.rto() * 2u32.pow(repeats);
                subflow.phase = Phase::Confirming { repeat_at: now + wait, repeats: repeats + 1 };
                subflow.tcb.request_ack();
            }
        }
        if subflow.end_removal(now) {
            // The probe was not answered: the path is gone, as the peer said. The last one stays for TCP to judge.
            if !alone {
                subflow.tcb.abort(now);
            }
        }
    }

    fn send_announcements(&mut self, now: Instant) {
        let Some(keys) = self.keys() else { return };
        let Some(index) = self.best_subflow() else { return };
        while let Some(announcement) = self.addresses.poll_announcement(now, &keys) {
            self.subflows[index].signal(MptcpOption::AddAddr(announcement));
        }
    }
}

/// The figures of a subflow.
fn figures(subflow: &Subflow, alive: bool) -> SubflowFigures {
    SubflowFigures {
        id: subflow.id,
        tuple: subflow.tuple,
        path: subflow.path,
        alive,
        backup: subflow.is_backup(),
        mss: subflow.tcb.mss(),
        tcp: subflow.tcb.info(),
    }
}
