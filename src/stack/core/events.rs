//! Events of connections: to the tables, to control, to applications.

use super::{AbortBy, ConnectionEvent, Stack};
use crate::base::{Instant, PoolCache};
use crate::mptcp::Mib;
use crate::stack::connections::Counted;
use crate::stack::message::{ConnectionId, Report};
use crate::stack::slot::FastOpenStage;
use crate::stack::stream::{FastOpenUse, StreamShared};
use crate::tcp::CloseReason;
use std::sync::Arc;

impl Stack {
    /// Passes on what has happened to a connection.
    pub(super) fn drain_events(&mut self, now: Instant, id: ConnectionId, cache: &mut PoolCache) {
        while let Some(slot) = self.connections.get_mut(id)
            && let Some(event) = slot.connection.poll_event()
        {
            match event {
                ConnectionEvent::Established => {
                    self.learn_fast_open(now, id);
                    self.handle_established(now, id, cache);
                }
                ConnectionEvent::Confirmed => self.confirm_fast_open(id),
                ConnectionEvent::FellBack(reason) => {
                    slot.stream.iter().for_each(|stream| stream.set_fallback(Some(reason)));
                    slot.publish(now);
                    self.counted.count_fallback(reason);
                }
                ConnectionEvent::JoinsAllowed => {
                    self.reports.push_back(Report::JoinsAllowed { connection: id })
                }
                ConnectionEvent::SubflowEstablished(subflow) => {
                    slot.publish(now);
                    if let Some(details) = slot.connection.subflow_details(subflow) {
                        self.half_open_joins.end(&details.tuple);
                        self.counted.mptcp.add(Mib::JoinAckRx, u64::from(details.by_peer));
                        self.reports.push_back(Report::SubflowEstablished {
                            connection: id,
                            subflow,
                            tuple: details.tuple,
                            port: details.port,
                            local_id: details.local_id,
                            remote_id: details.remote_id,
                            backup: details.backup_asked || details.backup_wanted,
                        });
                    }
                }
                ConnectionEvent::PriorityChanged { id: subflow, backup } => {
                    self.reports.push_back(Report::PriorityChanged { connection: id, subflow, backup });
                }
                ConnectionEvent::SubflowClosed { id: subflow, tuple, reason, reset, established } => {
                    slot.publish(now);
                    self.flows.remove(&tuple);
                    self.half_open_joins.end(&tuple);
                    self.last = None;
                    self.unpin(tuple);
                    let report =
                        Report::SubflowClosed { connection: id, subflow, tuple, reason, reset, established };
                    self.reports.push_back(report);
                }
                ConnectionEvent::PathsDue => {
                    let peer = slot.connection.first_tuple().remote.addr;
                    let paths = slot.connection.paths_to_tell(now);
                    self.reports.push_back(Report::Paths { connection: id, peer, paths });
                }
                ConnectionEvent::AddressAnnounced(address, remote) => {
                    self.reports.push_back(Report::AddressAnnounced { connection: id, id: address, remote });
                }
                ConnectionEvent::AddressWithdrawn(address) => {
                    self.reports.push_back(Report::AddressWithdrawn { connection: id, id: address });
                }
                ConnectionEvent::Closed(reason) => {
                    slot.closed = Some(reason);
                    self.end_fast_open(now, id, reason);
                    let Some(slot) = self.connections.get_mut(id) else { continue };
                    if reason != CloseReason::Finished {
                        // What has arrived can still be read; the rest will not come.
                        slot.stream.iter().for_each(|stream| stream.set_closed(reason));
                    }
                    self.touch(id);
                }
            }
        }
    }

    fn handle_established(&mut self, now: Instant, id: ConnectionId, cache: &mut PoolCache) {
        let Some(slot) = self.connections.get_mut(id) else { return };
        let connection = &slot.connection;
        match connection.fallback() {
            Some(reason) => self.counted.count_fallback(reason),
            None => self.counted.mptcp.add(Mib::CapableAckRx, u64::from(!connection.is_initiator())),
        }
        let tuple = connection.first_tuple();
        let port = connection.tuples().next().map_or(crate::base::PortId(0), |(_, _, path)| path.port);
        self.reports.push_back(Report::Established {
            connection: id,
            token: connection.token(),
            initiator: connection.is_initiator(),
            tuple,
            port,
            no_join_remote: connection.no_join_remote(),
        });
        let accepting = slot.listener.take();
        if accepting.is_some() {
            let stream = StreamShared::with_tuning(Arc::clone(&self.doorbell), slot.connection.tuning());
            stream.set_identity(id, tuple);
            if slot.fast_open == (FastOpenStage::Unconfirmed { with_data: true }) {
                stream.set_fast_open(FastOpenUse::Accepted);
            }
            slot.stream = Some(stream);
        }
        slot.publish(now);
        let Some(stream) = slot.stream.clone() else { return };
        stream.set_fallback(slot.connection.fallback());
        let mut answers = stream.set_open();
        if let Some(listener) = accepting {
            let listener = self.listeners.iter_mut().find(|other| other.id == listener);
            let taken = listener.and_then(|listener| {
                listener.half_open -= 1;
                listener.accept.push(stream).ok()
            });
            match taken {
                Some(awaited) => answers |= awaited,
                None => {
                    self.counters.accept_overflows += 1;
                    slot.connection.abort(now, CloseReason::NoResources, AbortBy::Ack, cache);
                }
            }
        }
        if answers {
            slot.expect_answer(now);
        }
    }

    /// A connection is over and has said its last words.
    pub(super) fn retire(&mut self, now: Instant, id: ConnectionId, cache: &mut PoolCache) {
        let Some(mut slot) = self.connections.remove(id) else { return };
        let reason = slot.closed.unwrap_or(CloseReason::Aborted);
        // Its handshake did not end.
        let waiting = slot.listener.take();
        self.listeners
            .iter_mut()
            .filter(|listener| Some(listener.id) == waiting)
            .for_each(|listener| listener.half_open -= 1);
        let counted = Counted::of(&slot.connection);
        self.counted.tally += counted.tally;
        self.counters.tcp += counted.tcp;
        self.tokens.remove(&slot.connection.reserved_token());
        slot.publish(now);
        slot.retire(reason, cache);
        self.counters.closed += 1;
        self.reports.push_back(Report::Closed { connection: id, reason });
    }
}
