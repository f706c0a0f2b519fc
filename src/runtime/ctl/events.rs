//! Events for those who look on, with the names of `ip mptcp monitor`. The control thread makes them, while anybody
//! looks; the control socket's thread hands them on. The queue between them is bounded: what does not fit is counted and
//! told.

use crate::runtime::wake::WakeFd;
use crate::stack::CloseReason;
use crate::stack::stream::Wake;
use crate::wire::mptcp::{AddressId, MpTcpRst, Token};
use crate::wire::{Endpoint, FourTuple};
use crossbeam::queue::ArrayQueue;
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Events that wait for the control socket's thread.
const EVENTS_MAX: usize = 4096;

/// Something that has happened to a connection or to a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtime) enum PathEvent {
    /// A connection's first handshake is done.
    Created { token: Token, tuple: FourTuple, nic: String, initiator: bool, no_join_remote: bool },
    /// Its peer has confirmed MPTCP: subflows may be joined.
    Established { token: Token },
    /// It is over.
    Closed { token: Token, reason: CloseReason },
    /// The peer has announced an address.
    Announced { token: Token, id: AddressId, remote: Endpoint },
    /// The peer has withdrawn an address.
    Removed { token: Token, id: AddressId },
    /// A subflow has joined.
    SubflowEstablished { token: Token, subflow: SubflowEvent },
    /// A subflow has ended, or did not come about.
    SubflowClosed { token: Token, subflow: SubflowEvent, reason: CloseReason, reset: Option<MpTcpRst> },
    /// A subflow has become a backup, or ceased to be one; the peer wants it so, or we do.
    Priority { token: Token, subflow: SubflowEvent, by_peer: bool },
    /// Connections are accepted at an address and a port, or joins are.
    ListenerCreated { local: Endpoint },
    /// They are no more.
    ListenerClosed { local: Endpoint },
}

/// Which subflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtime) struct SubflowEvent {
    pub(in crate::runtime) id: u32,
    pub(in crate::runtime) tuple: FourTuple,
    pub(in crate::runtime) nic: String,
    pub(in crate::runtime) local_id: AddressId,
    pub(in crate::runtime) remote_id: AddressId,
    pub(in crate::runtime) backup: bool,
}

/// The error numbers of Linux that say the same.
fn errno(reason: CloseReason) -> u32 {
    match reason {
        CloseReason::Finished => 0,
        CloseReason::Refused => 111,
        CloseReason::Reset => 104,
        CloseReason::TimedOut => 110,
        CloseReason::Unreachable => 113,
        CloseReason::Aborted => 103,
        CloseReason::PathDown => 100,
        CloseReason::NoResources => 12,
        CloseReason::Protocol => 71,
    }
}

impl SubflowEvent {
    fn write(&self, object: &mut Map<String, Value>) {
        let Self { id, tuple, nic, local_id, remote_id, backup } = self;
        object.insert("subflow".into(), json!(id));
        object.insert("locid".into(), json!(local_id.0));
        object.insert("remid".into(), json!(remote_id.0));
        write_tuple(tuple, object);
        object.insert("dev".into(), json!(nic));
        object.insert("backup".into(), json!(backup));
    }
}

fn write_end(name: [&str; 2], end: Endpoint, object: &mut Map<String, Value>) {
    object.insert(name[0].into(), json!(end.addr));
    object.insert(name[1].into(), json!(end.port));
}

fn write_tuple(tuple: &FourTuple, object: &mut Map<String, Value>) {
    write_end(["saddr", "sport"], tuple.local, object);
    write_end(["daddr", "dport"], tuple.remote, object);
}

impl PathEvent {
    /// As it goes through the socket.
    pub(super) fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut begin = |name: &str, token: Option<&Token>| {
            object.insert("event".into(), json!(name));
            object.extend(token.map(|token| ("token".to_owned(), json!(token.to_string()))));
        };
        match self {
            Self::Created { token, tuple, nic, initiator, no_join_remote } => {
                begin("CREATED", Some(token));
                write_tuple(tuple, &mut object);
                object.insert("dev".into(), json!(nic));
                object.insert("server_side".into(), json!(!initiator));
                object.insert("deny_join_id0".into(), json!(no_join_remote));
            }
            Self::Established { token } => begin("ESTABLISHED", Some(token)),
            Self::Closed { token, reason } => {
                begin("CLOSED", Some(token));
                write_reason(*reason, &mut object);
            }
            Self::Announced { token, id, remote } => {
                begin("ANNOUNCED", Some(token));
                object.insert("remid".into(), json!(id.0));
                write_end(["daddr", "dport"], *remote, &mut object);
            }
            Self::Removed { token, id } => {
                begin("REMOVED", Some(token));
                object.insert("remid".into(), json!(id.0));
            }
            Self::SubflowEstablished { token, subflow } => {
                begin("SF_ESTABLISHED", Some(token));
                subflow.write(&mut object);
            }
            Self::SubflowClosed { token, subflow, reason, reset } => {
                begin("SF_CLOSED", Some(token));
                subflow.write(&mut object);
                write_reason(*reason, &mut object);
                if let Some(MpTcpRst { transient, flags, reason }) = reset {
                    object.insert("reset_reason".into(), json!(reason.code()));
                    object.insert("reset_flags".into(), json!(flags << 1 | u8::from(*transient)));
                }
            }
            Self::Priority { token, subflow, by_peer } => {
                begin("SF_PRIO", Some(token));
                subflow.write(&mut object);
                object.insert("by".into(), json!(if *by_peer { "peer" } else { "us" }));
            }
            Self::ListenerCreated { local } => {
                begin("LISTENER_CREATED", None);
                write_end(["saddr", "sport"], *local, &mut object);
            }
            Self::ListenerClosed { local } => {
                begin("LISTENER_CLOSED", None);
                write_end(["saddr", "sport"], *local, &mut object);
            }
        }
        Value::Object(object)
    }
}

fn write_reason(reason: CloseReason, object: &mut Map<String, Value>) {
    object.insert("error".into(), json!(errno(reason)));
    object.insert("reason".into(), json!(reason.describe()));
}

/// The queue of events. The control thread pushes, the control socket's thread pops.
#[derive(Debug)]
pub(in crate::runtime) struct EventQueue {
    queue: ArrayQueue<PathEvent>,
    watchers: AtomicUsize,
    lost: AtomicU64,
    wake: WakeFd,
}

impl EventQueue {
    /// An empty queue, which wakes whoever polls `wake`.
    pub(in crate::runtime) fn new(wake: WakeFd) -> Self {
        Self {
            queue: ArrayQueue::new(EVENTS_MAX),
            watchers: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            wake,
        }
    }

    /// Whether anybody wants events. If not, none need be made.
    pub(in crate::runtime) fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    /// Adds an event, or counts it as lost. Never waits.
    pub(in crate::runtime) fn push(&self, event: PathEvent) {
        if self.queue.push(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.wake.wake();
    }

    pub(super) fn set_watchers(&self, watchers: usize) {
        self.watchers.store(watchers, Ordering::Relaxed);
    }

    pub(super) fn pop(&self) -> Option<PathEvent> {
        self.queue.pop()
    }

    /// How many were lost since the last call.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mptcp::ResetReason;

    #[test]
    fn events_have_the_names_and_members_of_ip_mptcp_monitor() {
        let local = Endpoint::new([10, 0, 0, 1].into(), 40_000);
        let remote = Endpoint::new([10, 0, 0, 2].into(), 80);
        let subflow = SubflowEvent {
            id: 1,
            tuple: FourTuple { local, remote },
            nic: "p1".to_owned(),
            local_id: AddressId(3),
            remote_id: AddressId(4),
            backup: true,
        };
        let event = PathEvent::SubflowClosed {
            token: Token(0x2a),
            subflow,
            reason: CloseReason::Reset,
            reset: Some(MpTcpRst { transient: true, flags: 1, reason: ResetReason::LackOfResources }),
        };
        let expected = json!({
            "event": "SF_CLOSED", "token": "0000002a", "subflow": 1, "locid": 3, "remid": 4,
            "saddr": "10.0.0.1", "sport": 40000, "daddr": "10.0.0.2", "dport": 80, "dev": "p1", "backup": true,
            "error": 104, "reason": CloseReason::Reset.describe(), "reset_reason": 2, "reset_flags": 3,
        });
        assert_eq!(event.to_json(), expected);
    }

    #[test]
    fn a_full_queue_counts_what_it_loses() {
        let events = EventQueue::new(WakeFd::new().expect("a descriptor is free"));
        let event = PathEvent::Established { token: Token(1) };
        (0..EVENTS_MAX + 3).for_each(|_| events.push(event.clone()));
        assert_eq!((events.take_lost(), events.take_lost()), (3, 0));
        assert_eq!(std::iter::from_fn(|| events.pop()).count(), EVENTS_MAX);
    }
}
