//! The path manager's side: addresses announced and withdrawn, subflows closed or kept as a backup, NICs that go down.

use super::Connection;
use crate::base::{Instant, PoolCache, PortId};
use crate::mptcp::sched::ActiveScheduler;
use crate::mptcp::subflow::{Role, Subflow};
use crate::mptcp::{SchedulerKind, SubflowId};
use crate::tcp::CloseReason;
use crate::wire::mptcp::{AddressId, MpPrio, RemoveAddr, ResetReason};
use crate::wire::{IcmpError, MacAddr, MptcpOption};
use std::net::IpAddr;

impl Connection {
    /// Tells the peer of an address. Does nothing on plain TCP.
    pub fn announce(&mut self, now: Instant, id: AddressId, addr: IpAddr, port: Option<u16>) {
        if self.is_multipath() {
            self.addresses.announce(now, id, addr, port);
        }
    }

    /// Tells the peer that an address is gone, and resets the subflows from it.
    pub fn withdraw(&mut self, now: Instant, id: AddressId, cache: &mut PoolCache) {
        if !self.is_multipath() {
            return;
        }
        let known = self.addresses.withdraw(id);
        // Pitfall 26: the address of the first subflow has the id 0.
        let leaving = |subflow: &&Subflow| subflow.local_id == id;
        let used: Vec<SubflowId> = self.subflows.iter().filter(leaving).map(|s| s.id).collect();
        if known || !used.is_empty() {
            let mut removal = RemoveAddr { address_ids: Default::default() };
            removal.address_ids.push(id);
            self.signal_on_survivor(now, &used, MptcpOption::RemoveAddr(removal));
        }
        for &subflow in &used {
            while let Some(index) = self.index(subflow)
                && let Some(removal) = self.subflows[index].take_removals()
            {
                self.signal_on_survivor(now, &used, removal);
            }
        }
        for subflow in used {
            // RFC 8684 §3.4.2: resets on the affected subflows, as a courtesy. What they held does not wait for that.
            if let Some(index) = self.index(subflow) {
                self.subflows[index].close_reason = CloseReason::PathDown;
                self.subflows[index].reset(now, ResetReason::Unspecified.into());
                self.drain_events(now, subflow, None, cache);
            }
        }
        self.send.strand(self.unusable());
    }

    /// Pitfall 27: signals about an address that goes leave on a subflow that stays, if there is one.
    pub(super) fn signal_on_survivor(&mut self, now: Instant, dying: &[SubflowId], signal: MptcpOption) {
        let stays = |subflow: &&mut Subflow| !dying.contains(&subflow.id) && subflow.is_usable();
        if let Some(subflow) = self.subflows.iter_mut().find(stays) {
            subflow.signal(now, signal);
        }
    }

    /// Resets a subflow because the path manager says so. If the peer has opened it, it may have lost those that we take for
    /// alive, and they would keep it out for ever.
    pub fn close_subflow(&mut self, now: Instant, id: SubflowId, cache: &mut PoolCache) {
        if let Some(index) = self.index(id) {
            if matches!(self.subflows[index].role, Role::JoinPassive { .. }) {
                self.doubt_all_but(now, id);
            }
            self.subflows[index].reset(now, ResetReason::Prohibited.into());
            self.drain_events(now, id, None, cache);
        }
    }

    /// The peer behaves as if it had fewer subflows than we know of. Who only receives does not notice that one is gone: so
    /// the peer is asked on each of them.
    pub(super) fn doubt_all_but(&mut self, now: Instant, id: SubflowId) {
        self.subflows.iter_mut().filter(|subflow| subflow.id != id).for_each(|subflow| subflow.doubt(now));
    }

    /// Asks the peer to use a subflow only as a backup, or again as any other (RFC 8684 §3.3.8).
    pub fn set_backup(&mut self, now: Instant, id: SubflowId, backup: bool) {
        if let Some(index) = self.index(id).filter(|_| self.is_multipath()) {
            self.subflows[index].local_backup = backup;
            self.subflows[index].signal(now, MptcpOption::Prio(MpPrio { backup }));
        }
    }

    /// Has another scheduler spread the data from now on.
    pub fn set_scheduler(&mut self, kind: SchedulerKind) {
        if self.scheduler.kind() != kind {
            self.scheduler = ActiveScheduler::new(kind);
        }
    }

    /// A NIC can pass no packets: its subflows end, unless that would leave none that lives. It may be back before another
    /// comes about; and where the peer has just withdrawn what is left, it would hear nothing of the end.
    pub fn handle_port_down(&mut self, now: Instant, port: PortId, cache: &mut PoolCache) {
        let survivors = self.subflows.iter().any(|it| it.path.port != port && it.is_alive());
        if !self.is_multipath() || !survivors {
            return;
        }
        let dying: Vec<SubflowId> =
            self.subflows.iter().filter(|s| s.path.port == port).map(|s| s.id).collect();
        for id in dying {
            self.end_subflow(now, id, CloseReason::PathDown, None, cache);
        }
    }

    /// The next hop's link address has changed.
    pub fn handle_neighbour(&mut self, port: PortId, before: MacAddr, after: MacAddr) {
        for subflow in &mut self.subflows {
            if subflow.path.port == port && subflow.path.link.dst == before {
                subflow.path.link.dst = after;
            }
        }
    }

    /// An ICMP error about one of our segments.
    pub fn handle_icmp(&mut self, now: Instant, id: SubflowId, error: &IcmpError, cache: &mut PoolCache) {
        if let Some(index) = self.index(id) {
            self.subflows[index].tcb.handle_icmp(now, error);
            self.drain_events(now, id, None, cache);
        }
    }
}
