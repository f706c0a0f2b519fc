//! What is here is taken, and what is not is asked for. The kernel is real, at the loopback address.

use super::*;
use crate::base::PortId;
use crate::stack::stream::NobodySleeps;
use crate::wire::{LinkHeader, MacAddr};
use std::net::{Ipv4Addr, TcpListener};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const REMOTE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 80);

fn departures(workers: usize) -> Departures {
    Departures::new((0..workers).map(|_| WorkerHandle::new(Box::new(NobodySleeps))).collect())
}

fn path() -> Path {
    let link = LinkHeader { src: MacAddr([2; 6]), dst: MacAddr([4; 6]), vlan: None };
    Path { port: PortId(0), link, mtu: 1500 }
}

fn learn(departures: &Departures, now: Instant) {
    departures.learn(now, REMOTE.ip(), LOOPBACK, path());
}

/// What control does at the end of a turn. How many ports were missing.
fn fill(departures: &Departures) -> usize {
    let missing = departures.missing();
    for (addr, count) in &missing {
        for _ in 0..*count {
            let port = Reservation::new(Endpoint::new(*addr, 0)).expect("a free port");
            assert!(departures.stock(port).is_none(), "it was missing");
        }
    }
    missing.iter().map(|(_, count)| count).sum()
}

fn prepare(departures: &Departures, now: Instant) -> Option<Departure> {
    departures.prepare(now, REMOTE, ConnectOptions::default())
}

/// With the way known and ports in stock.
fn stocked(workers: usize, now: Instant) -> Departures {
    let departures = departures(workers);
    learn(&departures, now);
    assert_eq!(fill(&departures), 0, "nothing is kept for one connection");
    learn(&departures, now);
    assert_eq!(fill(&departures), SPARE_FIRST);
    departures
}

#[test]
fn a_connection_departs_once_way_and_port_are_known() {
    let now = Instant::from_millis(5);
    assert!(prepare(&departures(1), now).is_none());
    let departures = stocked(2, now);
    for worker in [0, 1, 0] {
        let departure = prepare(&departures, now).expect("all is there");
        let Departure { worker: given, command, reservation, opening } = departure;
        assert_eq!((given, opening.tuple.remote), (worker, Endpoint::from(REMOTE)), "they take turns");
        assert_eq!(opening.tuple.local, reservation.local());
        assert!(TcpListener::bind(SocketAddr::from(reservation.local())).is_err(), "the port is ours");
        assert!(departures.launch(given, command).is_ok());
        let Some(Command::Connect { tuple, path: taken, .. }) = departures.workers[worker].commands.pop()
        else {
            panic!("the worker has no command");
        };
        assert_eq!((tuple, taken), (opening.tuple, path()));
    }
}

#[test]
fn without_a_spare_port_control_is_asked_and_keeps_more() {
    let now = Instant::from_millis(5);
    let departures = stocked(1, now);
    let mut wanted = SPARE_FIRST;
    for _ in 0..6 {
        assert_eq!((0..100).map_while(|_| prepare(&departures, now)).count(), wanted);
        learn(&departures, now);
        wanted = (2 * wanted).min(SPARE_MAX);
        assert_eq!(fill(&departures), wanted);
    }
    assert_eq!(wanted, SPARE_MAX);
    let one_more = Reservation::new(Endpoint::new(LOOPBACK, 0)).expect("a free port");
    assert!(departures.stock(one_more).is_some(), "there are enough");
}

#[test]
fn a_way_holds_for_a_while_and_until_the_network_changes() {
    let now = Instant::from_millis(5);
    let departures = stocked(1, now);
    assert!(prepare(&departures, now + WAY_HOLDS).is_none());
    learn(&departures, now + WAY_HOLDS);
    assert!(prepare(&departures, now + WAY_HOLDS).is_some());
    departures.forget_ways();
    assert!(prepare(&departures, now + WAY_HOLDS).is_none());
}

#[test]
fn no_more_ways_are_kept_than_the_limit() {
    let now = Instant::from_millis(5);
    let departures = stocked(1, now);
    let elsewhere = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
    let learn_many = |now| (0..2000).for_each(|n| departures.learn(now, elsewhere(n), LOOPBACK, path()));
    learn_many(now);
    assert_eq!(departures.state().ways.len(), WAYS_MAX);
    assert!(prepare(&departures, now).is_some(), "what is known stays known");
    let later = now + WAY_HOLDS;
    departures.learn(later, elsewhere(5000), LOOPBACK, path());
    assert_eq!(departures.state().ways.len(), 1, "what holds no longer gives way");
}

#[test]
fn ports_that_nobody_takes_are_given_back() {
    let now = Instant::from_millis(5);
    let departures = stocked(1, now);
    assert!(departures.sweep().is_empty(), "it has just been used");
    assert!(departures.has_spare());
    assert_eq!(departures.sweep().len(), SPARE_FIRST);
    assert!(!departures.has_spare());
    let late = Reservation::new(Endpoint::new(LOOPBACK, 0)).expect("a free port");
    assert!(departures.stock(late).is_some(), "nobody wants it");
}

#[test]
fn nothing_departs_from_what_is_closed_or_to_a_worker_that_is_far_behind() {
    let now = Instant::from_millis(5);
    let departures = stocked(1, now);
    let commands = &departures.workers[0].commands;
    while commands.push(Command::Shutdown).is_ok() {}
    assert!(prepare(&departures, now).is_none());
    let given = departures.launch(0, Command::Shutdown);
    assert!(given.is_err(), "control is to try again");
    while commands.pop().is_some() {}
    assert!(prepare(&departures, now).is_some());
    departures.close();
    learn(&departures, now);
    learn(&departures, now);
    assert_eq!(fill(&departures), 0);
    assert!(prepare(&departures, now).is_none());
}
