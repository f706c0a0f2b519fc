//! Whether packets of several segments get through. Where packets are longer than a frame, several segments leave in one
//! ([`super::Tcb::packs`]); what is lost is sent again segment by segment. So a path that carries no such packet, and says
//! nothing (RFC 2923), would lose each of them, and never time out: [`super::path_mtu`] would not find it.

use serde::{Deserialize, Serialize};

/// So many segments that were lost in a pack and then arrived alone, and no pack meanwhile, say that none gets through: more than
/// a queue that overflows takes in a row.
const FAILURES: u8 = 64;

/// What became of those that left last.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Packs {
    /// Since a pack arrived, so many segments of packs have arrived alone.
    alone: u8,
}

impl Packs {
    /// Segments are acknowledged: some that left in a pack and were sent once (`arrived`), and so many that were sent alone after
    /// they had left in a pack. True when packs are to be given up.
    pub(super) fn on_acknowledged(&mut self, arrived: bool, alone: u32) -> bool {
        self.alone = match arrived {
            true => 0,
            false => self.alone.saturating_add(u8::try_from(alone).unwrap_or(u8::MAX)),
        };
        let gives_up = self.alone >= FAILURES;
        if gives_up {
            self.alone = 0;
        }
        gives_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_carries_none_gets_none() {
        let mut packs = Packs::default();
        assert!((1..FAILURES).all(|_| !packs.on_acknowledged(false, 1)));
        assert!(packs.on_acknowledged(false, 1));
        assert!(!packs.on_acknowledged(false, 1), "it begins anew");
        assert!(packs.on_acknowledged(false, 1000));
    }

    #[test]
    fn one_that_arrives_shows_that_losses_are_of_another_kind() {
        let mut packs = Packs::default();
        for _ in 0..100 {
            assert!((0..20).all(|_| !packs.on_acknowledged(false, 3)));
            assert!(!packs.on_acknowledged(true, 3));
        }
    }
}
