//! Tests of the frame pool.

use super::*;

#[test]
fn a_frame_is_free_when_neither_held_nor_in_flight() {
    let mut cache = PoolCache::new(FramePool::new_heap(4));
    let pool = Arc::clone(cache.pool_arc());
    let frame = cache.alloc().expect("four frames are free");
    let other = pool.share(&frame);
    let tx = pool.start_transmit(&frame, 10, 20);
    assert_eq!((pool.in_flight(&other), pool.used()), (true, 1));
    cache.free(frame);
    cache.complete(tx.index);
    assert_eq!((pool.is_sole(&other), pool.used()), (true, 1));
    cache.free(other);
    assert_eq!(pool.used(), 0);
}

#[test]
fn tiny_chunks_are_packed_and_others_are_left_alone() {
    let mut cache = PoolCache::new(FramePool::new_heap(64));
    let mut chunk = |len: usize, byte: u8| {
        let mut frame = cache.alloc().expect("a frame");
        cache.pool().bytes_mut(&mut frame)[200..200 + len].fill(byte);
        Chunk::new(frame, 200, len)
    };
    // Twelve of 400 bytes: ten fit into a frame.
    let mut chunks: Vec<Chunk> = (0..12).map(|n| chunk(400, n)).collect();
    chunks.push(chunk(TINY + 1, 12));
    let shared = chunk(5, 13);
    chunks.push(cache.pool().share_chunk(&shared));
    cache.pack(chunks.iter_mut());
    assert_eq!(cache.pool().used(), 2 + 2);
    for (n, chunk) in chunks.iter().enumerate() {
        assert!(cache.pool().chunk(chunk).iter().all(|byte| usize::from(*byte) == n), "chunk {n}");
    }
    cache.pack(chunks.iter_mut());
    assert_eq!(cache.pool().used(), 2 + 2, "those that share a frame are not moved again");
    chunks.into_iter().chain([shared]).for_each(|chunk| cache.free_chunk(chunk));
    assert_eq!(cache.pool().used(), 0);
}

#[test]
fn a_sum_is_known_only_for_the_bytes_that_it_was_made_of() {
    let mut cache = PoolCache::new(FramePool::new_heap(8));
    let mut chunk = || Chunk::new(cache.alloc().expect("a frame"), 200, 100).with_sum(Some(7));
    let [mut whole, mut behind, mut ahead, mut longer, more] = [(); 5].map(|()| chunk());
    whole.trim_front(0);
    whole.truncate(100);
    let mut shared = cache.pool().share_chunk(&whole);
    cache.pack([&mut shared, &mut whole].into_iter());
    assert_eq!((whole.sum(), shared.sum()), (Some(7), Some(7)));
    behind.trim_front(1);
    ahead.truncate(99);
    assert_eq!(cache.pool().append_to(&mut longer, &more, 0), 0);
    assert_eq!(longer.sum(), Some(7));
    assert_eq!(cache.pool().append_to(&mut longer, &more, 30), 30);
    assert_eq!((behind.sum(), ahead.sum(), longer.sum(), longer.len()), (None, None, None, 130));
    // The other part of a split chunk would be written over.
    assert_eq!(cache.pool().append_to(&mut whole, &more, 30), 0);
    [whole, behind, ahead, longer, more, shared].into_iter().for_each(|chunk| cache.free_chunk(chunk));
}

#[test]
fn exhaustion_is_counted_and_ends_when_a_frame_comes_back() {
    let mut cache = PoolCache::new(FramePool::new_heap(2));
    let (a, b) = (cache.alloc(), cache.alloc());
    assert!(a.is_some() && b.is_some() && cache.alloc().is_none());
    assert_eq!(cache.exhausted(), 1);
    cache.free(a.expect("checked above"));
    let again = cache.alloc().expect("one came back");
    cache.free(again);
    cache.free(b.expect("checked above"));
}

#[test]
fn an_application_leaves_frames_to_others() {
    let pool = FramePool::new_heap(1000);
    let mut application = PoolCache::for_application(Arc::clone(&pool));
    let held: Vec<Frame> = std::iter::from_fn(|| application.alloc()).collect();
    // It takes whole batches, so it may go over its share by one.
    assert!((750..750 + BATCH).contains(&held.len()), "{}", held.len());
    let mut worker = PoolCache::new(Arc::clone(&pool));
    let rest: Vec<Frame> = std::iter::from_fn(|| worker.alloc()).collect();
    assert_eq!((held.len() + rest.len(), pool.depot()), (1000, 0));
    rest.into_iter().for_each(|frame| worker.free(frame));
    worker.flush();
    assert!(application.alloc().is_none(), "what others gave back is theirs");
    held.into_iter().for_each(|frame| application.free(frame));
    application.flush();
    assert_eq!((pool.depot(), pool.used()), (1000, 0));
}

#[test]
#[should_panic(expected = "but it is")]
fn a_double_return_is_noticed() {
    let mut cache = PoolCache::new(FramePool::new_heap(2));
    let frame = cache.alloc().expect("free");
    let again = frame.alias();
    cache.free(frame);
    cache.free(again);
}

#[test]
#[should_panic(expected = "while a NIC sends it")]
fn a_frame_in_flight_cannot_be_written_to() {
    let mut cache = PoolCache::new(FramePool::new_heap(2));
    let mut frame = cache.alloc().expect("free");
    let pool = Arc::clone(cache.pool_arc());
    let _tx = pool.start_transmit(&frame, 0, 60);
    pool.bytes_mut(&mut frame)[0] = 1;
}

#[test]
fn threads_exchange_frames_without_losing_any() {
    let pool = FramePool::new_heap(1000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut cache = PoolCache::new(Arc::clone(&pool));
                let mut held = Vec::new();
                for round in 0..2_000 {
                    while held.len() < 100 + round % 100 {
                        held.extend(cache.alloc());
                    }
                    for frame in held.drain(50..) {
                        cache.free(frame);
                    }
                }
                held.drain(..).for_each(|frame| cache.free(frame));
            });
        }
    });
    assert_eq!(pool.used(), 0);
    let mut cache = PoolCache::new(Arc::clone(&pool));
    let all: Vec<Frame> = std::iter::from_fn(|| cache.alloc()).collect();
    assert_eq!(all.len(), 1000);
    all.into_iter().for_each(|frame| cache.free(frame));
}

#[cfg(debug_assertions)]
mod by_the_shadow {
    use super::*;

    fn one() -> (Arc<FramePool>, PoolCache, Frame) {
        let mut cache = PoolCache::new(FramePool::new_heap(2));
        let frame = cache.alloc().expect("free");
        (Arc::clone(cache.pool_arc()), cache, frame)
    }

    #[test]
    fn what_becomes_free_is_overwritten() {
        let (pool, mut cache, mut frame) = one();
        pool.bytes_mut(&mut frame).fill(7);
        let late = frame.alias();
        let tx = pool.start_transmit(&frame, 0, 60);
        cache.free(frame);
        assert_eq!(pool.bytes(&late)[0], 7, "a NIC still reads it");
        cache.complete(tx.index);
        assert!(pool.bytes(&late).iter().all(|byte| *byte == POISON));
    }

    #[test]
    fn what_is_held_is_told_with_its_history() {
        let (pool, mut cache, frame) = one();
        let other = pool.share(&frame);
        cache.free(frame);
        let held = pool.held();
        assert_eq!(held.len(), 1);
        for words in ["held 1 times", "Allocated at", "Shared at", "Freed at", "tests.rs"] {
            assert!(held[0].contains(words), "{words}: {held:?}");
        }
        let index = pool.start_fill(other);
        assert!(pool.held().is_empty(), "a NIC has it");
        cache.free(pool.end_fill(index));
        assert!(pool.held().is_empty());
    }

    #[test]
    #[should_panic(expected = "Received")]
    fn a_nic_returns_only_what_it_has() {
        let (pool, _cache, frame) = one();
        let _twice = pool.end_fill(frame.index());
    }

    #[test]
    #[should_panic(expected = "FillStarted")]
    fn a_frame_in_flight_is_not_given_to_be_filled() {
        let (pool, _cache, frame) = one();
        let _tx = pool.start_transmit(&frame, 0, 60);
        pool.start_fill(frame);
    }

    #[test]
    #[should_panic(expected = "TransmitEnded")]
    fn a_completion_needs_a_transmission() {
        let (_pool, mut cache, frame) = one();
        cache.complete(frame.index());
    }

    #[test]
    #[should_panic(expected = "TransmitStarted")]
    fn what_is_free_is_not_transmitted() {
        let (pool, mut cache, frame) = one();
        let late = frame.alias();
        cache.free(frame);
        let _tx = pool.start_transmit(&late, 0, 60);
    }
}

#[test]
fn an_exclusive_pool_counts_like_any_other_and_only_in_its_thread() {
    let pool = FramePool::new_exclusive(4, 256);
    let mut cache = PoolCache::new(Arc::clone(&pool));
    let mut frame = cache.alloc().expect("free");
    assert_eq!(pool.bytes_mut(&mut frame).len(), 256);
    let tx = pool.start_transmit(&frame, 0, 60);
    let second = pool.share(&frame);
    cache.free(frame);
    assert!(pool.in_flight(&second));
    let landed = pool.land(tx);
    assert!(!pool.in_flight(&second) && !pool.is_sole(&second));
    cache.free(second);
    assert!(pool.is_sole(&landed));
    let elsewhere = std::thread::scope(|scope| scope.spawn(|| pool.share(&landed)).join());
    assert!(elsewhere.is_err(), "another thread must not count");
    cache.free(landed);
    assert_eq!(pool.used(), 0);
}
