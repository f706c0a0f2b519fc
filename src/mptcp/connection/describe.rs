//! The answers for those who ask what a connection is and does.

use super::Connection;
use crate::base::{DataSeq, Instant};
use crate::mptcp::details::{ConnectionDetails, SubflowDetails};
use crate::mptcp::subflow::{Role, Subflow};
use crate::mptcp::{Misbehaviour, SubflowId};
use std::ops::{AddAssign, SubAssign};

/// What a connection adds to its worker's counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// What the peer did wrong.
    pub misbehaviour: Misbehaviour,
    /// Pieces that were sent again on another subflow.
    pub retransmits: u64,
    /// Their bytes.
    pub bytes_retrans: u64,
}

impl Tally {
    /// Each count with the other's.
    fn with(self, other: Self, op: impl Fn(u64, u64) -> u64) -> Self {
        let Self { misbehaviour, retransmits, bytes_retrans } = self;
        let Misbehaviour {
            mapping_conflicts,
            mappings_refused,
            bad_announcements,
            bad_joins,
            bad_data_acks,
            unmapped,
            bad_checksums,
            unagreed_checksums,
        } = misbehaviour;
        let others = other.misbehaviour;
        let misbehaviour = Misbehaviour {
            mapping_conflicts: op(mapping_conflicts, others.mapping_conflicts),
            mappings_refused: op(mappings_refused, others.mappings_refused),
            bad_announcements: op(bad_announcements, others.bad_announcements),
            bad_joins: op(bad_joins, others.bad_joins),
            bad_data_acks: op(bad_data_acks, others.bad_data_acks),
            unmapped: op(unmapped, others.unmapped),
            bad_checksums: op(bad_checksums, others.bad_checksums),
            unagreed_checksums: op(unagreed_checksums, others.unagreed_checksums),
        };
        Self {
            misbehaviour,
            retransmits: op(retransmits, other.retransmits),
            bytes_retrans: op(bytes_retrans, other.bytes_retrans),
        }
    }
}

impl AddAssign for Tally {
    /// Adds what another connection, or another worker's, came to.
    fn add_assign(&mut self, other: Self) {
        *self = self.with(other, |own, other| own + other);
    }
}

impl SubAssign for Tally {
    /// Takes out what was added.
    fn sub_assign(&mut self, other: Self) {
        *self = self.with(other, |own, other| own - other);
    }
}

impl Connection {
    /// All that can be said of it.
    pub fn details(&self, now: Instant) -> ConnectionDetails {
        let since = |at: Option<Instant>| at.map(|at| now.since(at));
        let first = self.local.first_byte();
        ConnectionDetails {
            token: self.token(),
            initiator: self.initiator,
            first: self.first_tuple,
            fallback: self.fallback(),
            congestion: self.options.congestion,
            scheduler: self.scheduler.kind(),
            remote_key_received: self.remote.is_some(),
            checksum: self.has_checksums(),
            write_seq: self.send.end(),
            snd_una: self.send.una(),
            rcv_nxt: self.receive.next(),
            bytes_sent: distance(self.send.next(), first),
            bytes_acked: distance(self.send.una(), first),
            // A DATA_FIN has a number, and is no byte.
            bytes_received: distance(self.receive.next(), self.receive_base)
                .saturating_sub(u64::from(self.receive.is_finished() && self.is_multipath())),
            retransmits: self.send.reinjections(),
            bytes_retrans: self.send.reinjected_bytes(),
            last_data_sent: since(self.activity.sent),
            last_data_recv: since(self.activity.received),
            last_ack_recv: since(self.activity.acked),
            subflows: self.subflows.iter().map(subflow_details).collect(),
        }
    }

    /// One of its subflows.
    pub fn subflow_details(&self, id: SubflowId) -> Option<SubflowDetails> {
        self.index(id).map(|index| subflow_details(&self.subflows[index]))
    }

    /// What it adds to its worker's counts.
    pub fn tally(&self) -> Tally {
        Tally {
            misbehaviour: self.misbehaviour,
            retransmits: self.send.reinjections(),
            bytes_retrans: self.send.reinjected_bytes(),
        }
    }
}

fn distance(to: DataSeq, from: DataSeq) -> u64 {
    to.distance(from).max(0) as u64
}

fn subflow_details(subflow: &Subflow) -> SubflowDetails {
    SubflowDetails {
        id: subflow.id,
        tuple: subflow.tuple,
        port: subflow.path.port,
        local_id: subflow.local_id,
        remote_id: subflow.remote_id,
        initial: subflow.is_initial(),
        by_peer: matches!(subflow.role, Role::JoinPassive { .. }),
        state: subflow.tcb.state(),
        usable: subflow.is_usable(),
        backup_asked: subflow.local_backup,
        backup_wanted: subflow.remote_backup,
        mss: subflow.tcb.mss(),
        tcp: subflow.tcb.info(),
    }
}
