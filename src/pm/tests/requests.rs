//! What users ask for single connections.

use super::*;

/// A connection from 10.0.0.1 to 10.0.0.2, with a second subflow named 1, that the policy leaves alone.
fn host() -> Host {
    let mut host = Host::with(PmConfig { policy: Policy::Endpoints, ..PmConfig::default() });
    host.manager.set_routes(host.now, defaults(&[A, B, C]));
    host.initiate();
    host.joined(SECOND.0, SECOND.1);
    assert_eq!(host.commands(), []);
    host
}

fn ask(host: &mut Host, request: SubflowRequest) -> Result<(), RequestError> {
    host.manager.add_subflow(WORKER, connection(1), &request)
}

const ANY: SubflowRequest = SubflowRequest { local: None, remote: None, port: None, backup: false };

#[test]
fn a_subflow_is_opened_from_the_nic_that_is_used_least_to_the_first_address() {
    let mut host = host();
    assert_eq!(ask(&mut host, ANY), Ok(()));
    assert_eq!(host.opened(), pairs(&[("10.0.2.1", "10.0.0.2")]));
}

#[test]
fn a_subflow_is_opened_between_the_ends_that_are_asked_for() {
    let mut host = host();
    let request = SubflowRequest {
        local: Some(ip("10.0.1.1")),
        remote: Some(ip("192.0.2.1")),
        port: Some(81),
        backup: true,
    };
    assert_eq!(ask(&mut host, request), Ok(()));
    assert_eq!(
        host.commands(),
        [PmCommand::OpenSubflow {
            worker: WORKER,
            connection: connection(1),
            local: ip("10.0.1.1"),
            port: B,
            remote: end("192.0.2.1", 81),
            local_id: B_ID,
            remote_id: AddressId(0),
            backup: true,
        }]
    );
    // Its failure is nobody's business but the user's.
    host.joined_as(2, end("10.0.1.1", 40_001), end("192.0.2.1", 81));
    assert_eq!(host.commands(), [], "its SYN has said that it is a backup");
    host.report(Report::SubflowClosed {
        connection: connection(1),
        subflow: SubflowId(2),
        tuple: FourTuple { local: end("10.0.1.1", 40_001), remote: end("192.0.2.1", 81) },
        reason: CloseReason::TimedOut,
        reset: None,
        established: true,
    });
    assert_eq!((host.commands(), host.manager.poll_timeout()), (vec![], None));
}

#[test]
fn a_subflow_to_an_announced_address_goes_to_its_port() {
    let mut host = host();
    let remote = end("fd00:2::2", 82);
    host.report(Report::AddressAnnounced { connection: connection(1), id: AddressId(4), remote });
    host.commands();
    assert_eq!(ask(&mut host, SubflowRequest { local: Some(ip("fd00:2::1")), ..ANY }), Ok(()));
    let opened = host.commands();
    let leads = |it: &PmCommand| matches!(it, PmCommand::OpenSubflow { remote: end, remote_id: AddressId(4), .. } if *end == remote);
    assert!(opened.len() == 1 && leads(&opened[0]), "{opened:?}");
}

#[test]
fn what_cannot_be_tried_is_refused_with_the_reason() {
    let mut host = host();
    let from = |local: &str| SubflowRequest { local: Some(ip(local)), ..ANY };
    let to = |remote: &str| SubflowRequest { remote: Some(ip(remote)), ..ANY };
    assert_eq!(ask(&mut host, from("10.9.9.9")), Err(RequestError::NotOurs(ip("10.9.9.9"))));
    let mixed = SubflowRequest { local: Some(ip("fd00:1::1")), ..to("192.0.2.1") };
    let families = RequestError::Families(ip("fd00:1::1"), ip("192.0.2.1"));
    assert_eq!(ask(&mut host, mixed), Err(families));
    assert_eq!(ask(&mut host, from("fd00:1::1")), Err(RequestError::NoRemote), "none of its family");
    host.route_links(&[A, B, C]);
    assert_eq!(ask(&mut host, to("192.0.2.1")), Err(RequestError::NoWay(ip("192.0.2.1"))));
    let limits = Limits { subflows: 1, ..Limits::default() };
    host.manager.set_limits(host.now, limits);
    assert_eq!(ask(&mut host, ANY), Err(RequestError::Limit(1)));
    let unknown = host.manager.add_subflow(WORKER, connection(9), &ANY);
    assert_eq!(unknown, Err(RequestError::NoConnection));
    host.establish(2, true, true);
    assert_eq!(host.manager.add_subflow(WORKER, connection(2), &ANY), Err(RequestError::NotConfirmed));
    host.report(Report::JoinsAllowed { connection: connection(2) });
    assert_eq!(host.manager.add_subflow(WORKER, connection(2), &ANY), Err(RequestError::NoRemote), "flag C");
    let first = host.manager.add_subflow(WORKER, connection(2), &to("10.0.0.2"));
    assert_eq!(first, Err(RequestError::NotWanted));
    assert_eq!(host.commands(), []);
}

#[test]
fn a_subflow_that_the_user_removes_stays_away() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.joined(SECOND.0, SECOND.1);
    host.commands();
    let remove = |host: &mut Host, id| host.manager.remove_subflow(WORKER, connection(1), SubflowId(id));
    assert_eq!(remove(&mut host, 5), Err(RequestError::NoSubflow(SubflowId(5))));
    assert_eq!(remove(&mut host, 1), Ok(()));
    let (worker, id) = (WORKER, connection(1));
    assert_eq!(host.commands(), [PmCommand::CloseSubflow { worker, connection: id, subflow: SubflowId(1) }]);
    host.closed(SECOND.0, SECOND.1, CloseReason::Aborted);
    assert_eq!((host.commands(), host.manager.poll_timeout()), (vec![], None));
    host.link(B, false);
    host.commands();
    host.link(B, true);
    host.announced(1, "10.0.1.2");
    assert_eq!(host.opened(), [], "whatever comes back");
    assert_eq!(host.manager.add_address(host.now, worker, id, ip(SECOND.0)), Ok(()));
    assert_eq!(host.opened(), pairs(&[SECOND]), "until the user wants the address again");
    assert_eq!(remove(&mut host, 0), Err(RequestError::LastSubflow));
}

#[test]
fn a_subflow_is_made_a_backup_and_said_to_be_one_each_time() {
    let mut host = host();
    let (worker, id) = (WORKER, connection(1));
    for backup in [true, true, false] {
        assert_eq!(host.manager.set_backup(worker, id, SubflowId(1), backup), Ok(()));
        let prio = PmCommand::SetBackup { worker, connection: id, subflow: SubflowId(1), backup };
        assert_eq!(host.commands(), [prio]);
    }
    let unknown = host.manager.set_backup(worker, id, SubflowId(5), true);
    assert_eq!(unknown, Err(RequestError::NoSubflow(SubflowId(5))));
}

#[test]
fn limits_take_effect_at_once_and_what_is_there_stays() {
    let mut host = Host::new(Limits { subflows: 1, ..Limits::default() });
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.announced(2, "10.0.2.2");
    assert_eq!(host.opened(), pairs(&[SECOND]));
    host.manager.set_limits(host.now, Limits::default());
    assert_eq!(host.opened(), pairs(&[THIRD]));
    host.manager.set_limits(host.now, Limits { subflows: 0, ..Limits::default() });
    assert_eq!(host.commands(), []);
}

#[test]
fn an_application_adds_and_removes_addresses_of_its_connection() {
    let mut host = host();
    host.manager.set_bound(WORKER, connection(1));
    let (worker, id) = (WORKER, connection(1));
    assert_eq!(host.manager.add_address(host.now, worker, id, ip("10.0.2.1")), Ok(()));
    assert_eq!(host.opened(), pairs(&[("10.0.2.1", "10.0.0.2")]));
    host.joined_as(3, end("10.0.2.1", 40_000), end("10.0.0.2", 80));
    assert_eq!(host.manager.remove_address(host.now, worker, id, ip("10.0.2.1")), Ok(()));
    assert_eq!(host.commands(), [PmCommand::Withdraw { worker, connection: id, id: C_ID }]);
    host.closed("10.0.2.1", "10.0.0.2", CloseReason::PathDown);
    assert_eq!((host.commands(), host.manager.poll_timeout()), (vec![], None));
    let foreign = ip("10.9.9.9");
    let error = Err(RequestError::NotOurs(foreign));
    assert_eq!(host.manager.add_address(host.now, worker, id, foreign), error);
    assert_eq!(host.manager.remove_address(host.now, worker, id, foreign), error);
    // The first one, too, while there is another.
    assert_eq!(host.manager.remove_address(host.now, worker, id, ip("10.0.0.1")), Ok(()));
    assert_eq!(host.commands(), [PmCommand::Withdraw { worker, connection: id, id: AddressId(0) }]);
    host.closed("10.0.0.1", "10.0.0.2", CloseReason::PathDown);
    let last = host.manager.remove_address(host.now, worker, id, ip(SECOND.0));
    assert_eq!(last, Err(RequestError::LastSubflow));
}

#[test]
fn an_acceptor_announces_the_address_that_its_application_adds() {
    let mut host = Host::with(PmConfig { policy: Policy::Endpoints, ..PmConfig::default() });
    host.accept();
    let added = host.manager.add_address(host.now, WORKER, connection(1), ip("10.0.1.1"));
    assert_eq!((added, host.announcing()), (Ok(()), vec![(B_ID.0, "10.0.1.1".to_owned())]));
}

#[test]
fn a_view_tells_what_a_connection_has() {
    let mut host = host();
    host.add("10.0.2.1", "signal");
    host.add("fd00:2::1", "subflow fullmesh");
    host.announced(1, "10.0.1.2");
    let view = host.manager.view(WORKER, connection(1)).expect("it is managed");
    let expected = ConnectionView {
        token: Token(1),
        subflows: 1,
        announced: 1,
        accepted: 1,
        local_addresses: 1,
        endpoints: [1, 1, 1, 0],
    };
    // The announced address got a subflow already, from where the routes lead.
    assert_eq!(ConnectionView { subflows: 1, ..view }, expected);
    assert_eq!(host.manager.view(WORKER, connection(2)), None);
}
