//! The trace of a run: one number that every packet and its time goes into. Two runs of one seed have the same.

use crate::base::Instant;

const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number that stands for `bytes`; not for secrets.
pub fn digest(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    let mut state = bytes.len() as u64;
    for word in &mut words {
        state = mix(state, u64::from_le_bytes(word.try_into().expect("eight bytes")));
    }
    words.remainder().iter().fold(state, |state, byte| mix(state, u64::from(*byte)))
}

fn mix(state: u64, word: u64) -> u64 {
    let mixed = (state ^ word).wrapping_mul(PRIME);
    mixed ^ (mixed >> 29)
}

/// What has happened so far, as one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trace {
    state: u64,
    packets: u64,
}

impl Trace {
    /// A packet has arrived at `place`.
    pub fn record(&mut self, now: Instant, place: usize, packet: &[u8]) {
        self.state = mix(mix(mix(self.state, now.as_nanos()), place as u64), digest(packet));
        self.packets += 1;
    }

    /// A packet has arrived at `place`, of which `words` tell enough.
    #[inline]
    pub fn note(&mut self, now: Instant, place: usize, words: [u64; 2]) {
        let state = mix(mix(self.state, now.as_nanos()), (place as u64).rotate_left(48) ^ words[0]);
        self.state = mix(state, words[1]);
        self.packets += 1;
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.state
    }

    /// How many packets it stands for.
    pub fn packets(&self) -> u64 {
        self.packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_place_and_time_matters() {
        let trace = |nanos, place, packet: &[u8]| {
            let mut trace = Trace::default();
            trace.record(Instant::from_nanos(nanos), place, packet);
            trace.value()
        };
        let base = trace(1, 2, b"twelve bytes");
        assert_eq!(base, trace(1, 2, b"twelve bytes"));
        for other in
            [trace(2, 2, b"twelve bytes"), trace(1, 3, b"twelve bytes"), trace(1, 2, b"twelve bytez")]
        {
            assert_ne!(base, other);
        }
        assert_ne!(digest(b"12345678"), digest(b"22345678"));
        let noted = |nanos, place, words| {
            let mut trace = Trace::default();
            trace.note(Instant::from_nanos(nanos), place, words);
            trace.value()
        };
        let base = noted(1, 2, [3, 4]);
        for other in [noted(2, 2, [3, 4]), noted(1, 3, [3, 4]), noted(1, 2, [4, 4]), noted(1, 2, [3, 5])] {
            assert_ne!(base, other);
        }
    }
}
