//! The receive queue against a simple model: a set of bytes.

use super::*;
use crate::base::{FramePool, Prng};

const FIRST: u64 = u64::MAX - 500;

fn chunk(cache: &mut PoolCache, start: u64, len: u64) -> Chunk {
    let mut frame = cache.alloc().expect("a frame");
    let pool = cache.pool_arc().clone();
    for (index, byte) in pool.bytes_mut(&mut frame)[100..100 + len as usize].iter_mut().enumerate() {
        *byte = (start + index as u64) as u8;
    }
    Chunk::new(frame, 100, len as usize)
}

fn open() -> ReceiveQueue {
    let mut queue = ReceiveQueue::new(DataSeq::new(FIRST));
    queue.window(1 << 20);
    queue
}

fn drain(queue: &mut ReceiveQueue, cache: &mut PoolCache, expected: &mut u64) {
    while let Some(chunk) = queue.pop() {
        for byte in cache.pool().chunk(&chunk) {
            assert_eq!(*byte, *expected as u8, "at byte {expected}");
            *expected += 1;
        }
        cache.free_chunk(chunk);
    }
}

#[test]
fn any_order_any_overlap_gives_the_stream() {
    for seed in 0..300 {
        let mut prng = Prng::new(seed);
        let mut cache = PoolCache::new(FramePool::new_heap(2048));
        let mut queue = open();
        let (total, mut expected) = (3000u64, 0);
        let mut covered = 0;
        while covered < total {
            let start = prng.below(total);
            let len = 1 + prng.below(200.min(total - start));
            let piece = chunk(&mut cache, start, len);
            queue.insert(DataSeq::new(FIRST) + start, piece, &mut cache);
            drain(&mut queue, &mut cache, &mut expected);
            covered = queue.next().distance(DataSeq::new(FIRST)) as u64;
        }
        assert_eq!(expected, total, "seed {seed}");
        assert!(queue.runs.is_empty() && queue.out_of_order == 0, "seed {seed}");
        assert_eq!(cache.pool().used(), 0, "seed {seed}");
    }
}

#[test]
fn the_edge_of_the_window_never_moves_back() {
    let mut cache = PoolCache::new(FramePool::new_heap(8));
    let mut queue = ReceiveQueue::new(DataSeq::new(FIRST));
    assert_eq!(queue.window(1000), 1000);
    let piece = chunk(&mut cache, 0, 600);
    queue.insert(DataSeq::new(FIRST), piece, &mut cache);
    assert_eq!(queue.window(100), 400);
    assert_eq!((queue.window_left(), queue.window_gain(500)), (400, 100));
    assert_eq!(queue.window(500), 500);
    queue.clear(&mut cache);
}

#[test]
fn data_beyond_the_window_is_dropped() {
    let mut cache = PoolCache::new(FramePool::new_heap(8));
    let mut queue = ReceiveQueue::new(DataSeq::new(FIRST));
    queue.window(100);
    let piece = chunk(&mut cache, 100, 10);
    queue.insert(DataSeq::new(FIRST) + 100, piece, &mut cache);
    assert_eq!((queue.dropped(), cache.pool().used()), (1, 0));
}

#[test]
fn too_many_chunks_behind_a_gap_are_dropped_and_counted() {
    let mut cache = PoolCache::new(FramePool::new_heap(OUT_OF_ORDER_MAX + 8));
    let mut queue = open();
    for n in 0..=OUT_OF_ORDER_MAX as u64 {
        let piece = chunk(&mut cache, 2 * n + 1, 1);
        queue.insert(DataSeq::new(FIRST) + (2 * n + 1), piece, &mut cache);
    }
    assert_eq!((queue.dropped(), queue.out_of_order), (1, OUT_OF_ORDER_MAX));
    let used = cache.pool().used();
    assert!(used <= OUT_OF_ORDER_MAX / LOOSE_MAX + LOOSE_MAX, "{used} frames hold single bytes");
    // All of the gaps close, and the bytes are what they were.
    for n in 0..=OUT_OF_ORDER_MAX as u64 {
        let piece = chunk(&mut cache, 2 * n, 1);
        queue.insert(DataSeq::new(FIRST) + 2 * n, piece, &mut cache);
    }
    let mut expected = 0;
    drain(&mut queue, &mut cache, &mut expected);
    assert_eq!(expected, 2 * OUT_OF_ORDER_MAX as u64 + 1);
    queue.clear(&mut cache);
    assert_eq!(cache.pool().used(), 0);
}

#[test]
fn the_fin_is_passed_once_and_only_behind_all_data() {
    let mut cache = PoolCache::new(FramePool::new_heap(8));
    let mut queue = open();
    assert!(queue.set_fin(DataSeq::new(FIRST) + 10));
    assert!(!queue.set_fin(DataSeq::new(FIRST) + 11));
    assert!(!queue.consume_fin());
    let piece = chunk(&mut cache, 0, 10);
    queue.insert(DataSeq::new(FIRST), piece, &mut cache);
    assert!(queue.consume_fin() && !queue.consume_fin());
    assert_eq!(queue.next(), DataSeq::new(FIRST) + 11);
    queue.clear(&mut cache);
}

#[test]
fn tiny_chunks_share_a_frame() {
    let mut cache = PoolCache::new(FramePool::new_heap(8));
    let mut queue = open();
    let mut expected = 0;
    for n in 0..100 {
        let piece = chunk(&mut cache, n * 10, 10);
        queue.insert(DataSeq::new(FIRST) + n * 10, piece, &mut cache);
    }
    assert_eq!((queue.ready_bytes(), cache.pool().used()), (1000, 1));
    for n in 101..200 {
        let piece = chunk(&mut cache, n * 10, 10);
        queue.insert(DataSeq::new(FIRST) + n * 10, piece, &mut cache);
    }
    assert_eq!((queue.out_of_order, cache.pool().used()), (1, 2), "behind a gap, too");
    let piece = chunk(&mut cache, 1000, 10);
    queue.insert(DataSeq::new(FIRST) + 1000, piece, &mut cache);
    drain(&mut queue, &mut cache, &mut expected);
    assert_eq!((expected, queue.out_of_order), (2000, 0));
    queue.clear(&mut cache);
    assert_eq!(cache.pool().used(), 0);
}
