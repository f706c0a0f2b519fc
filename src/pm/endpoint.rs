//! Endpoints, in the words of `ip mptcp`: local addresses with flags that say what they are for. Some are the user's; the
//! others are *implicit*: one for each usable address of the host, which the policy uses as it sees fit. Every endpoint
//! has an id, and on the wire its address has that id (but for the address of a connection's first subflow, which is 0).

use crate::base::PortId;
use crate::wire::mptcp::AddressId;
use std::fmt;
use std::net::IpAddr;

/// What an endpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Announce the address to each peer (ADD_ADDR).
    pub signal: bool,
    /// Open a subflow from it to the address to which the connection was made.
    pub subflow: bool,
    /// Use its subflows only as backups.
    pub backup: bool,
    /// Open a subflow from it to each address that the peer announces.
    pub fullmesh: bool,
    /// Open one subflow from it, to an announced address that no other subflow leads to: so addresses pair off.
    pub laminar: bool,
}

impl Flags {
    /// Their names, as `ip mptcp` writes them.
    pub const NAMES: [&str; 5] = ["signal", "subflow", "backup", "fullmesh", "laminar"];

    /// No flag.
    pub const NONE: Flags =
        Flags { signal: false, subflow: false, backup: false, fullmesh: false, laminar: false };

    /// Sets the flag of that name. False: there is none.
    pub fn set(&mut self, name: &str, value: bool) -> bool {
        let flag = match name {
            "signal" => &mut self.signal,
            "subflow" => &mut self.subflow,
            "backup" => &mut self.backup,
            "fullmesh" => &mut self.fullmesh,
            "laminar" => &mut self.laminar,
            _ => return false,
        };
        *flag = value;
        true
    }

    /// The names of those that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let Self { signal, subflow, backup, fullmesh, laminar } = self;
        let set = [signal, subflow, backup, fullmesh, laminar];
        Self::NAMES.into_iter().zip(set).filter_map(|(name, set)| set.then_some(name))
    }

    /// Whether they say what the address is used for. If not, the policy does.
    pub fn say_use(self) -> bool {
        let Self { signal, subflow, backup: _, fullmesh, laminar } = self;
        signal || subflow || fullmesh || laminar
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names().collect();
        f.write_str(&names.join(" "))
    }
}

/// An endpoint that a user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Its address.
    pub addr: IpAddr,
    /// Let joins come to this port of it, whatever port the connection was made to.
    pub port: Option<u16>,
    /// Only on this NIC.
    pub nic: Option<PortId>,
    /// Its id; `None`: one that is free.
    pub id: Option<AddressId>,
    /// What it is for.
    pub flags: Flags,
}

impl EndpointSpec {
    /// An endpoint with these flags, on any port and NIC.
    pub fn new(addr: IpAddr, flags: Flags) -> Self {
        Self { addr, port: None, nic: None, id: None, flags }
    }

    /// Whether its parts go together, by the kernel's rules.
    ///
    /// # Errors
    /// What contradicts what.
    pub fn check(&self) -> Result<(), EndpointError> {
        let Flags { signal, subflow, fullmesh, laminar, backup: _ } = self.flags;
        if self.addr.is_unspecified() || self.addr.is_loopback() || self.addr.is_multicast() {
            return Err(EndpointError::NoAddress(self.addr));
        }
        if self.id == Some(AddressId(0)) {
            return Err(EndpointError::IdZero);
        }
        if self.port == Some(0) {
            return Err(EndpointError::PortZero);
        }
        if self.port.is_some() && (!signal || subflow || fullmesh || laminar) {
            return Err(EndpointError::PortWithoutSignal);
        }
        if signal && fullmesh {
            return Err(EndpointError::SignalAndFullmesh);
        }
        if fullmesh && laminar {
            return Err(EndpointError::FullmeshAndLaminar);
        }
        Ok(())
    }
}

/// Why an endpoint was not added, changed or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not an address that a peer could send to.
    #[error("{0} is not an address that a peer could send to")]
    NoAddress(IpAddr),
    /// Id 0 belongs to another address for each connection.
    #[error("id 0 is the address of each connection's first subflow; ids of endpoints are 1 to 255")]
    IdZero,
    /// Port 0 is none.
    #[error("a port is between 1 and 65535")]
    PortZero,
    /// A port is for joins that come to it.
    #[error("a port needs the flag signal, and neither subflow, fullmesh nor laminar: peers join there")]
    PortWithoutSignal,
    /// As in the kernel.
    #[error("signal and fullmesh exclude each other: let one end announce, and the other one open the mesh")]
    SignalAndFullmesh,
    /// Each address, or only one.
    #[error("fullmesh and laminar exclude each other: each announced address, or one that is free")]
    FullmeshAndLaminar,
    /// There is one already.
    #[error("there is an endpoint {0} with that address already; delete it first, or change it")]
    Exists(AddressId),
    /// Another endpoint has the id.
    #[error("id {0} is taken by {1}; leave the id out, and a free one is chosen")]
    IdTaken(AddressId, IpAddr),
    /// The address has an id already, under which peers know it.
    #[error("{1} has id {0} already, under which peers know it; leave the id out")]
    HasId(AddressId, IpAddr),
    /// All ids are taken.
    #[error("all 255 ids are taken; delete an endpoint first")]
    Full,
    /// No such endpoint.
    #[error("there is no endpoint with id {0}")]
    UnknownId(AddressId),
    /// No such endpoint.
    #[error("there is no endpoint with address {0}")]
    UnknownAddress(IpAddr),
}

/// An endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// Names it, here and on the wire.
    pub id: AddressId,
    /// Its address.
    pub addr: IpAddr,
    /// The port that it announces with it.
    pub port: Option<u16>,
    /// The only NIC that it is used on.
    pub nic: Option<PortId>,
    /// What it is for.
    pub flags: Flags,
    /// Nobody asked for it: it stands for an address of the host.
    pub implicit: bool,
    /// Implicit, and the user wants it not used. It only keeps the address's id.
    pub deleted: bool,
}

/// All endpoints, in the order in which they came. At most as many as there are ids: 255.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    list: Vec<LocalEndpoint>,
    /// The id that was given last. The next ones follow it, so that an id comes to another address as late as can be.
    last_id: u8,
}

impl Endpoints {
    pub(super) fn iter(&self) -> impl Iterator<Item = &LocalEndpoint> {
        self.list.iter()
    }

    pub(super) fn get(&self, id: AddressId) -> Option<&LocalEndpoint> {
        self.list.iter().find(|endpoint| endpoint.id == id)
    }

    /// Adds what the user asks for. An implicit endpoint with the same address makes room, and leaves its id.
    /// `is_present` says of an address whether the host has it: ids of others can be taken away.
    pub(super) fn add(
        &mut self,
        spec: &EndpointSpec,
        is_present: impl Fn(IpAddr) -> bool,
    ) -> Result<LocalEndpoint, EndpointError> {
        spec.check()?;
        let EndpointSpec { addr, port, nic, id, flags } = *spec;
        let make = |id| LocalEndpoint { id, addr, port, nic, flags, implicit: false, deleted: false };
        if let Some(known) = self.list.iter_mut().find(|known| known.addr == addr && known.port == port) {
            if !known.implicit {
                return Err(EndpointError::Exists(known.id));
            }
            if id.is_some_and(|id| id != known.id) {
                return Err(EndpointError::HasId(known.id, addr));
            }
            *known = make(known.id);
            return Ok(*known);
        }
        let id = match id.map(|id| (id, self.get(id))) {
            Some((id, Some(other))) => return Err(EndpointError::IdTaken(id, other.addr)),
            Some((id, None)) => id,
            None => self.free_id(is_present).ok_or(EndpointError::Full)?,
        };
        let endpoint = make(id);
        self.list.push(endpoint);
        Ok(endpoint)
    }

    /// The host has got an address. False: there is no id left for it.
    pub(super) fn add_implicit(
        &mut self,
        addr: IpAddr,
        flags: Flags,
        is_present: impl Fn(IpAddr) -> bool,
    ) -> bool {
        if let Some(known) = self.list.iter_mut().find(|known| known.addr == addr && known.port.is_none()) {
            // An address that comes anew is used anew.
            known.deleted = false;
            return true;
        }
        let Some(id) = self.free_id(is_present) else { return false };
        let (port, nic) = (None, None);
        self.list.push(LocalEndpoint { id, addr, port, nic, flags, implicit: true, deleted: false });
        true
    }

    /// Deletes an endpoint. Its address stays as an implicit one (which the policy uses, if it was not implicit before)
    /// where `is_present` says that the host has it.
    pub(super) fn delete(
        &mut self,
        id: AddressId,
        is_present: impl Fn(IpAddr) -> bool,
    ) -> Result<LocalEndpoint, EndpointError> {
        let place = self.list.iter().position(|endpoint| endpoint.id == id && !endpoint.deleted);
        let place = place.ok_or(EndpointError::UnknownId(id))?;
        let endpoint = self.list[place];
        if endpoint.port.is_some() || !is_present(endpoint.addr) {
            self.list.remove(place);
        } else {
            let deleted = endpoint.implicit;
            self.list[place] =
                LocalEndpoint { nic: None, flags: Flags::NONE, implicit: true, deleted, ..endpoint };
        }
        Ok(endpoint)
    }

    /// Deletes all, the implicit ones too.
    pub(super) fn flush(&mut self, is_present: impl Fn(IpAddr) -> bool) -> Vec<LocalEndpoint> {
        let gone: Vec<LocalEndpoint> =
            self.list.iter().filter(|endpoint| !endpoint.deleted).copied().collect();
        self.list.retain(|endpoint| endpoint.port.is_none() && is_present(endpoint.addr));
        for kept in &mut self.list {
            (kept.nic, kept.flags, kept.implicit, kept.deleted) = (None, Flags::NONE, true, true);
        }
        gone
    }

    /// Sets flags of an endpoint.
    pub(super) fn change(
        &mut self,
        id: AddressId,
        change: impl FnOnce(&mut Flags),
    ) -> Result<LocalEndpoint, EndpointError> {
        let known = self.list.iter_mut().find(|endpoint| endpoint.id == id && !endpoint.deleted);
        let known = known.ok_or(EndpointError::UnknownId(id))?;
        let mut flags = known.flags;
        change(&mut flags);
        EndpointSpec { addr: known.addr, port: known.port, nic: known.nic, id: None, flags }.check()?;
        known.flags = flags;
        Ok(*known)
    }

    /// The next id that is free. Where none is, the one of an implicit endpoint whose address the host has lost.
    fn free_id(&mut self, is_present: impl Fn(IpAddr) -> bool) -> Option<AddressId> {
        let mut next = |list: &[LocalEndpoint]| {
            let mut candidates = (1..=255).map(|step| (u16::from(self.last_id) + step - 1) % 255 + 1);
            let free = |id: &u16| !list.iter().any(|endpoint| u16::from(endpoint.id.0) == *id);
            let id = candidates.find(free)? as u8;
            self.last_id = id;
            Some(AddressId(id))
        };
        if let Some(id) = next(&self.list) {
            return Some(id);
        }
        let lost = self.list.iter().position(|endpoint| endpoint.implicit && !is_present(endpoint.addr))?;
        self.list.remove(lost);
        next(&self.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn flags(names: &[&str]) -> Flags {
        let mut flags = Flags::NONE;
        names.iter().for_each(|name| assert!(flags.set(name, true)));
        flags
    }

    const ALL: fn(IpAddr) -> bool = |_| true;
    const NO: fn(IpAddr) -> bool = |_| false;

    #[test]
    fn flags_have_names() {
        assert_eq!(flags(&["fullmesh", "subflow"]).to_string(), "subflow fullmesh");
        assert!(!Flags::NONE.clone().set("turbulent", true));
        assert!(!flags(&["backup"]).say_use() && flags(&["laminar"]).say_use());
    }

    #[test]
    fn parts_that_do_not_go_together_are_refused_with_the_reason() {
        let spec = |names: &[&str]| EndpointSpec::new(addr(1), flags(names));
        let with_port = |names: &[&str]| EndpointSpec { port: Some(5000), ..spec(names) };
        assert_eq!(spec(&["signal", "fullmesh"]).check(), Err(EndpointError::SignalAndFullmesh));
        assert_eq!(spec(&["fullmesh", "laminar"]).check(), Err(EndpointError::FullmeshAndLaminar));
        assert_eq!(with_port(&["subflow"]).check(), Err(EndpointError::PortWithoutSignal));
        assert_eq!(with_port(&["signal", "subflow"]).check(), Err(EndpointError::PortWithoutSignal));
        assert_eq!(with_port(&[]).check(), Err(EndpointError::PortWithoutSignal));
        assert_eq!(with_port(&["signal", "backup"]).check(), Ok(()));
        let zero = EndpointSpec { port: Some(0), ..spec(&["signal"]) };
        assert_eq!(zero.check(), Err(EndpointError::PortZero));
        let zero = EndpointSpec { id: Some(AddressId(0)), ..spec(&["signal"]) };
        assert_eq!(zero.check(), Err(EndpointError::IdZero));
        for nowhere in ["0.0.0.0", "127.0.0.1", "::1", "ff02::1"] {
            let spec = EndpointSpec::new(nowhere.parse().expect("an address"), Flags::NONE);
            assert!(matches!(spec.check(), Err(EndpointError::NoAddress(_))), "{nowhere}");
        }
    }

    #[test]
    fn the_users_endpoint_takes_the_place_and_the_id_of_an_implicit_one() {
        let mut endpoints = Endpoints::default();
        assert!(endpoints.add_implicit(addr(1), Flags::NONE, ALL));
        let spec = EndpointSpec::new(addr(1), flags(&["backup"]));
        let other = EndpointSpec { id: Some(AddressId(9)), ..spec };
        assert_eq!(endpoints.add(&other, ALL), Err(EndpointError::HasId(AddressId(1), addr(1))));
        let added = endpoints.add(&spec, ALL).expect("it is new");
        assert_eq!((added.id, added.implicit), (AddressId(1), false));
        assert_eq!(endpoints.add(&spec, ALL), Err(EndpointError::Exists(AddressId(1))));
        assert_eq!(endpoints.iter().count(), 1);
        // Without it the policy has the address again.
        assert_eq!(endpoints.delete(AddressId(1), ALL), Ok(added));
        let left = endpoints.get(AddressId(1)).copied().expect("it is implicit again");
        assert_eq!((left.implicit, left.deleted, left.flags), (true, false, Flags::NONE));
        // And without that nobody has.
        assert!(endpoints.delete(AddressId(1), ALL).is_ok());
        assert!(endpoints.get(AddressId(1)).is_some_and(|endpoint| endpoint.deleted));
        assert_eq!(
            endpoints.delete(AddressId(1), ALL),
            Err(EndpointError::UnknownId(AddressId(1))),
            "the user does not see it any more"
        );
        assert!(endpoints.add_implicit(addr(1), Flags::NONE, ALL), "until the address comes anew");
        assert!(endpoints.get(AddressId(1)).is_some_and(|endpoint| !endpoint.deleted));
    }

    #[test]
    fn one_address_can_have_endpoints_with_and_without_ports() {
        let mut endpoints = Endpoints::default();
        let plain = endpoints.add(&EndpointSpec::new(addr(1), flags(&["subflow"])), ALL).expect("new");
        let spec = EndpointSpec { port: Some(5000), ..EndpointSpec::new(addr(1), flags(&["signal"])) };
        let with_port = endpoints.add(&spec, ALL).expect("new");
        assert_ne!(plain.id, with_port.id);
        let gone = endpoints.flush(ALL);
        assert_eq!(gone.len(), 2);
        let left: Vec<(AddressId, bool)> = endpoints.iter().map(|it| (it.id, it.deleted)).collect();
        assert_eq!(left, [(plain.id, true)], "the address keeps its id");
    }

    #[test]
    fn ids_are_chosen_in_turn_and_taken_from_the_lost_when_they_run_out() {
        let mut endpoints = Endpoints::default();
        let spec = |n: u8| EndpointSpec::new(addr(n), flags(&["subflow"]));
        let seventh = EndpointSpec { id: Some(AddressId(7)), ..spec(200) };
        assert!(endpoints.add(&seventh, ALL).is_ok());
        let taken = EndpointSpec { id: Some(AddressId(7)), ..spec(201) };
        assert_eq!(endpoints.add(&taken, ALL), Err(EndpointError::IdTaken(AddressId(7), addr(200))));
        let ids: Vec<u8> = (1..=7).map(|n| endpoints.add(&spec(n), ALL).expect("free").id.0).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5, 6, 8]);
        assert!(endpoints.delete(AddressId(2), NO).is_ok());
        assert_eq!(endpoints.add(&spec(8), ALL).map(|it| it.id.0), Ok(9), "2 was used a moment ago");
        for n in 9..=254u8 {
            assert!(endpoints.add_implicit(IpAddr::from([10, 0, 1, n]), Flags::NONE, ALL));
        }
        assert!(endpoints.add_implicit(IpAddr::from([10, 0, 2, 1]), Flags::NONE, ALL), "2, in the end");
        assert_eq!(endpoints.add(&spec(100), ALL), Err(EndpointError::Full));
        assert!(!endpoints.add_implicit(IpAddr::from([10, 0, 3, 1]), Flags::NONE, ALL));
        let kept = |lost: IpAddr| lost != IpAddr::from([10, 0, 1, 9]);
        assert!(endpoints.add(&spec(100), kept).is_ok(), "the lost address makes room");
    }

    #[test]
    fn a_change_keeps_to_the_rules() {
        let mut endpoints = Endpoints::default();
        let id = endpoints.add(&EndpointSpec::new(addr(1), flags(&["signal"])), ALL).expect("new").id;
        let fullmesh = endpoints.change(id, |flags| flags.fullmesh = true);
        assert_eq!(fullmesh, Err(EndpointError::SignalAndFullmesh));
        let changed = endpoints.change(id, |flags| flags.backup = true).expect("it may be");
        assert_eq!(changed.flags, flags(&["signal", "backup"]));
        let unknown = AddressId(99);
        assert_eq!(endpoints.change(unknown, |_| {}), Err(EndpointError::UnknownId(unknown)));
    }
}
