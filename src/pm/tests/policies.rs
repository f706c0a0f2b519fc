//! What each policy opens and announces.

use super::*;

const SERVER: &str = "192.0.2.1";

fn config(policy: Policy) -> PmConfig {
    PmConfig { policy, ..PmConfig::default() }
}

/// A host whose three NICs all lead everywhere, with a connection from 10.0.0.1 to 192.0.2.1.
fn everywhere(config: PmConfig) -> Host {
    let mut host = Host::with(config);
    host.manager.set_routes(host.now, defaults(&[A, B, C]));
    host.report(Report::Established {
        connection: connection(1),
        token: Some(Token(1)),
        initiator: true,
        tuple: tuple("10.0.0.1", SERVER),
        port: A,
        no_join_remote: false,
    });
    host
}

fn allow(host: &mut Host) {
    host.report(Report::JoinsAllowed { connection: connection(1) });
}

#[test]
fn ndiffports_opens_so_many_subflows_between_the_first_addresses_and_no_others() {
    let mut host = everywhere(config(Policy::Ndiffports(4)));
    allow(&mut host);
    let one = ("10.0.0.1", SERVER);
    assert_eq!(host.opened(), pairs(&[one, one, one]));
    host.announced(1, "192.0.2.2");
    assert_eq!(host.opened(), []);
    // Each of them is opened again for itself.
    for id in 1..=3 {
        host.joined_as(id, end(one.0, 50_000 + id as u16), end(one.1, 80));
    }
    assert_eq!(host.opened(), []);
    host.report(Report::SubflowClosed {
        connection: connection(1),
        subflow: SubflowId(2),
        tuple: FourTuple { local: end(one.0, 50_002), remote: end(one.1, 80) },
        reason: CloseReason::Reset,
        reset: None,
        established: true,
    });
    assert_eq!(host.opened(), []);
    host.wait();
    assert_eq!(host.opened(), pairs(&[one]));
}

#[test]
fn ndiffports_keeps_to_the_limit_and_to_flag_c() {
    let limits = Limits { subflows: 2, ..Limits::default() };
    let mut host = everywhere(PmConfig { limits, ..config(Policy::Ndiffports(8)) });
    allow(&mut host);
    assert_eq!(host.opened().len(), 2);

    let mut host = Host::with(config(Policy::Ndiffports(2)));
    host.manager.set_routes(host.now, defaults(&[A, B, C]));
    host.establish(1, true, true);
    allow(&mut host);
    assert_eq!(host.opened(), [], "the first address is not to be joined");
    let announced = end("10.0.0.2", 81);
    host.report(Report::AddressAnnounced { connection: connection(1), id: AddressId(1), remote: announced });
    let opened = host.commands();
    assert_eq!(opened.len(), 2, "{opened:?}");
    let leads = |it: &PmCommand| matches!(it, PmCommand::OpenSubflow { remote, .. } if *remote == announced);
    assert!(opened.iter().all(leads), "{opened:?}");
}

#[test]
fn one_per_nic_opens_one_subflow_from_each_nic_to_the_address_that_is_used_least() {
    let mut host = everywhere(config(Policy::OnePerNic));
    host.announced(1, "192.0.2.2");
    allow(&mut host);
    assert_eq!(host.opened(), pairs(&[("10.0.1.1", "192.0.2.2"), ("10.0.2.1", SERVER)]));
    host.announced(2, "192.0.2.3");
    host.announced(3, "2001:db8::1");
    assert_eq!(host.opened(), [], "each NIC has its subflow");
    host.closed("10.0.1.1", "192.0.2.2", CloseReason::Refused);
    assert_eq!(host.opened(), pairs(&[("10.0.1.1", "192.0.2.3")]), "another way for the same NIC");
}

#[test]
fn one_per_nic_announces_one_address_of_each_nic() {
    let mut host = Host::with(config(Policy::OnePerNic));
    host.address(A, "10.0.0.9", true);
    host.address(B, "10.0.1.9", true);
    host.establish(1, false, false);
    allow(&mut host);
    let announced: Vec<String> = host.announcing().into_iter().map(|(_, addr)| addr).collect();
    assert_eq!(announced, ["10.0.1.1", "10.0.2.1"]);
}

#[test]
fn the_other_family_comes_in_where_a_nic_has_no_way_with_the_first_one() {
    let mut host = everywhere(config(Policy::Fullmesh));
    let own = |port: PortId| [format!("10.0.{}.1", port.0), format!("fd00:{}::1", port.0)];
    // B has only IPv6, C has both.
    host.address(B, &own(B)[0], false);
    host.announced(1, "2001:db8::1");
    allow(&mut host);
    let expected = pairs(&[("fd00:1::1", "2001:db8::1"), ("10.0.2.1", SERVER)]);
    assert_eq!(host.opened(), expected);

    // Side by side, if that is wanted.
    let mut host = everywhere(PmConfig { dual_stack: true, ..config(Policy::Fullmesh) });
    host.announced(1, "2001:db8::1");
    allow(&mut host);
    let mut opened = host.opened();
    opened.sort();
    let all = pairs(&[
        ("10.0.1.1", SERVER),
        ("10.0.2.1", SERVER),
        ("fd00:0::1", "2001:db8::1"),
        ("fd00:1::1", "2001:db8::1"),
        ("fd00:2::1", "2001:db8::1"),
    ]);
    let mut all: Vec<(String, String)> =
        all.into_iter().map(|(local, remote)| (ip(&local).to_string(), remote)).collect();
    all.sort();
    assert_eq!(opened, all);
}

#[test]
fn a_nic_that_comes_nowhere_with_the_first_family_uses_the_other() {
    let mut host = Host::with(config(Policy::Fullmesh));
    // B has a route only for IPv6.
    let v6 = Route { port: Some(B), prefix: Prefix::new(ip("fd00:1::"), 64), via: None };
    host.manager.set_routes(host.now, Routes::new(vec![v6]));
    host.initiate();
    host.announced(1, "fd00:1::2");
    assert_eq!(host.opened(), pairs(&[("fd00:1::1", "fd00:1::2")]));
}

#[test]
fn the_other_family_is_announced_where_a_nic_has_nothing_else_or_both_are_wanted() {
    for dual_stack in [false, true] {
        let mut host = Host::with(PmConfig { dual_stack, ..config(Policy::Fullmesh) });
        host.address(B, "10.0.1.1", false);
        host.establish(1, false, false);
        allow(&mut host);
        let announced: Vec<String> = host.announcing().into_iter().map(|(_, addr)| addr).collect();
        let expected: &[&str] = if dual_stack {
            &["fd00::1", "fd00:1::1", "10.0.2.1", "fd00:2::1"]
        } else {
            &["fd00:1::1", "10.0.2.1"]
        };
        assert_eq!(announced, expected);
    }
}

#[test]
fn a_responder_tells_at_once_of_what_the_user_wants_announced() {
    let mut host = Host::with(config(Policy::Fullmesh));
    let signal = host.add("10.0.2.1", "signal");
    host.establish(1, true, false);
    assert_eq!(host.announcing(), [], "an initiator's peer may lack the keys");
    host.establish(2, false, false);
    assert_eq!(host.announcing(), vec![(signal.0, "10.0.2.1".to_owned())], "and not what policy takes");
}

#[test]
fn addresses_of_a_backup_nic_are_backups() {
    let mut host = everywhere(PmConfig { backup: vec![C], ..config(Policy::Fullmesh) });
    allow(&mut host);
    let commands = host.commands();
    let backups: Vec<(IpAddr, bool)> = commands
        .iter()
        .filter_map(|command| match command {
            PmCommand::OpenSubflow { local, backup, .. } => Some((*local, *backup)),
            _ => None,
        })
        .collect();
    assert_eq!(backups, [(ip("10.0.1.1"), false), (ip("10.0.2.1"), true)]);
    // The first subflow's MP_CAPABLE could not say it.
    let mut host = everywhere(PmConfig { backup: vec![A], ..config(Policy::Fullmesh) });
    allow(&mut host);
    let prio = PmCommand::SetBackup {
        worker: WORKER,
        connection: connection(1),
        subflow: SubflowId(0),
        backup: true,
    };
    assert!(host.commands().contains(&prio));
}

#[test]
fn an_application_that_is_bound_to_an_address_gets_no_others_by_policy() {
    let mut host = Host::with(config(Policy::Fullmesh));
    let signal = host.add("10.0.2.1", "signal");
    host.establish(1, false, false);
    host.manager.set_bound(WORKER, connection(1));
    allow(&mut host);
    assert_eq!(host.announcing(), vec![(signal.0, "10.0.2.1".to_owned())], "what was asked for");
}
