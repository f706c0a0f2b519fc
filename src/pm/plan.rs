//! The plan: which subflow a connection lacks most, and which addresses its peer has yet to hear of. What is wanted
//! follows from endpoints, policy and what the peer has announced; so a subflow that failed is wanted again by itself,
//! once its pair may be tried again.

use super::connection::{Connection, Remote, Subflow};
use super::endpoint::{Endpoints, Flags};
use super::manager::withdraw_from;
use super::policy::{Policy, Uses};
use super::routes::Routes;
use super::{Limits, PmCommand};
use crate::base::{Instant, PortId, WorkerId};
use crate::mptcp::addr::ADDRESSES_MAX;
use crate::stack::ConnectionId;
use crate::wire::mptcp::AddressId;
use std::collections::VecDeque;
use std::net::IpAddr;

/// Names a connection of the host.
pub(super) type Key = (WorkerId, ConnectionId);

/// An endpoint whose address is there, on a NIC that can carry packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usable {
    pub(super) port: PortId,
    pub(super) addr: IpAddr,
    pub(super) id: AddressId,
    /// The port that joins come to, where it is not that of the first subflow. No subflow is opened from it.
    pub(super) join_port: Option<u16>,
    pub(super) flags: Flags,
    /// The user wants it not used, except where routes choose it.
    pub(super) deleted: bool,
}

impl Usable {
    /// Its id on the wire. RFC 8684 §3.2: that of the first subflow's address is 0.
    pub(super) fn wire_id(&self, connection: &Connection) -> AddressId {
        let first = self.join_port.is_none() && self.addr == connection.first().local.addr;
        if first { AddressId(0) } else { self.id }
    }
}

/// What the plan of a connection is made from.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    pub(super) policy: Policy,
    pub(super) dual_stack: bool,
    pub(super) limits: Limits,
    pub(super) usable: &'a [Usable],
    pub(super) routes: &'a Routes,
    /// There are laminar endpoints, usable or not: then announced addresses wait for them.
    pub(super) laminar: bool,
}

impl Ground<'_> {
    /// Begins the subflow that shares least with those that there are. `stranded`: there was none when it was begun to
    /// look for some.
    pub(super) fn next_subflow(
        &self,
        now: Instant,
        (worker, id): Key,
        connection: &mut Connection,
        stranded: bool,
    ) -> Option<PmCommand> {
        if connection.count() > self.limits.subflows {
            return None;
        }
        let mut best: Option<(usize, Usable, Remote)> = None;
        for usable in self.usable.iter().filter(|usable| usable.join_port.is_none()) {
            for remote in connection.remotes(stranded) {
                let pair = (usable.addr, remote.end);
                if !self.leads_to(usable, remote.end.addr) || !connection.is_open_to(now, pair) {
                    continue;
                }
                let in_use = connection.pairs_in_use().filter(|other| *other == pair).count();
                if in_use >= self.wanted(connection, usable, remote, stranded) {
                    continue;
                }
                let overlap = self.overlap(connection, usable, remote.end.addr);
                if best.is_none_or(|(least, ..)| overlap < least) {
                    best = Some((overlap, *usable, *remote));
                }
            }
        }
        let (_, usable, remote) = best?;
        let local_id = usable.wire_id(connection);
        connection.begin((usable.addr, remote.end), local_id, usable.flags.backup);
        Some(PmCommand::OpenSubflow {
            worker,
            connection: id,
            local: usable.addr,
            port: usable.port,
            remote: remote.end,
            local_id,
            remote_id: remote.id,
            backup: usable.flags.backup,
        })
    }

    /// Withdraws what the peer has heard of and is not there any more (RFC 8684 §3.4.2). While a connection has no path
    /// that works, that waits: there is nothing to say it on, and the worker would end the only one, which may come back. It
    /// gives when what waits for a subflow that has just come about may be withdrawn.
    pub(super) fn withdraw(
        &self,
        now: Instant,
        key: Key,
        connection: &mut Connection,
        endpoints: &Endpoints,
        commands: &mut VecDeque<PmCommand>,
    ) -> Option<Instant> {
        let first = connection.first().local.addr;
        let gone = |id: &AddressId| {
            let is_id = |usable: &Usable| match id {
                AddressId(0) => usable.addr == first && usable.join_port.is_none(),
                id => usable.id == *id,
            };
            !self.usable.iter().any(is_id)
        };
        let gone: Vec<AddressId> = connection.known_ids().filter(gone).collect();
        let is_usable = |addr| self.usable.iter().any(|usable| usable.addr == addr);
        let mut next: Option<Instant> = None;
        for id in gone {
            let addr = if id == AddressId(0) { Some(first) } else { endpoints.get(id).map(|it| it.addr) };
            let goes = |subflow: &Subflow| Some(subflow.tuple.local.addr) == addr;
            match connection.may_lose_at(now, goes, is_usable) {
                Some(at) if at <= now => withdraw_from(key, connection, id, commands),
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        next
    }

    /// Announces what the peer has not heard of (RFC 8684 §3.4.1). Without `by_policy` only what the user asks for.
    pub(super) fn announce(
        &self,
        (worker, id): Key,
        connection: &mut Connection,
        by_policy: bool,
        commands: &mut VecDeque<PmCommand>,
    ) {
        for usable in self.usable {
            if self.uses(connection, usable).by_policy && !by_policy {
                continue;
            }
            let address = usable.wire_id(connection);
            if !self.is_to_be_announced(connection, usable) || !connection.should_announce(address) {
                continue;
            }
            if connection.announced() >= ADDRESSES_MAX {
                return;
            }
            connection.set_announced(address);
            let (addr, port) = (usable.addr, usable.join_port);
            commands.push_back(PmCommand::Announce { worker, connection: id, id: address, addr, port });
        }
    }

    fn is_to_be_announced(&self, connection: &Connection, usable: &Usable) -> bool {
        let uses = self.uses(connection, usable);
        if !uses.signal || !uses.by_policy {
            return uses.signal;
        }
        let on_nic = || self.usable.iter().filter(|other| other.port == usable.port && !other.deleted);
        let is_first = |other: &Usable| other.addr == connection.first().local.addr;
        let of_first_family = |other: &Usable| other.addr.is_ipv4() == is_ipv4(connection);
        if !self.dual_stack && !of_first_family(usable) && on_nic().any(of_first_family) {
            return false;
        }
        let known = |other: &Usable| is_first(other) || connection.is_announced(other.wire_id(connection));
        self.policy != Policy::OnePerNic || is_first(usable) || !on_nic().any(known)
    }

    /// What an address is used for.
    fn uses(&self, connection: &Connection, usable: &Usable) -> Uses {
        let none = Uses::default();
        match connection.wish(usable.addr) {
            Some(false) => return none,
            Some(true) if usable.join_port.is_none() => {
                let uses = Policy::Fullmesh.uses(Flags::NONE, connection.initiator());
                return Uses { by_policy: false, ..uses };
            }
            Some(true) | None => {}
        }
        if usable.deleted {
            return none;
        }
        let uses = self.policy.uses(usable.flags, connection.initiator());
        // RFC 6897 §5.3.2: an application that has bound to an address gets no others that nobody has asked for.
        if uses.by_policy && connection.bound() { none } else { uses }
    }

    /// How many subflows there should be between the two.
    fn wanted(&self, connection: &Connection, usable: &Usable, remote: &Remote, stranded: bool) -> usize {
        if let Policy::Ndiffports(count) = self.policy
            && !usable.flags.say_use()
            && !usable.deleted
        {
            let is_pair =
                usable.addr == connection.first().local.addr && is_target(connection, remote, stranded);
            return if connection.initiator() && is_pair { usize::from(count) } else { 0 };
        }
        let uses = self.uses(connection, usable);
        let local_in_use = || connection.pairs_in_use().any(|(local, _)| local == usable.addr);
        let remote_in_use = || connection.pairs_in_use().any(|(_, end)| end == remote.end);
        let announced = !remote.is_first();
        let plain = if announced { uses.announced } else { uses.first };
        let wanted = (plain && self.fits_family(connection, uses, usable))
            || (uses.laminar && announced && !local_in_use() && !remote_in_use())
            || (uses.per_nic
                && !self.is_nic_in_use(connection, usable.port)
                && self.fits_family(connection, uses, usable))
            // Pitfall 7: where the first address may not be joined, addresses that would have gone there go to announced ones.
            || (uses.first && connection.no_join_remote() && announced && !local_in_use())
            || (self.is_left_to_routes(connection, remote) && !remote_in_use())
            // What the application asked for itself, before any endpoint or policy.
            || (stranded
                && connection.initiator()
                && remote.is_first()
                && usable.addr == connection.first().local.addr
                && connection.wish(usable.addr) != Some(false));
        usize::from(wanted)
    }

    /// As in the kernel: an announced address for which no endpoint stands ready gets a subflow from the address that the
    /// routes choose.
    fn is_left_to_routes(&self, connection: &Connection, remote: &Remote) -> bool {
        if self.policy != Policy::Endpoints || connection.bound() || remote.is_first() || self.laminar {
            return false;
        }
        let stands_ready = |usable: &Usable| {
            let uses = self.uses(connection, usable);
            let ready = uses.announced || (uses.first && connection.no_join_remote());
            ready && usable.addr.is_ipv4() == remote.end.addr.is_ipv4()
        };
        !self.usable.iter().any(stands_ready)
    }

    /// The policy goes to the other family only with NICs that come nowhere with the first one's, unless both are wanted.
    fn fits_family(&self, connection: &Connection, uses: Uses, usable: &Usable) -> bool {
        if !uses.by_policy || self.dual_stack || usable.addr.is_ipv4() == is_ipv4(connection) {
            return true;
        }
        let reaches = |other: &Usable| {
            other.port == usable.port
                && other.addr.is_ipv4() == is_ipv4(connection)
                && self.uses(connection, other) != Uses::default()
                && connection.remotes(false).any(|remote| self.leads_to(other, remote.end.addr))
        };
        !self.usable.iter().any(reaches)
    }

    /// Whether packets from the endpoint to `remote` may leave through its NIC.
    pub(super) fn leads_to(&self, usable: &Usable, remote: IpAddr) -> bool {
        usable.addr.is_ipv4() == remote.is_ipv4() && self.routes.allow(usable.port, remote)
    }

    fn port_of(&self, addr: IpAddr) -> Option<PortId> {
        self.usable.iter().find(|usable| usable.addr == addr).map(|usable| usable.port)
    }

    fn is_nic_in_use(&self, connection: &Connection, port: PortId) -> bool {
        connection.pairs_in_use().any(|(local, _)| self.port_of(local) == Some(port))
    }

    /// How often the NIC and the peer's address are in use already: less is better.
    pub(super) fn overlap(&self, connection: &Connection, usable: &Usable, remote: IpAddr) -> usize {
        let shares = connection.pairs_in_use().map(|(local, end)| {
            let same_nic = local == usable.addr || self.port_of(local) == Some(usable.port);
            usize::from(same_nic) + usize::from(end.addr == remote)
        });
        shares.sum()
    }
}

/// Whether ndiffports opens its subflows to this address: the first one, or the first that is announced where that may
/// not be joined.
fn is_target(connection: &Connection, remote: &Remote, stranded: bool) -> bool {
    let is_one = |remote: &&Remote| {
        let family = remote.end.addr.is_ipv4() == is_ipv4(connection);
        family && (remote.is_first() || connection.no_join_remote())
    };
    connection.remotes(stranded).find(is_one).is_some_and(|target| target.end == remote.end)
}

fn is_ipv4(connection: &Connection) -> bool {
    connection.first().local.addr.is_ipv4()
}
