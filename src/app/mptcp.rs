//! [`Mptcp`]: what RFC 6897 offers an application that knows of MPTCP, beside its [`Stream`].
//!
//! | RFC 6897 | here |
//! | --- | --- |
//! | TCP_MULTIPATH_ENABLE, set | [`crate::stack::ConnectOptions::mptcp`] |
//! | TCP_MULTIPATH_ENABLE, get | [`Stream::is_mptcp`] |
//! | TCP_MULTIPATH_ADD | [`Mptcp::add_address`] |
//! | TCP_MULTIPATH_REMOVE | [`Mptcp::remove_address`] |
//! | TCP_MULTIPATH_SUBFLOWS | [`Mptcp::subflows`] |
//! | TCP_MULTIPATH_CONNID | [`Mptcp::connection_id`] |
//!
//! A listener that is bound to one address gives its connections no other ones by policy (§5.3.2).

use crate::app::Stream;
use crate::cc::CongestionAlgorithm;
use crate::mptcp::{SchedulerKind, SubflowDetails, SubflowId};
use crate::pm::SubflowRequest;
use crate::runtime::{Action, AskError, ConnectionStatus, ControlHandle, MptcpInfo};
use crate::tcp::State;
use crate::wire::FourTuple;
use crate::wire::mptcp::Token;
use std::net::IpAddr;

/// A hand on the paths of one connection. Cheap to clone, usable from any thread, as long as the runtime runs.
#[derive(Debug, Clone)]
pub struct Mptcp {
    control: ControlHandle,
    first: FourTuple,
}

impl Mptcp {
    pub(super) fn new(control: ControlHandle, first: FourTuple) -> Self {
        Self { control, first }
    }

    /// All that is known of the connection now.
    ///
    /// # Errors
    /// It has ended, or its worker is late.
    pub fn status(&self) -> Result<ConnectionStatus, AskError> {
        self.control.status(self.first)
    }

    /// What the kernel's `getsockopt(MPTCP_INFO)` would tell.
    ///
    /// # Errors
    /// As [`Mptcp::status`].
    pub fn info(&self) -> Result<MptcpInfo, AskError> {
        Ok(self.status()?.info)
    }

    /// Names the connection at this host; `None`: it is plain TCP.
    ///
    /// # Errors
    /// As [`Mptcp::status`].
    pub fn connection_id(&self) -> Result<Option<Token>, AskError> {
        Ok(self.status()?.token)
    }

    /// The subflows that can carry data, each with its ends and TCP's figures (those that are in their handshake are in
    /// [`Mptcp::status`]).
    ///
    /// # Errors
    /// As [`Mptcp::status`].
    pub fn subflows(&self) -> Result<Vec<SubflowDetails>, AskError> {
        let mut subflows = self.status()?.subflows;
        subflows.retain(|subflow| !matches!(subflow.state, State::SynSent | State::SynReceived));
        Ok(subflows)
    }

    /// Uses one more local address, whatever policy and endpoints say: subflows are opened from it if we opened the
    /// connection, or else it is announced.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn add_address(&self, addr: IpAddr) -> Result<(), AskError> {
        self.control.manage(self.first, Action::AddAddress(addr))
    }

    /// Uses a local address no more: its subflows are closed, and the peer hears that it is gone.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn remove_address(&self, addr: IpAddr) -> Result<(), AskError> {
        self.control.manage(self.first, Action::RemoveAddress(addr))
    }

    /// Opens a subflow. It is there once [`Mptcp::subflows`] has it; if it fails, nobody opens it again.
    ///
    /// # Errors
    /// Why it cannot even be tried.
    pub fn add_subflow(&self, request: SubflowRequest) -> Result<(), AskError> {
        self.control.manage(self.first, Action::AddSubflow(request))
    }

    /// Resets a subflow. None is opened between its ends again, unless by [`Mptcp::add_subflow`].
    ///
    /// # Errors
    /// It does not exist, or is the last one.
    pub fn remove_subflow(&self, subflow: SubflowId) -> Result<(), AskError> {
        self.control.manage(self.first, Action::RemoveSubflow(subflow))
    }

    /// Uses a subflow only as a backup, or again as any other, and asks the peer to do the same.
    ///
    /// # Errors
    /// It does not exist, or the peer has not confirmed MPTCP yet.
    pub fn set_backup(&self, subflow: SubflowId, backup: bool) -> Result<(), AskError> {
        self.control.manage(self.first, Action::SetBackup(subflow, backup))
    }

    /// Spreads data by another scheduler from now on.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn set_scheduler(&self, scheduler: SchedulerKind) -> Result<(), AskError> {
        self.control.manage(self.first, Action::SetScheduler(scheduler))
    }

    /// Goes on by another congestion control: the subflows keep their windows. On plain TCP, too.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn set_congestion(&self, congestion: CongestionAlgorithm) -> Result<(), AskError> {
        self.control.manage(self.first, Action::SetCongestion(congestion))
    }
}

impl Stream {
    /// Whether it is MPTCP; `None`: that is not known yet.
    pub fn is_mptcp(&self) -> Option<bool> {
        self.fallback().map(|fallback| fallback.is_none())
    }
}
