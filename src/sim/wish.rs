//! What users of a simulated host want of its path manager, and when: the requests of `braid ctl` and of applications.

use crate::base::{Instant, Prng};
use crate::mptcp::SubflowId;
use crate::pm::{EndpointSpec, Flags, Limits, Manager, PmConfig, Policy, SubflowRequest};
use crate::sim::network::HostId;
use crate::stack::ConnectionId;
use crate::wire::mptcp::AddressId;
use std::net::IpAddr;

/// How a host's path manager begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathSpec {
    /// Policy, limits, backup NICs.
    pub config: PmConfig,
    /// The user's endpoints.
    pub endpoints: Vec<EndpointSpec>,
}

/// Something that a user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// One more endpoint.
    AddEndpoint(EndpointSpec),
    /// The endpoint with this id no more.
    DeleteEndpoint(AddressId),
    /// No endpoint at all.
    Flush,
    /// The endpoint with this id as a backup, or not.
    Backup(AddressId, bool),
    /// Another limit of subflows.
    Subflows(usize),
    /// One more subflow of a connection.
    AddSubflow(SubflowRequest),
    /// A subflow of a connection no more.
    RemoveSubflow(SubflowId),
    /// A subflow of a connection as a backup, or not.
    SetBackup(SubflowId, bool),
    /// One more address for a connection.
    AddAddress(IpAddr),
    /// An address of a connection no more.
    RemoveAddress(IpAddr),
}

/// When a user wants it, and where. Wishes for a connection are for the first one that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedWish {
    /// When.
    pub at: Instant,
    /// On which host.
    pub host: HostId,
    /// What.
    pub wish: Wish,
}

impl Wish {
    /// Asks the path manager. True if it does it; that it may refuse is part of the game.
    pub(super) fn ask(self, now: Instant, manager: &mut Manager, first: Option<ConnectionId>) -> bool {
        let worker = crate::base::WorkerId(0);
        match (self, first) {
            (Wish::AddEndpoint(spec), _) => manager.add_endpoint(now, &spec).is_ok(),
            (Wish::DeleteEndpoint(id), _) => manager.delete_endpoint(now, id).is_ok(),
            (Wish::Flush, _) => !manager.flush_endpoints(now).is_empty(),
            (Wish::Backup(id, backup), _) => {
                manager.change_endpoint(now, id, |flags| flags.backup = backup).is_ok()
            }
            (Wish::Subflows(subflows), _) => {
                manager.set_limits(now, Limits { subflows, ..manager.limits() });
                true
            }
            (Wish::AddSubflow(request), Some(id)) => manager.add_subflow(worker, id, &request).is_ok(),
            (Wish::RemoveSubflow(subflow), Some(id)) => manager.remove_subflow(worker, id, subflow).is_ok(),
            (Wish::SetBackup(subflow, backup), Some(id)) => {
                manager.set_backup(worker, id, subflow, backup).is_ok()
            }
            (Wish::AddAddress(addr), Some(id)) => manager.add_address(now, worker, id, addr).is_ok(),
            (Wish::RemoveAddress(addr), Some(id)) => manager.remove_address(now, worker, id, addr).is_ok(),
            (
                Wish::AddSubflow(_)
                | Wish::RemoveSubflow(_)
                | Wish::SetBackup(..)
                | Wish::AddAddress(_)
                | Wish::RemoveAddress(_),
                None,
            ) => false,
        }
    }

    /// Whether it takes paths away. Users of one end do: if those of both did, each could take the path that the other end
    /// counts on.
    pub(super) fn removes(self) -> bool {
        match self {
            Wish::DeleteEndpoint(_) | Wish::Flush | Wish::RemoveSubflow(_) | Wish::RemoveAddress(_) => true,
            Wish::AddEndpoint(_)
            | Wish::Backup(..)
            | Wish::Subflows(_)
            | Wish::AddSubflow(_)
            | Wish::SetBackup(..)
            | Wish::AddAddress(_) => false,
        }
    }

    /// Anything, about a host with these addresses whose peer has `peers`.
    pub(super) fn random(prng: &mut Prng, own: &[IpAddr], peers: &[IpAddr]) -> Self {
        let one = |prng: &mut Prng, list: &[IpAddr]| list[prng.below(list.len() as u64) as usize];
        let id = AddressId(1 + prng.below(own.len() as u64 + 1) as u8);
        let subflow = SubflowId(prng.below(6) as u32);
        let on = prng.chance(0.5);
        match prng.below(12) {
            0 | 1 => Wish::AddEndpoint(EndpointSpec::new(one(prng, own), random_flags(prng))),
            2 => Wish::DeleteEndpoint(id),
            3 => Wish::Backup(id, on),
            4 => Wish::Subflows(prng.below(8) as usize),
            5 | 6 => Wish::AddSubflow(SubflowRequest {
                local: prng.chance(0.5).then(|| one(prng, own)),
                remote: prng.chance(0.5).then(|| one(prng, peers)),
                port: None,
                backup: prng.chance(0.3),
            }),
            7 => Wish::RemoveSubflow(subflow),
            8 => Wish::SetBackup(subflow, on),
            9 => Wish::AddAddress(one(prng, own)),
            10 => Wish::RemoveAddress(one(prng, own)),
            _ => Wish::Flush,
        }
    }
}

/// Flags that go together.
pub(super) fn random_flags(prng: &mut Prng) -> Flags {
    let backup = prng.chance(0.3);
    let none = Flags { backup, ..Flags::NONE };
    match prng.below(6) {
        0 => Flags { signal: true, ..none },
        1 => Flags { subflow: true, ..none },
        2 => Flags { subflow: true, fullmesh: true, ..none },
        3 => Flags { laminar: true, ..none },
        4 => Flags { signal: true, subflow: true, ..none },
        _ => none,
    }
}

/// A policy, and what goes with it, on a host with these addresses.
pub(super) fn random_paths(prng: &mut Prng, own: &[IpAddr], nics: usize) -> PathSpec {
    let policy = match prng.below(4) {
        0 => Policy::Fullmesh,
        1 => Policy::Ndiffports(1 + prng.below(4) as u8),
        2 => Policy::OnePerNic,
        _ => Policy::Endpoints,
    };
    let mut spec = PathSpec { config: PmConfig { policy, ..PmConfig::default() }, endpoints: Vec::new() };
    spec.config.dual_stack = prng.chance(0.3);
    spec.config.limits.subflows = prng.below(9) as usize;
    spec.config.limits.add_addr_accepted = prng.below(6) as usize;
    for nic in 0..nics {
        if prng.chance(0.2) {
            spec.config.backup.push(crate::base::PortId(nic as u16));
        }
    }
    for addr in own {
        if policy == Policy::Endpoints || prng.chance(0.2) {
            let mut endpoint = EndpointSpec::new(*addr, random_flags(prng));
            let only_signal =
                Flags { backup: false, ..endpoint.flags } == Flags { signal: true, ..Flags::NONE };
            endpoint.port = (only_signal && prng.chance(0.5)).then(|| 6000 + prng.below(1000) as u16);
            spec.endpoints.push(endpoint);
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_never_refused_for_its_flags() {
        let own = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 1, 1])];
        let mut prng = Prng::new(1);
        for _ in 0..500 {
            for endpoint in random_paths(&mut prng, &own, 2).endpoints {
                assert_eq!(endpoint.check(), Ok(()), "{endpoint:?}");
            }
            if let Wish::AddEndpoint(endpoint) = Wish::random(&mut prng, &own, &own) {
                assert_eq!(endpoint.check(), Ok(()), "{endpoint:?}");
            }
        }
    }
}
