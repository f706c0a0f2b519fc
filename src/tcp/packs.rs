//! Whether packets of several segments get through. Where packets are longer than a frame, several segments leave in one
//! ([`super::Tcb::packs`]); what is lost is sent again segment by segment. So a path that carries no such packet, and says
//! nothing (RFC 2923), would lose each of them, and never time out: [`super::path_mtu`] would not find it.

use crate::base::Instant;
use crate::base::time::Duration;
use serde::{Deserialize, Serialize};

/// So many segments that were lost in a pack and then arrived alone, and no pack meanwhile, ...
const FAILURES: u8 = 9;
/// RFC 8899 §5.1.1, PMTU_RAISE_TIMER: then it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    #[default]
    Fine,
    /// None has arrived since, and so many segments of them only alone.
    Failing { since: Instant, segments: u8 },
    /// Segments leave alone until then.
    Off { until: Instant },
}

/// What became of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Packs {
    phase: Phase,
}

impl Packs {
    /// Whether segments may leave together.
    pub(super) fn is_allowed(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Fine | Phase::Failing { .. } => true,
            Phase::Off { until } => until <= now,
        }
    }

    /// Segments are acknowledged: some that left in a pack and were sent once (`arrived`), and so many that were sent alone after
    /// they had left in a pack. `rto`: how long it takes until what was sent before has shown itself.
    pub(super) fn on_acknowledged(&mut self, now: Instant, arrived: bool, alone: u32, rto: Duration) {
        if arrived {
            self.phase = Phase::Fine;
            return;
        }
        if alone == 0 {
            return;
        }
        let (since, before) = match self.phase {
            Phase::Failing { since, segments } => (since, segments),
            Phase::Fine => (now, 0),
            Phase::Off { until } if until <= now => (now, 0),
            Phase::Off { .. } => return,
        };
        let segments = before.saturating_add(u8::try_from(alone).unwrap_or(u8::MAX));
        self.phase = match segments >= FAILURES && now.since(since) >= rto {
            true => Phase::Off { until: now + RETRY_AFTER },
            false => Phase::Failing { since, segments },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTO: Duration = Duration::from_millis(200);

    #[test]
    fn a_path_that_carries_none_gets_none_for_a_while() {
        let at = Instant::from_millis;
        let mut packs = Packs::default();
        packs.on_acknowledged(at(0), false, 40, RTO);
        assert!(packs.is_allowed(at(0)), "a whole flight may be lost");
        packs.on_acknowledged(at(199), false, 1, RTO);
        assert!(packs.is_allowed(at(199)));
        packs.on_acknowledged(at(200), false, 1, RTO);
        assert!(!packs.is_allowed(at(200)));
        packs.on_acknowledged(at(300), false, 9, RTO);
        assert!(!packs.is_allowed(at(600_199)) && packs.is_allowed(at(600_200)));
        packs.on_acknowledged(at(600_300), false, 3, RTO);
        assert!(packs.is_allowed(at(600_300)), "it is tried again");
    }

    #[test]
    fn one_that_arrives_shows_that_losses_are_of_another_kind() {
        let at = Instant::from_millis;
        let mut packs = Packs::default();
        for ms in 0..1000 {
            packs.on_acknowledged(at(10 * ms), false, 3, RTO);
            packs.on_acknowledged(at(10 * ms + 5), ms % 9 == 0, 3, RTO);
            assert!(packs.is_allowed(at(10 * ms + 5)));
        }
    }
}
