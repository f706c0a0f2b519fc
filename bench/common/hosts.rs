//! The hosts of a lab, made ready for a benchmark.

use crate::common::{Outcome, done};
use braid::lab::{Host, Lab, ipv4, nic};

/// Keeps this thread on a core.
pub fn pin(number: usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(core) = cores.get(number % cores.len().max(1)) {
        core_affinity::set_for_current(*core);
    }
}

/// Lets the kernel's MPTCP use both paths, or one: the client opens a subflow to what the server announces, and its routes say
/// from where.
pub fn kernel_paths(lab: &Lab, both: bool) -> Outcome<()> {
    for host in [Host::A, Host::B] {
        done(lab.exec(host).args("ip mptcp endpoint flush".split(' ')))?;
        done(lab.exec(host).args("ip mptcp limits set subflows 2 add_addr_accepted 2".split(' ')))?;
    }
    if both {
        let second = ipv4(Host::B, 2).ok_or("host b has an address")?.to_string();
        let endpoint = ["ip", "mptcp", "endpoint", "add", &second, "dev", &nic(2), "signal"];
        done(lab.exec(Host::B).args(endpoint))?;
    }
    Ok(())
}
