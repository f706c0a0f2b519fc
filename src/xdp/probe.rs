//! What this machine and its NICs can do: for `braid check`.

use crate::wire::MacAddr;
use crate::xdp::ethtool::{Nic, nic_names};
use crate::xdp::{XdpError, privilege, program};
use rustix::process::{Resource, getrlimit};
use std::{fs, io};

/// Whether something can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// The kernel doesn't tell.
    Unknown,
}

impl From<bool> for Answer {
    fn from(yes: bool) -> Self {
        if yes { Answer::Yes } else { Answer::No }
    }
}

/// What a NIC is and can do.
#[derive(Debug, Clone)]
pub struct NicReport {
    /// Its name.
    pub name: String,
    /// The kernel's number of it.
    pub ifindex: u32,
    /// Its driver.
    pub driver: String,
    /// The longest IP packet.
    pub mtu: usize,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Receive queues in use.
    pub queues: usize,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it sees a carrier.
    pub carrier: bool,
    /// The id of an XDP program that is attached to it.
    pub xdp_attached: Option<u32>,
    /// Whether the driver runs XDP programs itself.
    pub native_xdp: Answer,
    /// Whether the driver can receive into and send from a UMEM.
    pub zero_copy: Answer,
    /// Whether transmit checksums are left to the NIC (on veth: not made at all, unless switched off).
    pub tx_checksum_offload: Answer,
}

/// What the machine allows this process.
#[derive(Debug, Clone)]
pub struct HostReport {
    /// The kernel's release.
    pub kernel: String,
    /// Major and minor of it.
    pub kernel_version: (u32, u32),
    /// The capabilities that matter, by name, and whether this process has them.
    pub capabilities: Vec<(&'static str, bool)>,
    /// RLIMIT_MEMLOCK in bytes; `None` is unlimited.
    pub memlock: Option<u64>,
    /// Huge pages of 2 MiB: free and in all.
    pub hugepages: (u64, u64),
    /// Whether the kernel compiles BPF programs.
    pub bpf_jit: Answer,
    /// Processors that this process may run on.
    pub cores: usize,
}

/// Looks at a NIC.
///
/// # Errors
/// [`XdpError::NoSuchNic`], or what the kernel says.
pub fn probe_nic(name: &str) -> Result<NicReport, XdpError> {
    let failed = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => {
            XdpError::NoSuchNic { name: name.to_owned(), present: nic_names() }
        }
        _ => XdpError::kernel(format!("look at {name}"), error),
    };
    let nic = Nic::new(name).map_err(failed)?;
    let ifindex = nic.ifindex().map_err(failed)?;
    Ok(NicReport {
        name: name.to_owned(),
        ifindex,
        driver: nic.driver().unwrap_or_else(|_| "unknown".to_owned()),
        mtu: nic.mtu().map_err(failed)?,
        mac: nic.mac().map_err(failed)?,
        queues: nic.receive_queues(),
        up: nic.is_up().map_err(failed)?,
        carrier: nic.has_carrier().unwrap_or(false),
        xdp_attached: program::attached(ifindex),
        native_xdp: offers(ifindex, FEATURE_BASIC | FEATURE_REDIRECT),
        zero_copy: offers_zero_copy(ifindex),
        tx_checksum_offload: nic.offloads_tx_checksum().map_or(Answer::Unknown, Answer::from),
    })
}

/// Names of all NICs of this thread's network namespace, the loopback device included.
pub fn nics() -> Vec<String> {
    nic_names()
}

/// Processors that the machine runs on, those included that this process may not use.
pub fn processors() -> usize {
    // SAFETY: the call takes a number and touches no memory of ours.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(online).unwrap_or(1).max(1)
}

/// Looks at the machine.
pub fn probe_host() -> HostReport {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    HostReport {
        kernel_version: version(&release),
        kernel: release,
        capabilities: privilege::effective(),
        memlock: getrlimit(Resource::Memlock).current,
        hugepages: hugepages(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        bpf_jit: match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable") {
            Ok(text) => Answer::from(text.trim() != "0"),
            Err(_) => Answer::Unknown,
        },
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

// Of `enum netdev_xdp_act` of <linux/netdev.h>.
const FEATURE_BASIC: u64 = 1 << 0;
const FEATURE_REDIRECT: u64 = 1 << 1;
const FEATURE_ZERO_COPY: u64 = 1 << 3;

/// Whether a NIC's driver says that it does zero-copy.
pub(crate) fn offers_zero_copy(ifindex: u32) -> Answer {
    offers(ifindex, FEATURE_ZERO_COPY)
}

fn offers(ifindex: u32, features: u64) -> Answer {
    // Linux 6.3 is the first to tell; before, nothing is set, which says nothing.
    let tells = version(&rustix::system::uname().release().to_string_lossy()) >= (6, 3);
    match program::query(ifindex) {
        Ok(answer) if tells || answer.feature_flags != 0 => {
            Answer::from(answer.feature_flags & features == features)
        }
        _ => Answer::Unknown,
    }
}

/// Major and minor of a release like `6.18.44-generic`; zeros where it is something else.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Free and all, from the text of /proc/meminfo.
fn hugepages(meminfo: &str) -> (u64, u64) {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
    };
    (field("HugePages_Free:"), field("HugePages_Total:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_and_meminfo_are_read() {
        assert_eq!(version("6.18.44-generic"), (6, 18));
        assert_eq!(version("5.4"), (5, 4));
        assert_eq!(version("strange"), (0, 0));
        let meminfo = "MemTotal: 8 kB\nHugePages_Total:      12\nHugePages_Free:        7\n";
        assert_eq!(hugepages(meminfo), (7, 12));
        assert_eq!(hugepages(""), (0, 0));
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let host = probe_host();
        assert!(host.kernel_version >= (4, 0) && host.cores > 0, "{host:?}");
        assert!(nics().contains(&"lo".to_owned()));
        let lo = probe_nic("lo").expect("every network namespace has it");
        assert_eq!((lo.ifindex, lo.queues), (1, 1));
        assert!(matches!(probe_nic("nosuchnic0"), Err(XdpError::NoSuchNic { .. })));
    }
}
