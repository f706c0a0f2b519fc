//! [`Stalls`]: which NICs give back nothing of what they are given, for whoever reports it.

use crate::base::PortId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One flag for each NIC, written by the control thread and read by any.
#[derive(Debug, Clone)]
pub struct Stalls(Arc<[AtomicBool]>);

impl Stalls {
    /// So many NICs, of which none has stalled.
    pub(super) fn new(ports: usize) -> Self {
        Self((0..ports).map(|_| AtomicBool::new(false)).collect())
    }

    pub(super) fn set(&self, port: PortId, stalled: bool) {
        if let Some(flag) = self.0.get(port.index()) {
            flag.store(stalled, Ordering::Relaxed);
        }
    }

    /// Whether nothing comes back from a NIC whose link is up: its path counts as down.
    pub fn is_stalled(&self, port: PortId) -> bool {
        self.0.get(port.index()).is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_seen_by_others() {
        let stalls = Stalls::new(2);
        let seen = stalls.clone();
        stalls.set(PortId(1), true);
        stalls.set(PortId(7), true);
        let all = |stalls: &Stalls| [0, 1, 7].map(|port| stalls.is_stalled(PortId(port)));
        assert_eq!(all(&seen), [false, true, false]);
        stalls.set(PortId(1), false);
        assert_eq!(all(&seen), [false; 3]);
    }
}
