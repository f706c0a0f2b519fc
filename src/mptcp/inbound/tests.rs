//! One subflow's bytes and mappings, in every order in which they come.

use super::*;
use crate::base::{FramePool, Prng};
use crate::wire::mptcp::dss_checksum;

const NOW: Instant = Instant::ZERO;
/// The subflow's stream begins at this byte of the connection's.
const FIRST: u64 = 10_000;

fn byte(offset: u64) -> u8 {
    (offset * 7 + offset / 250) as u8
}

/// A mapping of `len` bytes at `offset`, with its checksum.
fn mapping(offset: u64, len: u32) -> Mapping {
    let bytes: Vec<u8> = (offset..offset + u64::from(len)).map(byte).collect();
    let data_seq = DataSeq::new(FIRST + offset);
    let checksum = dss_checksum(data_seq, offset as u32 + 1, len as u16, checksum::sum(0, &bytes));
    Mapping { offset, data_seq, len, checksum: Some(checksum), data_fin: false }
}

fn unsummed(offset: u64, len: u32) -> Mapping {
    Mapping { checksum: None, ..mapping(offset, len) }
}

struct Bench {
    inbound: Inbound,
    cache: PoolCache,
    pushed: u64,
}

impl Bench {
    fn new() -> Self {
        Self { inbound: Inbound::default(), cache: PoolCache::new(FramePool::new_heap(256)), pushed: 0 }
    }

    fn push(&mut self, len: usize, with_sum: bool) {
        let mut frame = self.cache.alloc().expect("a frame");
        let pool = self.cache.pool_arc().clone();
        let bytes = &mut pool.bytes_mut(&mut frame)[..len];
        bytes.iter_mut().zip(self.pushed..).for_each(|(at, offset)| *at = byte(offset));
        let sum = with_sum.then(|| checksum::sum(0, bytes));
        self.inbound.push(self.pushed, Chunk::new(frame, 0, len).with_sum(sum));
        self.pushed += len as u64;
    }

    /// Takes what there is and checks it. How many bytes, and where the damage begins.
    fn take(&mut self) -> (u64, Option<u64>) {
        let mut taken = 0;
        loop {
            let before = self.inbound.delivered();
            match self.inbound.poll(NOW, self.cache.pool()) {
                Delivery::Data(data_seq, chunk) => {
                    assert_eq!(data_seq.raw(), FIRST + before);
                    for (at, offset) in self.cache.pool().chunk(&chunk).iter().zip(before..) {
                        assert_eq!(*at, byte(offset), "at {offset}");
                    }
                    taken += chunk.len() as u64;
                    self.cache.free_chunk(chunk);
                }
                Delivery::Damaged(data_seq) => return (taken, Some(data_seq.raw() - FIRST)),
                Delivery::Nothing => return (taken, None),
            }
        }
    }

    fn finish(mut self) {
        self.inbound.clear(&mut self.cache);
        assert_eq!(self.cache.pool().used(), 0, "frames were lost");
    }
}

#[test]
fn bytes_wait_for_their_mapping_and_it_is_known_since_when() {
    let mut bench = Bench::new();
    bench.push(100, false);
    assert_eq!(bench.take(), (0, None));
    assert_eq!(bench.inbound.unmapped(), Some((100, NOW)));
    bench.inbound.declare(unsummed(0, 60)).expect("room");
    assert_eq!(bench.take(), (60, None));
    assert_eq!(bench.inbound.unmapped(), Some((40, NOW)));
    bench.inbound.declare(unsummed(60, 40)).expect("room");
    assert_eq!((bench.take(), bench.inbound.unmapped()), ((40, None), None));
    bench.finish();
}

#[test]
fn nothing_of_a_mapping_with_a_checksum_is_given_before_all_of_it_is_there() {
    let mut bench = Bench::new();
    bench.inbound.declare(mapping(0, 100)).expect("room");
    bench.push(99, false);
    assert_eq!((bench.take(), bench.inbound.unmapped()), ((0, None), None));
    bench.push(2, false);
    assert_eq!(bench.take(), (100, None));
    bench.finish();
}

#[test]
fn a_changed_byte_is_noticed_at_the_beginning_of_its_mapping() {
    for with_sum in [false, true] {
        let mut bench = Bench::new();
        bench.inbound.declare(mapping(0, 50)).expect("room");
        let wrong = mapping(50, 50);
        bench
            .inbound
            .declare(Mapping { checksum: wrong.checksum.map(|sum| sum ^ 0x100), ..wrong })
            .expect("room");
        bench.inbound.declare(mapping(100, 50)).expect("room");
        (0..15).for_each(|_| bench.push(10, with_sum));
        assert_eq!(bench.take(), (50, Some(50)));
        assert_eq!(bench.take(), (0, None), "and nothing comes behind it");
        // On a connection that has fallen back it is taken as it is.
        let mut rest = 0;
        while let Some((offset, chunk)) = bench.inbound.poll_unmapped() {
            assert_eq!(offset, 50 + rest);
            rest += chunk.len() as u64;
            bench.cache.free_chunk(chunk);
        }
        assert_eq!((rest, bench.inbound.delivered()), (100, 150));
        bench.finish();
    }
}

/// Segments of any length against mappings of any length, declared when their first byte comes, or when a later one does.
#[test]
fn any_segments_under_any_mappings_give_the_stream() {
    for seed in 0..200 {
        let mut prng = Prng::new(seed);
        let summed = prng.chance(0.5);
        let mut bench = Bench::new();
        let (mut mapped, mut taken) = (0, 0);
        while taken < 5_000 {
            let len = 1 + prng.below(300) as u32;
            let next = if summed { mapping(mapped, len) } else { unsummed(mapped, len) };
            let late = prng.chance(0.3);
            if !late {
                bench.inbound.declare(next).expect("room");
            }
            mapped += u64::from(len);
            while bench.pushed < mapped {
                let most = (mapped - bench.pushed).min(120);
                let with_sum = prng.chance(0.5);
                bench.push(1 + prng.below(most) as usize, with_sum);
                let (bytes, damage) = bench.take();
                assert_eq!(damage, None, "seed {seed}");
                taken += bytes;
            }
            // Every part of a segment that was split on the way repeats its mapping.
            (0..2).for_each(|_| bench.inbound.declare(next).expect("room"));
            taken += bench.take().0;
            assert_eq!(taken, mapped, "seed {seed}");
        }
        bench.finish();
    }
}
