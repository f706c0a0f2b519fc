//! Links and addresses that go: what is withdrawn, from whom, when, and what is kept all the same.

use super::*;

#[test]
fn a_link_that_goes_down_is_withdrawn_and_announced_again() {
    let mut host = Host::new(Limits::default());
    host.accept();
    host.joined(SECOND.0, SECOND.1);
    host.commands();
    let withdraw = |id| PmCommand::Withdraw { worker: WORKER, connection: connection(1), id: AddressId(id) };
    for (port, id, addr) in [(B, B_ID.0, "10.0.1.1"), (A, 0, "10.0.0.1")] {
        host.link(port, false);
        assert_eq!(host.commands(), [withdraw(id)]);
        host.link(port, false);
        assert_eq!(host.commands(), [], "once");
        host.link(port, true);
        assert_eq!(host.announcing(), vec![(id, addr.to_owned())]);
    }
}

#[test]
fn an_address_that_goes_is_withdrawn_from_those_who_know_it() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.address(C, "10.0.2.1", false);
    assert_eq!(host.commands(), [], "the peer never heard of it");
    host.announced(1, "10.0.1.2");
    host.joined(SECOND.0, SECOND.1);
    host.commands();
    host.address(B, "10.0.1.1", false);
    let withdraw = |id| PmCommand::Withdraw { worker: WORKER, connection: connection(1), id: AddressId(id) };
    assert_eq!(host.commands(), [withdraw(B_ID.0)]);
    host.closed(SECOND.0, SECOND.1, CloseReason::PathDown);
    assert_eq!(host.opened(), []);
    host.address(B, "10.0.1.1", true);
    let again = host.commands();
    assert!(matches!(again[..], [PmCommand::OpenSubflow { local_id: B_ID, .. }]), "{again:?}");
    // The only path: there is nothing to say it on, until there is another one that stays.
    host.address(A, "10.0.0.1", false);
    assert_eq!(host.commands(), []);
    host.joined(SECOND.0, SECOND.1);
    assert_eq!(host.commands(), []);
    host.wait();
    assert_eq!(host.commands(), [withdraw(0)]);
}

#[test]
fn the_only_path_whose_link_fails_is_kept_and_nothing_is_said_of_it() {
    let mut host = Host::new(Limits::default());
    host.accept();
    host.commands();
    host.joined(SECOND.0, SECOND.1);
    let withdraw = |id| PmCommand::Withdraw { worker: WORKER, connection: connection(1), id: AddressId(id) };
    host.link(A, false);
    assert_eq!(host.commands(), [withdraw(0)]);
    host.closed("10.0.0.1", "10.0.0.2", CloseReason::PathDown);
    host.link(B, false);
    assert_eq!(host.commands(), []);
    host.link(B, true);
    assert_eq!(host.commands(), [], "the peer has heard of nothing");
    host.link(A, true);
    assert_eq!(host.announcing(), vec![(0, "10.0.0.1".to_owned())]);
}

#[test]
fn a_path_that_the_peer_has_withdrawn_is_not_what_the_last_other_one_is_given_up_for() {
    let mut host = Host::new(Limits::default());
    host.accept();
    host.joined_with(SECOND.0, SECOND.1, (B_ID, AddressId(4)));
    host.commands();
    host.report(Report::AddressWithdrawn { connection: connection(1), id: AddressId(0) });
    host.link(B, false);
    assert_eq!(host.commands(), [], "the peer would most likely never hear of it");
    host.announced(0, "10.0.0.2");
    let (worker, connection, id) = (WORKER, connection(1), B_ID);
    assert!(host.commands().contains(&PmCommand::Withdraw { worker, connection, id }), "it is there again");
}

#[test]
fn the_only_path_is_not_given_up_for_a_new_one_that_the_peer_may_be_refusing() {
    for refused in [false, true] {
        let mut host = Host::new(Limits::default());
        host.initiate();
        host.announced(1, "10.0.1.2");
        assert_eq!(host.opened(), pairs(&[SECOND]));
        host.link(A, false);
        host.joined(SECOND.0, SECOND.1);
        assert_eq!(host.commands(), [], "the peer's path manager has not spoken yet");
        if refused {
            host.closed(SECOND.0, SECOND.1, CloseReason::Reset);
            host.link(B, false);
            assert_eq!(
                (host.commands(), host.manager.poll_timeout()),
                (vec![], None),
                "the first is all there is"
            );
        } else {
            host.wait();
            let (connection, id) = (connection(1), AddressId(0));
            assert_eq!(host.commands(), [PmCommand::Withdraw { worker: WORKER, connection, id }]);
            assert_eq!(host.manager.poll_timeout(), None);
        }
    }
}

#[test]
fn the_only_path_is_not_given_up_for_one_whose_peer_has_withdrawn_its_end() {
    let mut host = Host::new(Limits::default());
    host.initiate();
    host.announced(1, "10.0.1.2");
    host.joined_with(SECOND.0, SECOND.1, (B_ID, AddressId(1)));
    host.commands();
    host.report(Report::AddressWithdrawn { connection: connection(1), id: AddressId(1) });
    host.now += Duration::from_secs(2);
    host.link(A, false);
    assert_eq!((host.commands(), host.manager.poll_timeout()), (vec![], None));
}

#[test]
fn ids_of_lost_addresses_are_given_to_others_once_all_were_used() {
    let mut host = Host::new(Limits::default());
    host.accept();
    host.commands();
    let mut ids = Vec::new();
    for n in 0..300u32 {
        let addr = format!("10.1.{}.{}", n / 200, n % 200);
        host.address(C, &addr, true);
        let announced = host.announcing();
        assert_eq!(announced.len(), 1, "{addr}");
        ids.push(announced[0].0);
        host.address(C, &addr, false);
        let withdrawn = host.commands();
        assert!(matches!(withdrawn[..], [PmCommand::Withdraw { .. }]), "{withdrawn:?}");
    }
    let before = 255 - 6;
    assert!(ids[..before].is_sorted(), "the other ones first");
    assert_eq!(ids[before..], ids[..300 - before], "then those that were lost longest ago");
}
