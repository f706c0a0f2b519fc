//! One connection over its subflows. It composes the parts and dispatches to them: handshakes in `establish.rs`
//! and, with data, `opening.rs`, arriving
//! packets in `receive.rs`, leaving ones in `transmit.rs`, falling back in `falling.rs`, the end in `closing.rs`, what
//! the application wants in `application.rs`, what the path manager wants in `paths.rs`, time in `timers.rs`.
//!
//! A connection that is plain TCP, from the start or by falling back, is the same thing with one subflow, no options,
//! and data sequence numbers that follow from the subflow's.

use crate::base::time::Duration;
use crate::base::{DataSeq, Instant};
use crate::mptcp::Tuning;
use crate::mptcp::addr::Addresses;
use crate::mptcp::autotune::Autotune;
use crate::mptcp::batching::Batching;
use crate::mptcp::crypto::{KeyMaterial, Keys};
use crate::mptcp::data_recv::ReceiveQueue;
use crate::mptcp::data_send::SendQueue;
use crate::mptcp::details::Activity;
use crate::mptcp::fallback::{Failure, Farewell};
use crate::mptcp::negotiation::Negotiation;
use crate::mptcp::sched::ActiveScheduler;
use crate::mptcp::signalling::{Signalling, Signals};
use crate::mptcp::subflow::{Role, Subflow};
use crate::mptcp::subflow_set::SubflowSet;
use crate::mptcp::subflows::Subflows;
use crate::mptcp::{
    ConnectOptions, ConnectionEvent, FallbackReason, Misbehaviour, Path, Setup, SubflowFigures, SubflowId,
};
use crate::tcp::{Tcb, TcpConfig, WindowOwner};
use crate::wire::mptcp::ShortOrLong;
use crate::wire::{FourTuple, Mss, Packet};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::IpAddr;

mod application;
mod closing;
mod coupling;
mod describe;
mod establish;
mod falling;
mod following;
mod inspect;
mod opening;
mod paths;
mod receive;
mod run;
mod schedule;
mod timers;
mod transmit;

pub use closing::AbortBy;
pub use describe::Tally;
pub use establish::JoinRequest;
pub use transmit::Transmit;

use closing::FastClose;
use opening::AwaitedData;
use run::Run;

/// Subflows of one connection, those in their handshake included. More are refused.
pub const SUBFLOWS_MAX: usize = 32;
/// Bytes that wait to be sent for the first time: the application is asked for more when there is less.
pub const UNSENT_MAX: u64 = 256 * 1024;
/// Ended subflows whose figures are kept for reports.
const HISTORY_MAX: usize = 16;
/// RFC 8684 §3.3.3: how long a connection without a subflow lives on (break before make).
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(60);
/// The same when the peer reset the last subflow without a word: a peer that is gone should not be waited for long.
const ORPHAN_RESET_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// A connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct Connection {
    options: ConnectOptions,
    tcp: TcpConfig,
    initiator: bool,
    mode: Mode,
    negotiation: Negotiation,
    /// A checksum failed, and the peer has not said yet what follows from it.
    failure: Option<Failure>,
    /// Between these addresses, ours and the peer's, a subflow was reset last because its options did not come any more.
    options_lost: Option<(IpAddr, IpAddr)>,
    /// Bytes without a mapping are held, and the peer was asked a second time for the third ACKs of joins.
    joins_asked_again: bool,
    /// What we still say after falling back.
    farewell: Option<Farewell>,
    /// MP_FAILs that were answered after that.
    fail_answers: u8,
    local: KeyMaterial,
    remote: Option<KeyMaterial>,
    subflows: Subflows,
    next_subflow: u32,
    /// Subflows were joined at some time: the connection can't fall back any more.
    ever_joined: bool,
    first_tuple: FourTuple,
    send: SendQueue,
    receive: ReceiveQueue,
    /// Data sequence number of the first byte of each direction, for plain TCP.
    receive_base: DataSeq,
    /// No data of the peer has come with a data sequence number of 64 bits, or the latest did not: our DATA_ACKs may have
    /// 32, too (RFC 8684 §3.3.2).
    short_data_acks: bool,
    /// The first data byte that the peer's window does not cover.
    send_edge: DataSeq,
    send_side: SendSide,
    batching: Batching,
    /// Bytes of the receive buffer that the application holds, or that wait for it elsewhere.
    unread: u64,
    /// What the receive buffer may be now: what the paths need, and what the worker has frames for.
    receive_limit: u64,
    autotune: Autotune,
    scheduler: ActiveScheduler,
    /// The scheduler's last decision, as far as it holds for what follows.
    #[serde(skip)]
    run: Option<Run>,
    /// When subflows are coupled next; `None`: their windows know nothing of each other.
    couple_at: Option<Instant>,
    /// The other connections of its bundle. One that rests forgets them.
    #[serde(skip)]
    beside: Option<Box<coupling::Beside>>,
    addresses: Addresses,
    /// DATA_FIN, data that was dropped behind a subflow's ACK, and probes of a closed window are repeated at this time.
    data_timer: Option<Instant>,
    data_backoff: u32,
    /// The peer of the only subflow was asked whether it has fallen back, as it has acknowledged data there only.
    asked_at: Option<Instant>,
    /// No subflow is left: the end, unless one comes.
    orphan_at: Option<Instant>,
    /// The peer has joined a subflow when none was left.
    came_back: bool,
    /// The end at the latest, where the peer seems to be gone and does not say so.
    orphan_latest_at: Option<Instant>,
    fast_close: Option<FastClose>,
    /// Our SYN waits for data that it shall carry.
    awaited_data: Option<AwaitedData>,
    /// Resets carry MP_FASTCLOSE.
    names_key_on_resets: bool,
    joins_allowed: bool,
    /// The peer has shown without a DSS that it has our key.
    keys_proven: bool,
    closed: bool,
    /// A SYN has ended TIME-WAIT: it is for a listener.
    reopened: bool,
    /// Where the turn over subflows begins, so that none starves.
    turn: usize,
    history: Vec<SubflowFigures>,
    misbehaviour: Misbehaviour,
    activity: Activity,
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
        let mut connection = Self::new(setup, Mode::Answering, false);
        connection.answer(syn);
        let config = connection.subflow_config(&setup.path, setup.tuple, WindowOwner::Subflow);
        let tcb = Tcb::accept(now, config, setup.iss, &syn.tcp, &syn.options);
        connection.first_subflow(tcb, setup);
        connection
    }

    /// Takes up what a SYN cookie began (RFC 4987 §3.6): `syn` is what the cookie has kept of the SYN, and the packet that
    /// brings the cookie back is to be handled next.
    pub fn resume(now: Instant, setup: &Setup, syn: &Packet) -> Self {
        let mut connection = Self::accept(now, setup, syn);
        connection.subflows.iter_mut().for_each(|subflow| subflow.tcb.assume_answered(now));
        connection
    }

    fn new(setup: &Setup, mode: Mode, initiator: bool) -> Self {
        let first = setup.key.first_byte();
        let autotune = Autotune::default();
        let receive_limit = autotune.limit().min(u64::from(setup.options.receive_buffer));
        Self {
            options: setup.options,
            tcp: setup.tcp.with_congestion(setup.options.congestion),
            initiator,
            mode,
            negotiation: Negotiation::new(&setup.options),
            failure: None,
            options_lost: None,
            joins_asked_again: false,
            farewell: None,
            fail_answers: 0,
            local: setup.key,
            remote: None,
            subflows: Subflows::default(),
            next_subflow: 0,
            ever_joined: false,
            first_tuple: setup.tuple,
            send: SendQueue::new(first),
            receive: ReceiveQueue::new(DataSeq::default()),
            receive_base: DataSeq::default(),
            short_data_acks: true,
            send_edge: first,
            send_side: SendSide::Open,
            batching: Batching::new(&setup.options.tuning),
            unread: 0,
            receive_limit,
            autotune,
            scheduler: ActiveScheduler::new(setup.options.scheduler),
            run: None,
            couple_at: setup.options.congestion.is_coupled().then_some(Instant::ZERO),
            beside: None,
            addresses: Addresses::default(),
            data_timer: None,
            data_backoff: 0,
            asked_at: None,
            orphan_at: None,
            came_back: false,
            orphan_latest_at: None,
            fast_close: None,
            awaited_data: None,
            names_key_on_resets: false,
            joins_allowed: false,
            keys_proven: false,
            closed: false,
            reopened: false,
            turn: 0,
            history: Vec::new(),
            misbehaviour: Misbehaviour::default(),
            activity: Activity::default(),
            events: VecDeque::new(),
        }
    }

    fn first_subflow(&mut self, tcb: Tcb, setup: &Setup) {
        self.push_subflow(tcb, setup.tuple, setup.path, Role::Initial);
    }

    fn push_subflow(&mut self, tcb: Tcb, tuple: FourTuple, path: Path, role: Role) -> SubflowId {
        let id = SubflowId(self.next_subflow);
        self.next_subflow += 1;
        let taken: SubflowSet = self.subflows.iter().map(|subflow| subflow.slot).collect();
        let slot = taken.first_free().expect("the caller looks at SUBFLOWS_MAX");
        let mut subflow = Subflow::new(id, slot, tcb, tuple, path, role);
        subflow.looked_at = self.send.una();
        self.subflows.push(subflow);
        id
    }

    /// TCP's settings for a subflow over `path`.
    fn subflow_config(&self, path: &Path, tuple: FourTuple, window_owner: WindowOwner) -> TcpConfig {
        let headers = if tuple.remote.addr.is_ipv4() { 40 } else { 60 };
        // What a port takes in one frame it says by the path's MTU; no packet is longer than this.
        let most = crate::base::pool::PACKET_MAX - crate::wire::ethernet::HEADER_MAX - headers;
        let mss = usize::from(path.mtu).saturating_sub(headers).min(most);
        // RFC 9293 §3.7.1: and no more than the application wants.
        let mss = self.options.max_segment.map_or(mss, |most| mss.min(most.get()));
        // The smallest shift with which 16 bits can say the whole buffer.
        let buffer = self.options.receive_buffer.max(1);
        let window_scale = (0..14).find(|shift| buffer >> shift <= 0xffff).unwrap_or(14) as u8;
        let Tuning { keep_alive, user_timeout, .. } = self.options.tuning;
        let mss = Mss::new(mss as u16);
        TcpConfig { mss, window_scale, window_owner, keep_alive, user_timeout, ..self.tcp }
    }

    /// A subflow's memory will be needed soon.
    pub fn prefetch(&self, id: SubflowId) {
        if let Some(index) = self.index(id) {
            crate::base::pool::prefetch(&self.subflows[index]);
        }
    }

    fn index(&self, id: SubflowId) -> Option<usize> {
        self.subflows.place(id)
    }

    fn keys(&self) -> Option<Keys> {
        Some(Keys { local: self.local, remote: self.remote? })
    }

    fn is_multipath(&self) -> bool {
        matches!(self.mode, Mode::Multipath { .. })
    }

    fn signalling(&self) -> Signalling {
        let flags = self.negotiation.flags();
        match (self.mode, self.keys()) {
            (Mode::Plain(_), _) => match self.farewell {
                Some(farewell) => Signalling::Falling(farewell, flags),
                None => Signalling::Plain,
            },
            (Mode::Offering, _) => Signalling::Offering(flags),
            (Mode::Answering, _) => Signalling::Answering(flags, self.local.key),
            (Mode::Multipath { confirmed }, Some(keys)) => {
                let keys_due = self.initiator && !confirmed && !self.keys_proven;
                Signalling::Multipath(Signals {
                    keys,
                    flags,
                    keys_due,
                    data_ack: self.data_ack_form(),
                    data_came: self.receive.next() != self.receive_base,
                    data_fin: (self.send_side == SendSide::FinSent).then(|| self.send.end()),
                    data_fin_alone: self.send_side == SendSide::FinSent && !self.is_keys_turn(keys_due),
                    fail: self.failure.map(|failure| failure.data_seq),
                    fast_close: self.names_key_on_resets,
                })
            }
            (Mode::Multipath { .. }, None) => unreachable!("a multipath connection has both keys"),
        }
    }

    /// RFC 8684 §3.3.2: 64-bit numbers are acknowledged with 64 bits. To a peer that sends 32, the shorter form leaves room
    /// for another SACK block.
    fn data_ack_form(&self) -> ShortOrLong {
        let next = self.receive.next().raw();
        if self.short_data_acks { ShortOrLong::Short(next as u32) } else { ShortOrLong::Long(next) }
    }

    /// RFC 8684 §3.1: the initiator's keys may have been lost with its third ACK, and a responder that lacks them
    /// understands no DATA_FIN. Where no data will follow that brings them, and as both don't fit into one segment, they
    /// take turns until a DSS shows that the responder has the keys.
    fn is_keys_turn(&self, keys_due: bool) -> bool {
        keys_due && !self.data_backoff.is_multiple_of(2)
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

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ConnectionEvent> {
        self.events.pop_front()
    }
}
