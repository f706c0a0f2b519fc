//! What this machine and its NICs can do: for `braid check`.

use crate::wire::MacAddr;
use crate::xdp::XdpError;

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
    let _ = name;
    todo!()
}

/// Looks at the machine.
pub fn probe_host() -> HostReport {
    todo!()
}
