//! Keep-alive (RFC 9293 §3.8.4): whether a peer that says nothing is still there.

use crate::base::time::Duration;

/// When to ask a silent peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// How long the peer has to be silent before it is asked.
    pub idle: Duration,
    /// How long after a question the next one follows.
    pub interval: Duration,
    /// Questions without an answer after which the connection is over.
    pub probes: u32,
}

impl Default for KeepAlive {
    /// RFC 9293 §3.8.4: the interval must default to no less than two hours. The rest is as Linux has it.
    fn default() -> Self {
        Self { idle: Duration::from_secs(7200), interval: Duration::from_secs(75), probes: 9 }
    }
}
