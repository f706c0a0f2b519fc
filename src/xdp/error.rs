//! What can go wrong when NICs are opened. Each message says what to do about it.

use crate::xdp::Refusal;
use std::io;

/// Why NICs could not be opened, or the steering program could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// There is no NIC of that name in this network namespace.
    #[error("there is no network interface {name}; there are: {}", list(.present))]
    NoSuchNic {
        /// What was asked for.
        name: String,
        /// Those that exist.
        present: Vec<String>,
    },
    /// The same NIC was named twice.
    #[error("network interface {0} is named twice; name each once")]
    Repeated(String),
    /// A count in the configuration is out of range.
    #[error("{what} is {value}; it must be between {min} and {max}")]
    OutOfRange {
        /// Of what.
        what: &'static str,
        /// What was asked for.
        value: usize,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
    /// Capabilities are missing.
    #[error(
        "not allowed to {doing}: missing {}; run as root, or grant them: setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock=ep FILE",
        list(.missing)
    )]
    NoPrivilege {
        /// What was refused.
        doing: &'static str,
        /// Names of the capabilities that this process lacks.
        missing: Vec<String>,
    },
    /// The UMEM could not be registered because too little memory may be locked.
    #[error(
        "the kernel may not lock {wanted} bytes of packet memory (the limit is {limit}); raise it (ulimit -l unlimited, or LimitMEMLOCK=infinity in a unit), grant cap_ipc_lock, or ask for fewer frames"
    )]
    MemlockTooLow {
        /// Bytes of the UMEM.
        wanted: u64,
        /// RLIMIT_MEMLOCK in words.
        limit: String,
    },
    /// The NIC has an XDP program that is not ours. Ours never replaces it.
    #[error(
        "network interface {name} already has an XDP program{}; see it with: ip link show dev {name}; stop what uses it, or detach it with: ip link set dev {name} xdp off",
        program.map(|id| format!(" (id {id})")).unwrap_or_default()
    )]
    ProgramAttached {
        /// The NIC.
        name: String,
        /// The program's id, as bpftool shows it.
        program: Option<u32>,
    },
    /// A queue of the NIC is bound by an AF_XDP socket of somebody else.
    #[error("queue {queue} of network interface {name} is in use by another AF_XDP socket; end that program")]
    QueueBusy {
        /// The NIC.
        name: String,
        /// The queue.
        queue: u32,
    },
    /// Zero-copy was required, and a NIC cannot.
    #[error(
        "zero-copy is required, but {} cannot: {}; {}; or let the kernel copy: --zero-copy prefer",
        .0.nic.as_deref().unwrap_or("Braid"), .0.reason, .0.remedy
    )]
    ZeroCopyRefused(Box<Refusal>),
    /// The kernel refused something else.
    #[error("cannot {doing}: {error}")]
    Kernel {
        /// What was refused.
        doing: String,
        /// Its answer.
        error: io::Error,
    },
    /// The table of local endpoints has no room.
    #[error("{0} local addresses and ports are steered, which is the most")]
    LocalFull(usize),
}

impl XdpError {
    pub(crate) fn kernel(doing: impl Into<String>, error: io::Error) -> Self {
        XdpError::Kernel { doing: doing.into(), error }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
