//! What changes while a connection runs: joins by either side, addresses that come and go, backups, a link that flaps.

use crate::stage::{Case, Stage, Talk, Watched, Way, Who, address};
use crate::support::alone;
use std::thread::sleep;
use std::time::Duration;

/// So many bytes on a path are more than handshakes, acknowledgments and what is under way.
const LOADED: u64 = 500_000;
/// The id that the kernel's second address gets.
const ID: u8 = 10;
/// Where the client takes joins.
const CLIENT_PORT: u16 = 7100;

/// The one that connected waits for announcements and joins them.
fn announce_by_kernel(stage: &Stage, way: Way) {
    stage.ip_mptcp(way, &format!("endpoint add {} dev p2 id {ID} signal", address(way.kernel(), 2)));
}

/// A running load over two paths; the client has opened the second one.
fn load_over_two_paths<'a>(stage: &'a Stage, case: Case<'a>, way: Way, sender: Who) -> Talk<'a> {
    if way == Way::KernelServes {
        announce_by_kernel(stage, way);
    }
    let talk = case.load(sender);
    stage.await_subflows(2);
    stage.await_crossing(2, LOADED);
    talk
}

#[test]
fn the_side_that_connected_joins() {
    let _alone = alone();
    let Some(stage) = Stage::new("client_joins") else { return };
    for way in Way::BOTH {
        let watched = Watched::start(&stage);
        let case = stage.case("the client joins", way);
        let mut talk = load_over_two_paths(&stage, case, way, Who::Braid);
        talk.enough();
        let (ours, theirs) = (&["MPJoinSynRx", "MPJoinAckRx"][..], &["MPJoinSynTx", "MPJoinSynAckRx"][..]);
        talk.finish(if way == Way::KernelServes { ours } else { theirs }, &[]).expect_mptcp();
        watched.expect_clean("the client joins");
    }
}

#[test]
fn the_side_that_accepted_joins() {
    let _alone = alone();
    let Some(stage) = Stage::new("server_joins") else { return };
    for way in Way::BOTH {
        let watched = Watched::start(&stage);
        let mut case = stage.case("the server joins", way);
        let there = address(braid::lab::Host::A, 2);
        let announcement = format!("{there} dev p2 signal port {CLIENT_PORT}");
        case.ours.endpoints = match way {
            // The kernel, which serves, joins what Braid announces.
            Way::KernelServes => vec![announcement.clone()],
            // Nothing by itself: it is told to join.
            Way::BraidServes => vec![format!("{},fullmesh", address(braid::lab::Host::B, 2))],
        };
        if way == Way::BraidServes {
            stage.ip_mptcp(way, &format!("endpoint add {announcement}"));
        }
        let mut talk = case.load(Who::Kernel);
        let (meant, first) = match way {
            Way::KernelServes => (&["PortAdd", "MPJoinSynTx"][..], "MPJoinSynAckRx"),
            Way::BraidServes => (&["AddAddrTx", "MPJoinPortSynRx"][..], "MPJoinAckRx"),
        };
        talk.await_counter(first);
        stage.await_subflows(2);
        stage.await_crossing(2, LOADED);
        talk.enough();
        talk.finish(meant, &[]).expect_mptcp();
        watched.expect_clean("the server joins");
    }
}

#[test]
fn addresses_come_and_go_while_data_moves() {
    let _alone = alone();
    let Some(stage) = Stage::new("addresses_come") else { return };
    for way in Way::BOTH {
        for who in Who::BOTH {
            let name = format!("addresses of {who:?}");
            let mut case = stage.case(&name, way);
            // Only what is told.
            case.ours.endpoints = vec![format!("{} dev p1 subflow", address(way.braid(), 1))];
            let by_kernel = |line: &str| stage.ip_mptcp(way, line);
            let flag = |host| if host == braid::lab::Host::B { "signal" } else { "subflow" };
            // The other side's second address, for what is announced to be joined from.
            if way == Way::KernelServes {
                // Braid connected: a fullmesh endpoint joins what the kernel announces.
                case.ours.endpoints.push(format!("{} dev p2 fullmesh id {ID}", address(way.braid(), 2)));
            }
            if who == Who::Braid && way == Way::KernelServes {
                case.ours.endpoints.pop();
                announce_by_kernel(&stage, way);
            }
            let mut talk = case.load(Who::Braid);
            stage.await_crossing(1, LOADED);
            let mut meant = vec![];
            for _ in 0..2 {
                match who {
                    Who::Kernel => {
                        let (addr, flag) = (address(way.kernel(), 2), flag(way.kernel()));
                        by_kernel(&format!("endpoint add {addr} dev p2 id {ID} {flag}"));
                    }
                    Who::Braid => {
                        let (addr, host) = (address(way.braid(), 2), way.braid());
                        let flag = if host == braid::lab::Host::B { "signal" } else { "fullmesh" };
                        stage.ctl(&format!("endpoint add {addr} dev p2 id {ID} {flag}"));
                    }
                }
                stage.await_subflows(2);
                stage.await_crossing(2, LOADED);
                match who {
                    Who::Kernel => by_kernel(&format!("endpoint delete id {ID}")),
                    Who::Braid => drop(stage.ctl(&format!("endpoint delete id {ID}"))),
                }
                stage.await_subflows(1);
                stage.await_crossing(1, LOADED);
            }
            match who {
                Who::Kernel => meant.push("RmAddrTx"),
                Who::Braid => meant.push("RmAddr"),
            }
            talk.enough();
            // A subflow from an address that is gone is reset.
            talk.finish(&meant, &["MPRstTx", "MPRstRx"]).expect_mptcp();
        }
    }
}

#[test]
fn a_backup_rests_until_the_other_path_dies() {
    let _alone = alone();
    let Some(stage) = Stage::new("backup_switch") else { return };
    for way in Way::BOTH {
        // One asks the other, which sends, to use the second path only as a backup.
        for sender in Who::BOTH {
            let name = format!("{sender:?} is asked for a backup");
            stage.sysctl(way, "stale_loss_cnt", 1);
            let case = stage.case(&name, way);
            // By its own endpoint the kernel changes a subflow's priority.
            let host = way.kernel();
            let flag = if host == braid::lab::Host::B { "signal" } else { "subflow" };
            stage.ip_mptcp(way, &format!("endpoint add {} dev p2 id {ID} {flag}", address(host, 2)));
            let mut talk = case.load(sender);
            stage.await_subflows(2);
            stage.await_crossing(2, LOADED);
            let set_backup = |on: bool| match sender {
                Who::Braid => {
                    let word = if on { "backup" } else { "nobackup" };
                    stage.ip_mptcp(way, &format!("endpoint change id {ID} {word}"));
                }
                Who::Kernel => {
                    let connection = stage.connection();
                    let subflows = connection["subflows"].as_array().unwrap();
                    let second = subflows.iter().find(|it| it["dev"] == "p2").unwrap();
                    let (token, id) = (connection["token"].as_str().unwrap(), &second["id"]);
                    let word = if on { "on" } else { "off" };
                    stage.ctl(&format!("subflow backup token {token} id {id} {word}"));
                }
            };
            set_backup(true);
            let priority = if sender == Who::Braid { "MPPrioTx" } else { "MPPrioRx" };
            talk.await_counter(priority);
            // What is under way on it comes to its end.
            stage.await_crossing(1, 3 * LOADED);
            let rests = stage.crossed(2);
            stage.await_crossing(1, 10 * LOADED);
            let crept = stage.crossed(2) - rests;
            assert!(crept < LOADED, "{name}, {way:?}: {crept} bytes crossed the backup");
            // It takes over.
            stage.lab.set_loss(1, 1000).unwrap();
            stage.await_crossing(2, 2 * LOADED);
            stage.lab.set_loss(1, 0).unwrap();
            // And both work again.
            set_backup(false);
            stage.await_crossing(1, LOADED);
            stage.await_crossing(2, LOADED);
            talk.enough();
            talk.finish(&[priority], &["SubflowRecover"]).expect_mptcp();
        }
    }
}

#[test]
fn a_link_flaps_ten_times_under_load() {
    let _alone = alone();
    let Some(stage) = Stage::new("flapping_link") else { return };
    for way in Way::BOTH {
        for (host, sender) in [(way.braid(), Who::Braid), (way.kernel(), Who::Kernel)] {
            let case = stage.case(&format!("the link of {host} flaps, {sender:?} sends"), way);
            let mut talk = load_over_two_paths(&stage, case, way, sender);
            for _ in 0..10 {
                stage.lab.set_link(host, 2, false).unwrap();
                sleep(Duration::from_millis(70));
                stage.lab.set_link(host, 2, true).unwrap();
                sleep(Duration::from_millis(130));
            }
            stage.await_crossing(2, LOADED);
            stage.await_crossing(1, LOADED);
            talk.enough();
            // Subflows over a dead link are reset, and joined again.
            let tolerated = ["MPRstTx", "MPRstRx", "SubflowRecover"];
            talk.finish(&[], &tolerated).expect_mptcp();
        }
    }
}
