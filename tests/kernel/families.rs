//! Checksums of mappings, IPv6, and both families in one connection. Captured, and read by tshark.

use crate::ends::Action;
use crate::stage::{Stage, Watched, Way, address, address6};
use crate::support::alone;
use std::path::Path;

/// Enough for both paths to take part at their rates.
const BYTES: usize = 2_000_001;

/// What the kernel's end does and what Braid's does. The first bytes alone, until there is a file `go_on`.
fn both_ways(go_on: &Path) -> (Vec<Action>, Vec<Action>) {
    let first = vec![
        Action::Send(1000),
        Action::Await(go_on.to_owned()),
        Action::Send(BYTES),
        Action::Receive(BYTES),
        Action::Finish,
        Action::Drain,
    ];
    let second = vec![Action::Receive(1000 + BYTES), Action::Send(BYTES), Action::Drain, Action::Finish];
    (first, second)
}

#[test]
fn checksums_are_used_when_either_end_requires_them() {
    let _alone = alone();
    let Some(stage) = Stage::new("dss_checksum") else { return };
    for way in Way::BOTH {
        for (kernel, braid) in [(true, false), (false, true)] {
            let name = format!("required by the kernel: {kernel}, by Braid: {braid}");
            let mut case = stage.case(&name, way);
            stage.sysctl(way, "checksum_enabled", kernel.into());
            if way == Way::KernelServes {
                stage.ip_mptcp(way, &format!("endpoint add {} dev p2 signal", address(way.kernel(), 2)));
            }
            case.ours.dss_checksum = braid;
            let watched = Watched::start(&stage);
            let go_on = stage.file();
            let (first, second) = both_ways(&go_on);
            let talk = case.talk(first, second);
            stage.await_subflows(2);
            assert_eq!(stage.connection()["info"]["csum_enabled"], true, "{name}");
            std::fs::write(go_on, "").unwrap();
            talk.finish(&[], &[]).expect_mptcp();
            watched.expect_clean(&name);
        }
        stage.sysctl(way, "checksum_enabled", 0);
    }
}

#[test]
fn two_paths_of_ipv6() {
    let _alone = alone();
    let Some(stage) = Stage::new("two_paths_ipv6") else { return };
    for way in Way::BOTH {
        let mut case = stage.case("IPv6", way);
        if way == Way::KernelServes {
            stage.ip_mptcp(way, &format!("endpoint add {} dev p2 signal", address6(way.kernel(), 2)));
        }
        let server = address6(braid::lab::Host::B, 1);
        case.server = ("::".to_owned(), server);
        let watched = Watched::start(&stage);
        let go_on = stage.file();
        let (first, second) = both_ways(&go_on);
        let talk = case.talk(first, second);
        stage.await_subflows(2);
        let before = stage.crossed(2);
        std::fs::write(go_on, "").unwrap();
        talk.finish(&[], &[]).expect_mptcp();
        assert!(stage.crossed(2) - before > 100_000, "the second path carries data");
        watched.expect_clean("IPv6");
    }
}

#[test]
fn both_families_in_one_connection() {
    let _alone = alone();
    let Some(stage) = Stage::new("dual_stack") else { return };
    for way in Way::BOTH {
        let mut case = stage.case("dual stack", way);
        if way == Way::KernelServes {
            let kernel = way.kernel();
            for (address, nic) in
                [(address(kernel, 2), "p2"), (address6(kernel, 1), "p1"), (address6(kernel, 2), "p2")]
            {
                stage.ip_mptcp(way, &format!("endpoint add {address} dev {nic} signal"));
            }
        }
        case.ours.dual_stack = true;
        // A socket of IPv6 that speaks IPv4: the kernel can then use both.
        let server = address(braid::lab::Host::B, 1);
        case.server = match way {
            Way::KernelServes => ("::".to_owned(), server),
            Way::BraidServes => ("::".to_owned(), format!("::ffff:{server}")),
        };
        let watched = Watched::start(&stage);
        let go_on = stage.file();
        let (first, second) = both_ways(&go_on);
        let talk = case.talk(first, second);
        stage.await_subflows(4);
        let connection = stage.connection();
        let subflows = connection["subflows"].as_array().unwrap();
        let of_ipv6 = subflows.iter().filter(|it| it["local"].as_str().unwrap().contains("fd71")).count();
        assert_eq!(of_ipv6, 2, "{connection:#}");
        std::fs::write(go_on, "").unwrap();
        // The kernel drops an announcement that comes while it is busy with another (we repeat it), and once in a while
        // one segment that is ahead of the window that it has shown to four subflows.
        talk.finish(&[], &["AddAddrDrop", "NoDSSInWindow"]).expect_mptcp();
        watched.expect_clean("dual stack");
    }
}
