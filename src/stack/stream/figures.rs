//! A connection's figures as its readers see them: a small snapshot for the one or two subflows that nearly all have, and a
//! large one from the first time that there are more.

use super::info::{ConnectionInfo, SNAPSHOT_SUBFLOWS, SUBFLOW_WORDS, SubflowInfo};
use crate::base::snapshot::{Snapshot, Words};
use std::sync::OnceLock;

/// Subflows in the small snapshot.
const FEW: usize = 2;
const FEW_WORDS: usize = 3 + FEW * SUBFLOW_WORDS;
const ALL_WORDS: usize = 3 + SNAPSHOT_SUBFLOWS * SUBFLOW_WORDS;

/// The figures. One writer, any number of readers.
#[derive(Debug, Default)]
pub(super) struct Figures {
    few: Snapshot<FEW_WORDS>,
    all: OnceLock<Box<Snapshot<ALL_WORDS>>>,
}

impl Figures {
    /// Publishes.
    pub(super) fn publish(&self, info: &ConnectionInfo) {
        if self.all.get().is_none() && info.subflow.iter().skip(FEW).all(Option::is_none) {
            return self.few.publish(info);
        }
        // Where there is a large one, it is the only one that is written.
        self.all.get_or_init(Default::default).publish(info);
    }

    /// The latest, if there are any.
    pub(super) fn read(&self) -> Option<ConnectionInfo> {
        self.all.get().and_then(|all| all.read()).or_else(|| self.few.read())
    }
}

impl<const N: usize> Words<N> for ConnectionInfo {
    fn to_words(&self) -> [u64; N] {
        let Self { subflows, send_window, reinjected, subflow } = self;
        let mut words = [0; N];
        words[..3].copy_from_slice(&[u64::from(*subflows), u64::from(*send_window), *reinjected]);
        for (slot, info) in words[3..].chunks_exact_mut(SUBFLOW_WORDS).zip(subflow) {
            if let Some(info) = info {
                slot.copy_from_slice(&info.to_words());
            }
        }
        words
    }

    fn from_words(words: &[u64; N]) -> Self {
        let mut slots = words[3..].chunks_exact(SUBFLOW_WORDS);
        ConnectionInfo {
            subflows: words[0] as u32,
            send_window: words[1] as u32,
            reinjected: words[2],
            subflow: std::array::from_fn(|_| slots.next().and_then(SubflowInfo::from_words)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PortId;
    use crate::wire::{Endpoint, FourTuple};

    fn info(count: usize) -> ConnectionInfo {
        let subflow = |number: usize| SubflowInfo {
            tuple: FourTuple {
                local: Endpoint::new([10, 0, 0, 1].into(), number as u16),
                remote: Endpoint::new([10, 0, 0, 2].into(), 80),
            },
            port: PortId(1),
            alive: true,
            backup: false,
            bytes_sent: 1,
            bytes_received: 2,
            retransmits: 3,
            srtt_us: 4,
            rttvar_us: 5,
            cwnd: 6,
            ssthresh: 7,
            mss: 8,
        };
        ConnectionInfo {
            subflows: count as u32,
            send_window: 9,
            reinjected: 10,
            subflow: std::array::from_fn(|number| (number < count).then(|| subflow(number))),
        }
    }

    #[test]
    fn many_subflows_make_it_large_and_the_latest_is_what_is_read() {
        let figures = Figures::default();
        assert_eq!(figures.read(), None);
        for count in [0, 1, FEW] {
            figures.publish(&info(count));
            assert_eq!(figures.read(), Some(info(count)));
        }
        assert!(figures.all.get().is_none(), "nothing was allocated");
        for count in [SNAPSHOT_SUBFLOWS, FEW + 1, 1] {
            figures.publish(&info(count));
            assert_eq!(figures.read(), Some(info(count)));
        }
    }
}
