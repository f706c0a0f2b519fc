//! The kernel's counters of MPTCP, of one network namespace.

use crate::support::run;
use braid::lab::{Host, Lab};
use std::collections::BTreeMap;
use std::time::Duration;

/// What rises in the best of worlds: handshakes, addresses, priorities, reordering between paths. Everything else, and
/// what a newer kernel counts, tells of trouble.
const HARMLESS: [&str; 35] = [
    "MPCapableSYNRX",
    "MPCapableSYNTX",
    "MPCapableSYNACKRX",
    "MPCapableACKRX",
    "MPTCPRetrans",
    "MPJoinSynRx",
    "MPJoinSynBackupRx",
    "MPJoinSynAckRx",
    "MPJoinSynAckBackupRx",
    "MPJoinAckRx",
    "MPJoinSynTx",
    "OFOQueueTail",
    "OFOQueue",
    "OFOMerge",
    "DuplicateData",
    "AddAddr",
    "AddAddrTx",
    "EchoAdd",
    "EchoAddTx",
    "PortAdd",
    "MPJoinPortSynRx",
    "MPJoinPortSynAckRx",
    "MPJoinPortAckRx",
    "RmAddr",
    "RmAddrTx",
    "RmSubflow",
    "MPPrioTx",
    "MPPrioRx",
    "SndWndShared",
    "RcvWndShared",
    // Two of the kernel's subflows raised the shared window on two processors at the same moment, and one was second:
    // with the higher value, and it tries again, or with the lower one, and it takes the other's. No packet is at fault.
    "RcvWndConflict",
    "RcvWndConflictUpdate",
    "MPCurrEstab",
    "WinProbe",
    // A path that falls silent for a moment, on a machine that is busy elsewhere.
    "SubflowStale",
];

/// How far each counter has come, or what it has gained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, i64>);

impl Counters {
    /// Those of a host, now.
    pub fn of(lab: &Lab, host: Host) -> Counters {
        let command = ["cat", "/proc/net/netstat"];
        let text = run(lab.exec(host).args(command), Duration::from_secs(20)).expect_success("cat").stdout;
        Counters::parse(&text)
    }

    /// The table is a line of names and a line of numbers, each after its title.
    fn parse(text: &str) -> Counters {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("MPTcpExt:"));
        let names = lines.next().expect("the kernel has MPTCP").split_whitespace();
        let numbers = lines.next().expect("a line of numbers").split_whitespace();
        let numbers = numbers.map(|number| number.parse().expect("a number"));
        Counters(names.map(str::to_owned).zip(numbers).collect())
    }

    /// What was gained since `before`.
    pub fn since(&self, before: &Counters) -> Counters {
        let gain = |(name, now): (&String, &i64)| (name.clone(), now - before.get(name));
        Counters(self.0.iter().map(gain).collect())
    }

    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Fails unless each of `meant` has risen, and nothing that tells of trouble has but those and `tolerated`.
    #[track_caller]
    pub fn expect(&self, case: &str, meant: &[&str], tolerated: &[&str]) {
        for name in meant {
            assert!(self.get(name) > 0, "{case}: the kernel's {name} has not risen: {self:?}");
        }
        let known = |name: &str| [&HARMLESS[..], meant, tolerated].iter().any(|list| list.contains(&name));
        let trouble: Vec<_> = self.0.iter().filter(|(name, gain)| **gain != 0 && !known(name)).collect();
        assert!(trouble.is_empty(), "{case}: the kernel counts {trouble:?}, of {self:?}");
    }
}

#[test]
fn trouble_is_what_is_not_harmless_or_meant() {
    let table = |numbers: &str| {
        let names = "TcpExt: A B\nTcpExt: 1 2\nMPTcpExt: MPJoinSynRx DataCsumErr MPRstTx BrandNew\n";
        Counters::parse(&format!("{names}MPTcpExt: {numbers}\n"))
    };
    let before = table("1 2 3 4");
    table("9 2 3 4").since(&before).expect("joins", &["MPJoinSynRx"], &[]);
    table("1 2 5 4").since(&before).expect("a reset", &[], &["MPRstTx"]);
    let fails = |numbers: &str, meant: &[&str]| {
        let gained = table(numbers).since(&before);
        std::panic::catch_unwind(|| gained.expect("a case", meant, &[])).is_err()
    };
    assert!(fails("1 3 3 4", &[]), "an error");
    assert!(fails("1 2 3 5", &[]), "what a newer kernel counts");
    assert!(fails("1 2 3 4", &["DataCsumErr"]), "what should have risen");
}
