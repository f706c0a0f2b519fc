//! The table of middleboxes: what becomes of MPTCP behind each, and why, with the data intact. `cargo test --test sim
//! middlebox -- --nocapture` prints it.

use super::{Scenario, finish};
use braid::mptcp::{ChecksumPolicy, FallbackReason};
use braid::sim::app::AppSpec;
use braid::sim::middlebox::Middlebox;

/// Where it stands, among the paths that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// On the only path.
    Only,
    /// On both of two.
    Both,
    /// On the one of two on which the connection begins.
    First,
    /// On the other.
    Second,
}

/// What becomes of MPTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It stays, and the second path is joined.
    Kept,
    /// It stays, and the second path is never joined.
    Alone,
    /// It gives way to TCP: why, for the client and for the server.
    Plain(FallbackReason, FallbackReason),
}

struct Row {
    middlebox: Middlebox,
    place: Place,
    /// Checksums are required, and so many bytes arrive changed: those that TCP has to live with.
    checksum: Option<u64>,
    end: End,
}

const fn row(middlebox: Middlebox, place: Place, end: End) -> Row {
    Row { middlebox, place, checksum: None, end }
}

const fn with_checksum(middlebox: Middlebox, place: Place, changed_bytes: u64, end: End) -> Row {
    Row { middlebox, place, checksum: Some(changed_bytes), end }
}

use End::{Alone, Kept, Plain};
use FallbackReason::{
    AckWithoutCapable, BadChecksum, NoDss, OptionsLost, PeerFellBack, PeerSawBadChecksum,
    SynAckWithoutCapable, SynWithoutAnswer, SynWithoutCapable,
};
use Middlebox as M;
use Place::{Both, First, Only, Second};

const TABLE: &[Row] = &[
    row(M::None, Both, Kept),
    // RFC 8684 §3.7, the handshake: each option that is missing there makes it TCP.
    row(M::StripAll, Both, Plain(SynAckWithoutCapable, SynWithoutCapable)),
    row(M::StripSyn, Both, Plain(SynAckWithoutCapable, SynWithoutCapable)),
    row(M::StripFirstSyn, Both, Plain(SynAckWithoutCapable, SynWithoutCapable)),
    row(M::StripSynAck, Both, Plain(SynAckWithoutCapable, AckWithoutCapable)),
    row(M::StripThirdAck, Both, Plain(NoDss, AckWithoutCapable)),
    row(M::StripNonSyn, Both, Plain(NoDss, AckWithoutCapable)),
    row(M::StripToClient, Both, Plain(NoDss, PeerFellBack)),
    row(M::DropSynWithMptcp, Both, Plain(SynWithoutAnswer, SynWithoutCapable)),
    row(M::DropSynTimes(1), Both, Kept),
    // Later: where it is the only path TCP goes on, otherwise its subflow ends.
    row(M::StripFrom(10), Only, Plain(OptionsLost, OptionsLost)),
    row(M::StripFrom(30), First, Kept),
    row(M::StripFrom(30), Second, Kept),
    // On a path that is joined, or would be.
    row(M::StripAll, Second, Alone),
    row(M::StripSynAck, Second, Alone),
    row(M::StripNonSyn, Second, Alone),
    row(M::StripJoin, Second, Alone),
    row(M::DropSynWithMptcp, Second, Alone),
    // Addresses that are not announced are not joined; one that was changed is not believed (§3.4.1).
    row(M::StripAddAddr, Both, Alone),
    row(M::RewriteAddAddr, Both, Alone),
    row(M::StripDataFin(3), Both, Kept),
    // Options and fields of TCP.
    row(M::OnlyMss, Both, Kept),
    row(M::ClampMss(600), Both, Kept),
    row(M::ClampWindow(8_000), Both, Kept),
    row(M::Normalise, Both, Kept),
    row(M::DuplicateOptions, Both, Kept),
    // What the bytes of a segment are, and whose.
    with_checksum(M::ChangePayload(20_000), Only, 1, Plain(PeerSawBadChecksum, BadChecksum)),
    with_checksum(M::ChangePayload(90_000), First, 0, Kept),
    with_checksum(M::ChangePayload(20_000), Second, 0, Kept),
    row(M::Nat, Both, Kept),
    row(M::RewriteSequence, Both, Kept),
    row(M::Split(500), Both, Kept),
    row(M::SplitOptionsOnce(500), Both, Kept),
    with_checksum(M::Split(500), Both, 0, Kept),
    with_checksum(M::SplitOptionsOnce(500), Both, 0, Kept),
    row(M::CoalesceAlike, Both, Kept),
    row(M::Coalesce, Only, Plain(PeerFellBack, OptionsLost)),
    row(M::Coalesce, Second, Kept),
    // An ACK of the first data without a DSS is a peer without MPTCP; later it says nothing of the kind.
    row(M::EarlyAck(0), Both, Plain(NoDss, PeerFellBack)),
    row(M::EarlyAck(20), Both, Kept),
];

/// Bytes of the upload.
const BYTES: u64 = 1_000_000;
/// More packets than that are a flood: the smallest segments there are, an ACK for each, and as much again.
const PACKETS_MAX: u64 = 10_000;

/// Two paths (or one) of 10 Mbit/s, an upload, and a middlebox.
fn scenario(row: &Row) -> Scenario {
    let mut scenario = super::slow_links(if row.place == Only { 1 } else { 2 }, BYTES);
    for (number, link) in scenario.links.iter_mut().enumerate() {
        let stands = match row.place {
            Only | Both => true,
            First => number == 0,
            Second => number == 1,
        };
        if stands {
            link.middlebox = row.middlebox;
        }
    }
    let connection = &mut scenario.connections[0];
    if let Some(changed_bytes) = row.checksum {
        connection.options.checksum = ChecksumPolicy::Required;
        connection.server.changed_bytes = changed_bytes;
    } else {
        // Both ways, where the reasons of the ends do not depend on who finds out first.
        let answer = if matches!(row.end, Plain(..)) { 0 } else { BYTES / 4 };
        connection.client = AppSpec::new(BYTES, answer);
        connection.server = AppSpec::new(answer, BYTES);
    }
    scenario.watch_progress = true;
    scenario
}

#[test]
fn middleboxes_are_survived_each_in_its_way() {
    let mut wrong = Vec::new();
    for row in TABLE {
        let Row { middlebox, place, checksum, end } = row;
        let outcome = match braid::sim::run(&scenario(row)) {
            Ok(outcome) => outcome,
            Err(failure) => {
                wrong.push(format!("{middlebox:?} {place:?}: {failure}"));
                continue;
            }
        };
        let [reasons] = outcome.fallback[..] else { panic!("one connection: {outcome:?}") };
        let got = match reasons {
            [Some(client), Some(server)] => Some(Plain(client, server)),
            [None, None] => Some(if outcome.joined > 0 { Kept } else { Alone }),
            _ => None,
        };
        let sums = if checksum.is_some() { " with checksums" } else { "" };
        println!(
            "{:<28} {place:<7?}{sums:<15} {reasons:?}, {} joined, {} changed, {} ms, longest wait {} %",
            format!("{middlebox:?}"),
            outcome.joined,
            outcome.changed_bytes,
            outcome.finished.as_millis(),
            outcome.longest_wait_percent
        );
        let changed = outcome.changed_bytes == checksum.unwrap_or(0);
        if got != Some(*end) || !changed || outcome.packets > PACKETS_MAX {
            wrong.push(format!(
                "{middlebox:?} {place:?}: {end:?} was expected, {reasons:?} came: {outcome:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), TABLE.len(), wrong.join("\n"));
}

#[test]
fn a_middlebox_that_changes_bytes_is_not_noticed_without_checksums() {
    // What the table's checksums are for: without them the byte arrives changed, and MPTCP stays.
    let mut scenario = super::slow_links(1, BYTES);
    scenario.links[0].middlebox = M::ChangePayload(20_000);
    scenario.connections[0].server.changed_bytes = 1;
    let outcome = finish(&scenario);
    assert_eq!((outcome.changed_bytes, &outcome.fallback[..]), (1, &[[None, None]][..]));
}
