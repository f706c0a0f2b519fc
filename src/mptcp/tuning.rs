//! What an application can change of a connection while it runs.

use crate::base::snapshot::Words;
use crate::base::time::Duration;
use crate::tcp::KeepAlive;
use serde::{Deserialize, Serialize};

/// The settings that may change at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// RFC 9293 §3.7.4: a segment that is not full does not wait until an earlier one of that kind is acknowledged.
    /// True by default, unlike Linux's `TCP_NODELAY`: an application that gives whole frames has batched already. One
    /// that writes little pieces asks for Nagle's algorithm by saying false.
    pub nodelay: bool,
    /// Nothing but full segments leaves, for a retransmission time-out at most (Linux's `TCP_CORK`).
    pub cork: bool,
    /// Ask a silent peer whether it is still there (RFC 9293 §3.8.4). Off by default, as the RFC demands.
    pub keep_alive: Option<KeepAlive>,
    /// How long what was sent may stay without acknowledgment before the connection is over (RFC 5482, the local part).
    /// `None`: a number of retransmissions decides.
    pub user_timeout: Option<Duration>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { nodelay: true, cork: false, keep_alive: None, user_timeout: None }
    }
}

/// Words of a [`Tuning`].
pub const TUNING_WORDS: usize = 5;

const NODELAY: u64 = 1;
const CORK: u64 = 2;
const KEEP_ALIVE: u64 = 4;
const USER_TIMEOUT: u64 = 8;

impl Words<TUNING_WORDS> for Tuning {
    fn to_words(&self) -> [u64; TUNING_WORDS] {
        let Self { nodelay, cork, keep_alive, user_timeout } = *self;
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        let flags = flag(nodelay, NODELAY)
            | flag(cork, CORK)
            | flag(keep_alive.is_some(), KEEP_ALIVE)
            | flag(user_timeout.is_some(), USER_TIMEOUT);
        let KeepAlive { idle, interval, probes } = keep_alive.unwrap_or_default();
        let user_timeout = user_timeout.unwrap_or_default().as_nanos();
        [flags, idle.as_nanos(), interval.as_nanos(), u64::from(probes), user_timeout]
    }

    fn from_words(&[flags, idle, interval, probes, user_timeout]: &[u64; TUNING_WORDS]) -> Self {
        let has = |bit: u64| flags & bit != 0;
        let keep_alive = KeepAlive {
            idle: Duration::from_nanos(idle),
            interval: Duration::from_nanos(interval),
            probes: u32::try_from(probes).unwrap_or(u32::MAX),
        };
        Self {
            nodelay: has(NODELAY),
            cork: has(CORK),
            keep_alive: has(KEEP_ALIVE).then_some(keep_alive),
            user_timeout: has(USER_TIMEOUT).then_some(Duration::from_nanos(user_timeout)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_way_through_words() {
        for tuning in [
            Tuning::default(),
            Tuning { nodelay: false, cork: true, keep_alive: Some(KeepAlive::default()), user_timeout: None },
            Tuning { user_timeout: Some(Duration::from_millis(3000)), ..Tuning::default() },
        ] {
            assert_eq!(Tuning::from_words(&tuning.to_words()), tuning);
        }
    }
}
