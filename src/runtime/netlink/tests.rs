//! Against the kernel, in network namespaces of the test's own.

use super::*;
use crate::runtime::netns::{Host, ip, joined};

/// Asks the kernel of `host`.
fn ask<T: Send + 'static>(host: &Host, ask: impl FnOnce(&mut Netlink) -> T + Send + 'static) -> T {
    host.run(|| ask(&mut Netlink::new().expect("a socket")))
}

fn link(host: &Host, name: &'static str) -> Link {
    let links = ask(host, |netlink| netlink.links()).expect("links");
    links.into_iter().find(|link| link.name == name).unwrap_or_else(|| panic!("no link {name}"))
}

/// The first event that `wanted` makes something of.
fn wait_event<T>(monitor: &mut Monitor, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    for _ in 0..100 {
        if let Some(found) = monitor.poll_events().iter().find_map(&mut wanted) {
            return found;
        }
        crate::runtime::wake::sleep(
            &mut [crate::runtime::wake::readable(&*monitor)],
            Some(Duration::from_millis(100)),
        );
    }
    panic!("the event did not come");
}

#[test]
fn links_and_addresses_are_read() {
    let Some((left, right)) = joined() else { return };
    let (a, b) = (link(&left, "va"), link(&right, "vb"));
    assert!(a.up && a.enabled && !a.loopback && a.mac.is_some() && a.mac != b.mac, "{a:?}");
    assert_eq!(a.mtu, 1500);
    let lo = link(&left, "lo");
    assert!(lo.loopback && !lo.up && lo.mac.is_none(), "{lo:?}");
    left.ip("link set va mtu 3000");
    assert_eq!(link(&left, "va").mtu, 3000);
    right.ip("link set vb down");
    let a = link(&left, "va");
    assert!(a.enabled && !a.up, "no carrier: {a:?}");

    left.ip("address add fd00::1/64 dev va nodad");
    let mut addresses = ask(&left, |netlink| netlink.addresses()).expect("addresses");
    addresses.retain(|address| address.usable);
    addresses.sort_by_key(|address| address.addr);
    let usable = |addr| Address { ifindex: a.ifindex, addr: ip(addr), usable: true };
    assert_eq!(addresses, [usable("10.9.0.1"), usable("fd00::1")], "and no link-local one");
}

#[test]
fn routes_are_read_and_looked_up() {
    let Some((left, right)) = joined() else { return };
    left.ip("address add fd00::1/64 dev va nodad");
    left.ip("route add 192.0.2.0/24 via 10.9.0.2 mtu 1400");
    left.ip("route add 198.51.100.0/24 table 100 nexthop via 10.9.0.2 dev va");
    let a = link(&left, "va").ifindex;
    let routes = ask(&left, |netlink| netlink.routes()).expect("routes");
    let route = |prefix, len, via: Option<&str>| KernelRoute {
        ifindex: a,
        prefix: Prefix::new(ip(prefix), len),
        via: via.map(ip),
    };
    for wanted in [
        route("10.9.0.0", 24, None),
        route("192.0.2.0", 24, Some("10.9.0.2")),
        route("198.51.100.0", 24, Some("10.9.0.2")),
        route("fd00::", 64, None),
    ] {
        assert!(routes.contains(&wanted), "{wanted:?} is not in {routes:?}");
    }
    let own = Prefix::new(ip("10.9.0.1"), 32);
    assert!(!routes.iter().any(|route| route.prefix == own), "local routes are left out");

    let to = |remote: &'static str, source: Option<&'static str>, ifindex| {
        ask(&left, move |netlink| netlink.route_to(ip(remote), source.map(ip), ifindex))
    };
    let source = Some(ip("10.9.0.1"));
    let direct = RouteAnswer { ifindex: a, via: None, source, mtu: None, local: false };
    assert_eq!(to("10.9.0.2", None, None).expect("a route"), direct);
    let routed = RouteAnswer { via: Some(ip("10.9.0.2")), mtu: Some(1400), ..direct };
    assert_eq!(to("192.0.2.9", Some("10.9.0.1"), Some(a)).expect("a route"), routed);
    let v6 = to("fd00::2", None, None).expect("a route");
    assert_eq!((v6.ifindex, v6.via, v6.source), (a, None, Some(ip("fd00::1"))));
    let nowhere = to("203.0.113.1", None, None).expect_err("no route");
    assert_eq!(nowhere.kind(), ErrorKind::NetworkUnreachable);
    left.ip("link set lo up");
    assert!(to("10.9.0.1", None, None).expect("a route").local);
    drop(right);
}

#[test]
fn a_neighbour_is_resolved_by_using_it() {
    let Some((left, right)) = joined() else { return };
    let (a, b) = (link(&left, "va").ifindex, link(&right, "vb").mac);
    let found = left.run(move || {
        let mut monitor = Monitor::new().expect("a socket");
        let mut netlink = Netlink::new().expect("a socket");
        assert!(netlink.neighbours().expect("neighbours").iter().all(|known| known.addr != ip("10.9.0.2")));
        netlink.use_neighbour(a, ip("10.9.0.2")).expect("resolution begins");
        let found = wait_event(&mut monitor, |event| match event {
            Event::Neighbour(neighbour) if neighbour.mac.is_some() => Some(*neighbour),
            _ => None,
        });
        assert!(netlink.neighbours().expect("neighbours").contains(&found));
        netlink.use_neighbour(a, ip("10.9.0.2")).expect("again, for one that is known");
        found
    });
    assert_eq!(found, Neighbour { ifindex: a, addr: ip("10.9.0.2"), mac: b });
}

#[test]
fn changes_are_heard_of() {
    let Some((left, right)) = joined() else { return };
    let a = link(&left, "va").ifindex;
    let mut monitor = left.run(|| Monitor::new().expect("a socket"));
    right.ip("link set vb down");
    wait_event(&mut monitor, |event| match event {
        Event::Link(link) if link.name == "va" && link.enabled && !link.up => Some(()),
        _ => None,
    });
    right.ip("link set vb up");
    wait_event(&mut monitor, |event| match event {
        Event::Link(link) if link.name == "va" && link.up => Some(()),
        _ => None,
    });
    let other = Address { ifindex: a, addr: ip("10.8.0.1"), usable: true };
    left.ip("address add 10.8.0.1/24 dev va");
    wait_event(&mut monitor, |event| (*event == Event::Address(other)).then_some(()));
    left.ip("address del 10.8.0.1/24 dev va");
    wait_event(&mut monitor, |event| (*event == Event::AddressGone(other)).then_some(()));
    left.ip("route add 192.0.2.0/24 via 10.9.0.2");
    wait_event(&mut monitor, |event| (*event == Event::Routes).then_some(()));
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    left.ip(&format!("neighbour add 10.9.0.9 lladdr {mac} dev va nud permanent"));
    let neighbour = Neighbour { ifindex: a, addr: ip("10.9.0.9"), mac: Some(mac) };
    wait_event(&mut monitor, |event| (*event == Event::Neighbour(neighbour)).then_some(()));
    left.ip("link del va");
    wait_event(&mut monitor, |event| (*event == Event::LinkGone(a)).then_some(()));
}

#[test]
fn half_a_datagram_is_no_message() {
    let mut message = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::from(RouteNetlinkMessage::GetLink(LinkMessage::default())),
    );
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    assert_eq!(messages(&bytes).count(), 1);
    for len in 0..bytes.len() {
        assert_eq!(messages(&bytes[..len]).count(), 0, "{len} bytes");
    }
    bytes[..4].copy_from_slice(&0u32.to_ne_bytes());
    assert_eq!(messages(&bytes).count(), 0, "a length of nothing ends it");
}
