//! The path manager against scripts of reports and events. Endpoints and policies are tested in `tests/`.

use super::*;
use crate::base::Instant;
use crate::base::time::Duration;
use crate::stack::{CloseReason, Report};
use crate::wire::FourTuple;
use crate::wire::mptcp::Token;
use slotmap::KeyData;

mod endpoints;
mod policies;
mod requests;
mod withdrawals;

const WORKER: WorkerId = WorkerId(1);
const A: PortId = PortId(0);
const B: PortId = PortId(1);
const C: PortId = PortId(2);
/// The ids of the last two's IPv4 addresses; each is followed by that of the IPv6 address.
const B_ID: AddressId = AddressId(3);
const C_ID: AddressId = AddressId(5);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn end(text: &str, port: u16) -> Endpoint {
    Endpoint::new(ip(text), port)
}

fn connection(n: u64) -> ConnectionId {
    ConnectionId::from(KeyData::from_ffi(n << 32 | n))
}

fn tuple(local: &str, remote: &str) -> FourTuple {
    FourTuple { local: end(local, 40000), remote: end(remote, 80) }
}

fn seconds(n: u64) -> Instant {
    Instant::from_millis(n * 1000)
}

/// A host with a NIC and an address on each of three links, and a peer with an address on each of them.
struct Host {
    manager: Manager,
    now: Instant,
}

impl Host {
    fn new(limits: Limits) -> Self {
        Self::with(PmConfig { limits, ..PmConfig::default() })
    }

    fn with(config: PmConfig) -> Self {
        let mut host = Host { manager: Manager::new(config, 7), now: seconds(1) };
        for (n, port) in [A, B, C].into_iter().enumerate() {
            host.link(port, true);
            host.address(port, &format!("10.0.{n}.1"), true);
            host.address(port, &format!("fd00:{n}::1"), true);
        }
        host.route_links(&[A, B, C]);
        host
    }

    fn route_links(&mut self, ports: &[PortId]) {
        let route = |port: &PortId| {
            let v4 = Prefix::new(ip(&format!("10.0.{}.0", port.0)), 24);
            let v6 = Prefix::new(ip(&format!("fd00:{}::", port.0)), 64);
            [v4, v6].map(|prefix| Route { port: Some(*port), prefix, via: None })
        };
        self.manager.set_routes(self.now, Routes::new(ports.iter().flat_map(route).collect()));
    }

    fn link(&mut self, port: PortId, up: bool) {
        self.manager.handle_link(self.now, LinkEvent { port, up });
    }

    fn address(&mut self, port: PortId, addr: &str, added: bool) {
        self.manager.handle_address(self.now, AddressEvent { port, addr: ip(addr), added });
    }

    fn report(&mut self, report: Report) {
        self.manager.handle_report(self.now, WORKER, &report);
    }

    fn establish(&mut self, n: u64, initiator: bool, no_join_remote: bool) {
        self.report(Report::Established {
            connection: connection(n),
            token: Some(Token(n as u32)),
            initiator,
            tuple: tuple("10.0.0.1", "10.0.0.2"),
            port: A,
            no_join_remote,
        });
    }

    /// A connection from 10.0.0.1 to 10.0.0.2, opened by us, joins allowed.
    fn initiate(&mut self) {
        self.establish(1, true, false);
        self.report(Report::JoinsAllowed { connection: connection(1) });
    }

    /// The same, opened by the peer.
    fn accept(&mut self) {
        self.establish(1, false, false);
        self.report(Report::JoinsAllowed { connection: connection(1) });
    }

    fn announced(&mut self, id: u8, remote: &str) {
        let remote = end(remote, 80);
        self.report(Report::AddressAnnounced { connection: connection(1), id: AddressId(id), remote });
    }

    fn joined(&mut self, local: &str, remote: &str) {
        self.joined_with(local, remote, (AddressId(0), AddressId(0)));
    }

    /// The same between addresses with these ids.
    fn joined_with(&mut self, local: &str, remote: &str, ids: (AddressId, AddressId)) {
        self.subflow(SubflowId(1), tuple(local, remote), ids);
    }

    /// A subflow with a port and a name of its own is established.
    fn joined_as(&mut self, id: u32, local: Endpoint, remote: Endpoint) {
        self.subflow(SubflowId(id), FourTuple { local, remote }, (AddressId(0), AddressId(0)));
    }

    fn subflow(&mut self, id: SubflowId, tuple: FourTuple, (local_id, remote_id): (AddressId, AddressId)) {
        self.report(Report::SubflowEstablished {
            connection: connection(1),
            subflow: id,
            tuple,
            port: B,
            local_id,
            remote_id,
            backup: false,
        });
    }

    /// Adds an endpoint, in words.
    fn add(&mut self, addr: &str, words: &str) -> AddressId {
        let spec = EndpointSpec::new(ip(addr), flags(words));
        self.manager.add_endpoint(self.now, &spec).expect("it can be added").id
    }

    fn closed(&mut self, local: &str, remote: &str, reason: CloseReason) {
        self.report(Report::SubflowClosed {
            connection: connection(1),
            subflow: SubflowId(1),
            tuple: tuple(local, remote),
            reason,
            reset: None,
            established: true,
        });
    }

    fn commands(&mut self) -> Vec<PmCommand> {
        std::iter::from_fn(|| self.manager.poll_command()).collect()
    }

    /// The pairs of the subflows to open; nothing else is commanded.
    fn opened(&mut self) -> Vec<(String, String)> {
        let commands = self.commands();
        let pair = |command: &PmCommand| match command {
            PmCommand::OpenSubflow { local, remote, .. } => (local.to_string(), remote.addr.to_string()),
            other => panic!("{other:?} is not a subflow to open"),
        };
        commands.iter().map(pair).collect()
    }

    /// The ids and addresses to announce; nothing else is commanded.
    fn announcing(&mut self) -> Vec<(u8, String)> {
        let commands = self.commands();
        let address = |command: &PmCommand| match command {
            PmCommand::Announce { id, addr, port: None, .. } => (id.0, addr.to_string()),
            other => panic!("{other:?} is not an address to announce"),
        };
        commands.iter().map(address).collect()
    }

    /// Lets time pass to the next timer, and gives how long that took.
    fn wait(&mut self) -> Duration {
        let at = self.manager.poll_timeout().expect("a timer");
        let waited = at.since(self.now);
        self.now = at;
        self.manager.handle_timeout(at);
        waited
    }
}

fn flags(words: &str) -> Flags {
    let mut flags = Flags::NONE;
    words.split_whitespace().for_each(|word| assert!(flags.set(word, true), "{word}"));
    flags
}

/// A default route of each family out of each of these NICs.
fn defaults(ports: &[PortId]) -> Routes {
    let both = [Prefix::new(ip("0.0.0.0"), 0), Prefix::new(ip("::"), 0)];
    let route = |port: &PortId| both.map(|prefix| Route { port: Some(*port), prefix, via: None });
    Routes::new(ports.iter().flat_map(route).collect())
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(local, remote)| ((*local).to_owned(), (*remote).to_owned())).collect()
}

const SECOND: (&str, &str) = ("10.0.1.1", "10.0.1.2");
const THIRD: (&str, &str) = ("10.0.2.1", "10.0.2.2");

#[test]
fn the_initiator_joins_announced_addresses_where_a_route_leads() {
    let mut host = Host::new(Limits::default());
    host.establish(1, true, false);
    host.announced(1, "10.0.1.2");
    assert_eq!(host.opened(), [], "before the first DSS no subflow may be opened");
    host.report(Report::JoinsAllowed { connection: connection(1) });
    assert_eq!(
        host.commands(),
        [PmCommand::OpenSubflow {
            worker: WORKER,
            connection: connection(1),
            local: ip("10.0.1.1"),
            port: B,
            remote: end("10.0.1.2", 80),
            local_id: B_ID,
            remote_id: AddressId(1),
            backup: false,
        }]
    );
    host.announced(2, "10.0.2.2");
    assert_eq!(host.opened(), pairs(&[THIRD]));
    host.announced(2, "10.0.2.2");
    assert_eq!(host.opened(), [], "the pair is under way");
    host.joined(THIRD.0, THIRD.1);
    host.announced(2, "10.0.2.2");
    assert_eq!(host.opened(), [], "the pair is in use");
}

#[test]
fn a_mesh_is_full_where_every_way_is_routed_and_begins_with_disjoint_pairs() {
    let mut host = Host::new(Limits { subflows: 4, ..Limits::default() });
    let default = |port| Route { port: Some(port), prefix: Prefix::new(ip("0.0.0.0"), 0), via: None };
    host.manager.set_routes(host.now, Routes::new(vec![default(A), default(B)]));
    host.establish(1, true, false);
    host.announced(1, "192.0.2.1");
    host.report(Report::JoinsAllowed { connection: connection(1) });
    assert_eq!(
        host.opened(),
        pairs(&[("10.0.1.1", "192.0.2.1"), ("10.0.0.1", "192.0.2.1"), ("10.0.1.1", "10.0.0.2")])
    );
    host.announced(2, "192.0.2.2");
    assert_eq!(host.opened().len(), 1, "four subflows beside the first one are the limit");
    host.closed("10.0.1.1", "10.0.0.2", CloseReason::Finished);
    assert_eq!(host.opened(), pairs(&[("10.0.1.1", "192.0.2.2")]), "the place is free again");
}

#[test]
fn a_pair_needs_a_route_out_of_its_own_nic() {
    let mut host = Host::new(Limits::default());
    host.route_links(&[A]);
    host.initiate();
    host.announced(1, "10.0.1.2");
    assert_eq!(host.opened(), []);
    host.route_links(&[A, B]);
    assert_eq!(host.opened(), pairs(&[SECOND]), "the route came");
}

#[test]
fn the_first_address_is_not_joined_against_flag_c() {
    for no_join in [false, true] {
        let mut host = Host::new(Limits::default());
        let default = Route { port: Some(B), prefix: Prefix::new(ip("0.0.0.0"), 0), via: None };
        host.manager.set_routes(host.now, Routes::new(vec![default]));
        host.establish(1, true, no_join);
        host.report(Report::JoinsAllowed { connection: connection(1) });
        let expected = if no_join { pairs(&[]) } else { pairs(&[("10.0.1.1", "10.0.0.2")]) };
        assert_eq!(host.opened(), expected);
        host.announced(3, "10.0.0.2");
        assert_eq!(host.opened(), [], "nor under another id");
    }
}

#[test]
fn the_acceptor_announces_its_other_addresses_and_opens_nothing() {
    let mut host = Host::new(Limits::default());
    host.establish(1, false, false);
    assert_eq!(host.announcing(), []);
    host.report(Report::JoinsAllowed { connection: connection(1) });
    let other = vec![(B_ID.0, "10.0.1.1".to_owned()), (C_ID.0, "10.0.2.1".to_owned())];
    assert_eq!(host.announcing(), other, "of the same family, without the first");
    host.announced(1, "10.0.1.2");
    assert_eq!(host.announcing(), []);
    host.closed("10.0.1.1", "10.0.1.2", CloseReason::TimedOut);
    assert_eq!(host.manager.poll_timeout(), None);
}

#[test]
fn no_more_addresses_are_announced_than_a_peer_would_keep() {
    let mut host = Host::new(Limits::default());
    for n in 0..100 {
        host.address(C, &format!("10.0.2.{}", n + 100), true);
    }
    host.accept();
    assert_eq!(host.announcing().len(), crate::mptcp::addr::ADDRESSES_MAX);
}

#[test]
fn no_more_addresses_of_the_peer_are_kept_than_the_limit() {
    let mut host = Host::new(Limits { add_addr_accepted: 1, ..Limits::default() });
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.announced(2, "10.0.2.2");
    assert_eq!(host.opened(), pairs(&[SECOND]));
    assert_eq!(host.manager.counters().remote_addresses_full, 1);
}

#[test]
fn a_known_id_keeps_its_address_and_may_change_its_port() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.announced(1, "10.0.2.2");
    assert_eq!(host.opened(), pairs(&[SECOND]));
    assert_eq!(host.manager.counters().remote_id_conflicts, 1);
    let remote = end("10.0.1.2", 81);
    host.report(Report::AddressAnnounced { connection: connection(1), id: AddressId(1), remote });
    assert_eq!(host.opened(), pairs(&[SECOND]));
}

#[test]
fn a_connection_beyond_the_table_is_left_alone_and_counted() {
    let mut host = Host::new(Limits { connections: 1, ..Limits::default() });
    host.establish(1, false, false);
    host.establish(2, false, false);
    assert_eq!((host.manager.connections(), host.manager.counters().unmanaged), (1, 1));
    host.report(Report::JoinsAllowed { connection: connection(2) });
    assert_eq!(host.announcing(), []);
    host.report(Report::Closed { connection: connection(1), reason: CloseReason::Finished });
    host.establish(3, false, false);
    host.report(Report::JoinsAllowed { connection: connection(3) });
    assert_eq!(host.announcing().len(), 2, "there is room again");
}

#[test]
fn plain_tcp_is_not_managed() {
    let mut host = Host::new(Limits::default());
    host.report(Report::Established {
        connection: connection(1),
        token: None,
        initiator: true,
        tuple: tuple("10.0.0.1", "10.0.0.2"),
        port: A,
        no_join_remote: false,
    });
    host.announced(1, "10.0.1.2");
    assert_eq!((host.commands(), host.manager.connections()), (vec![], 0));
}

#[test]
fn the_peer_cannot_open_more_subflows_than_the_limit() {
    let mut host = Host::new(Limits { subflows: 1, ..Limits::default() });
    host.establish(1, false, false);
    host.joined("10.0.1.1", "10.0.1.2");
    assert_eq!(host.commands(), []);
    host.joined("10.0.2.1", "10.0.2.2");
    let (worker, connection, subflow) = (WORKER, connection(1), SubflowId(1));
    assert_eq!(host.commands(), [PmCommand::CloseSubflow { worker, connection, subflow }]);
    assert_eq!(host.manager.counters().subflows_refused, 1);
}

#[test]
fn a_join_of_the_peers_is_not_refused_for_one_of_ours_that_may_never_come_about() {
    let mut host = Host::new(Limits { subflows: 1, ..Limits::default() });
    host.initiate();
    host.announced(1, "10.0.1.2");
    assert_eq!(host.opened().len(), 1, "under way");
    host.joined_as(1, end("10.0.0.1", 80), end("10.0.2.2", 1001));
    assert!(!host.commands().iter().any(|command| matches!(command, PmCommand::CloseSubflow { .. })));
    // Ours has come too late.
    host.joined_as(2, end(SECOND.0, 2001), end(SECOND.1, 80));
    let (worker, connection, subflow) = (WORKER, connection(1), SubflowId(2));
    assert_eq!(host.commands(), [PmCommand::CloseSubflow { worker, connection, subflow }]);
}

#[test]
fn a_join_beyond_the_limit_takes_the_place_of_the_one_before_it_on_the_same_path() {
    let mut host = Host::new(Limits { subflows: 2, ..Limits::default() });
    host.establish(1, false, false);
    let join = |host: &mut Host, id: u32, port: u16| {
        host.joined_as(id, end("10.0.1.1", 80), end("10.0.1.2", port));
        host.commands()
    };
    assert_eq!((join(&mut host, 1, 1001), join(&mut host, 2, 1002)), (vec![], vec![]));
    let close = |subflow| {
        let (worker, connection, subflow) = (WORKER, connection(1), SubflowId(subflow));
        vec![PmCommand::CloseSubflow { worker, connection, subflow }]
    };
    assert_eq!(join(&mut host, 3, 1003), close(1), "the oldest");
    let counters = host.manager.counters();
    assert_eq!((counters.subflows_refused, counters.subflows_replaced), (0, 1));
}

#[test]
fn a_path_that_comes_back_gets_its_subflow_back() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.joined(SECOND.0, SECOND.1);
    host.commands();
    host.link(B, false);
    host.commands();
    host.closed(SECOND.0, SECOND.1, CloseReason::PathDown);
    assert_eq!((host.opened(), host.manager.poll_timeout()), (vec![], None));
    host.link(B, true);
    assert_eq!(host.opened(), pairs(&[SECOND]));
    // The first subflow is no exception.
    host.link(A, false);
    host.commands();
    host.closed("10.0.0.1", "10.0.0.2", CloseReason::PathDown);
    host.link(A, true);
    assert_eq!(host.opened(), pairs(&[("10.0.0.1", "10.0.0.2")]));
}

#[test]
fn a_link_that_comes_back_ends_the_wait_of_its_pairs() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.joined(SECOND.0, SECOND.1);
    host.closed(SECOND.0, SECOND.1, CloseReason::TimedOut);
    host.commands();
    host.link(B, false);
    host.commands();
    host.link(B, true);
    assert_eq!(host.opened(), pairs(&[SECOND]));
    assert_eq!(host.manager.poll_timeout(), None);
}

#[test]
fn an_address_is_announced_again_when_its_link_comes_back() {
    let mut host = Host::new(Limits::default());
    host.accept();
    host.commands();
    host.link(B, false);
    host.commands();
    assert_eq!(host.announcing(), []);
    host.link(B, true);
    assert_eq!(host.announcing(), vec![(B_ID.0, "10.0.1.1".to_owned())], "under its old id");
}

#[test]
fn a_failed_subflow_is_tried_again_after_waits_that_double_up_to_a_minute() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.joined(SECOND.0, SECOND.1);
    host.commands();
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        host.closed(SECOND.0, SECOND.1, CloseReason::Reset);
        assert_eq!(host.opened(), []);
        let waited = host.wait().as_secs_f64();
        assert!((f64::from(expected)..f64::from(expected) * 1.25).contains(&waited), "{waited} s");
        assert_eq!(host.opened(), pairs(&[SECOND]));
    }
    // One that lived for a minute starts afresh.
    host.joined(SECOND.0, SECOND.1);
    host.now += Duration::from_secs(60);
    host.closed(SECOND.0, SECOND.1, CloseReason::Reset);
    assert!(host.wait().as_secs_f64() < 1.25);
}

#[test]
fn a_connection_without_a_subflow_does_not_wait_long() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.joined(SECOND.0, SECOND.1);
    host.commands();
    for _ in 0..5 {
        host.closed(SECOND.0, SECOND.1, CloseReason::Reset);
        host.wait();
        assert_eq!(host.opened(), pairs(&[SECOND]));
    }
    host.closed(SECOND.0, SECOND.1, CloseReason::Reset);
    let before = host.manager.poll_timeout().expect("it waits").since(host.now);
    assert!(before > Duration::from_secs(10), "{before:?}");
    host.closed("10.0.0.1", "10.0.0.2", CloseReason::Reset);
    assert!(host.wait() <= Duration::from_millis(200));
    let mut opened = host.opened();
    opened.sort();
    assert_eq!(opened, pairs(&[("10.0.0.1", "10.0.0.2"), SECOND]));
    // And again, as long as none comes about.
    host.closed(SECOND.0, SECOND.1, CloseReason::Refused);
    host.closed("10.0.0.1", "10.0.0.2", CloseReason::Refused);
    assert!(host.wait() <= Duration::from_millis(200));
}

#[test]
fn a_stranded_connection_tries_what_was_withdrawn_or_did_not_answer() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.announced(2, "10.0.2.2");
    host.joined(SECOND.0, SECOND.1);
    host.closed(THIRD.0, THIRD.1, CloseReason::TimedOut);
    host.commands();
    host.report(Report::AddressWithdrawn { connection: connection(1), id: AddressId(0) });
    host.report(Report::AddressWithdrawn { connection: connection(1), id: AddressId(1) });
    host.closed("10.0.0.1", "10.0.0.2", CloseReason::Reset);
    assert_eq!((host.commands(), host.manager.poll_timeout()), (vec![], None), "there is another one");
    host.closed(SECOND.0, SECOND.1, CloseReason::Reset);
    let mut opened = host.opened();
    opened.sort();
    assert_eq!(opened, pairs(&[("10.0.0.1", "10.0.0.2"), SECOND]), "their ends said nothing against them");
    assert!(host.wait() <= Duration::from_millis(200));
    assert_eq!(host.opened(), pairs(&[THIRD]));
}

#[test]
fn a_peer_that_announces_and_withdraws_without_end_fills_nothing() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    for n in 0..1000u32 {
        let remote = end(&format!("10.0.{}.{}", n / 200, n % 200 + 1), 80);
        let id = AddressId((n % 255 + 1) as u8);
        host.report(Report::AddressAnnounced { connection: connection(1), id, remote });
        host.report(Report::AddressWithdrawn { connection: connection(1), id });
        host.commands();
    }
    let known = host.manager.connections.values().next().expect("it lives");
    assert!(known.remotes(true).count() <= crate::mptcp::addr::ADDRESSES_MAX);
}

#[test]
fn a_subflow_that_could_not_be_begun_is_tried_again() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.commands();
    host.manager.handle_open_failed(host.now, WORKER, connection(1), (ip(SECOND.0), end(SECOND.1, 80)));
    assert_eq!(host.opened(), []);
    host.wait();
    assert_eq!(host.opened(), pairs(&[SECOND]));
}

#[test]
fn an_announced_address_that_never_answered_waits_for_a_new_announcement() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.commands();
    host.closed(SECOND.0, SECOND.1, CloseReason::Refused);
    assert_eq!((host.opened(), host.manager.poll_timeout()), (vec![], None));
    host.announced(1, "10.0.1.2");
    assert_eq!(host.opened(), pairs(&[SECOND]));
}

#[test]
fn a_subflow_that_was_closed_in_order_is_not_opened_again() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.joined(SECOND.0, SECOND.1);
    host.commands();
    host.closed(SECOND.0, SECOND.1, CloseReason::Finished);
    assert_eq!((host.opened(), host.manager.poll_timeout()), (vec![], None));
}

#[test]
fn a_withdrawn_address_is_joined_no_more() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.joined(SECOND.0, SECOND.1);
    host.commands();
    host.report(Report::AddressWithdrawn { connection: connection(1), id: AddressId(1) });
    host.closed(SECOND.0, SECOND.1, CloseReason::Aborted);
    assert_eq!((host.opened(), host.manager.poll_timeout()), (vec![], None));
    host.announced(1, "10.0.2.2");
    assert_eq!(host.opened(), pairs(&[THIRD]), "the id is free for another address");
}

#[test]
fn a_subflow_that_outlived_a_withdrawal_is_opened_once_more_after_its_own_link_has_failed() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.joined(SECOND.0, SECOND.1);
    host.report(Report::AddressWithdrawn { connection: connection(1), id: AddressId(1) });
    host.link(B, false);
    host.closed(SECOND.0, SECOND.1, CloseReason::PathDown);
    host.commands();
    host.link(B, true);
    assert_eq!(host.opened(), pairs(&[SECOND]));
    host.closed(SECOND.0, SECOND.1, CloseReason::TimedOut);
    assert_eq!((host.opened(), host.manager.poll_timeout()), (vec![], None), "it was gone");
}

#[test]
fn an_address_that_is_withdrawn_and_announced_again_is_joined_as_soon_as_its_subflow_is_gone() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.joined(SECOND.0, SECOND.1);
    host.commands();
    host.report(Report::AddressWithdrawn { connection: connection(1), id: AddressId(1) });
    host.announced(1, "10.0.1.2");
    assert_eq!(host.opened(), [], "there is a subflow yet");
    // What the peer answers on a subflow that it has closed.
    host.closed(SECOND.0, SECOND.1, CloseReason::Reset);
    assert_eq!(host.opened(), pairs(&[SECOND]));
}

#[test]
fn addresses_beyond_the_table_are_counted() {
    let mut host = Host::new(Limits::default());
    for n in 0..300u32 {
        host.address(C, &format!("10.1.{}.{}", n / 200, n % 200), true);
    }
    assert_eq!(host.manager.counters().local_addresses_full, 300 - (255 - 6));
}

#[test]
fn reports_of_unknown_connections_do_nothing() {
    let mut host = Host::new(Limits::default());
    host.announced(1, "10.0.1.2");
    host.joined(SECOND.0, SECOND.1);
    host.closed(SECOND.0, SECOND.1, CloseReason::Reset);
    host.report(Report::JoinsAllowed { connection: connection(1) });
    assert_eq!((host.commands(), host.manager.poll_timeout()), (vec![], None));
}

#[test]
fn prefixes_hold_what_shares_their_bits() {
    let prefix = |text, len| Prefix::new(ip(text), len);
    assert!(prefix("10.0.1.0", 24).contains(ip("10.0.1.255")));
    assert!(!prefix("10.0.1.0", 24).contains(ip("10.0.2.0")));
    assert!(prefix("0.0.0.0", 0).contains(ip("255.1.2.3")));
    assert!(prefix("10.0.1.7", 32).contains(ip("10.0.1.7")));
    assert!(!prefix("10.0.1.7", 32).contains(ip("10.0.1.6")));
    assert!(!prefix("::", 0).contains(ip("10.0.1.6")));
    assert!(prefix("fd00::", 64).contains(ip("fd00::1:0:0:0")));
    assert!(!prefix("fd00::", 64).contains(ip("fd00:0:0:1::")));
}

#[test]
fn random_events_never_break_the_limits() {
    for seed in 0..50 {
        let mut host = Host::new(Limits { subflows: 2, add_addr_accepted: 2, connections: 2 });
        let mut prng = crate::base::Prng::new(seed);
        let default = |port| Route { port: Some(port), prefix: Prefix::new(ip("0.0.0.0"), 0), via: None };
        host.manager.set_routes(host.now, Routes::new(vec![default(A), default(B), default(C)]));
        host.initiate();
        let mut open = vec![(ip("10.0.0.1"), end("10.0.0.2", 80))];
        for _ in 0..500 {
            let port = PortId(prng.below(3) as u16);
            let addr = format!("10.0.{}.1", port.0);
            match prng.below(6) {
                0 => host.link(port, prng.chance(0.7)),
                1 => host.address(port, &addr, prng.chance(0.7)),
                2 => host.announced(prng.below(5) as u8, &format!("10.0.{}.2", prng.below(5))),
                3 => host.report(Report::AddressWithdrawn {
                    connection: connection(1),
                    id: AddressId(prng.below(5) as u8),
                }),
                4 if !open.is_empty() => {
                    let (local, remote) = open.swap_remove(prng.below(open.len() as u64) as usize);
                    let reason = if prng.chance(0.5) { CloseReason::PathDown } else { CloseReason::TimedOut };
                    host.closed(&local.to_string(), &remote.addr.to_string(), reason);
                }
                _ => {
                    host.now += Duration::from_secs(prng.below(30));
                    host.manager.handle_timeout(host.now);
                }
            }
            for command in host.commands() {
                if let PmCommand::OpenSubflow { local, remote, .. } = command {
                    assert!(!open.contains(&(local, remote)), "seed {seed}: opened twice");
                    open.push((local, remote));
                    if prng.chance(0.5) {
                        host.joined(&local.to_string(), &remote.addr.to_string());
                    }
                }
            }
            assert!(open.len() <= 3, "seed {seed}: {open:?}");
        }
    }
}

#[test]
fn pitfall_23_an_address_that_does_not_answer_takes_no_place_of_one_that_does() {
    // The first subflow and one more.
    let mut host = Host::new(Limits { subflows: 1, ..Limits::default() });
    host.initiate();
    host.announced(1, SECOND.1);
    assert_eq!(host.opened(), pairs(&[SECOND]));
    host.announced(2, THIRD.1);
    assert_eq!(host.opened(), [], "the place is taken while the join is under way");
    host.closed(SECOND.0, SECOND.1, CloseReason::TimedOut);
    assert_eq!(host.opened(), pairs(&[THIRD]), "it counted for nothing");
    host.joined(THIRD.0, THIRD.1);
    host.announced(1, SECOND.1);
    assert_eq!(host.opened(), [], "and what is established counts");
}

#[test]
fn a_connection_that_is_over_gets_no_subflow() {
    let finished = Report::Finished { connection: connection(1) };
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(7, "10.0.1.2");
    host.report(finished.clone());
    assert_eq!(host.opened(), [], "it was over before its commands were taken");
    host.announced(8, "10.0.2.2");
    assert_eq!(host.opened(), [], "what the peer announced came too late");
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(7, "10.0.1.2");
    assert!(!host.opened().is_empty());
    host.report(finished);
    host.closed("10.0.1.1", "10.0.1.2", CloseReason::TimedOut);
    host.link(B, false);
    host.link(B, true);
    assert_eq!(host.opened(), [], "nor does a NIC that comes back change it");
}
