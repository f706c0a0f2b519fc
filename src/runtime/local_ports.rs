//! Which local ports are ours, since when and until when: reserved in the kernel and known to the steering program.
//! A flow's port is given back when the stack has done with the flow (after TIME-WAIT); a listener's when it is
//! closed and its last connection has ended.

use super::error::{ListenError, PortError};
use super::reserve::Reservation;
use crate::base::WorkerId;
use crate::stack::stream::StreamState;
use crate::stack::{ConnectionId, ListenerId, StreamShared};
use crate::wire::{Endpoint, FourTuple};
use crate::xdp::Xdp;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Listeners of one process.
const LISTENERS_MAX: usize = 256;
/// Addresses and ports at which only joins are taken.
const JOIN_PORTS_MAX: usize = 1024;

/// Names a connection of the process.
pub(super) type Key = (WorkerId, ConnectionId);

/// What tells the steering program which endpoints are ours.
pub(super) trait Steer {
    fn steer(&self, local: Endpoint) -> Result<(), PortError>;
    fn unsteer(&self, local: Endpoint);
}

impl Steer for Xdp {
    fn steer(&self, local: Endpoint) -> Result<(), PortError> {
        Ok(self.steer_local(local, false)?)
    }

    fn unsteer(&self, local: Endpoint) {
        self.unsteer_local(local);
    }
}

#[derive(Debug)]
struct Flow {
    reservation: Reservation,
    /// The connection that it is for; none yet, where that is being opened.
    holder: Option<Key>,
}

#[derive(Debug)]
struct Listening {
    reservation: Reservation,
    connections: usize,
    closed: bool,
}

/// An address and a port that peers are told to join at, where no connection begins: it takes MP_JOIN and nothing else.
#[derive(Debug)]
struct JoinPort {
    _reservation: Reservation,
    /// An endpoint announces it to all.
    is_endpoint: bool,
    /// Connections that have announced it.
    users: HashSet<Key>,
}

/// All local ports of the process.
#[derive(Debug)]
pub(super) struct LocalPorts<S: Steer> {
    steering: Arc<S>,
    flows: HashMap<FourTuple, Flow>,
    /// Flows without a connection yet, and what the application waits at. Few, while flows may be very many.
    openings: HashMap<FourTuple, Arc<StreamShared>>,
    /// How many flows each connection has, where it has any.
    held: HashMap<Key, usize>,
    listeners: BTreeMap<ListenerId, Listening>,
    /// Connections that a listener accepted.
    accepted: HashMap<Key, ListenerId>,
    joins: HashMap<Endpoint, JoinPort>,
    next_listener: u32,
}

impl<S: Steer> LocalPorts<S> {
    pub(super) fn new(steering: Arc<S>) -> Self {
        Self {
            steering,
            flows: HashMap::new(),
            openings: HashMap::new(),
            held: HashMap::new(),
            listeners: BTreeMap::new(),
            accepted: HashMap::new(),
            joins: HashMap::new(),
            next_listener: 0,
        }
    }

    /// A port at `local` for the first subflow of a connection to `remote`.
    pub(super) fn open(
        &mut self,
        local: IpAddr,
        remote: Endpoint,
        stream: &Arc<StreamShared>,
    ) -> Result<FourTuple, PortError> {
        let reservation = self.spare(local)?;
        let tuple = FourTuple { local: reservation.local(), remote };
        self.adopt(tuple, reservation, Arc::clone(stream));
        Ok(tuple)
    }

    /// A port at `local` for a further subflow of `connection` to `remote`.
    pub(super) fn join(
        &mut self,
        local: IpAddr,
        remote: Endpoint,
        connection: Key,
    ) -> Result<FourTuple, PortError> {
        let reservation = self.spare(local)?;
        let tuple = FourTuple { local: reservation.local(), remote };
        self.flows.insert(tuple, Flow { reservation, holder: Some(connection) });
        *self.held.entry(connection).or_default() += 1;
        Ok(tuple)
    }

    /// A port at `local` for a flow to come: [`LocalPorts::adopt`], or [`LocalPorts::release`].
    pub(super) fn spare(&self, local: IpAddr) -> Result<Reservation, PortError> {
        let asked = Endpoint::new(local, 0);
        let reservation =
            Reservation::new(asked).map_err(|error| PortError::from_bind(asked.into(), error))?;
        self.steering.steer(reservation.local())?;
        Ok(reservation)
    }

    /// A spare port has become that of the first subflow of a connection.
    pub(super) fn adopt(&mut self, tuple: FourTuple, reservation: Reservation, stream: Arc<StreamShared>) {
        self.flows.insert(tuple, Flow { reservation, holder: None });
        self.openings.insert(tuple, stream);
    }

    /// A spare port is not needed.
    pub(super) fn release(&self, reservation: Reservation) {
        self.steering.unsteer(reservation.local());
    }

    /// A connection is established: one of ours, or one that a listener accepted. True if that listener is bound to one
    /// address.
    pub(super) fn handle_established(&mut self, connection: Key, tuple: FourTuple, initiator: bool) -> bool {
        if initiator {
            self.openings.remove(&tuple);
            if let Some(flow) = self.flows.get_mut(&tuple)
                && flow.holder.is_none()
            {
                flow.holder = Some(connection);
                *self.held.entry(connection).or_default() += 1;
            }
            return false;
        }
        // Where one listener has the port at any address and another at this one, the more specific accepted it.
        let serves = |listening: &Listening| {
            let local = listening.reservation.local();
            local.port == tuple.local.port && (local.addr.is_unspecified() || local.addr == tuple.local.addr)
        };
        let candidates = self.listeners.iter_mut().filter(|(_, listening)| serves(listening));
        let listener = candidates.max_by_key(|(_, l)| !l.reservation.local().addr.is_unspecified());
        let Some((id, listening)) = listener else { return false };
        listening.connections += 1;
        self.accepted.insert(connection, *id);
        !listening.reservation.local().addr.is_unspecified()
    }

    /// The stack has done with a flow.
    pub(super) fn handle_flow_closed(&mut self, tuple: FourTuple) {
        self.openings.remove(&tuple);
        let Some(flow) = self.flows.remove(&tuple) else { return };
        self.steering.unsteer(flow.reservation.local());
        let Some(connection) = flow.holder else { return };
        if let Some(held) = self.held.get_mut(&connection) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&connection);
            }
        }
    }

    /// The stack has done with a connection.
    pub(super) fn handle_closed(&mut self, connection: Key) {
        // Its flows have been closed one by one; only where one was not all have to be looked through.
        if self.held.contains_key(&connection) {
            let left = self.flows.iter().filter(|(_, flow)| flow.holder == Some(connection));
            let left: Vec<FourTuple> = left.map(|(tuple, _)| *tuple).collect();
            left.into_iter().for_each(|tuple| self.handle_flow_closed(tuple));
        }
        self.release_joins(|join| {
            join.users.remove(&connection);
        });
        let Some(id) = self.accepted.remove(&connection) else { return };
        if let Some(listening) = self.listeners.get_mut(&id) {
            listening.connections -= 1;
        }
        self.end_listener(id);
    }

    /// Gives back ports of connections that a worker turned down before it gave them a name.
    pub(super) fn sweep(&mut self) {
        let refused = self
            .openings
            .iter()
            .filter(|(_, stream)| stream.state() == StreamState::Closed && stream.identity().is_none());
        let refused: Vec<FourTuple> = refused.map(|(tuple, _)| *tuple).collect();
        refused.into_iter().for_each(|tuple| self.handle_flow_closed(tuple));
    }

    /// Whether [`LocalPorts::sweep`] may have something to do later.
    pub(super) fn has_openings(&self) -> bool {
        !self.openings.is_empty()
    }

    /// A listener's port, at one address or, where that is unspecified, at all of both families. Nothing is steered
    /// to it yet.
    pub(super) fn listen(&mut self, local: SocketAddr) -> Result<(ListenerId, SocketAddr), ListenError> {
        if self.listeners.len() >= LISTENERS_MAX {
            return Err(ListenError::TooMany(LISTENERS_MAX));
        }
        let reserved = if local.ip().is_unspecified() {
            Reservation::any(local.port())
        } else {
            Reservation::new(local.into())
        };
        let reservation = reserved.map_err(|error| PortError::from_bind(local, error))?;
        let bound = SocketAddr::new(local.ip(), reservation.local().port);
        let id = ListenerId(self.next_listener);
        self.next_listener = self.next_listener.wrapping_add(1);
        self.listeners.insert(id, Listening { reservation, connections: 0, closed: false });
        Ok((id, bound))
    }

    /// Steers packets to a listener, once the workers know it.
    pub(super) fn steer_listener(&mut self, id: ListenerId) -> Result<(), PortError> {
        let Some(listening) = self.listeners.get(&id) else { return Ok(()) };
        let steered = self.steering.steer(listening.steered());
        if steered.is_err() {
            self.listeners.remove(&id);
        }
        steered
    }

    /// Where a listener listens.
    pub(super) fn listener(&self, id: ListenerId) -> Option<Endpoint> {
        self.listeners.get(&id).map(|listening| listening.reservation.local())
    }

    /// A listener is closed. Its port stays ours while connections that it accepted live.
    pub(super) fn unlisten(&mut self, id: ListenerId) {
        if let Some(listening) = self.listeners.get_mut(&id) {
            listening.closed = true;
            self.end_listener(id);
        }
    }

    /// Whether a listener takes what comes to `local`.
    fn is_steered(&self, local: Endpoint) -> bool {
        let serves = |listening: &Listening| {
            let own = listening.reservation.local();
            own.port == local.port && (own.addr.is_unspecified() || own.addr == local.addr)
        };
        self.listeners.values().any(serves)
    }

    /// An endpoint announces an address with a port: joins come there, and nothing else does.
    pub(super) fn open_join(&mut self, local: Endpoint) -> Result<(), PortError> {
        if let Some(join) = self.join_port(local)? {
            join.is_endpoint = true;
        }
        Ok(())
    }

    /// It announces it no more. Connections that have announced it keep it.
    pub(super) fn close_join(&mut self, local: Endpoint) {
        if let Some(join) = self.joins.get_mut(&local) {
            join.is_endpoint = false;
        }
        self.release_joins(|_| {});
    }

    /// A connection announces `local`.
    pub(super) fn announce_join(&mut self, local: Endpoint, connection: Key) -> Result<(), PortError> {
        if let Some(join) = self.join_port(local)? {
            join.users.insert(connection);
        }
        Ok(())
    }

    /// The place for joins at `local`, made if need be; `None`: packets to it come to us anyway.
    fn join_port(&mut self, local: Endpoint) -> Result<Option<&mut JoinPort>, PortError> {
        if !self.joins.contains_key(&local) {
            if self.is_steered(local) {
                return Ok(None);
            }
            if self.joins.len() >= JOIN_PORTS_MAX {
                return Err(PortError::TooManyJoins(JOIN_PORTS_MAX));
            }
            let reservation =
                Reservation::new(local).map_err(|error| PortError::from_bind(local.into(), error))?;
            self.steering.steer(local)?;
            let users = HashSet::new();
            let join = JoinPort { _reservation: reservation, is_endpoint: false, users };
            self.joins.insert(local, join);
        }
        Ok(self.joins.get_mut(&local))
    }

    fn release_joins(&mut self, mut change: impl FnMut(&mut JoinPort)) {
        let steering = &self.steering;
        self.joins.retain(|local, join| {
            change(join);
            let kept = join.is_endpoint || !join.users.is_empty();
            if !kept {
                steering.unsteer(*local);
            }
            kept
        });
    }

    fn end_listener(&mut self, id: ListenerId) {
        let over = |listening: &Listening| listening.closed && listening.connections == 0;
        let ended = self.listeners.get(&id).is_some_and(over).then(|| self.listeners.remove(&id));
        if let Some(listening) = ended.flatten() {
            self.steering.unsteer(listening.steered());
        }
    }
}

impl Listening {
    /// The entry of the steering program: one stands for any address of both families.
    fn steered(&self) -> Endpoint {
        let local = self.reservation.local();
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        if local.addr.is_unspecified() { Endpoint::new(any, local.port) } else { local }
    }
}

#[cfg(test)]
mod tests;
