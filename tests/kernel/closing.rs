//! How connections end: one direction before the other, or all at once.

use crate::ends::Action;
use crate::stage::{Stage, Way, Who, address};
use crate::support::alone;
use std::fs;

/// The server's host announces its second address, and the client joins it. Braid does so by itself.
fn announce(stage: &Stage, way: Way) {
    if way == Way::KernelServes {
        stage.ip_mptcp(way, &format!("endpoint add {} dev p2 signal", address(way.kernel(), 2)));
    }
}

#[test]
fn data_follows_a_half_close_and_then_the_other_data_fin() {
    let _alone = alone();
    let Some(stage) = Stage::new("half_close") else { return };
    let first = |joined| {
        let rest = [Action::Await(joined), Action::Send(3_000_000), Action::Finish, Action::Drain];
        [Action::Send(1)].into_iter().chain(rest).collect()
    };
    let second = || vec![Action::Drain, Action::Send(5_000_001), Action::Finish];
    for way in Way::BOTH {
        for who in Who::BOTH {
            let case = stage.case(&format!("{who:?} finishes first"), way);
            announce(&stage, way);
            // Not before there are two subflows: a join that is still under way at the end the kernel resets.
            let joined = stage.file();
            let talk = match who {
                Who::Kernel => case.talk(first(joined.clone()), second()),
                Who::Braid => case.talk(second(), first(joined.clone())),
            };
            stage.await_subflows(2);
            fs::write(joined, "").unwrap();
            let ending = talk.finish(&[], &[]);
            ending.expect_mptcp();
            assert!(ending.braid.sent.starts_with(if who == Who::Braid { "3000001" } else { "5000001" }));
        }
    }
}

#[test]
fn a_fast_close_ends_all_subflows_at_both_ends() {
    let _alone = alone();
    let Some(stage) = Stage::new("fast_close") else { return };
    for way in Way::BOTH {
        for who in Who::BOTH {
            let case = stage.case(&format!("{who:?} aborts"), way);
            announce(&stage, way);
            let joined = stage.file();
            let aborts =
                vec![Action::Send(1000), Action::Receive(1000), Action::Await(joined.clone()), Action::Abort];
            let is_reset = vec![Action::Send(1000), Action::ExpectReset];
            let (talk, meant) = match who {
                Who::Kernel => (case.talk(aborts, is_reset), "MPFastcloseTx"),
                Who::Braid => (case.talk(is_reset, aborts), "MPFastcloseRx"),
            };
            stage.await_subflows(2);
            fs::write(joined, "").unwrap();
            let ending = talk.finish(&[meant], &["MPRstTx", "MPRstRx"]);
            ending.expect_mptcp();
            // Nothing lives on.
            let left = stage.at(way.kernel(), "ss -H -t -n state established");
            assert!(left.trim().is_empty(), "{left}");
        }
    }
}
