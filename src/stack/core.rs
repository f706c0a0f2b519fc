//! The stack of one worker: which packet belongs to which connection, and what every connection wants to be done.
//! Sans-IO: frames, commands and the time go in; frames, reports and actions come out.

use crate::base::pool::prefetch;
use crate::base::{Chunk, Instant, PoolCache, PortId, Prng, RxFrame, TxFrame, WorkerId};
use crate::mptcp::connection::JoinRequest;
use crate::mptcp::crypto::KeyMaterial;
use crate::mptcp::emitter::Emitter;
use crate::mptcp::{AbortBy, Connection, ConnectionEvent, Mib, Path, Setup, SubflowId};
use crate::stack::connections::{Connections, View};
use crate::stack::core::cookies::Returned;
use crate::stack::core::joins::HalfOpenJoins;
use crate::stack::core::runs::{Arrival, Run};
use crate::stack::core::scattered::Gathering;
use crate::stack::core::time_wait::Waiting;
use crate::stack::counters::{Counters, WorkerCounters};
use crate::stack::fast_open::{FastOpenCache, PendingFastOpens};
use crate::stack::message::{ConnectionId, ListenOptions, ListenerId, Report};
use crate::stack::slot::{FastOpenStage, Slot};
use crate::stack::stream::{AcceptQueue, Doorbell};
use crate::stack::timers::Timers;
use crate::tcp::{CloseReason, TcpConfig, initial_sequence};
use crate::wire::mptcp::{Key, MpJoin, ResetReason, Token};
use crate::wire::{
    ChecksumMode, Endpoint, FourTuple, IcmpError, MptcpOption, Packet, Parsed, TcpFlags, parse,
};
use foldhash::fast::FixedState;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

mod commands;
mod cookies;
mod events;
mod fast_open;
mod joins;
mod runs;
mod scattered;
mod sending;
mod strays;
mod time_wait;

/// Packets that one connection sends before others get their turn.
const TURN_PACKETS: usize = 64;

/// Payload bytes that one received frame holds, at least, of a peer that sends in bulk.
const SEGMENT: usize = 1220;
/// The receive buffer that a connection has however many there are.
const RECEIVE_MIN: usize = 16 * SEGMENT;

/// What a port is to the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortConfig {
    /// Who makes and checks TCP checksums.
    pub checksum: ChecksumMode,
    /// Bytes of IP packet.
    pub mtu: u16,
}

/// What a stack is made with.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// Whose it is.
    pub worker: WorkerId,
    /// How many workers there are: tokens say which of them owns a connection.
    pub workers: usize,
    /// Seeds keys, nonces, sequence numbers and the flow hash. A live host takes it from the operating system.
    pub seed: u64,
    /// Connections at most; SYNs beyond it are dropped, and opening fails.
    pub max_connections: usize,
    /// TCP's settings.
    pub tcp: TcpConfig,
    /// The ports, by number.
    pub ports: Vec<PortConfig>,
}

/// Something for the steering program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Packets of this flow shall come to us.
    Pin(FourTuple),
    /// They need not any more.
    Unpin(FourTuple),
}

#[derive(Debug)]
struct Listener {
    id: ListenerId,
    port: u16,
    addr: Option<IpAddr>,
    options: ListenOptions,
    accept: Arc<AcceptQueue>,
    /// Connections in their handshakes: its SYN queue.
    half_open: usize,
}

/// The stack.
#[derive(Debug)]
pub struct Stack {
    config: StackConfig,
    prng: Prng,
    /// RFC 6528: the secret of our initial sequence numbers.
    secret: [u8; 16],
    doorbell: Arc<Doorbell>,
    connections: Connections,
    flows: HashMap<FourTuple, (ConnectionId, SubflowId), FixedState>,
    tokens: HashMap<Token, ConnectionId, FixedState>,
    listeners: Vec<Listener>,
    timers: Timers,
    /// Connections to carry data for and to look at, once each turn.
    dirty: VecDeque<ConnectionId>,
    /// Those that the last turn attended to.
    attended: Vec<ConnectionId>,
    /// Connections that may have something to send.
    senders: VecDeque<ConnectionId>,
    /// Those whose ACKs wait for the answers of applications, and until when. Each has one entry that counts.
    answering: VecDeque<(Instant, ConnectionId)>,
    strays: VecDeque<(PortId, TxFrame)>,
    /// What has come of a packet of several frames, at each port.
    gatherings: Vec<Gathering>,
    actions: VecDeque<Action>,
    reports: VecDeque<Report>,
    emitter: Emitter,
    counters: Counters,
    /// What is counted beside them.
    counted: WorkerCounters,
    /// The flow of the last packet, which is mostly that of the next one.
    last: Option<(FourTuple, ConnectionId, SubflowId)>,
    /// What the next packet is expected to be.
    run: Run,
    /// SYN cookies are out that may come back until then.
    cookies_until: Option<Instant>,
    half_open_joins: HalfOpenJoins,
    waiting: Waiting,
    fast_open_cache: FastOpenCache,
    pending_fast_opens: PendingFastOpens,
}

impl Stack {
    /// A stack without connections.
    pub fn new(config: StackConfig, doorbell: Arc<Doorbell>) -> Self {
        let mut prng = Prng::new(config.seed);
        let mut secret = [0; 16];
        prng.fill(&mut secret);
        let hasher = FixedState::with_seed(prng.next_u64());
        let emitter = Emitter::new(config.ports.iter().map(|port| port.checksum).collect());
        Self {
            prng,
            secret,
            doorbell,
            connections: Connections::default(),
            flows: HashMap::with_hasher(hasher.clone()),
            tokens: HashMap::with_hasher(hasher),
            listeners: Vec::new(),
            timers: Timers::default(),
            dirty: VecDeque::new(),
            attended: Vec::new(),
            senders: VecDeque::new(),
            answering: VecDeque::new(),
            strays: VecDeque::new(),
            gatherings: config.ports.iter().map(|_| Gathering::default()).collect(),
            actions: VecDeque::new(),
            reports: VecDeque::new(),
            emitter,
            counters: Counters::default(),
            counted: WorkerCounters::default(),
            last: None,
            run: Run::default(),
            cookies_until: None,
            half_open_joins: HalfOpenJoins::default(),
            waiting: Waiting::default(),
            fast_open_cache: FastOpenCache::default(),
            pending_fast_opens: PendingFastOpens::default(),
            config,
        }
    }

    /// Connections that begin from now on have these settings.
    pub fn set_tcp(&mut self, tcp: TcpConfig) {
        self.config.tcp = tcp;
    }

    /// So many of the frames received up to now came to queues whose home is another worker: the ports count them.
    pub fn set_received_as_guest(&mut self, count: u64) {
        self.counters.received_as_guest = count;
    }

    /// The counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// All that is counted, of connections that there are and were.
    pub fn worker_counters(&self) -> WorkerCounters {
        let mut all = WorkerCounters { stack: self.counters, ..self.counted };
        let counted = self.connections.counted();
        all.tally += counted.tally;
        all.stack.tcp += counted.tcp;
        all.mptcp.add_all(self.emitter.sent());
        all.mptcp.add(Mib::JoinNoTokenFound, self.counters.unknown_tokens);
        all.mptcp.add(Mib::JoinRejected, self.counters.refused_joins);
        all.mptcp.add(Mib::Retrans, all.tally.retransmits);
        all.mptcp.add(Mib::DataCsumErr, all.tally.misbehaviour.bad_checksums);
        all
    }

    /// How many connections there are, those in a handshake or in TIME-WAIT included.
    pub fn connection_count(&self) -> usize {
        self.connections.count()
    }

    /// How many of them rest: they have been idle for a second or more.
    pub fn asleep_count(&self) -> usize {
        self.connections.asleep()
    }

    /// All connections, to look at.
    pub fn connections(&self) -> impl Iterator<Item = View<'_>> {
        self.connections.views()
    }

    /// A connection, to look at.
    pub fn connection(&self, id: ConnectionId) -> Option<View<'_>> {
        self.connections.view(id)
    }

    // ---- packets in ----

    /// Who checks the checksums of what arrives at `port`.
    fn checksum_at(&self, port: PortId) -> ChecksumMode {
        self.config.ports.get(port.index()).map_or(ChecksumMode::Software, |port| port.checksum)
    }

    /// A frame has arrived at `port`: a packet, or a part of one.
    pub fn handle_frame(&mut self, now: Instant, port: PortId, received: RxFrame, cache: &mut PoolCache) {
        self.counters.received += 1;
        let checksum = self.checksum_at(port);
        if received.more || self.gatherings.get(port.index()).is_some_and(Gathering::is_open) {
            return self.handle_part(now, port, received, checksum, cache);
        }
        let Some(received) = self.follow(now, port, received, cache) else { return };
        let parsed = parse(cache.pool().rx_bytes(&received), checksum);
        let RxFrame { frame, offset, .. } = received;
        // By reference: a packet with its options is large, and would be moved.
        match &parsed {
            Ok(Parsed::Tcp(packet)) => {
                let chunk = if packet.payload.is_empty() {
                    cache.free(frame);
                    None
                } else {
                    let offset = usize::from(offset) + packet.payload.start;
                    Some(Chunk::new(frame, offset, packet.payload.len()).with_sum(packet.payload_sum))
                };
                self.handle_packet(now, port, packet, chunk, cache);
            }
            Ok(Parsed::Icmp(error)) => {
                self.run.end();
                cache.free(frame);
                self.handle_icmp(now, error, cache);
            }
            Err(reason) => {
                self.counters.malformed[*reason as usize] += 1;
                self.run.end();
                cache.free(frame);
            }
        }
    }

    #[inline(always)]
    fn handle_packet(
        &mut self,
        now: Instant,
        port: PortId,
        packet: &Packet,
        chunk: Option<Chunk>,
        cache: &mut PoolCache,
    ) {
        if let Some((connection, subflow)) = self.find_flow(&packet.tuple) {
            let arrival = Arrival { now, port, connection, subflow };
            self.run.note(arrival, packet, chunk.as_ref(), self.checksum_at(port), cache.pool());
            if let Some(slot) = self.connections.get_mut(connection) {
                self.counted.mptcp.count_received(&packet.options.mptcp);
                slot.connection.handle_packet(now, subflow, packet, chunk, cache);
                let reopened = slot.connection.is_reopened();
                self.touch(connection);
                if reopened {
                    // Its flow is free once its end was passed on.
                    self.drain_events(now, connection, cache);
                    // Its payload is gone with it, and comes again.
                    self.handle_syn(now, port, packet, &mut None, cache);
                }
                return;
            }
            return chunk.into_iter().for_each(|chunk| cache.free_chunk(chunk));
        }
        self.run.end();
        if self.may_be_cookie(now, packet) {
            match self.take_cookie(now, port, packet, cache) {
                Returned::Connection(id) => {
                    let Some(slot) = self.connections.get_mut(id) else { return };
                    return slot.connection.handle_packet(now, SubflowId(0), packet, chunk, cache);
                }
                Returned::Dropped => return chunk.into_iter().for_each(|chunk| cache.free_chunk(chunk)),
                Returned::Stray => {}
            }
        }
        let payload_len = packet.payload.len();
        let flags = packet.tcp.flags;
        if flags.contains(TcpFlags::SYN) && !flags.intersects(TcpFlags::ACK | TcpFlags::RST | TcpFlags::FIN) {
            let mut payload = chunk;
            self.handle_syn(now, port, packet, &mut payload, cache);
            payload.into_iter().for_each(|left| cache.free_chunk(left));
        } else {
            chunk.into_iter().for_each(|chunk| cache.free_chunk(chunk));
            self.counters.stray += 1;
            self.answer_stray(port, packet, payload_len, None, cache);
        }
    }

    /// A packet of this flow is about to come: the memory of its connection may come into the cache meanwhile.
    pub fn expect(&mut self, tuple: &FourTuple) {
        if let Some((connection, subflow)) = self.find_flow(tuple)
            && let Some(slot) = self.connections.get_awake(connection)
        {
            prefetch(slot);
            slot.connection.prefetch(subflow);
        }
    }

    fn find_flow(&mut self, tuple: &FourTuple) -> Option<(ConnectionId, SubflowId)> {
        if let Some((last, connection, subflow)) = self.last
            && last == *tuple
        {
            return Some((connection, subflow));
        }
        let found = *self.flows.get(tuple)?;
        self.last = Some((*tuple, found.0, found.1));
        Some(found)
    }

    /// A SYN. `payload` is taken out where it counts (RFC 7413); otherwise the peer sends it again.
    fn handle_syn(
        &mut self,
        now: Instant,
        port: PortId,
        packet: &Packet,
        payload: &mut Option<Chunk>,
        cache: &mut PoolCache,
    ) {
        let join = packet.options.mptcp.iter().find_map(|option| match option {
            MptcpOption::Join(MpJoin::Syn { token, backup, .. }) => Some((*token, *backup)),
            _ => None,
        });
        if let Some((token, backup)) = join {
            if self.tokens.contains_key(&token) {
                self.counted.mptcp.bump(Mib::JoinSynRx);
                self.counted.mptcp.add(Mib::JoinSynBackupRx, u64::from(backup));
            }
            return self.handle_join(now, port, packet, token, cache);
        }
        let local = packet.tuple.local;
        let Some(listener) = find_listener(&mut self.listeners, local) else {
            self.counters.stray += 1;
            return self.answer_stray(port, packet, packet.payload.len(), None, cache);
        };
        if listener.accept.is_full() {
            // The application does not keep up. The SYN comes again, and may find room then.
            self.counters.accept_overflows += 1;
            return;
        }
        if !self.has_room(now, cache) {
            // RFC 9293 leaves it open; a dropped SYN is sent again, and may find room then.
            self.counters.refused_connections += 1;
            return;
        }
        let (listener, options) = {
            let Some(listener) = find_listener(&mut self.listeners, local) else { return };
            if listener.half_open >= listener.accept.backlog() {
                let options = listener.options.connection;
                return self.answer_with_cookie(now, port, packet, options, cache);
            }
            listener.half_open += 1;
            (listener.id, listener.options.connection)
        };
        let setup = self.setup(now, packet.tuple, self.answering_path(port, packet), options);
        let mut connection = Connection::accept(now, &setup, packet);
        self.counted.mptcp.add(Mib::CapableSynRx, u64::from(connection.is_answering()));
        self.counters.accepted += 1;
        let stage = match options.fast_open {
            true => self.answer_fast_open(now, &mut connection, packet, payload, cache),
            // RFC 7413 §4.2: not asked for by the application, it does not exist.
            false => FastOpenStage::Over,
        };
        let mut slot = Slot::new(connection, None, Some(listener));
        slot.fast_open = stage;
        self.insert(slot, setup.tuple);
    }

    fn handle_join(
        &mut self,
        now: Instant,
        port: PortId,
        packet: &Packet,
        token: Token,
        cache: &mut PoolCache,
    ) {
        let Some(&id) = self.tokens.get(&token) else {
            self.counters.unknown_tokens += 1;
            // RFC 8684 §3.2: an unknown token is answered with a reset and the reason "MPTCP-specific error".
            return self.answer_stray(
                port,
                packet,
                packet.payload.len(),
                Some(ResetReason::MptcpError),
                cache,
            );
        };
        if !self.half_open_joins.has_room(packet.tuple.remote.addr) {
            self.counters.refused_joins += 1;
            let reason = Some(ResetReason::LackOfResources);
            return self.answer_stray(port, packet, packet.payload.len(), reason, cache);
        }
        let path = self.answering_path(port, packet);
        let nonce = self.prng.next_u32();
        let Some(slot) = self.connections.get_mut(id) else { return };
        let setup = Setup {
            tuple: packet.tuple,
            path,
            options: Default::default(),
            tcp: self.config.tcp,
            key: KeyMaterial::new(Key(0)),
            iss: initial_sequence(&self.secret, &packet.tuple, now),
        };
        match slot.connection.accept_join(now, &setup, nonce, packet) {
            Ok(subflow) => {
                self.flows.insert(packet.tuple, (id, subflow));
                self.half_open_joins.begin(packet.tuple);
                self.pin(packet.tuple);
                self.touch(id);
            }
            Err(reason) => {
                self.counters.refused_joins += 1;
                self.answer_stray(port, packet, packet.payload.len(), Some(reason), cache);
            }
        }
    }

    /// The way back of a packet: a passive subflow answers the way its SYN came.
    fn answering_path(&self, port: PortId, packet: &Packet) -> Path {
        let mtu = self.config.ports.get(port.index()).map_or(1500, |port| port.mtu);
        Path { port, link: packet.link.reversed(), mtu }
    }

    fn handle_icmp(&mut self, now: Instant, error: &IcmpError, cache: &mut PoolCache) {
        let Some((connection, subflow)) = self.find_flow(&error.tuple) else { return };
        if let Some(slot) = self.connections.get_mut(connection) {
            self.counters.icmp += 1;
            slot.connection.handle_icmp(now, subflow, error, cache);
            self.touch(connection);
        }
    }

    // ---- making connections ----

    fn setup(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        path: Path,
        options: crate::mptcp::ConnectOptions,
    ) -> Setup {
        Setup {
            tuple,
            path,
            options,
            tcp: TcpConfig { timestamp_offset: self.prng.next_u32(), ..self.config.tcp },
            key: self.new_key(),
            iss: initial_sequence(&self.secret, &tuple, now),
        }
    }

    /// A key whose token is new (pitfall 9), and says that the connection is ours (`token mod workers`).
    fn new_key(&mut self) -> KeyMaterial {
        loop {
            let material = KeyMaterial::new(Key(self.prng.next_u64()));
            if self.is_good_token(material.token) {
                return material;
            }
        }
    }

    fn is_good_token(&self, token: Token) -> bool {
        let owner = token.0 as usize % self.config.workers.max(1);
        owner == self.config.worker.index() && !self.tokens.contains_key(&token)
    }

    fn insert(&mut self, slot: Slot, tuple: FourTuple) -> ConnectionId {
        let token = slot.connection.reserved_token();
        let id = self.connections.insert(slot);
        self.tokens.insert(token, id);
        self.flows.insert(tuple, (id, SubflowId(0)));
        self.touch(id);
        id
    }

    fn pin(&mut self, tuple: FourTuple) {
        // With one worker every queue's home is that worker.
        if self.config.workers > 1 {
            self.actions.push_back(Action::Pin(tuple));
        }
    }

    fn unpin(&mut self, tuple: FourTuple) {
        if self.config.workers > 1 {
            self.actions.push_back(Action::Unpin(tuple));
        }
    }

    // ---- the turn ----

    /// `id` has to be looked at in this turn.
    fn touch(&mut self, id: ConnectionId) {
        if let Some(slot) = self.connections.get_mut(id)
            && !slot.queued
        {
            slot.queued = true;
            self.dirty.push_back(id);
        }
    }

    /// Applications have rung.
    pub fn handle_doorbell(&mut self) {
        while let Some(id) = self.doorbell.next() {
            self.touch(id);
        }
        if self.doorbell.take_all() {
            self.connections.awake_or_rung().into_iter().for_each(|id| self.touch(id));
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, cache: &mut PoolCache) {
        self.end_waits_for_answers(now);
        while let Some((at, id)) = self.timers.pop(now) {
            if let Some(due) = self.connections.sleeps_until(id, at) {
                let entry = self.timers.schedule(id, due, None);
                self.connections.set_sleeper_entry(id, entry);
                continue;
            }
            let Some(slot) = self.connections.get_due(id, at) else { continue };
            if slot.timer == Some(at) {
                slot.timer = None;
            }
            if slot.poll_timeout().is_some_and(|due| due <= now) {
                slot.connection.handle_timeout(now, cache);
                self.touch(id);
            } else if slot.is_sleepy(now) {
                slot.timer = self.timers.schedule(id, slot.poll_timeout(), slot.timer);
                self.connections.put_to_sleep(id);
            } else {
                slot.timer = self.timers.schedule(id, slot.look_at(), slot.timer);
            }
        }
    }

    /// When [`Stack::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let answer = self.answering.front().map(|(until, _)| *until);
        answer.into_iter().chain(self.timers.next()).min()
    }

    /// After packets, commands and timers: carries data between connections and applications, and passes events on.
    pub fn settle(&mut self, now: Instant, cache: &mut PoolCache) {
        // No window promises more than the pool can hold: half of it is for what was received.
        let frames = cache.pool().frames() / 2 / self.connections.count().max(1);
        let receive_limit = (frames * SEGMENT).max(RECEIVE_MIN) as u64;
        self.attended.clear();
        for _ in 0..self.dirty.len() {
            let Some(id) = self.dirty.pop_front() else { break };
            self.attended.push(id);
            if let Some(slot) = self.connections.get_mut(id) {
                slot.queued = false;
            }
            self.drain_events(now, id, cache);
            let Some(slot) = self.connections.get_mut(id) else { continue };
            slot.connection.set_receive_limit(receive_limit);
            slot.pump(now, cache);
            // An application that left may have made the connection end.
            self.drain_events(now, id, cache);
            self.let_send(id);
        }
    }

    /// The connections for which [`Stack::settle`] will carry data next.
    pub fn unsettled(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.dirty.iter().copied()
    }

    /// The connections for which [`Stack::settle`] has carried data last: only their applications can have something to
    /// do. In the simulator nobody waits for a wake-up.
    pub fn attended(&self) -> &[ConnectionId] {
        &self.attended
    }

    /// Whether something waits to be sent, or to be looked at.
    pub fn has_work(&self) -> bool {
        !self.dirty.is_empty()
            || !self.senders.is_empty()
            || !self.strays.is_empty()
            || !self.actions.is_empty()
    }

    /// The next thing for the steering program. To be done before packets are sent.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// A flow could not be pinned: without it the peer's packets would go to another worker.
    pub fn handle_pin_failure(&mut self, now: Instant, tuple: FourTuple, cache: &mut PoolCache) {
        self.counters.pin_failures += 1;
        if let Some(&(connection, subflow)) = self.flows.get(&tuple)
            && let Some(slot) = self.connections.get_mut(connection)
        {
            slot.connection.close_subflow(now, subflow, cache);
            self.touch(connection);
        }
    }

    /// The next report for control.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// A report of the worker itself, behind those that wait.
    pub fn queue_report(&mut self, report: Report) {
        self.reports.push_back(report);
    }

    /// Puts a report back that control's ring had no room for.
    pub fn return_report(&mut self, report: Report) {
        self.reports.push_front(report);
    }

    /// Every frame goes back to the pool, and every application is told that its connection is over.
    pub fn clear(&mut self, now: Instant, cache: &mut PoolCache) {
        for id in self.connections.ids() {
            if let Some(slot) = self.connections.get_mut(id) {
                slot.connection.abort(now, CloseReason::Aborted, AbortBy::Reset, cache);
            }
            self.drain_events(now, id, cache);
            self.retire(now, id, cache);
        }
        self.strays.drain(..).for_each(|(_, packet)| cache.complete(packet.index));
        self.gatherings.iter_mut().for_each(|gathering| gathering.clear(cache));
        self.emitter.release(cache);
    }
}

fn find_listener(listeners: &mut [Listener], local: Endpoint) -> Option<&mut Listener> {
    listeners
        .iter_mut()
        .find(|listener| listener.port == local.port && listener.addr.is_none_or(|addr| addr == local.addr))
}

#[cfg(test)]
mod tests;
