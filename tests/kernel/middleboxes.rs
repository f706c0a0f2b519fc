//! Middleboxes on the wire, made with nft at the bridge in the middle of a path. For each: MPTCP is kept, or both ends
//! fall back, Braid says why, and the data is whole. The whole table of them is in the simulator.

use crate::ends::Action;
use crate::stage::{Case, Stage, Way, address};
use crate::support::alone;
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
        use FallbackReason::{AckWithoutCapable, SynAckWithoutCapable, SynWithoutCapable};
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
                "MP_CAPABLE stripped behind the SYN",
                &[&strip_third],
                FellBack(AckWithoutCapable),
                &["MPCapableFallbackACK"],
            ),
        ];
        for row in &rows {
            judge(&stage, way, row, one_path(way));
        }
    }
}
