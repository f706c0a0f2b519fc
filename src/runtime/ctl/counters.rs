//! Counters by name: MPTCP's as `nstat` writes the kernel's, our own with "Braid" in front.

use crate::base::WorkerId;
use crate::mptcp::{FallbackReason, Mib, Misbehaviour, Tally};
use crate::pm::PmCounters;
use crate::stack::{Counters, FastOpenCounters, WorkerCounters};
use crate::tcp::TcpCounters;
use crate::wire::Malformed;
use serde_json::{Map, Value, json};

/// In the order of their numbers.
const MALFORMED: [Malformed; 9] = [
    Malformed::Truncated,
    Malformed::NotOurs,
    Malformed::BadIp,
    Malformed::Fragment,
    Malformed::IpChecksum,
    Malformed::BadTcp,
    Malformed::Checksum,
    Malformed::PartialChecksum,
    Malformed::BadIcmp,
];

/// All counters, by name.
pub(in crate::runtime) fn to_json(
    counters: &WorkerCounters,
    pm: &PmCounters,
    steering: &[(&'static str, u64)],
    join_ports_refused: u64,
) -> Value {
    let WorkerCounters { stack, mptcp, fallbacks, tally } = counters;
    let mut object = Map::new();
    for (counter, count) in mptcp.iter() {
        object.insert(format!("MPTcpExt{}", counter.name()), json!(count));
    }
    let mut own = |name: &str, count: u64| {
        object.insert(format!("Braid{name}"), json!(count));
    };
    for (reason, count) in FallbackReason::ALL.iter().zip(fallbacks) {
        own(&format!("Fallback{reason:?}"), *count);
    }
    write_tally(tally, &mut own);
    let PmCounters {
        unmanaged,
        remote_addresses_full,
        remote_id_conflicts,
        local_addresses_full,
        subflows_refused,
        subflows_replaced,
    } = *pm;
    own("Unmanaged", unmanaged);
    own("RemoteAddressesFull", remote_addresses_full);
    own("RemoteIdConflicts", remote_id_conflicts);
    own("LocalAddressesFull", local_addresses_full);
    own("SubflowsRefused", subflows_refused);
    own("SubflowsReplaced", subflows_replaced);
    own("JoinPortsRefused", join_ports_refused);
    write_stack(stack, &mut own);
    for (reason, count) in steering {
        let words = reason.split(|letter: char| !letter.is_ascii_alphanumeric());
        let name: String = words.map(capitalized).collect();
        own(&format!("Steer{name}"), *count);
    }
    Value::Object(object)
}

/// What one worker counts, beside how many connections are its own; `None`: it has not answered in time.
pub(in crate::runtime) fn worker_json(
    worker: WorkerId,
    connections: usize,
    counters: Option<&WorkerCounters>,
) -> Value {
    let count = |of: fn(&Counters) -> u64| counters.map(|counters| of(&counters.stack));
    json!({
        "worker": worker.index(),
        "connections": connections,
        "frames_received": count(|stack| stack.received),
        "frames_received_as_guest": count(|stack| stack.received_as_guest),
        "frames_sent": count(|stack| stack.sent),
        "stray_segments": count(|stack| stack.stray),
    })
}

/// What the path manager counts under a name of the kernel's.
pub(in crate::runtime) fn add_pm(counters: &mut WorkerCounters, pm: &PmCounters, established: usize) {
    counters.mptcp.add(Mib::AddAddrDrop, pm.remote_addresses_full + pm.remote_id_conflicts);
    counters.mptcp.add(Mib::JoinRejected, pm.subflows_refused);
    counters.mptcp.add(Mib::CurrEstab, established as u64);
}

fn write_tally(tally: &Tally, own: &mut impl FnMut(&str, u64)) {
    let Tally { misbehaviour, retransmits: _, bytes_retrans } = *tally;
    let Misbehaviour {
        mapping_conflicts,
        mappings_refused,
        bad_announcements,
        bad_joins,
        bad_data_acks,
        unmapped,
        bad_checksums: _,
        unagreed_checksums,
    } = misbehaviour;
    own("BytesRetrans", bytes_retrans);
    own("MappingConflicts", mapping_conflicts);
    own("MappingsRefused", mappings_refused);
    own("BadAnnouncements", bad_announcements);
    own("BadJoins", bad_joins);
    own("BadDataAcks", bad_data_acks);
    own("Unmapped", unmapped);
    own("UnagreedChecksums", unagreed_checksums);
}

fn write_stack(stack: &Counters, own: &mut impl FnMut(&str, u64)) {
    let Counters {
        received,
        received_as_guest,
        received_in_runs,
        sent,
        malformed,
        stray,
        resets_sent,
        icmp,
        opened,
        accepted,
        refused_connections,
        cut_time_waits,
        accept_overflows,
        cookies_sent,
        cookies_received,
        cookies_failed,
        fast_open,
        unknown_tokens: _,
        refused_joins: _,
        pin_failures,
        closed,
        tcp,
    } = stack;
    own("FramesReceived", *received);
    own("ReceivedAsGuest", *received_as_guest);
    own("ReceivedInRuns", *received_in_runs);
    own("FramesSent", *sent);
    for (reason, count) in MALFORMED.iter().zip(malformed) {
        own(&format!("Malformed{reason:?}"), *count);
    }
    own("Stray", *stray);
    own("ResetsSent", *resets_sent);
    own("Icmp", *icmp);
    own("Opened", *opened);
    own("Accepted", *accepted);
    own("RefusedConnections", *refused_connections);
    own("CutTimeWaits", *cut_time_waits);
    own("AcceptOverflows", *accept_overflows);
    own("SyncookiesSent", *cookies_sent);
    own("SyncookiesRecv", *cookies_received);
    own("SyncookiesFailed", *cookies_failed);
    write_fast_open(fast_open, own);
    own("PinFailures", *pin_failures);
    own("Closed", *closed);
    write_tcp(tcp, own);
}

fn write_fast_open(counters: &FastOpenCounters, own: &mut impl FnMut(&str, u64)) {
    let FastOpenCounters {
        requests,
        cookies_given,
        bad_cookies,
        accepted,
        overflows,
        declined,
        asked,
        learned,
        sent_accepted,
        sent_ignored,
        failures,
        blocked,
    } = *counters;
    own("FastOpenCookieRequests", requests);
    own("FastOpenCookiesGiven", cookies_given);
    own("FastOpenBadCookies", bad_cookies);
    own("FastOpenAccepted", accepted);
    own("FastOpenOverflows", overflows);
    own("FastOpenDeclined", declined);
    own("FastOpenAsked", asked);
    own("FastOpenLearned", learned);
    own("FastOpenSentAccepted", sent_accepted);
    own("FastOpenSentIgnored", sent_ignored);
    own("FastOpenFailures", failures);
    own("FastOpenBlocked", blocked);
}

fn write_tcp(tcp: &TcpCounters, own: &mut impl FnMut(&str, u64)) {
    let TcpCounters {
        segments_received,
        segments_sent,
        retransmits,
        lost,
        fast_recoveries,
        timeouts,
        loss_probes,
        undone,
        bytes_retransmitted,
        out_of_order,
        duplicates,
        dropped,
        not_acceptable,
        paws,
        challenges,
        probes,
        congestion_marks,
    } = *tcp;
    for (name, count) in [
        ("TcpSegmentsReceived", segments_received),
        ("TcpSegmentsSent", segments_sent),
        ("TcpRetransmits", retransmits),
        ("TcpLost", lost),
        ("TcpFastRecoveries", fast_recoveries),
        ("TcpTimeouts", timeouts),
        ("TcpLossProbes", loss_probes),
        ("TcpUndone", undone),
        ("TcpBytesRetransmitted", bytes_retransmitted),
        ("TcpOutOfOrder", out_of_order),
        ("TcpDuplicates", duplicates),
        ("TcpDropped", dropped),
        ("TcpNotAcceptable", not_acceptable),
        ("TcpPaws", paws),
        ("TcpChallenges", challenges),
        ("TcpWindowProbes", probes),
        ("TcpCongestionMarks", congestion_marks),
    ] {
        own(name, count);
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_the_kernels_names_or_braids() {
        let mut counters = WorkerCounters::default();
        counters.count_fallback(FallbackReason::SynAckWithoutCapable);
        counters.stack.malformed[Malformed::PartialChecksum as usize] = 5;
        counters.stack.received_as_guest = 8;
        let pm = PmCounters { remote_addresses_full: 2, subflows_refused: 3, ..PmCounters::default() };
        add_pm(&mut counters, &pm, 4);
        let all = to_json(&counters, &pm, &[("not local", 6)], 7);
        for (name, count) in [
            ("MPTcpExtMPCapableFallbackSYNACK", 1),
            ("BraidFallbackSynAckWithoutCapable", 1),
            ("BraidMalformedPartialChecksum", 5),
            ("MPTcpExtAddAddrDrop", 2),
            ("BraidRemoteAddressesFull", 2),
            ("MPTcpExtMPJoinRejected", 3),
            ("MPTcpExtMPCurrEstab", 4),
            ("BraidSteerNotLocal", 6),
            ("BraidJoinPortsRefused", 7),
            ("BraidReceivedAsGuest", 8),
            ("MPTcpExtMPFastcloseRx", 0),
        ] {
            assert_eq!(all[name], json!(count), "{name}");
        }
        assert!(all["BraidFallbackNoDss"] == 0 && all["BraidNothing"].is_null());
    }

    #[test]
    fn a_worker_that_has_not_answered_has_connections_but_no_figures() {
        let mut counters = WorkerCounters::default();
        let stack = &mut counters.stack;
        (stack.received, stack.received_as_guest, stack.sent, stack.stray) = (9, 4, 7, 1);
        assert_eq!(
            worker_json(WorkerId(2), 3, Some(&counters)),
            json!({"worker": 2, "connections": 3, "frames_received": 9, "frames_received_as_guest": 4,
                "frames_sent": 7, "stray_segments": 1})
        );
        let late = worker_json(WorkerId(2), 3, None);
        assert!(late["connections"] == 3 && late["frames_received"].is_null(), "{late}");
    }
}
