//! Endpoints with their flags, as the kernel has them. The policy keeps out of it, but where a test says otherwise.

use super::*;

const OTHER: &str = "192.0.2.2";
const THIRD_OTHER: &str = "192.0.2.3";

/// A host with only the user's endpoints, whose NICs lead everywhere.
fn host(initiator: bool, no_join_remote: bool, endpoints: &[(&str, &str)]) -> Host {
    let mut host = Host::with(PmConfig { policy: Policy::Endpoints, ..PmConfig::default() });
    host.manager.set_routes(host.now, defaults(&[A, B, C]));
    for (addr, words) in endpoints {
        host.add(addr, words);
    }
    host.report(Report::Established {
        connection: connection(1),
        token: Some(Token(1)),
        initiator,
        tuple: tuple("10.0.0.1", "192.0.2.1"),
        port: A,
        no_join_remote,
    });
    host.report(Report::JoinsAllowed { connection: connection(1) });
    host
}

const FIRST: &str = "192.0.2.1";

#[test]
fn without_endpoints_nothing_is_opened_or_announced() {
    for initiator in [false, true] {
        assert_eq!(host(initiator, false, &[]).commands(), []);
    }
}

#[test]
fn subflow_leads_to_the_first_address_once() {
    let mut host = host(true, false, &[("10.0.0.1", "subflow"), ("10.0.1.1", "subflow")]);
    assert_eq!(host.opened(), pairs(&[("10.0.1.1", FIRST)]), "the first subflow is that of the other one");
    host.announced(1, OTHER);
    assert_eq!(
        host.opened(),
        pairs(&[("10.0.2.1", OTHER)]),
        "from where the routes lead, not from the endpoint"
    );
}

#[test]
fn subflow_works_at_either_end() {
    let mut host = host(false, false, &[("10.0.1.1", "subflow")]);
    assert_eq!(host.opened(), pairs(&[("10.0.1.1", FIRST)]));
    // A client that takes no joins is asked once.
    host.closed("10.0.1.1", FIRST, CloseReason::Refused);
    assert_eq!((host.opened(), host.manager.poll_timeout()), (vec![], None));
}

#[test]
fn fullmesh_leads_to_each_announced_address_and_with_subflow_to_the_first_one_too() {
    let mut only = host(true, false, &[("10.0.1.1", "fullmesh")]);
    assert_eq!(only.opened(), []);
    only.announced(1, OTHER);
    only.announced(2, THIRD_OTHER);
    assert_eq!(only.opened(), pairs(&[("10.0.1.1", OTHER), ("10.0.1.1", THIRD_OTHER)]));

    let mut both = host(true, false, &[("10.0.1.1", "subflow fullmesh"), ("10.0.2.1", "subflow fullmesh")]);
    assert_eq!(both.opened(), pairs(&[("10.0.1.1", FIRST), ("10.0.2.1", FIRST)]));
    both.announced(1, OTHER);
    assert_eq!(both.opened(), pairs(&[("10.0.1.1", OTHER), ("10.0.2.1", OTHER)]));
}

#[test]
fn laminar_endpoints_and_announced_addresses_pair_off() {
    let mut host = host(true, false, &[("10.0.1.1", "laminar"), ("10.0.2.1", "laminar")]);
    assert_eq!(host.opened(), []);
    host.announced(1, OTHER);
    assert_eq!(host.opened(), pairs(&[("10.0.1.1", OTHER)]));
    host.announced(2, THIRD_OTHER);
    assert_eq!(host.opened(), pairs(&[("10.0.2.1", THIRD_OTHER)]));
    host.announced(3, "192.0.2.4");
    assert_eq!(host.opened(), [], "no endpoint is left, and the routes are not asked");
    host.joined("10.0.1.1", OTHER);
    host.closed("10.0.1.1", OTHER, CloseReason::Finished);
    assert_eq!(host.opened(), pairs(&[("10.0.1.1", "192.0.2.4")]), "one is free again");
}

#[test]
fn a_laminar_endpoint_of_the_first_address_has_its_subflow() {
    let mut host = host(true, false, &[("10.0.0.1", "laminar")]);
    host.announced(1, OTHER);
    assert_eq!(host.opened(), []);
}

#[test]
fn an_announced_address_without_an_endpoint_for_it_is_left_to_the_routes() {
    for initiator in [true, false] {
        let mut host = host(initiator, false, &[("10.0.1.1", "signal")]);
        host.commands();
        host.manager.set_routes(host.now, defaults(&[C]));
        host.announced(1, OTHER);
        assert_eq!(host.opened(), pairs(&[("10.0.2.1", OTHER)]));
        host.announced(1, OTHER);
        assert_eq!(host.opened(), []);
    }
}

#[test]
fn a_stranded_connection_goes_back_to_where_it_began() {
    let mut host = host(true, false, &[]);
    host.closed("10.0.0.1", FIRST, CloseReason::Reset);
    host.wait();
    assert_eq!(host.opened(), pairs(&[("10.0.0.1", FIRST)]));
}

#[test]
fn signal_announces_at_either_end() {
    for initiator in [false, true] {
        let mut host = host(initiator, false, &[("10.0.1.1", "signal"), ("10.0.0.1", "signal")]);
        let expected = vec![(B_ID.0, "10.0.1.1".to_owned())];
        assert_eq!(host.announcing(), expected, "the first address is known");
        let added = host.add("fd00:2::1", "signal");
        assert_eq!(host.announcing(), vec![(added.0, "fd00:2::1".to_owned())], "either family");
    }
}

#[test]
fn a_port_is_announced_with_its_address_under_an_id_of_its_own() {
    let mut host = host(false, false, &[]);
    let spec = EndpointSpec { port: Some(5001), ..EndpointSpec::new(ip("10.0.0.1"), flags("signal")) };
    let id = host.manager.add_endpoint(host.now, &spec).expect("it can be added").id;
    assert_ne!(id, AddressId(0), "it is not the first subflow's end");
    let (worker, connection) = (WORKER, connection(1));
    let announce = PmCommand::Announce { worker, connection, id, addr: ip("10.0.0.1"), port: Some(5001) };
    assert_eq!(host.commands(), [announce]);
    // Whoever has joined there goes with it; the first subflow, from the same address, stays.
    host.joined_as(4, end("10.0.0.1", 5001), end("192.0.2.9", 9));
    host.joined_as(5, end("10.0.0.1", 80), end("192.0.2.9", 10));
    assert!(host.manager.delete_endpoint(host.now, id).is_ok());
    let close = PmCommand::CloseSubflow { worker, connection, subflow: SubflowId(4) };
    assert_eq!(host.commands(), [close, PmCommand::Withdraw { worker, connection, id }]);
}

#[test]
fn a_backup_endpoint_says_so_on_its_joins_and_of_those_that_come_to_it() {
    let mut host = host(true, false, &[("10.0.1.1", "subflow backup"), ("10.0.2.1", "backup")]);
    let opened = host.commands();
    assert!(matches!(opened[..], [PmCommand::OpenSubflow { backup: true, .. }]), "{opened:?}");
    host.joined("10.0.1.1", FIRST);
    assert_eq!(host.commands(), [], "its SYN has said it");
    host.joined_as(7, end("10.0.2.1", 40_000), end("192.0.2.9", 99));
    let prio = |subflow, backup| PmCommand::SetBackup {
        worker: WORKER,
        connection: connection(1),
        subflow: SubflowId(subflow),
        backup,
    };
    assert_eq!(host.commands(), [prio(7, true)]);
    // Changes are told of the subflows that there are.
    let nobackup = |host: &mut Host, id| {
        host.manager.change_endpoint(host.now, id, |flags| flags.backup = false).expect("it is there");
    };
    nobackup(&mut host, B_ID);
    assert_eq!(host.commands(), [prio(1, false)]);
    nobackup(&mut host, B_ID);
    assert_eq!(host.commands(), [], "once");
    nobackup(&mut host, C_ID);
    assert_eq!(host.commands(), [prio(7, false)]);
}

#[test]
fn pitfall_07_addresses_that_may_not_join_the_first_one_join_those_that_are_announced() {
    let mut host = host(true, true, &[("10.0.1.1", "subflow"), ("10.0.2.1", "subflow")]);
    assert_eq!(host.opened(), [], "flag C");
    host.announced(1, OTHER);
    assert_eq!(host.opened(), pairs(&[("10.0.1.1", OTHER), ("10.0.2.1", OTHER)]));
    host.announced(2, THIRD_OTHER);
    assert_eq!(host.opened(), [], "each has its subflow");
}

#[test]
fn an_endpoint_waits_for_its_address_its_nic_and_its_link() {
    let mut host = host(true, false, &[]);
    let spec = EndpointSpec { nic: Some(C), ..EndpointSpec::new(ip("10.0.9.1"), flags("subflow")) };
    let id = host.manager.add_endpoint(host.now, &spec).expect("it can be added").id;
    assert!(!host.manager.is_usable(id));
    host.address(B, "10.0.9.1", true);
    assert_eq!(host.opened(), [], "on another NIC");
    host.link(C, false);
    host.address(C, "10.0.9.1", true);
    assert_eq!(host.opened(), []);
    host.link(C, true);
    assert_eq!(host.opened(), pairs(&[("10.0.9.1", FIRST)]));
    assert!(host.manager.is_usable(id));
}

#[test]
fn an_endpoint_that_is_deleted_is_withdrawn_with_its_subflows() {
    let mut host = host(true, false, &[("10.0.1.1", "subflow"), ("10.0.2.1", "signal")]);
    host.commands();
    host.joined("10.0.1.1", FIRST);
    let withdraw = |id| PmCommand::Withdraw { worker: WORKER, connection: connection(1), id };
    for id in [B_ID, C_ID] {
        assert!(host.manager.delete_endpoint(host.now, id).is_ok());
        assert_eq!(host.commands(), [withdraw(id)]);
        assert_eq!(host.manager.delete_endpoint(host.now, id), Err(EndpointError::UnknownId(id)));
    }
    host.closed("10.0.1.1", FIRST, CloseReason::PathDown);
    assert_eq!((host.opened(), host.manager.poll_timeout()), (vec![], None));
    assert_eq!(host.manager.endpoints().count(), 0);
}

#[test]
fn the_only_path_of_a_connection_is_not_taken_from_it() {
    let mut host = host(true, false, &[("10.0.0.1", "subflow")]);
    let id = AddressId(1);
    assert!(host.manager.delete_endpoint(host.now, id).is_ok());
    assert_eq!(host.commands(), []);
    let addr = ip("10.0.0.1");
    let kept = host.manager.delete_first_address(addr);
    assert_eq!((kept, host.commands()), (Err(EndpointError::UnknownAddress(addr)), vec![]));
    // With another path it goes, by id 0, as with the kernel.
    host.joined("10.0.1.1", FIRST);
    assert_eq!(host.manager.delete_first_address(addr), Ok(()));
    let (worker, connection) = (WORKER, connection(1));
    assert_eq!(host.commands(), [PmCommand::Withdraw { worker, connection, id: AddressId(0) }]);
}

#[test]
fn after_a_flush_only_what_is_added_is_used() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.joined(SECOND.0, SECOND.1);
    host.commands();
    assert_eq!(host.manager.flush_endpoints(host.now).len(), 6);
    let withdrawn = host.commands();
    assert!(matches!(withdrawn[..], [PmCommand::Withdraw { id: B_ID, .. }]), "not the first: {withdrawn:?}");
    assert_eq!(host.manager.endpoints().count(), 0);
    host.announced(2, "10.0.2.2");
    assert_eq!(host.opened(), []);
    host.add("10.0.2.1", "fullmesh");
    assert_eq!(host.opened(), pairs(&[THIRD]));
}

#[test]
fn an_endpoint_without_a_use_leaves_that_to_the_policy() {
    let mut host = Host::new(Limits::default());
    host.add("10.0.1.1", "backup");
    host.initiate();
    host.announced(1, "10.0.1.2");
    let opened = host.commands();
    assert!(matches!(opened[..], [PmCommand::OpenSubflow { backup: true, .. }]), "{opened:?}");
    // One with a use has it instead.
    host.add("10.0.2.1", "signal");
    assert_eq!(host.announcing().len(), 1);
    host.announced(2, "10.0.2.2");
    assert_eq!(host.opened(), []);
}

#[test]
fn what_a_policy_uses_is_shown_and_what_it_does_not_use_is_not() {
    let shown = |host: &Host| host.manager.endpoints().filter(|endpoint| endpoint.implicit).count();
    let mut mesh = Host::new(Limits::default());
    assert_eq!(shown(&mesh), 6);
    mesh.address(C, "10.0.2.1", false);
    assert_eq!(shown(&mesh), 5, "it is not there");
    assert!(mesh.manager.delete_endpoint(mesh.now, B_ID).is_ok());
    assert_eq!(shown(&mesh), 4, "it is not wanted");
    assert_eq!(shown(&host(true, false, &[])), 0);
}

#[test]
fn an_address_on_two_nics_is_withdrawn_only_when_both_have_lost_it() {
    let mut host = Host::new(Limits::default());
    host.address(C, "10.0.1.1", true);
    host.accept();
    host.commands();
    host.address(C, "10.0.1.1", false);
    assert_eq!(host.commands(), []);
    host.link(B, false);
    assert_eq!(host.commands().len(), 1);
}
