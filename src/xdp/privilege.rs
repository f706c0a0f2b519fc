//! What the process may do: capabilities, and how much memory it may lock.

use crate::xdp::XdpError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

/// The capabilities that matter: name, and which.
const WANTED: [(&str, CapabilitySet); 5] = [
    ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
    ("CAP_NET_RAW", CapabilitySet::NET_RAW),
    ("CAP_BPF", CapabilitySet::BPF),
    ("CAP_IPC_LOCK", CapabilitySet::IPC_LOCK),
    ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN),
];

/// The capabilities that matter, and whether this thread has each.
pub(crate) fn effective() -> Vec<(&'static str, bool)> {
    let have = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    WANTED.into_iter().map(|(name, which)| (name, have.contains(which))).collect()
}

/// Names of those that we cannot do without and that this thread lacks.
pub(crate) fn missing() -> Vec<String> {
    let have = effective();
    let has = |wanted: &str| have.iter().any(|(name, has)| *name == wanted && *has);
    ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF"]
        .into_iter()
        // SYS_ADMIN includes BPF, as it did before there was one.
        .filter(|name| !has(name) && (*name != "CAP_BPF" || !has("CAP_SYS_ADMIN")))
        .map(str::to_owned)
        .collect()
}

/// Fails when capabilities are missing, before anything is touched.
pub(crate) fn require(doing: &'static str) -> Result<(), XdpError> {
    match missing() {
        missing if missing.is_empty() => Ok(()),
        missing => Err(XdpError::NoPrivilege { doing, missing }),
    }
}

/// RLIMIT_MEMLOCK in bytes; `None` when it is unlimited, or does not bind us.
pub(crate) fn memlock_limit() -> Option<u64> {
    if effective().contains(&("CAP_IPC_LOCK", true)) { None } else { getrlimit(Resource::Memlock).current }
}

/// Lifts RLIMIT_MEMLOCK where that is allowed. Where it isn't, registering the UMEM tells.
pub(crate) fn raise_memlock() {
    let unlimited = Rlimit { current: None, maximum: None };
    if setrlimit(Resource::Memlock, unlimited).is_err() {
        let maximum = getrlimit(Resource::Memlock).maximum;
        let _ = setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum });
    }
}
