//! What a user asks of the path manager: endpoints and limits for all connections, and subflows of single ones.

use super::connection::{Connection, Subflow};
use super::endpoint::{EndpointError, EndpointSpec, Flags, LocalEndpoint};
use super::manager::{Manager, withdraw_from};
use super::plan::{Key, Usable};
use super::{Limits, PmCommand, Policy};
use crate::base::{Instant, PortId, WorkerId};
use crate::stack::{ConnectionId, SubflowId};
use crate::wire::mptcp::{AddressId, Token};
use crate::wire::{Endpoint, FourTuple};
use std::net::IpAddr;

/// A subflow that a user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubflowRequest {
    /// From this address; `None`: from one that a route leads from, and that is used least.
    pub local: Option<IpAddr>,
    /// To this address; `None`: to the one that the connection was made to (or the first that was announced).
    pub remote: Option<IpAddr>,
    /// To this port; `None`: the one that the peer announced with the address, or that the connection was made to.
    pub port: Option<u16>,
    /// Only as a backup.
    pub backup: bool,
}

/// Why a user's wish about a connection was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It has ended, or is plain TCP, or there were too many to manage.
    #[error("the connection is not there any more, or is plain TCP")]
    NoConnection,
    /// RFC 8684 §3.2.
    #[error(
        "the peer has not confirmed MPTCP yet (it does with its first data or acknowledgment); try again"
    )]
    NotConfirmed,
    /// The limit of subflows.
    #[error(
        "the connection has {0} subflows beside its first one, the most that the limits allow (limits set)"
    )]
    Limit(usize),
    /// No such subflow.
    #[error("the connection has no subflow {}", .0.0)]
    NoSubflow(SubflowId),
    /// Its end would be the connection's.
    #[error("it is the connection's last subflow; add another one first")]
    LastSubflow,
    /// Not an address from which packets can leave.
    #[error("{0} is not an address of an attached NIC that is up")]
    NotOurs(IpAddr),
    /// No address of ours from which a route leads there.
    #[error("no route leads from an attached NIC to {0}")]
    NoWay(IpAddr),
    /// An IPv4 and an IPv6 address.
    #[error("{0} and {1} are of different families")]
    Families(IpAddr, IpAddr),
    /// Flag C.
    #[error(
        "the peer does not want its first address and port joined (flag C); name one that it has announced"
    )]
    NotWanted,
    /// The peer has not announced any address.
    #[error("the peer has announced no address to join")]
    NoRemote,
    /// More addresses than ids.
    #[error("a connection keeps at most {0} addresses that its application has added or removed")]
    TooManyAddresses(usize),
}

/// What the path manager can say of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionView {
    /// Names it.
    pub token: Token,
    /// Subflows beside the first one, those under way included.
    pub subflows: usize,
    /// Addresses announced to the peer.
    pub announced: usize,
    /// Addresses that the peer has announced and that are kept.
    pub accepted: usize,
    /// Local addresses that subflows leave from, beside the first one's.
    pub local_addresses: usize,
    /// Endpoints that are announced, from which subflows are opened, of those the fullmesh and the laminar ones.
    pub endpoints: [usize; 4],
}

/// What the path manager can say of a subflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubflowView {
    /// Names it.
    pub id: SubflowId,
    /// Its ends.
    pub tuple: FourTuple,
    /// Our id of its local address.
    pub local_id: AddressId,
    /// The peer's id of its remote address.
    pub remote_id: AddressId,
    /// We want it used only as a backup.
    pub backup: bool,
}

/// Addresses that an application can add to or remove from its connection.
const WISHES_MAX: usize = 32;

impl Manager {
    // ---- endpoints ----

    /// The endpoints; implicit ones too where the policy uses them.
    pub fn endpoints(&self) -> impl Iterator<Item = &LocalEndpoint> {
        let by_policy = self.config.policy != Policy::Endpoints;
        self.endpoints.iter().filter(move |endpoint| {
            !endpoint.deleted && (!endpoint.implicit || (by_policy && self.has_address(endpoint.addr)))
        })
    }

    /// An endpoint that the user sees.
    fn shown(&self, id: AddressId) -> Result<(), EndpointError> {
        let shown = self.endpoints().any(|endpoint| endpoint.id == id);
        if shown { Ok(()) } else { Err(EndpointError::UnknownId(id)) }
    }

    /// Whether an endpoint's address is there, on a NIC that can carry packets.
    pub fn is_usable(&self, id: AddressId) -> bool {
        self.usable().iter().any(|usable| usable.id == id)
    }

    /// The NIC that has an address.
    pub fn nic_of(&self, addr: IpAddr) -> Option<PortId> {
        self.addresses.iter().find(|(_, known)| *known == addr).map(|(port, _)| *port)
    }

    fn has_address(&self, addr: IpAddr) -> bool {
        self.nic_of(addr).is_some()
    }

    /// Adds an endpoint. Connections that there are use it, too.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add_endpoint(
        &mut self,
        now: Instant,
        spec: &EndpointSpec,
    ) -> Result<LocalEndpoint, EndpointError> {
        let Self { addresses, endpoints, .. } = self;
        let added = endpoints.add(spec, |addr| addresses.iter().any(|(_, known)| *known == addr))?;
        self.refresh_usable();
        self.apply_backups(added.addr);
        self.evaluate_all(now);
        Ok(added)
    }

    /// Deletes an endpoint: it is withdrawn from peers that know it, and its subflows end. The policy takes its address
    /// over; an implicit endpoint that is deleted is not used any more.
    ///
    /// # Errors
    /// There is none.
    pub fn delete_endpoint(&mut self, now: Instant, id: AddressId) -> Result<LocalEndpoint, EndpointError> {
        self.shown(id)?;
        let Self { addresses, endpoints, .. } = self;
        let gone = endpoints.delete(id, |addr| addresses.iter().any(|(_, known)| *known == addr))?;
        self.retire(&gone);
        self.refresh_usable();
        self.evaluate_all(now);
        Ok(gone)
    }

    /// Withdraws the address of the first subflow from connections that were made from or to it, as the kernel does
    /// for id 0.
    ///
    /// # Errors
    /// No connection's first subflow has this address.
    pub fn delete_first_address(&mut self, addr: IpAddr) -> Result<(), EndpointError> {
        let mut any = false;
        let is_usable = is_usable(self.usable());
        for (key, connection) in &mut self.connections {
            let goes = |subflow: &Subflow| subflow.tuple.local.addr == addr;
            if connection.first().local.addr == addr && connection.survives(goes, &is_usable) {
                connection.let_go(addr);
                withdraw_from(*key, connection, AddressId(0), &mut self.commands);
                any = true;
            }
        }
        if any { Ok(()) } else { Err(EndpointError::UnknownAddress(addr)) }
    }

    /// Deletes all endpoints, the implicit ones too: from then on only what is added is used.
    pub fn flush_endpoints(&mut self, now: Instant) -> Vec<LocalEndpoint> {
        let Self { addresses, endpoints, .. } = self;
        let gone = endpoints.flush(|addr| addresses.iter().any(|(_, known)| *known == addr));
        gone.iter().for_each(|endpoint| self.retire(endpoint));
        self.refresh_usable();
        self.evaluate_all(now);
        gone
    }

    /// Changes the flags of an endpoint. Subflows that there are become backups or cease to be.
    ///
    /// # Errors
    /// There is none, or the flags contradict each other.
    pub fn change_endpoint(
        &mut self,
        now: Instant,
        id: AddressId,
        change: impl FnOnce(&mut Flags),
    ) -> Result<LocalEndpoint, EndpointError> {
        self.shown(id)?;
        let changed = self.endpoints.change(id, change)?;
        self.refresh_usable();
        self.apply_backups(changed.addr);
        self.evaluate_all(now);
        Ok(changed)
    }

    /// Ends the use of an endpoint that is not there any more. A connection keeps the only path that it has.
    fn retire(&mut self, endpoint: &LocalEndpoint) {
        let is_usable = is_usable(self.usable());
        for (key, connection) in &mut self.connections {
            let (worker, id) = *key;
            if let Some(port) = endpoint.port {
                let local = Endpoint::new(endpoint.addr, port);
                let goes = |subflow: &Subflow| subflow.tuple.local == local && subflow.id != SubflowId(0);
                if connection.survives(goes, &is_usable) {
                    let closing = connection.subflows().iter().filter(|subflow| goes(subflow));
                    let close = |subflow: &Subflow| PmCommand::CloseSubflow {
                        worker,
                        connection: id,
                        subflow: subflow.id,
                    };
                    self.commands.extend(closing.map(close));
                    withdraw_from(*key, connection, endpoint.id, &mut self.commands);
                }
                continue;
            }
            let goes = |subflow: &Subflow| subflow.tuple.local.addr == endpoint.addr;
            let is_first = connection.first().local.addr == endpoint.addr;
            if !is_first && connection.survives(goes, &is_usable) {
                connection.let_go(endpoint.addr);
                withdraw_from(*key, connection, endpoint.id, &mut self.commands);
            }
        }
    }

    /// Makes the subflows from an address backups, or no backups, as its endpoint says.
    fn apply_backups(&mut self, addr: IpAddr) {
        let of_addr: Vec<(Key, SubflowId, FourTuple)> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.joins_allowed())
            .flat_map(|(key, connection)| connection.subflows().iter().map(|subflow| (*key, subflow)))
            .filter(|(_, subflow)| subflow.tuple.local.addr == addr)
            .map(|(key, subflow)| (key, subflow.id, subflow.tuple))
            .collect();
        for (key, subflow, tuple) in of_addr {
            self.apply_backup(key, subflow, tuple);
        }
    }

    // ---- limits ----

    /// What the path manager does without endpoints.
    pub fn policy(&self) -> Policy {
        self.config.policy
    }

    /// How much it may do.
    pub fn limits(&self) -> Limits {
        self.config.limits
    }

    /// Changes how much it may do. What there is beyond a lower limit stays.
    pub fn set_limits(&mut self, now: Instant, limits: Limits) {
        self.config.limits = limits;
        self.evaluate_all(now);
    }

    // ---- single connections ----

    /// What is known of a connection.
    pub fn view(&self, worker: WorkerId, id: ConnectionId) -> Option<ConnectionView> {
        let connection = self.connections.get(&(worker, id))?;
        let first = connection.first().local.addr;
        let mut others: Vec<IpAddr> =
            connection.subflows().iter().map(|subflow| subflow.tuple.local.addr).collect();
        others.sort_unstable();
        others.dedup();
        let count = |wanted: fn(Flags) -> bool| self.endpoints().filter(|it| wanted(it.flags)).count();
        Some(ConnectionView {
            token: connection.token(),
            subflows: connection.count().saturating_sub(1),
            announced: connection.announced(),
            accepted: connection.accepted(),
            local_addresses: others.iter().filter(|addr| **addr != first).count(),
            endpoints: [
                count(|flags| flags.signal),
                count(|flags| flags.subflow),
                count(|flags| flags.fullmesh),
                count(|flags| flags.laminar),
            ],
        })
    }

    /// What is known of the subflows of a connection.
    pub fn subflows(&self, worker: WorkerId, id: ConnectionId) -> impl Iterator<Item = SubflowView> + '_ {
        let connection = self.connections.get(&(worker, id));
        let subflows = connection.into_iter().flat_map(|connection| connection.subflows());
        subflows.map(|subflow| SubflowView {
            id: subflow.id,
            tuple: subflow.tuple,
            local_id: subflow.ids.0,
            remote_id: subflow.ids.1,
            backup: subflow.backup,
        })
    }

    /// Opens a subflow. It is not opened again when it fails, unless the plan has it, too.
    ///
    /// # Errors
    /// Why it cannot even be tried.
    pub fn add_subflow(
        &mut self,
        worker: WorkerId,
        id: ConnectionId,
        request: &SubflowRequest,
    ) -> Result<(), RequestError> {
        let connection = self.confirmed((worker, id))?;
        let limit = self.config.limits.subflows;
        if connection.count() > limit {
            return Err(RequestError::Limit(limit));
        }
        let (remote, remote_id) = choose_remote(connection, request)?;
        if connection.no_join_remote() && remote == connection.first().remote {
            return Err(RequestError::NotWanted);
        }
        if let Some(local) = request.local.filter(|local| local.is_ipv4() != remote.addr.is_ipv4()) {
            return Err(RequestError::Families(local, remote.addr));
        }
        let usable = self.choose_local(connection, request.local, remote)?;
        let Some(connection) = self.connections.get_mut(&(worker, id)) else {
            return Err(RequestError::NoConnection);
        };
        let local_id = usable.wire_id(connection);
        let backup = request.backup || usable.flags.backup;
        connection.begin((usable.addr, remote), local_id, backup);
        self.commands.push_back(PmCommand::OpenSubflow {
            worker,
            connection: id,
            local: usable.addr,
            port: usable.port,
            remote,
            local_id,
            remote_id,
            backup,
        });
        Ok(())
    }

    /// Resets a subflow, and opens none between its ends again.
    ///
    /// # Errors
    /// It does not exist, or is the last one.
    pub fn remove_subflow(
        &mut self,
        worker: WorkerId,
        id: ConnectionId,
        subflow: SubflowId,
    ) -> Result<(), RequestError> {
        let is_usable = is_usable(self.usable());
        let connection = self.connections.get_mut(&(worker, id)).ok_or(RequestError::NoConnection)?;
        connection.subflow(subflow).ok_or(RequestError::NoSubflow(subflow))?;
        if !connection.survives(|other| other.id == subflow, is_usable) {
            return Err(RequestError::LastSubflow);
        }
        connection.renounce(subflow);
        self.commands.push_back(PmCommand::CloseSubflow { worker, connection: id, subflow });
        Ok(())
    }

    /// Uses a subflow only as a backup, or again as any other, and asks the peer to do the same (RFC 8684 §3.3.8).
    ///
    /// # Errors
    /// It does not exist, or MPTCP is not confirmed.
    pub fn set_backup(
        &mut self,
        worker: WorkerId,
        id: ConnectionId,
        subflow: SubflowId,
        backup: bool,
    ) -> Result<(), RequestError> {
        self.confirmed((worker, id))?;
        let connection = self.connections.get_mut(&(worker, id)).ok_or(RequestError::NoConnection)?;
        connection.subflow(subflow).ok_or(RequestError::NoSubflow(subflow))?;
        connection.set_backup(subflow, backup);
        // Said again even if it is no news to us: the signal may have been lost, and is not acknowledged.
        self.commands.push_back(PmCommand::SetBackup { worker, connection: id, subflow, backup });
        Ok(())
    }

    /// The application gives a connection one more local address (RFC 6897 §5.3.3, TCP_MULTIPATH_ADD): subflows are
    /// opened from it, or it is announced, whatever policy and endpoints say.
    ///
    /// # Errors
    /// It is not ours, or there are too many.
    pub fn add_address(
        &mut self,
        now: Instant,
        worker: WorkerId,
        id: ConnectionId,
        addr: IpAddr,
    ) -> Result<(), RequestError> {
        if !self.has_address(addr) {
            return Err(RequestError::NotOurs(addr));
        }
        let connection = self.connections.get_mut(&(worker, id)).ok_or(RequestError::NoConnection)?;
        wish(connection, addr, true)?;
        connection.take_back(addr);
        self.evaluate(now, (worker, id));
        Ok(())
    }

    /// The application takes a local address from a connection (TCP_MULTIPATH_REMOVE): its subflows are closed, and the
    /// peer hears of it.
    ///
    /// # Errors
    /// All subflows of the connection leave from it, or there are too many.
    pub fn remove_address(
        &mut self,
        now: Instant,
        worker: WorkerId,
        id: ConnectionId,
        addr: IpAddr,
    ) -> Result<(), RequestError> {
        let of_addr = |it: &&Usable| it.addr == addr && it.join_port.is_none();
        let usable = self.usable().iter().find(of_addr).copied();
        let is_usable = is_usable(self.usable());
        let connection = self.connections.get_mut(&(worker, id)).ok_or(RequestError::NoConnection)?;
        if !connection.survives(|subflow| subflow.tuple.local.addr == addr, is_usable) {
            return Err(RequestError::LastSubflow);
        }
        wish(connection, addr, false)?;
        let address = match usable {
            Some(usable) => usable.wire_id(connection),
            None if connection.first().local.addr == addr => AddressId(0),
            None => return Err(RequestError::NotOurs(addr)),
        };
        connection.let_go(addr);
        withdraw_from((worker, id), connection, address, &mut self.commands);
        self.evaluate(now, (worker, id));
        Ok(())
    }

    /// The endpoint that a subflow to `remote` leaves from: the one with the address that is asked for, or the one that
    /// shares least with what there is.
    fn choose_local(
        &self,
        connection: &Connection,
        local: Option<IpAddr>,
        remote: Endpoint,
    ) -> Result<Usable, RequestError> {
        let ground = self.ground();
        let fits =
            |usable: &&Usable| usable.join_port.is_none() && local.is_none_or(|local| local == usable.addr);
        let candidates = self.usable().iter().filter(fits);
        if let Some(local) = local.filter(|_| candidates.clone().next().is_none()) {
            return Err(RequestError::NotOurs(local));
        }
        let leading = candidates.filter(|usable| ground.leads_to(usable, remote.addr));
        let best = leading.min_by_key(|usable| ground.overlap(connection, usable, remote.addr));
        best.copied().ok_or(RequestError::NoWay(remote.addr))
    }

    fn confirmed(&self, key: Key) -> Result<&Connection, RequestError> {
        let connection = self.connections.get(&key).ok_or(RequestError::NoConnection)?;
        if connection.joins_allowed() { Ok(connection) } else { Err(RequestError::NotConfirmed) }
    }
}

/// Whether packets can leave from an address.
fn is_usable(usable: &[Usable]) -> impl Fn(IpAddr) -> bool + use<> {
    let addrs: Vec<IpAddr> = usable.iter().map(|usable| usable.addr).collect();
    move |addr| addrs.contains(&addr)
}

fn wish(connection: &mut Connection, addr: IpAddr, used: bool) -> Result<(), RequestError> {
    if connection.wish(addr).is_none() && connection.wishes() >= WISHES_MAX {
        return Err(RequestError::TooManyAddresses(WISHES_MAX));
    }
    connection.set_wish(addr, used);
    Ok(())
}

/// Where a subflow that a user wants leads to, and the peer's id of it.
fn choose_remote(
    connection: &Connection,
    request: &SubflowRequest,
) -> Result<(Endpoint, AddressId), RequestError> {
    let family = |addr: IpAddr| request.local.is_none_or(|local| local.is_ipv4() == addr.is_ipv4());
    let is_wanted = |addr: IpAddr| request.remote.map_or_else(|| family(addr), |remote| remote == addr);
    let known = connection.remotes(false).find(|remote| is_wanted(remote.end.addr));
    match (known, request.remote) {
        (Some(known), _) => {
            let end = Endpoint::new(known.end.addr, request.port.unwrap_or(known.end.port));
            Ok((end, known.id))
        }
        // Nobody has announced it. RFC 8684 §3.2: the id that a join names is our own, so that does not matter.
        (None, Some(addr)) => {
            let port = request.port.unwrap_or(connection.first().remote.port);
            Ok((Endpoint::new(addr, port), AddressId(0)))
        }
        (None, None) => Err(RequestError::NoRemote),
    }
}
