//! Commands from control.

use super::{JoinRequest, Listener, Slot, Stack};
use crate::base::{Instant, PoolCache};
use crate::mptcp::{AbortBy, Connection};
use crate::stack::message::{Command, ConnectionId, Report};
use crate::stack::slot::FastOpenStage;
use crate::stack::stream::StreamShared;
use crate::tcp::{CloseReason, initial_sequence};
use crate::wire::FourTuple;
use std::sync::Arc;

impl Stack {
    /// Does what control says.
    pub fn handle_command(&mut self, now: Instant, command: Command, cache: &mut PoolCache) {
        match command {
            Command::Listen { id, port, addr, options, accept } => {
                self.listeners.push(Listener { id, port, addr, options, accept, half_open: 0 });
            }
            Command::Unlisten(id) => self.listeners.retain(|listener| listener.id != id),
            Command::Connect { tuple, path, options, stream } => {
                if !self.has_room(now, cache) || self.flows.contains_key(&tuple) {
                    stream.set_closed(CloseReason::NoResources);
                    return;
                }
                let setup = self.setup(now, tuple, path, options);
                self.connect(now, &setup, stream);
            }
            Command::OpenSubflow { connection, tuple, path, local_id, remote_id, backup } => {
                let request = JoinRequest {
                    tuple,
                    path,
                    local_id,
                    remote_id,
                    backup,
                    nonce: self.prng.next_u32(),
                    iss: initial_sequence(&self.secret, &tuple, now),
                };
                self.open_subflow(now, connection, &request);
            }
            Command::CloseSubflow { connection, subflow } => {
                self.with(connection, |slot| slot.connection.close_subflow(now, subflow, cache));
            }
            Command::Announce { connection, id, addr, port } => {
                self.with(connection, |slot| slot.connection.announce(now, id, addr, port));
                if let Some(slot) = self.connections.get_mut(connection) {
                    slot.connection.handle_timeout(now, cache);
                }
            }
            Command::Withdraw { connection, id } => {
                self.with(connection, |slot| slot.connection.withdraw(now, id, cache));
            }
            Command::SetBackup { connection, subflow, backup } => {
                self.with(connection, |slot| slot.connection.set_backup(now, subflow, backup));
            }
            Command::SetScheduler { connection, scheduler } => {
                self.with(connection, |slot| slot.connection.set_scheduler(scheduler));
            }
            Command::SetCongestion { connection, congestion } => {
                self.with(connection, |slot| slot.connection.set_congestion(congestion));
            }
            Command::SetBeside { connection, paths } => {
                self.with(connection, |slot| slot.connection.set_beside(paths));
            }
            Command::PortState { port, up } => {
                if !up {
                    self.with_all(|slot| slot.connection.handle_port_down(now, port, cache));
                }
            }
            Command::Neighbour { port, before, after } => {
                self.with_all(|slot| slot.connection.handle_neighbour(port, before, after));
            }
            Command::Describe { connection, ticket } => {
                let details = self.connection(connection).map(|it| Box::new(it.details(now)));
                self.reports.push_back(Report::Described { ticket, details });
            }
            Command::Count { ticket } => {
                let counters = Box::new(self.worker_counters());
                self.reports.push_back(Report::Counted { ticket, counters });
            }
            Command::Shutdown => {
                self.listeners.clear();
                // Nobody will be there to say it again.
                self.with_all(|slot| slot.connection.abort(now, CloseReason::Aborted, AbortBy::Reset, cache));
            }
        }
    }

    fn connect(&mut self, now: Instant, setup: &crate::mptcp::Setup, stream: Arc<StreamShared>) {
        self.counters.opened += 1;
        let mut connection = Connection::connect(now, setup);
        let stage = match setup.options.fast_open {
            true => self.ask_fast_open(now, &mut connection),
            false => FastOpenStage::Over,
        };
        let mut slot = Slot::new(connection, Some(Arc::clone(&stream)), None);
        slot.fast_open = stage;
        let id = self.insert(slot, setup.tuple);
        self.pin(setup.tuple);
        stream.set_identity(id, setup.tuple);
    }

    fn open_subflow(&mut self, now: Instant, connection: ConnectionId, request: &JoinRequest) {
        let free = !self.flows.contains_key(&request.tuple);
        let opened = match self.connections.get_mut(connection) {
            Some(slot) if free => slot.connection.open_subflow(now, request),
            Some(_) | None => None,
        };
        match opened {
            Some(subflow) => {
                self.flows.insert(request.tuple, (connection, subflow));
                self.pin(request.tuple);
                self.touch(connection);
            }
            // Control has reserved a port for it, and hears that it can give it back.
            None => self.refuse_subflow(connection, request.tuple),
        }
    }

    fn refuse_subflow(&mut self, connection: ConnectionId, tuple: FourTuple) {
        self.reports.push_back(Report::SubflowClosed {
            connection,
            subflow: crate::mptcp::SubflowId(u32::MAX),
            tuple,
            reason: CloseReason::NoResources,
            reset: None,
            established: false,
        });
    }

    fn with(&mut self, id: ConnectionId, act: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.connections.get_mut(id) {
            act(slot);
            self.touch(id);
        }
    }

    fn with_all(&mut self, mut act: impl FnMut(&mut Slot)) {
        for id in self.connections.ids() {
            self.with(id, &mut act);
        }
    }
}
