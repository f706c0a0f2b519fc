//! The bytes that applications send: each is a function of a seed and its place in the stream, so that any byte can
//! be checked wherever it turns up, and a byte of the wrong place never passes for the right one.

/// The bytes of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

impl Pattern {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Fills `bytes` with what the stream has at `offset`.
    pub fn fill(&self, offset: u64, bytes: &mut [u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let word = self.word(at / 8).to_le_bytes();
            let from = (at % 8) as usize;
            let len = (8 - from).min(bytes.len() - done);
            bytes[done..done + len].copy_from_slice(&word[from..from + len]);
            done += len;
        }
    }

    /// Where `bytes` first differ from what the stream has at `offset`.
    pub fn first_difference(&self, offset: u64, bytes: &[u8]) -> Option<usize> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let word = self.word(at / 8).to_le_bytes();
            let from = (at % 8) as usize;
            let len = (8 - from).min(bytes.len() - done);
            if bytes[done..done + len] != word[from..from + len] {
                return (done..done + len).find(|place| bytes[*place] != word[from + place - done]);
            }
            done += len;
        }
        None
    }

    fn word(&self, index: u64) -> u64 {
        let mixed =
            (self.seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_whole_and_a_wrong_place_is_noticed() {
        let pattern = Pattern::new(42);
        let mut whole = [0; 1000];
        pattern.fill(0, &mut whole);
        for (offset, len) in [(0, 1000), (1, 7), (13, 900), (8, 8), (999, 1)] {
            let mut piece = vec![0; len];
            pattern.fill(offset as u64, &mut piece);
            assert_eq!(piece, whole[offset..offset + len]);
            assert_eq!(pattern.first_difference(offset as u64, &piece), None);
            piece[len - 1] ^= 1;
            assert_eq!(pattern.first_difference(offset as u64, &piece), Some(len - 1));
        }
        assert!(pattern.first_difference(1, &whole).is_some());
        assert!(Pattern::new(43).first_difference(0, &whole).is_some());
    }
}
