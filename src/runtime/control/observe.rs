//! Events for those who look on, made of what workers report, before the path manager hears of it: it forgets what has
//! ended.

use super::Control;
use crate::base::WorkerId;
use crate::mptcp::SubflowId;
use crate::pm::SubflowView;
use crate::runtime::ctl::events::{PathEvent, SubflowEvent};
use crate::runtime::local_ports::Key;
use crate::stack::{ConnectionId, Report};
use crate::wire::FourTuple;
use crate::wire::mptcp::{AddressId, Token};

impl Control {
    /// Tells those who look on, if anybody does.
    pub(super) fn tell(&self, event: impl FnOnce() -> PathEvent) {
        if let Some(events) = self.events.as_ref().filter(|events| events.is_watched()) {
            events.push(event());
        }
    }

    /// Tells of a report.
    pub(super) fn observe(&self, worker: WorkerId, report: &Report) {
        if self.events.as_ref().is_some_and(|events| events.is_watched())
            && let Some(event) = self.event_of(worker, report)
        {
            self.tell(|| event);
        }
    }

    fn event_of(&self, worker: WorkerId, report: &Report) -> Option<PathEvent> {
        match *report {
            Report::Established { token, initiator, tuple, port, no_join_remote, connection: _ } => {
                let nic = self.network.name(port);
                Some(PathEvent::Created { token: token?, tuple, nic, initiator, no_join_remote })
            }
            Report::JoinsAllowed { connection } => {
                Some(PathEvent::Established { token: self.token_of(worker, connection)? })
            }
            Report::SubflowEstablished {
                connection,
                subflow,
                tuple,
                local_id,
                remote_id,
                backup,
                port: _,
            } => {
                let token = self.token_of(worker, connection)?;
                let view = SubflowView { id: subflow, tuple, local_id, remote_id, backup };
                Some(PathEvent::SubflowEstablished { token, subflow: self.subflow_event(view) })
            }
            Report::SubflowClosed { connection, subflow, tuple, reason, reset, established: _ } => {
                let token = self.token_of(worker, connection)?;
                let subflow = self.subflow_view((worker, connection), subflow, tuple);
                Some(PathEvent::SubflowClosed { token, subflow: self.subflow_event(subflow), reason, reset })
            }
            Report::PriorityChanged { connection, subflow, backup } => {
                let view = self.manager.subflows(worker, connection).find(|view| view.id == subflow)?;
                let subflow = self.subflow_event(SubflowView { backup, ..view });
                let token = self.token_of(worker, connection)?;
                Some(PathEvent::Priority { token, subflow, by_peer: true })
            }
            Report::AddressAnnounced { connection, id, remote } => {
                Some(PathEvent::Announced { token: self.token_of(worker, connection)?, id, remote })
            }
            Report::AddressWithdrawn { connection, id } => {
                Some(PathEvent::Removed { token: self.token_of(worker, connection)?, id })
            }
            Report::Closed { connection, reason } => {
                Some(PathEvent::Closed { token: self.token_of(worker, connection)?, reason })
            }
            Report::PortStalled { .. }
            | Report::Finished { .. }
            | Report::Described { .. }
            | Report::Counted { .. }
            | Report::Paths { .. } => None,
        }
    }

    /// Tells that we have made a subflow a backup, or no backup any more.
    pub(super) fn observe_backup(&self, key: Key, subflow: SubflowId, backup: bool) {
        let (worker, connection) = key;
        let view = self.manager.subflows(worker, connection).find(|view| view.id == subflow);
        if let (Some(view), Some(token)) = (view, self.token_of(worker, connection)) {
            let subflow = SubflowView { backup, ..view };
            self.tell(|| PathEvent::Priority { token, subflow: self.subflow_event(subflow), by_peer: false });
        }
    }

    fn token_of(&self, worker: WorkerId, connection: ConnectionId) -> Option<Token> {
        self.connections.get(&(worker, connection))?.token
    }

    /// What is known of a subflow; of one that did not come about, only its ends.
    fn subflow_view(&self, (worker, id): Key, subflow: SubflowId, tuple: FourTuple) -> SubflowView {
        let known = self.manager.subflows(worker, id).find(|view| view.tuple == tuple);
        let (local_id, remote_id) = (AddressId(0), AddressId(0));
        known.unwrap_or(SubflowView { id: subflow, tuple, local_id, remote_id, backup: false })
    }

    fn subflow_event(&self, view: SubflowView) -> SubflowEvent {
        let SubflowView { id, tuple, local_id, remote_id, backup } = view;
        let nic = self.manager.nic_of(tuple.local.addr).map(|port| self.network.name(port));
        SubflowEvent { id: id.0, tuple, nic: nic.unwrap_or_default(), local_id, remote_id, backup }
    }
}
