//! Middleboxes on the wire, made with nft at the bridge in the middle of a path. For each: MPTCP is kept, or both ends
//! fall back, Braid says why, and the data is whole. The whole table of them is in the simulator.

use crate::ends::{Action, PORT};
use crate::stage::{Case, LIMIT, Stage, Watched, Way, address};
use crate::support::{alone, run};
use braid::lab::Host;
use braid::mptcp::FallbackReason;

/// What becomes of MPTCP.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// It is MPTCP to the end.
    Kept,
    /// Braid falls back for this reason.
    FellBack(FallbackReason),
}

/// One middlebox, and what the kernel counts of it.
#[derive(Debug, Clone)]
struct Row {
    name: &'static str,
    /// On which path.
    path: u8,
    rules: Vec<String>,
    outcome: Outcome,
    meant: &'static [&'static str],
    tolerated: &'static [&'static str],
}

fn row(name: &'static str, rules: &[&str], outcome: Outcome, meant: &'static [&'static str]) -> Row {
    let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
    Row { name, path: 1, rules, outcome, meant, tolerated: &[] }
}

/// Options off a SYN, and off a SYN/ACK.
const SYN: &str = "tcp flags & (syn|ack) == syn";
const SYN_ACK: &str = "tcp flags & (syn|ack) == (syn|ack)";
const STRIP: &str = "reset tcp option mptcp";
/// MP_CAPABLE behind the handshake's first two packets.
const LATE_CAPABLE: &str = "tcp flags & syn == 0 tcp option mptcp subtype 0";

/// How the kernel takes note of options that have passed and do so no more, depending on who sees it first.
const ANY_LATE_FALLBACK: &[&str] =
    &["DSSCorruptionFallback", "DssFallback", "InfiniteMapTx", "InfiniteMapRx", "MPCapableDataFallback"];

/// A conversation over one path: questions and answers, then bulk both ways.
fn talk(case: Case<'_>, row: &Row) -> crate::stage::Ending {
    let client = vec![
        Action::Send(300),
        Action::Receive(300),
        Action::Send(3_000_001),
        Action::Receive(2_000_001),
        Action::Finish,
        Action::Drain,
    ];
    let server = vec![
        Action::Receive(300),
        Action::Send(300),
        Action::Receive(3_000_001),
        Action::Send(2_000_001),
        Action::Drain,
        Action::Finish,
    ];
    let way = case.way;
    let (kernel, braid) = match way {
        Way::KernelServes => (server, client),
        Way::BraidServes => (client, server),
    };
    case.talk(kernel, braid).finish(row.meant, row.tolerated)
}

fn judge(stage: &Stage, way: Way, row: &Row, set_up: impl Fn(&mut Case<'_>)) {
    let mut case = stage.case(row.name, way);
    let rules: Vec<&str> = row.rules.iter().map(String::as_str).collect();
    stage.middlebox(row.path, &rules);
    set_up(&mut case);
    let ending = talk(case, row);
    match row.outcome {
        Outcome::Kept => ending.expect_mptcp(),
        Outcome::FellBack(reason) => ending.expect_fallback(reason.describe()),
    }
}

/// One path only: what Braid has on the second one it does not use.
fn one_path(way: Way) -> impl Fn(&mut Case<'_>) {
    move |case| case.ours.endpoints = vec![format!("{} dev p1 subflow", address(way.braid(), 1))]
}

#[test]
fn options_that_the_handshake_loses() {
    let _alone = alone();
    let Some(stage) = Stage::new("box_handshake") else { return };
    let strip_syn = format!("{SYN} {STRIP}");
    let strip_syn_ack = format!("{SYN_ACK} {STRIP}");
    let strip_third = format!("{LATE_CAPABLE} {STRIP}");
    for way in Way::BOTH {
        let serves = way == Way::KernelServes;
        use FallbackReason::{AckWithoutCapable, NoDss, SynAckWithoutCapable, SynWithoutCapable};
        use Outcome::FellBack;
        let no_capable = if serves { SynAckWithoutCapable } else { SynWithoutCapable };
        let rows = [
            row(
                "options stripped on the SYN",
                &[&strip_syn],
                FellBack(no_capable),
                if serves { &[] } else { &["MPCapableFallbackSYNACK"] },
            ),
            row(
                "options stripped on the SYN/ACK",
                &[&strip_syn_ack],
                FellBack(if serves { SynAckWithoutCapable } else { AckWithoutCapable }),
                if serves { &["MPCapableFallbackACK"] } else { &["MPCapableFallbackSYNACK"] },
            ),
            row(
                "MP_CAPABLE stripped behind the SYN/ACK",
                &[&strip_third],
                FellBack(if serves { NoDss } else { AckWithoutCapable }),
                if serves { &["MPCapableFallbackACK"] } else { &["MPCapableDataFallback"] },
            ),
        ];
        for row in &rows {
            judge(&stage, way, row, one_path(way));
        }
    }
}

#[test]
fn options_that_vanish_later() {
    let _alone = alone();
    let Some(stage) = Stage::new("box_later") else { return };
    // Behind so many bytes in both directions, in the middle of the bulk from the client.
    let later = format!("quota over 400 kbytes {STRIP}");
    let no_dss = format!("tcp flags & syn == 0 tcp option mptcp subtype 2 {STRIP}");
    for way in Way::BOTH {
        // The first data of a client bears MP_CAPABLE with its mapping, which confirms MPTCP to a server.
        let reason = match way {
            Way::KernelServes => FallbackReason::NoDss,
            Way::BraidServes => FallbackReason::OptionsLost,
        };
        let mut rows =
            vec![row("DSS stripped from the beginning", &[&no_dss], Outcome::FellBack(reason), &[])];
        // The kernel, as the one that has sent data with DSS, resets the connection when their acknowledgments stay away:
        // only where it receives first can TCP go on.
        if way == Way::KernelServes {
            rows.push(row(
                "options stripped from the n-th segment on",
                &[&later],
                Outcome::FellBack(FallbackReason::OptionsLost),
                &[],
            ));
        }
        for row in &rows {
            judge(&stage, way, &Row { tolerated: ANY_LATE_FALLBACK, ..row.clone() }, one_path(way));
        }
    }
}

#[test]
fn only_one_path_has_a_middlebox() {
    let _alone = alone();
    let Some(stage) = Stage::new("box_one_path") else { return };
    let strip_syn = format!("{SYN} {STRIP}");
    let strip_syn_ack = format!("{SYN_ACK} {STRIP}");
    let strip_third = format!("tcp flags & syn == 0 tcp option mptcp subtype 1 {STRIP}");
    let later = format!("quota over 100 kbytes {STRIP}");
    for way in Way::BOTH {
        let both_paths = |_: &mut Case<'_>| {
            if way == Way::KernelServes {
                stage.ip_mptcp(way, &format!("endpoint add {} dev p2 signal", address(way.kernel(), 2)));
            }
        };
        let on_second = |name, rule: &str| Row {
            path: 2,
            tolerated: &[
                "MPRstTx",
                "MPRstRx",
                "MPJoinSynAckHMacFailure",
                "DSSCorruptionReset",
                "MPJoinAckHMacFailure",
                "MPJoinRejected",
            ],
            ..row(name, &[rule], Outcome::Kept, &[])
        };
        let rows = [
            on_second("MP_JOIN stripped on the SYN, on one path", &strip_syn),
            on_second("MP_JOIN stripped on the SYN/ACK, on one path", &strip_syn_ack),
            on_second("MP_JOIN stripped on the third ACK, on one path", &strip_third),
            on_second("options stripped from the n-th segment on, on one path", &later),
        ];
        for row in &rows {
            judge(&stage, way, row, both_paths);
        }
    }
}

#[test]
fn a_nat_rewrites_addresses_and_ports() {
    let _alone = alone();
    let Some(stage) = Stage::new("box_nat") else { return };
    for way in Way::BOTH {
        // Few ports at the client's, so that they can be mapped one by one.
        let range = ["sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=45000 45015"];
        run(stage.lab.exec(Host::A).args(range), LIMIT).expect_success("sysctl");
        let rules = |path: u8| {
            let (inside, outside) = (address(Host::A, path), format!("10.71.{path}.77"));
            let map = |from: u32, to: u32| {
                let pairs: Vec<String> = (0..16).map(|n| format!("{} : {}", from + n, to + n)).collect();
                pairs.join(", ")
            };
            vec![
                format!(
                    "ip saddr {inside} tcp sport 45000-45015 tcp sport set tcp sport map {{ {} }} ip saddr set {outside}",
                    map(45_000, 50_000)
                ),
                format!(
                    "ip daddr {outside} tcp dport 50000-50015 tcp dport set tcp dport map {{ {} }} ip daddr set {inside}",
                    map(50_000, 45_000)
                ),
            ]
        };
        let set_up = |_: &mut Case<'_>| {
            if way == Way::KernelServes {
                stage.ip_mptcp(way, &format!("endpoint add {} dev p2 signal", address(way.kernel(), 2)));
            }
            for path in 1..=2 {
                // The server's way to the address outside.
                let link = stage.at(Host::A, &format!("cat /sys/class/net/p{path}/address"));
                let neighbour =
                    format!("ip neigh replace 10.71.{path}.77 lladdr {} dev p{path}", link.trim());
                stage.at(Host::B, &neighbour);
                let rules = rules(path);
                let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
                stage.middlebox(path, &rules);
            }
        };
        let joined = match way {
            Way::KernelServes => &["MPJoinAckRx"][..],
            Way::BraidServes => &["MPJoinSynAckRx"][..],
        };
        let rewritten = row("NAT", &[], Outcome::Kept, joined);
        judge(&stage, way, &rewritten, set_up);
    }
}

/// How a message begins that the middlebox changes.
const MARK: &str = "ABCD";

#[test]
fn payload_that_is_changed_is_seen_by_the_kernels_checksum() {
    let _alone = alone();
    let Some(stage) = Stage::new("box_payload") else { return };
    // An application gateway: it changes a word of a message that it knows, and makes TCP's checksum right. The other
    // direction is the simulator's: Linux 6.18 stops sending after it was told of a wrong checksum.
    let gateway = "@ih,0,32 0x41424344 @ih,0,16 set 0x4143";
    for way in Way::BOTH {
        let mut case = stage.case("payload changed", way);
        one_path(way)(&mut case);
        case.ours.dss_checksum = true;
        stage.middlebox(1, &[gateway]);
        // A message of its own, behind data that has been answered.
        let speaks = vec![
            Action::Send(100_000),
            Action::Receive(10),
            Action::Say(format!("{MARK}{}", "x".repeat(1000))),
            Action::Send(100_000),
            Action::Finish,
            Action::Drain,
        ];
        let hears = vec![
            Action::Receive(100_000),
            Action::Send(10),
            Action::Drain,
            Action::Send(100_000),
            Action::Finish,
        ];
        // What the gateway has changed is changed: the data is that of TCP through the same gateway.
        let tolerated = ["InfiniteMapTx", "InfiniteMapRx", "MPFailRx", "DssFallback"];
        let ending = case.talk(hears, speaks).finish_changed(&["DataCsumErr", "MPFailTx"], &tolerated);
        ending.expect_fallback(FallbackReason::PeerSawBadChecksum.describe());
    }
}

#[test]
fn tshark_misses_the_mappings_that_a_middlebox_has_taken() {
    let _alone = alone();
    let Some(stage) = Stage::new("box_tshark") else { return };
    let way = Way::KernelServes;
    let watched = Watched::start(&stage);
    // What the server sends is captured behind the box.
    let rule = format!("tcp sport {PORT} tcp flags & syn == 0 tcp option mptcp subtype 2 {STRIP}");
    let row = Row {
        tolerated: ANY_LATE_FALLBACK,
        ..row("tshark", &[&rule], Outcome::FellBack(FallbackReason::NoDss), &[])
    };
    judge(&stage, way, &row, one_path(way));
    assert!(watched.unmapped() > 0);
}
