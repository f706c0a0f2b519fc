//! [`PortHealth`]: which NICs can carry packets. A NIC can when its link is up and it gives back what it is given; to the
//! path manager one that stalls is as dead as one without a carrier.

use super::LinkEvent;
use crate::base::{PortId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the NICs. Each change that it tells of is for the workers and the path manager.
#[derive(Debug, Default)]
pub struct PortHealth {
    up: BTreeMap<PortId, bool>,
    /// Who says that nothing comes back. One worker is enough: its connections need the NIC as much as the others'.
    stalled: BTreeSet<(PortId, WorkerId)>,
}

impl PortHealth {
    /// A link went up or down. One that comes up starts anew.
    pub fn handle_link(&mut self, event: LinkEvent) -> Option<LinkEvent> {
        let was_usable = self.is_usable(event.port);
        let known = self.up.insert(event.port, event.up).is_some();
        if event.up {
            self.stalled.retain(|(port, _)| *port != event.port);
        }
        // The first word about a NIC always counts.
        self.change(event.port, was_usable).or((!known).then_some(event))
    }

    /// A worker says that completions stopped at a port, or that they come again.
    pub fn handle_stalled(&mut self, worker: WorkerId, port: PortId, stalled: bool) -> Option<LinkEvent> {
        let was_usable = self.is_usable(port);
        if stalled {
            self.stalled.insert((port, worker));
        } else {
            self.stalled.remove(&(port, worker));
        }
        self.change(port, was_usable)
    }

    /// Whether completions stopped at a port whose link is up.
    pub fn is_stalled(&self, port: PortId) -> bool {
        self.is_up(port) && self.stalled.iter().any(|(stalled, _)| *stalled == port)
    }

    fn is_up(&self, port: PortId) -> bool {
        self.up.get(&port).copied().unwrap_or(false)
    }

    fn is_usable(&self, port: PortId) -> bool {
        self.is_up(port) && !self.is_stalled(port)
    }

    fn change(&self, port: PortId, was_usable: bool) -> Option<LinkEvent> {
        let up = self.is_usable(port);
        (up != was_usable).then_some(LinkEvent { port, up })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortId = PortId(1);
    const ONE: WorkerId = WorkerId(0);
    const TWO: WorkerId = WorkerId(1);

    fn link(up: bool) -> LinkEvent {
        LinkEvent { port: PORT, up }
    }

    #[test]
    fn a_nic_that_stalls_is_down_until_no_worker_says_so() {
        let mut health = PortHealth::default();
        assert_eq!(health.handle_link(link(true)), Some(link(true)));
        assert_eq!(health.handle_stalled(ONE, PORT, true), Some(link(false)));
        assert_eq!(health.handle_stalled(TWO, PORT, true), None);
        assert_eq!(health.handle_stalled(ONE, PORT, false), None);
        assert!(health.is_stalled(PORT) && !health.is_stalled(PortId(0)));
        assert_eq!(health.handle_stalled(TWO, PORT, false), Some(link(true)));
        assert!(!health.is_stalled(PORT));
    }

    #[test]
    fn a_link_that_is_down_completes_nothing_and_starts_anew_when_it_is_up() {
        let mut health = PortHealth::default();
        assert_eq!(health.handle_link(link(false)), Some(link(false)), "the first word counts");
        assert_eq!(health.handle_link(link(true)), Some(link(true)));
        assert_eq!(health.handle_link(link(false)), Some(link(false)));
        assert_eq!(health.handle_stalled(ONE, PORT, true), None);
        assert!(!health.is_stalled(PORT), "there is a better reason");
        assert_eq!(health.handle_link(link(true)), Some(link(true)));
        assert_eq!(health.handle_stalled(ONE, PORT, false), None, "it was forgotten");
    }
}
