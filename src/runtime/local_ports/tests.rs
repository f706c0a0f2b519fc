//! Ports come and go with their flows and listeners. The kernel is real, at the loopback address; the steering
//! program is a list.

use super::*;
use crate::runtime::reserve::becomes_free;
use crate::stack::CloseReason;
use crate::stack::Doorbell;
use crate::stack::stream::NobodySleeps;
use slotmap::KeyData;
use std::io;
use std::net::TcpListener;
use std::sync::Mutex;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const REMOTE: Endpoint = Endpoint::new(LOOPBACK, 9);

/// What is steered; it refuses when it is `full`.
#[derive(Debug, Default)]
struct List {
    steered: Mutex<Vec<Endpoint>>,
    full: Mutex<bool>,
}

impl Steer for List {
    fn steer(&self, local: Endpoint) -> Result<(), PortError> {
        if *self.full.lock().expect("no panic") {
            return Err(PortError::Kernel { local: local.into(), source: io::ErrorKind::StorageFull.into() });
        }
        self.steered.lock().expect("no panic").push(local);
        Ok(())
    }

    fn unsteer(&self, local: Endpoint) {
        let mut steered = self.steered.lock().expect("no panic");
        let place = steered.iter().position(|known| *known == local).expect("it was steered");
        steered.remove(place);
    }
}

fn ports() -> (LocalPorts<List>, Arc<List>) {
    let list = Arc::new(List::default());
    (LocalPorts::new(Arc::clone(&list)), list)
}

fn stream() -> Arc<StreamShared> {
    StreamShared::new(Arc::new(Doorbell::new(1, Box::new(NobodySleeps))))
}

fn key(n: u64) -> Key {
    (WorkerId(0), ConnectionId::from(KeyData::from_ffi(n << 32 | n)))
}

fn steered(list: &List) -> Vec<Endpoint> {
    list.steered.lock().expect("no panic").clone()
}

/// Whether the port is ours.
fn is_reserved(local: Endpoint) -> bool {
    TcpListener::bind(SocketAddr::from(local)).is_err()
}

#[test]
fn a_flow_keeps_its_port_until_the_stack_has_done_with_it() {
    let (mut ports, list) = ports();
    let tuple = ports.open(LOOPBACK, REMOTE, &stream()).expect("a port");
    assert_eq!((steered(&list), is_reserved(tuple.local)), (vec![tuple.local], true));
    ports.handle_established(key(1), tuple, true);
    assert!(is_reserved(tuple.local));
    ports.handle_flow_closed(tuple);
    assert_eq!((steered(&list), becomes_free(tuple.local)), (vec![], true));
    ports.handle_closed(key(1));
}

#[test]
fn the_end_of_a_connection_ends_joins_that_nobody_reported() {
    let (mut ports, list) = ports();
    let first = ports.open(LOOPBACK, REMOTE, &stream()).expect("a port");
    ports.handle_established(key(1), first, true);
    let joined = ports.join(LOOPBACK, REMOTE, key(1)).expect("a port");
    let other = ports.join(LOOPBACK, REMOTE, key(2)).expect("a port");
    ports.handle_closed(key(1));
    assert_eq!(steered(&list), [other.local]);
    assert!(becomes_free(first.local) && becomes_free(joined.local) && is_reserved(other.local));
}

#[test]
fn a_connection_that_was_turned_down_gives_its_port_back() {
    let (mut ports, list) = ports();
    let (refused, named) = (stream(), stream());
    let tuple = ports.open(LOOPBACK, REMOTE, &refused).expect("a port");
    let kept = ports.open(LOOPBACK, REMOTE, &named).expect("a port");
    ports.sweep();
    assert_eq!(steered(&list).len(), 2, "both are being opened");
    refused.set_closed(CloseReason::NoResources);
    named.set_identity(key(1).1, kept);
    named.set_closed(CloseReason::Refused);
    ports.sweep();
    assert_eq!(steered(&list), [kept.local], "a worker reports the end of what it gave a name");
    assert!(becomes_free(tuple.local) && ports.has_openings());
}

#[test]
fn a_port_that_cannot_be_steered_is_not_kept() {
    let (mut ports, list) = ports();
    *list.full.lock().expect("no panic") = true;
    assert!(ports.open(LOOPBACK, REMOTE, &stream()).is_err());
    assert!(!ports.has_openings());
    let (id, local) = ports.listen(SocketAddr::new(LOOPBACK, 0)).expect("a port");
    assert!(ports.steer_listener(id).is_err());
    assert!(becomes_free(local.into()));
}

#[test]
fn a_closed_listener_keeps_its_port_for_its_connections() {
    let (mut ports, list) = ports();
    let (id, local) = ports.listen(SocketAddr::new(LOOPBACK, 0)).expect("a port");
    ports.steer_listener(id).expect("steered");
    let local = Endpoint::from(local);
    assert_eq!((steered(&list), is_reserved(local)), (vec![local], true));
    ports.handle_established(key(1), FourTuple { local, remote: REMOTE }, false);
    ports.unlisten(id);
    assert_eq!((steered(&list), is_reserved(local)), (vec![local], true));
    ports.handle_closed(key(1));
    assert_eq!((steered(&list), becomes_free(local)), (vec![], true));
}

#[test]
fn a_listener_at_any_address_is_one_entry() {
    let (mut ports, list) = ports();
    let any = SocketAddr::from(([0; 16], 0));
    let (id, local) = ports.listen(any).expect("a port");
    ports.steer_listener(id).expect("steered");
    assert_eq!(steered(&list), [Endpoint::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), local.port())]);
    let again = ports.listen(SocketAddr::from(([0; 4], local.port()))).expect_err("in use");
    assert!(matches!(again, ListenError::Port(PortError::InUse { .. })), "{again}");
    ports.unlisten(id);
    assert!(steered(&list).is_empty() && becomes_free(Endpoint::new(LOOPBACK, local.port())));
}

#[test]
fn listeners_have_a_limit() {
    let (mut ports, _) = ports();
    let any_port = SocketAddr::new(LOOPBACK, 0);
    let ids: Vec<ListenerId> =
        (0..LISTENERS_MAX).map(|_| ports.listen(any_port).expect("a port").0).collect();
    assert!(matches!(ports.listen(any_port), Err(ListenError::TooMany(LISTENERS_MAX))));
    for id in &ids {
        ports.steer_listener(*id).expect("steered");
    }
    ports.unlisten(ids[7]);
    ports.listen(any_port).expect("room again");
}

/// A port that is free at the moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind((LOOPBACK, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

#[test]
fn a_port_for_joins_stays_as_long_as_an_endpoint_or_a_connection_announces_it() {
    let (mut ports, list) = ports();
    let local = Endpoint::new(LOOPBACK, free_port());
    ports.open_join(local).expect("it is free");
    ports.announce_join(local, key(1)).expect("it is there");
    ports.announce_join(local, key(2)).expect("it is there");
    assert_eq!((steered(&list), is_reserved(local)), (vec![local], true));
    ports.close_join(local);
    ports.handle_closed(key(1));
    assert_eq!((steered(&list), is_reserved(local)), (vec![local], true), "one has announced it");
    ports.handle_closed(key(2));
    assert_eq!((steered(&list), becomes_free(local)), (vec![], true));
}

#[test]
fn a_port_for_joins_needs_nothing_where_a_listener_is() {
    let (mut ports, list) = ports();
    let (id, bound) = ports.listen(SocketAddr::from(([0; 4], 0))).expect("a port");
    ports.steer_listener(id).expect("steered");
    let local = Endpoint::new(LOOPBACK, bound.port());
    ports.announce_join(local, key(1)).expect("it is there");
    ports.open_join(local).expect("it is there");
    assert_eq!(steered(&list).len(), 1);
    ports.close_join(local);
    assert_eq!(steered(&list).len(), 1);
    // One at another address than the listener's has its own.
    let (mut ports, list) = self::ports();
    let (id, bound) = ports.listen(SocketAddr::new(LOOPBACK, 0)).expect("a port");
    ports.steer_listener(id).expect("steered");
    let other = Endpoint::new([127, 0, 0, 2].into(), bound.port());
    ports.announce_join(other, key(1)).expect("it is free");
    assert_eq!(steered(&list), [bound.into(), other]);
}

#[test]
fn a_port_for_joins_that_cannot_be_had_is_told_and_leaves_nothing() {
    let (mut ports, list) = ports();
    let listener = TcpListener::bind((LOOPBACK, 0)).expect("a free port");
    let taken = Endpoint::from(listener.local_addr().expect("it is bound"));
    assert!(matches!(ports.open_join(taken), Err(PortError::InUse { .. })));
    let foreign = Endpoint::new([192, 0, 2, 1].into(), free_port());
    assert!(matches!(ports.open_join(foreign), Err(PortError::Kernel { .. })));
    *list.full.lock().expect("no panic") = true;
    let local = Endpoint::new(LOOPBACK, free_port());
    assert!(ports.open_join(local).is_err());
    assert!(becomes_free(local) && steered(&list).is_empty());
    // What was never opened is closed without harm.
    ports.close_join(local);
}

#[test]
fn ports_for_joins_have_a_limit() {
    let (mut ports, _) = ports();
    let port = free_port();
    let local = |n: usize| Endpoint::new([127, 1, (n / 250) as u8, (n % 250 + 1) as u8].into(), port);
    for n in 0..JOIN_PORTS_MAX {
        ports.announce_join(local(n), key(1)).expect("it is free");
    }
    let refused = ports.announce_join(local(JOIN_PORTS_MAX), key(1));
    assert!(matches!(refused, Err(PortError::TooManyJoins(JOIN_PORTS_MAX))));
    ports.handle_closed(key(1));
    ports.announce_join(local(JOIN_PORTS_MAX), key(1)).expect("room again");
}

#[test]
fn the_listener_of_a_connection_says_whether_it_is_bound_to_an_address() {
    let (mut ports, _) = ports();
    for (addr, bound) in [(LOOPBACK, true), (IpAddr::from([0; 4]), false)] {
        let (_, local) = ports.listen(SocketAddr::new(addr, 0)).expect("a port");
        let tuple = FourTuple { local: Endpoint::new(LOOPBACK, local.port()), remote: REMOTE };
        assert_eq!(ports.handle_established(key(1), tuple, false), bound, "{addr}");
    }
}

#[test]
fn a_spare_port_is_steered_and_becomes_a_flows() {
    let (mut ports, list) = ports();
    let (used, unused) = (ports.spare(LOOPBACK).expect("a port"), ports.spare(LOOPBACK).expect("a port"));
    let (local, left) = (used.local(), unused.local());
    assert_eq!(steered(&list), [local, left]);
    let tuple = FourTuple { local, remote: REMOTE };
    ports.adopt(tuple, used, stream());
    assert!(ports.has_openings());
    ports.handle_established(key(1), tuple, true);
    ports.release(unused);
    assert_eq!(steered(&list), [local]);
    assert!(is_reserved(local) && becomes_free(left));
    ports.handle_flow_closed(tuple);
    ports.handle_closed(key(1));
    assert_eq!(steered(&list), []);
    assert!(becomes_free(local));
}
