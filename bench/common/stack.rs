//! Over what benchmarks run: Braid, the kernel, or no stack at all.

use crate::common::Outcome;
use braid::app::perf::{BraidNet, KernelNet, Net};
use braid::lab::nic;
use braid::runtime::{CtlPath, Runtime, RuntimeConfig};
use braid::stack::ConnectOptions;

/// A stack, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// A frame of AF_XDP that is sent back; both ends spin on a core of their own.
    Raw,
    /// Braid without MPTCP.
    BraidTcp,
    /// Braid, with one path.
    BraidOnePath,
    /// Braid, with two.
    BraidTwoPaths,
    /// The kernel's TCP.
    KernelTcp,
    /// The kernel's MPTCP with one path.
    KernelMptcpOnePath,
    /// The kernel's MPTCP with two.
    KernelMptcp,
}

impl Stack {
    /// In the order in which they are measured.
    pub const ALL: [Stack; 7] = [
        Stack::Raw,
        Stack::BraidTcp,
        Stack::BraidOnePath,
        Stack::BraidTwoPaths,
        Stack::KernelTcp,
        Stack::KernelMptcpOnePath,
        Stack::KernelMptcp,
    ];

    /// In tables, and as an argument.
    pub fn name(self) -> &'static str {
        match self {
            Stack::Raw => "raw AF_XDP",
            Stack::BraidTcp => "braid, plain TCP",
            Stack::BraidOnePath => "braid, MPTCP, one path",
            Stack::BraidTwoPaths => "braid, MPTCP, two paths",
            Stack::KernelTcp => "kernel TCP",
            Stack::KernelMptcpOnePath => "kernel MPTCP, one path",
            Stack::KernelMptcp => "kernel MPTCP, two paths",
        }
    }

    /// By its name.
    pub fn find(name: &str) -> Outcome<Stack> {
        let found = Stack::ALL.into_iter().find(|stack| stack.name() == name);
        found.ok_or_else(|| format!("no such stack: {name}").into())
    }

    /// Starts it; none for [`Stack::Raw`].
    pub fn start(self) -> Outcome<Option<Net>> {
        let braid = |mptcp, paths| -> Outcome<Option<Net>> {
            let nics = (1..=paths).map(nic).collect();
            let config = RuntimeConfig { nics, ctl: CtlPath::None, ..RuntimeConfig::default() };
            let options = ConnectOptions { mptcp, ..ConnectOptions::default() };
            Ok(Some(Net::Braid(Box::new(BraidNet { runtime: Runtime::start(config)?, options }))))
        };
        let kernel = |mptcp| Ok(Some(Net::Kernel(KernelNet { mptcp, congestion: None })));
        match self {
            Stack::Raw => Ok(None),
            Stack::BraidTcp => braid(false, 1),
            Stack::BraidOnePath => braid(true, 1),
            Stack::BraidTwoPaths => braid(true, 2),
            Stack::KernelTcp => kernel(false),
            Stack::KernelMptcpOnePath | Stack::KernelMptcp => kernel(true),
        }
    }
}
