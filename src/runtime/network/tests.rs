//! Against the kernel, in network namespaces of the test's own.

use super::*;
use crate::base::time::Duration;
use crate::pm::Prefix;
use crate::runtime::netns::{Host, ip, joined};
use crate::runtime::wake::{readable, sleep};

const PORT: PortId = PortId(0);

/// The network of `host`, with its interface `name` attached, and the changes of that.
fn attach(host: &Host, name: &'static str) -> (Network, Vec<Change>) {
    host.run(move || {
        let mut network = Network::new().expect("netlink answers");
        let ifindex = network.links.values().find(|link| link.name == name).expect("the link").ifindex;
        let changes = network.attach(vec![ifindex], u32::MAX).expect("netlink answers");
        (network, changes)
    })
}

/// The first change that is like `wanted`.
fn wait_change(network: &mut Network, wanted: impl Fn(&Change) -> bool) -> Change {
    for _ in 0..100 {
        let changes = network.poll_changes().expect("netlink answers");
        if let Some(found) = changes.into_iter().find(|change| wanted(change)) {
            return found;
        }
        sleep(&mut [readable(network)], Some(Duration::from_millis(100)));
    }
    panic!("the change did not come");
}

fn resolve(network: &mut Network, way: &Way) -> Path {
    network.use_next_hop(way);
    for _ in 0..100 {
        network.poll_changes().expect("netlink answers");
        if let Some(path) = network.path(way) {
            return path;
        }
        sleep(&mut [readable(network)], Some(Duration::from_millis(100)));
    }
    panic!("the next hop was not resolved");
}

#[test]
fn nics_are_chosen_by_name_or_because_they_can_be_used() {
    let Some((left, right)) = joined() else { return };
    let choose = |host: &Host, names: &'static [&'static str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        host.run(move || Network::new().expect("netlink answers").choose(&names))
    };
    left.ip("link set lo up");
    left.ip("link add name unused type veth peer name unused2");
    left.ip("link set unused up");
    left.ip("link set unused2 up");
    assert_eq!(choose(&left, &[]).expect("one NIC"), ["va"]);
    assert_eq!(choose(&left, &["unused"]).expect("asked for"), ["unused"]);
    assert!(matches!(choose(&left, &["nonsense"]), Err(StartError::NoSuchNic { .. })));
    assert!(matches!(choose(&left, &["lo"]), Err(StartError::NotEthernet { .. })));
    left.ip("link set va down");
    assert!(matches!(choose(&left, &["va"]), Err(StartError::NicDown { .. })));
    assert!(matches!(choose(&right, &[]), Err(StartError::NoNic)), "no carrier");
}

#[test]
fn what_there_is_comes_as_changes() {
    let Some((left, _right)) = joined() else { return };
    let (network, changes) = attach(&left, "va");
    let on_link = Prefix::new(ip("10.9.0.0"), 24);
    let route = Route { port: Some(PORT), prefix: on_link, via: None };
    assert!(changes.contains(&Change::Link(LinkEvent { port: PORT, up: true })), "{changes:?}");
    let address = AddressEvent { port: PORT, addr: ip("10.9.0.1"), added: true };
    assert!(changes.contains(&Change::Address(address)), "{changes:?}");
    let routed = changes.iter().any(|change| match change {
        Change::Routes(routes) => routes.allow(PORT, ip("10.9.0.2")) && !routes.allow(PORT, ip("10.8.0.2")),
        _ => false,
    });
    assert!(routed, "{route:?} is not in {changes:?}");
    assert!(network.is_ours(ip("10.9.0.1")) && !network.is_ours(ip("10.9.0.2")));
}

#[test]
fn a_nic_that_is_down_at_the_start_is_told_of() {
    let Some((left, right)) = joined() else { return };
    right.ip("link set vb down");
    let (_, changes) = attach(&left, "va");
    assert!(changes.contains(&Change::Link(LinkEvent { port: PORT, up: false })), "{changes:?}");
}

#[test]
fn links_addresses_and_routes_are_followed() {
    let Some((left, right)) = joined() else { return };
    let (mut network, _) = attach(&left, "va");
    // The sockets belong to the namespace in which they were made, whatever thread uses them.
    let link = |up| move |change: &Change| *change == Change::Link(LinkEvent { port: PORT, up });
    right.ip("link set vb down");
    wait_change(&mut network, link(false));
    right.ip("link set vb up");
    wait_change(&mut network, link(true));
    let address = |added| {
        let event = AddressEvent { port: PORT, addr: ip("10.8.0.1"), added };
        move |change: &Change| *change == Change::Address(event)
    };
    left.ip("address add 10.8.0.1/24 dev va");
    wait_change(&mut network, address(true));
    let routed = |change: &Change| matches!(change, Change::Routes(r) if r.allow(PORT, ip("192.0.2.1")));
    left.ip("route add 192.0.2.0/24 via 10.8.0.2");
    wait_change(&mut network, routed);
    left.ip("address del 10.8.0.1/24 dev va");
    wait_change(&mut network, address(false));
    // A link that is set down loses its routes, of which the kernel says nothing.
    left.ip("link set va down");
    wait_change(&mut network, |change| matches!(change, Change::Routes(r) if !r.allow(PORT, ip("10.9.0.2"))));
    left.ip("link del va");
    wait_change(&mut network, address_gone);
}

fn address_gone(change: &Change) -> bool {
    *change == Change::Address(AddressEvent { port: PORT, addr: ip("10.9.0.1"), added: false })
}

#[test]
fn a_way_leads_to_the_next_hop() {
    let Some((left, right)) = joined() else { return };
    left.ip("route add 192.0.2.0/24 via 10.9.0.2 mtu 1400");
    left.ip("link add name other type veth peer name other2");
    left.ip("link set other up");
    left.ip("route add 198.51.100.0/24 dev other");
    left.ip("link set lo up");
    let (mut network, _) = attach(&left, "va");
    let direct = network.way_to(ip("10.9.0.2"), None).expect("a way");
    assert_eq!((direct.port, direct.source, direct.next_hop), (PORT, ip("10.9.0.1"), ip("10.9.0.2")));
    let routed = network.way_to(ip("192.0.2.7"), Some((ip("10.9.0.1"), PORT))).expect("a way");
    assert_eq!((routed.source, routed.next_hop), (ip("10.9.0.1"), ip("10.9.0.2")));

    assert_eq!(network.path(&direct), None, "nobody has asked for the neighbour");
    let mac = |host: &Host, name: &'static str| {
        let links = host.run(|| Network::new().expect("netlink answers").links);
        links.into_values().find(|link| link.name == name).and_then(|link| link.mac).expect("a link")
    };
    let link = LinkHeader { src: mac(&left, "va"), dst: mac(&right, "vb"), vlan: None };
    assert_eq!(resolve(&mut network, &direct), Path { port: PORT, link, mtu: 1500 });
    assert_eq!(network.path(&routed), Some(Path { port: PORT, link, mtu: 1400 }));

    assert!(matches!(network.way_to(ip("203.0.113.1"), None), Err(NoWay::NoRoute)));
    assert!(matches!(network.way_to(ip("10.9.0.1"), None), Err(NoWay::Local)));
    let other = network.way_to(ip("198.51.100.1"), None);
    assert!(matches!(other, Err(NoWay::OtherNic(nic)) if nic == "other"));
}

#[test]
fn a_neighbour_that_moves_is_noticed_even_if_it_was_forgotten() {
    let Some((left, _right)) = joined() else { return };
    let (mut network, _) = attach(&left, "va");
    let set = |mac: MacAddr| {
        left.ip(&format!("neighbour replace 10.9.0.9 lladdr {mac} dev va nud permanent"));
    };
    let macs = [1, 2, 3].map(|n| MacAddr([2, 0, 0, 0, 0, n]));
    let moved =
        |before, after| move |change: &Change| *change == Change::Neighbour { port: PORT, before, after };
    set(macs[0]);
    set(macs[1]);
    wait_change(&mut network, moved(macs[0], macs[1]));
    let way = network.way_to(ip("10.9.0.9"), None).expect("a way");
    assert_eq!(network.path(&way).map(|path| path.link.dst), Some(macs[1]));
    left.ip("neighbour del 10.9.0.9 dev va");
    set(macs[2]);
    wait_change(&mut network, moved(macs[1], macs[2]));
}

#[test]
fn the_memory_of_forgotten_neighbours_has_a_limit() {
    let Some((left, _right)) = joined() else { return };
    let (mut network, _) = attach(&left, "va");
    let ifindex = network.ports[0];
    for n in 0..4 * FORGOTTEN_MAX as u32 {
        let addr = IpAddr::from(n.to_be_bytes());
        let mac = Some(MacAddr([2, 0, 0, 0, 0, 0]));
        network.handle_neighbour(Neighbour { ifindex, addr, mac });
        network.handle_neighbour(Neighbour { ifindex, addr, mac: None });
    }
    assert!(network.neighbours.len() <= FORGOTTEN_MAX);
}
