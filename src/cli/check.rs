//! `braid check`: what this machine and each of its NICs can do, and what to do about what is missing.

use crate::runtime::usable_addresses;
use crate::xdp::probe::{Answer, processors};
use crate::xdp::{HostReport, NicReport, Trial, XdpError, probe_host, probe_nic, try_zero_copy};
use anyhow::Context;
use clap::Args;
use serde::Serialize;
use std::fmt;
use std::io::{Write, stdout};
use std::net::IpAddr;
use std::process::ExitCode;

/// The first kernel that loads an XDP program for packets in several buffers (`xdp.frags`).
const KERNEL_NEEDED: (u32, u32) = (5, 18);
/// The first kernel that hands such packets to AF_XDP sockets.
const KERNEL_BUFFERS: (u32, u32) = (6, 6);
/// The first kernel with XDP_MAX_TX_SKB_BUDGET.
const KERNEL_BATCHES: (u32, u32) = (6, 17);
/// With it the limit of locked memory does not count.
const IPC_LOCK: &str = "CAP_IPC_LOCK";
/// It includes CAP_BPF, as it did before there was one; by itself it is not needed.
const SYS_ADMIN: &str = "CAP_SYS_ADMIN";
/// Locked memory that the default frame pool and its rings take, in bytes.
const MEMLOCK_NEEDED: u64 = 160 << 20;
/// The largest MTU whose packets fit into one buffer.
const MTU_ONE_BUFFER: usize = 3506;

/// What to look at.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// Only this NIC; repeat it for several. Default: all but loopback.
    #[arg(long, value_name = "NAME")]
    nic: Vec<String>,
    /// Write JSON.
    #[arg(long)]
    json: bool,
}

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Ok,
    Warn,
    Missing,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Grade::Ok => "ok",
            Grade::Warn => "warn",
            Grade::Missing => "missing",
        })
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    what: &'static str,
    found: String,
    grade: Grade,
    /// What to do about it, or what it is good for; empty where there is nothing to say.
    advice: String,
}

impl Row {
    fn new(grade: Grade, what: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Row {
        Row { what, found: found.into(), grade, advice: advice.into() }
    }

    fn ok(what: &'static str, found: impl Into<String>) -> Row {
        Row::new(Grade::Ok, what, found, "")
    }
}

/// The rows of the machine, or of one NIC.
#[derive(Debug, Serialize)]
struct Section {
    name: String,
    rows: Vec<Row>,
}

impl Section {
    fn is_usable(&self) -> bool {
        self.rows.iter().all(|row| row.grade < Grade::Missing)
    }
}

/// Writes the table, and says by its exit status whether Braid can run: on this machine, and on every NIC that was
/// named or on any one that there is.
///
/// # Errors
/// A NIC that was named does not exist, or the list of NICs cannot be read.
pub(super) fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let names = if arguments.nic.is_empty() { all_nics()? } else { arguments.nic.clone() };
    let machine = Section { name: "machine".to_owned(), rows: machine_rows(&probe_host()) };
    let addresses = usable_addresses().context("cannot ask the kernel for its addresses")?;
    let sections = names.into_iter().map(|name| nic_section(name, &addresses));
    let nics: Vec<Section> = sections.collect::<Result<_, _>>()?;
    let can_run = can_run(&machine, &nics, !arguments.nic.is_empty());
    if arguments.json {
        let report = serde_json::json!({ "can_run": can_run, "machine": machine, "nics": nics });
        writeln!(stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        stdout().write_all(table(&machine, &nics, can_run).as_bytes())?;
    }
    Ok(if can_run { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn can_run(machine: &Section, nics: &[Section], all_of_them: bool) -> bool {
    let usable = nics.iter().filter(|nic| nic.is_usable()).count();
    machine.is_usable() && if all_of_them { usable == nics.len() } else { usable > 0 }
}

/// Every network interface but loopback.
fn all_nics() -> anyhow::Result<Vec<String>> {
    let folder = std::fs::read_dir("/sys/class/net").context("cannot list the NICs in /sys/class/net")?;
    let mut names: Vec<String> = folder
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != "lo")
        .collect();
    names.sort_unstable();
    Ok(names)
}

fn nic_section(name: String, addresses: &[(u32, IpAddr)]) -> Result<Section, XdpError> {
    let report = probe_nic(&name)?;
    let own = addresses.iter().filter(|(ifindex, _)| *ifindex == report.ifindex);
    let own: Vec<String> = own.map(|(_, addr)| addr.to_string()).collect();
    let rows = nic_rows(&report, &own, &try_zero_copy(&report), processors());
    Ok(Section { name, rows })
}

fn machine_rows(host: &HostReport) -> Vec<Row> {
    let mut rows = vec![kernel_row(host)];
    let admin = host.capabilities.contains(&(SYS_ADMIN, true));
    let wanted = host.capabilities.iter().filter(|(name, _)| *name != SYS_ADMIN);
    rows.extend(wanted.map(|(name, held)| capability_row(name, *held || (admin && *name == "CAP_BPF"))));
    rows.push(memlock_row(host));
    rows.push(hugepages_row(host.hugepages));
    rows.push(match host.bpf_jit {
        Answer::No => Row::new(
            Grade::Warn,
            "BPF compiler",
            "off",
            "steering is interpreted, which is slow; sysctl net.core.bpf_jit_enable=1",
        ),
        answer @ (Answer::Yes | Answer::Unknown) => Row::ok("BPF compiler", in_words(answer)),
    });
    rows.push(match host.cores {
        1 => Row::new(Grade::Warn, "cores", "1", "worker and application share it; two are better"),
        cores => Row::ok("cores", cores.to_string()),
    });
    rows
}

fn kernel_row(host: &HostReport) -> Row {
    let advice = |grade, text: &str| Row::new(grade, "kernel", host.kernel.clone(), text);
    match host.kernel_version {
        version if version < KERNEL_NEEDED => advice(
            Grade::Missing,
            "5.18 or later is needed: the first with XDP programs for packets in several buffers",
        ),
        version if version < KERNEL_BUFFERS => {
            advice(Grade::Warn, "6.6 or later takes packets above 3506 bytes; keep the MTU at or below that")
        }
        version if version < KERNEL_BATCHES => {
            advice(Grade::Ok, "6.17 or later sends larger batches where the kernel copies")
        }
        _ => advice(Grade::Ok, ""),
    }
}

fn capability_row(name: &'static str, held: bool) -> Row {
    let found = if held { "held" } else { "not held" };
    // Locked memory may be enough without it: that is judged in its own row.
    let advice = "run as root, or: setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock=ep FILE";
    match (held, name == IPC_LOCK) {
        (true, _) => Row::ok(name, found),
        (false, true) => Row::new(Grade::Warn, name, found, "the limit of locked memory counts instead"),
        (false, false) => Row::new(Grade::Missing, name, found, advice),
    }
}

fn memlock_row(host: &HostReport) -> Row {
    let what = "locked memory";
    let exempt = host.capabilities.iter().any(|(name, held)| *held && *name == IPC_LOCK);
    match host.memlock {
        None => Row::ok(what, "unlimited"),
        Some(limit) if exempt => Row::new(Grade::Ok, what, mebibytes(limit), "does not count with IPC_LOCK"),
        Some(limit) if limit >= MEMLOCK_NEEDED => Row::ok(what, mebibytes(limit)),
        Some(limit) => Row::new(
            Grade::Missing,
            what,
            mebibytes(limit),
            format!(
                "{} are needed: ulimit -l unlimited, LimitMEMLOCK=infinity in a unit, or grant cap_ipc_lock",
                mebibytes(MEMLOCK_NEEDED)
            ),
        ),
    }
}

fn hugepages_row((free, total): (u64, u64)) -> Row {
    let found = format!("{free} of {total} free");
    let advice = if total == 0 { "not needed; frames lie in pages of 4 KiB then" } else { "" };
    Row::new(Grade::Ok, "huge pages", found, advice)
}

fn nic_rows(nic: &NicReport, addresses: &[String], trial: &Trial, processors: usize) -> Vec<Row> {
    let name = &nic.name;
    let mut rows =
        vec![Row::ok("driver", nic.driver.clone()), state_row(nic), addresses_row(name, addresses)];
    rows.push(match nic.xdp_attached {
        None => Row::ok("XDP program", "none"),
        Some(id) => Row::new(
            Grade::Missing,
            "XDP program",
            format!("id {id} is attached"),
            format!("Braid replaces none: end what uses it, or: ip link set dev {name} xdp off"),
        ),
    });
    rows.push(match nic.native_xdp {
        Answer::No => {
            Row::new(Grade::Warn, "native XDP", "no", "the kernel's generic hook works, and is slower")
        }
        answer @ (Answer::Yes | Answer::Unknown) => Row::ok("native XDP", in_words(answer)),
    });
    rows.push(zero_copy_row(nic, trial));
    rows.push(queues_row(nic, processors));
    rows.push(mtu_row(nic));
    if nic.driver == "veth" && nic.tx_checksum_offload == Answer::Yes {
        rows.push(Row::new(
            Grade::Warn,
            "checksums",
            "left to the NIC",
            format!("veth makes none: ethtool -K {name} tx off, at both ends"),
        ));
    }
    rows
}

fn zero_copy_row(nic: &NicReport, trial: &Trial) -> Row {
    let what = "zero-copy";
    match trial {
        Trial::Works => Row::new(Grade::Ok, what, "yes", "tried: every queue takes it"),
        Trial::NotTried(why) => {
            let found = match nic.zero_copy {
                Answer::Yes => "announced",
                answer @ (Answer::No | Answer::Unknown) => in_words(answer),
            };
            Row::new(Grade::Ok, what, found, why.clone())
        }
        Trial::Refused(why) => {
            let advice = format!("the kernel copies each packet once: {}; {}", why.reason, why.remedy);
            Row::new(Grade::Warn, what, "no", advice)
        }
    }
}

fn queues_row(nic: &NicReport, processors: usize) -> Row {
    let found = nic.queues.to_string();
    if nic.driver == "virtio_net" && nic.queues > processors {
        let name = &nic.name;
        let advice = format!(
            "more than the {processors} CPUs: the spare ones may send nothing; --queues {processors}, or ethtool -L {name} combined {processors}"
        );
        return Row::new(Grade::Warn, "queues", found, advice);
    }
    Row::ok("queues", found)
}

fn state_row(nic: &NicReport) -> Row {
    match (nic.up, nic.carrier) {
        (true, true) => Row::ok("link", "up"),
        (true, false) => Row::new(Grade::Warn, "link", "no carrier", "plug it in, or set its other end up"),
        (false, _) => Row::new(Grade::Missing, "link", "down", format!("ip link set dev {} up", nic.name)),
    }
}

fn addresses_row(nic: &str, addresses: &[String]) -> Row {
    if addresses.is_empty() {
        let advice = format!("ip address add ADDRESS/LENGTH dev {nic}");
        Row::new(Grade::Missing, "addresses", "none", advice)
    } else {
        Row::ok("addresses", addresses.join(", "))
    }
}

fn mtu_row(nic: &NicReport) -> Row {
    let advice = if nic.mtu > MTU_ONE_BUFFER { "packets take several buffers" } else { "" };
    Row::new(Grade::Ok, "MTU", nic.mtu.to_string(), advice)
}

fn in_words(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::No => "no",
        Answer::Unknown => "unknown",
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// The report for people.
fn table(machine: &Section, nics: &[Section], can_run: bool) -> String {
    let mut text = String::new();
    for section in std::iter::once(machine).chain(nics) {
        text.push_str(&format!("{}\n", section.name));
        let width = section.rows.iter().map(|row| row.found.chars().count()).max().unwrap_or(0);
        for row in &section.rows {
            let line = format!("  {:<8} {:<14} {:<width$}  {}", row.grade, row.what, row.found, row.advice);
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push('\n');
    }
    let usable: Vec<&str> = nics.iter().filter(|nic| nic.is_usable()).map(|nic| nic.name.as_str()).collect();
    match (can_run, usable.is_empty()) {
        (true, _) => text.push_str(&format!("Braid can run here, on {}.\n", usable.join(", "))),
        (false, true) => text.push_str("Braid cannot run here: no NIC is usable, or see 'missing' above.\n"),
        (false, false) => text.push_str("Braid cannot run here as asked: see 'missing' above.\n"),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MacAddr;

    const CAPABILITIES: [&str; 5] = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", IPC_LOCK, SYS_ADMIN];

    fn host() -> HostReport {
        HostReport {
            kernel: "6.18.0".to_owned(),
            kernel_version: (6, 18),
            capabilities: CAPABILITIES.map(|name| (name, name != SYS_ADMIN)).into(),
            memlock: Some(8 << 20),
            hugepages: (0, 0),
            bpf_jit: Answer::Yes,
            cores: 2,
        }
    }

    fn nic() -> NicReport {
        NicReport {
            name: "p1".to_owned(),
            ifindex: 2,
            driver: "veth".to_owned(),
            mtu: 1500,
            mac: MacAddr::default(),
            queues: 1,
            up: true,
            carrier: true,
            xdp_attached: None,
            native_xdp: Answer::Yes,
            zero_copy: Answer::No,
            tx_checksum_offload: Answer::No,
        }
    }

    fn worst(rows: &[Row]) -> Grade {
        rows.iter().map(|row| row.grade).max().unwrap()
    }

    /// The rows of a NIC that takes zero-copy, on a machine with two CPUs.
    fn rows_of(nic: &NicReport, addresses: &[String]) -> Vec<Row> {
        nic_rows(nic, addresses, &Trial::Works, 2)
    }

    fn of_nic(nic: &NicReport) -> Grade {
        worst(&rows_of(nic, &["10.0.0.1/24".to_owned()]))
    }

    #[test]
    fn a_good_machine_is_good() {
        assert_eq!(worst(&machine_rows(&host())), Grade::Ok);
        let old = HostReport { kernel_version: (6, 1), ..host() };
        assert_eq!(worst(&machine_rows(&old)), Grade::Warn);
    }

    #[test]
    fn what_stops_braid_is_missing_and_says_what_to_do() {
        let mut without_bpf = host();
        without_bpf.capabilities[2].1 = false;
        let mut low_memory = host();
        low_memory.capabilities[3].1 = false;
        for bad in [HostReport { kernel_version: (5, 10), ..host() }, without_bpf, low_memory] {
            let rows = machine_rows(&bad);
            let missing: Vec<_> = rows.iter().filter(|row| row.grade == Grade::Missing).collect();
            assert_eq!(missing.len(), 1, "{rows:?}");
            assert!(!missing[0].advice.is_empty());
        }
    }

    #[test]
    fn the_capability_for_everything_includes_that_for_bpf() {
        let mut old_style = host();
        old_style.capabilities[2].1 = false;
        old_style.capabilities[4].1 = true;
        assert_eq!(worst(&machine_rows(&old_style)), Grade::Ok);
    }

    #[test]
    fn memory_that_may_be_locked_makes_up_for_the_capability() {
        for memlock in [None, Some(MEMLOCK_NEEDED)] {
            let mut enough = HostReport { memlock, ..host() };
            enough.capabilities[3].1 = false;
            assert_eq!(worst(&machine_rows(&enough)), Grade::Warn);
        }
    }

    #[test]
    fn nics_are_graded() {
        assert_eq!(of_nic(&nic()), Grade::Ok);
        assert_eq!(of_nic(&NicReport { xdp_attached: Some(7), ..nic() }), Grade::Missing);
        assert_eq!(of_nic(&NicReport { up: false, ..nic() }), Grade::Missing);
        assert_eq!(worst(&rows_of(&nic(), &[])), Grade::Missing, "no address");
        let half_made = NicReport { tx_checksum_offload: Answer::Yes, ..nic() };
        let rows = rows_of(&half_made, &[]);
        assert!(rows.iter().any(|row| row.advice.contains("ethtool -K p1 tx off")), "{rows:?}");
    }

    #[test]
    fn zero_copy_is_told_with_what_was_tried_and_what_to_do() {
        let announced = NicReport { zero_copy: Answer::Yes, ..nic() };
        let row = |trial| zero_copy_row(&announced, &trial);
        assert_eq!(row(Trial::Works).found, "yes");
        let untried = row(Trial::NotTried("not tried, as the link is down".to_owned()));
        assert_eq!((untried.grade, untried.found.as_str()), (Grade::Ok, "announced"));
        assert!(untried.advice.contains("link is down"), "{untried:?}");
        let refused = row(try_zero_copy(&nic()));
        assert_eq!((refused.grade, refused.found.as_str()), (Grade::Warn, "no"));
        for part in ["the kernel copies", "veth has no zero-copy", "newer kernel"] {
            assert!(refused.advice.contains(part), "{part}: {refused:?}");
        }
    }

    #[test]
    fn queues_that_virtio_has_no_cpus_for_are_told() {
        let virtio = |queues| NicReport { driver: "virtio_net".to_owned(), queues, ..nic() };
        assert_eq!(queues_row(&virtio(2), 2).grade, Grade::Ok);
        let row = queues_row(&virtio(4), 2);
        assert!(row.grade == Grade::Warn && row.advice.contains("--queues 2"), "{row:?}");
        assert_eq!(queues_row(&NicReport { queues: 4, ..nic() }, 2).grade, Grade::Ok, "others cope");
    }

    #[test]
    fn one_usable_nic_is_enough_unless_they_were_named() {
        let section = |rows| Section { name: "x".to_owned(), rows };
        let machine = section(machine_rows(&host()));
        let good = || section(rows_of(&nic(), &["10.0.0.1/24".to_owned()]));
        let bad = || section(rows_of(&nic(), &[]));
        assert!(can_run(&machine, &[good(), bad()], false));
        assert!(!can_run(&machine, &[good(), bad()], true));
        assert!(!can_run(&machine, &[bad()], false));
        assert!(!can_run(&machine, &[], false));
        let text = table(&machine, &[good(), bad()], true);
        assert!(
            text.contains("missing  addresses") && text.ends_with("Braid can run here, on x.\n"),
            "{text}"
        );
    }
}
