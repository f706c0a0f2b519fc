//! Ports come and go with their flows and listeners. The kernel is real, at the loopback address; the steering
//! program is a list.

use super::*;
use crate::runtime::reserve::becomes_free;
use crate::stack::CloseReason;
use crate::stack::Doorbell;
use crate::stack::stream::Wake;
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

#[derive(Debug)]
struct NoWake;
impl Wake for NoWake {
    fn wake(&self) {}
}

fn ports() -> (LocalPorts<List>, Arc<List>) {
    let list = Arc::new(List::default());
    (LocalPorts::new(Arc::clone(&list)), list)
}

fn stream() -> Arc<StreamShared> {
    StreamShared::new(Arc::new(Doorbell::new(1, Box::new(NoWake))))
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
