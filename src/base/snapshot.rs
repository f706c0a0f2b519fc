//! Latest values that one thread writes and any thread reads, without a lock: a seqlock over atomic words, so that
//! it needs no unsafe code. The writer never waits; a reader that meets a write in progress tries again.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// A value that a [`Snapshot`] can hold: it is copied to and from `N` words.
pub trait Words<const N: usize>: Copy {
    /// The value as words.
    fn to_words(&self) -> [u64; N];
    /// The value back from its words.
    fn from_words(words: &[u64; N]) -> Self;
}

/// The latest value of `N` words. One writer, any number of readers.
#[derive(Debug)]
pub struct Snapshot<const N: usize> {
    /// Odd while a write is in progress.
    version: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> Default for Snapshot<N> {
    fn default() -> Self {
        Self { version: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl<const N: usize> Snapshot<N> {
    /// Publishes `value`. Only one thread may write.
    pub fn publish(&self, value: &impl Words<N>) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (slot, word) in self.words.iter().zip(value.to_words()) {
            slot.store(word, Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// The latest value, whole; `None` before the first.
    pub fn read<T: Words<N>>(&self) -> Option<T> {
        loop {
            let before = self.version.load(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            let words = std::array::from_fn(|index| self.words[index].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                return Some(T::from_words(&words));
            }
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct Pair(u64, u64);
    impl Words<2> for Pair {
        fn to_words(&self) -> [u64; 2] {
            [self.0, self.1]
        }
        fn from_words(words: &[u64; 2]) -> Self {
            Pair(words[0], words[1])
        }
    }

    #[test]
    fn a_reader_never_sees_half_a_write() {
        let snapshot = Snapshot::<2>::default();
        assert!(snapshot.read::<Pair>().is_none());
        std::thread::scope(|scope| {
            scope.spawn(|| (1..=100_000).for_each(|n| snapshot.publish(&Pair(n, n * 3))));
            let mut last = 0;
            while last < 100_000 {
                if let Some(Pair(n, triple)) = snapshot.read::<Pair>() {
                    assert_eq!(triple, n * 3);
                    assert!(n >= last);
                    last = n;
                }
            }
        });
    }
}
