//! The application's side of a connection: the test plays the worker.

use super::*;
use crate::base::pool::FRAME_SIZE;
use crate::stack::stream::{NobodySleeps, RING_CHUNKS};
use crate::stack::{ConnectionId, Doorbell};
use crate::wire::Endpoint;
use crate::wire::checksum;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;

/// An open connection, and the worker's side of it.
struct Pair {
    stream: Stream,
    shared: Arc<StreamShared>,
    worker: PoolCache,
    pool: Arc<FramePool>,
    doorbell: Arc<Doorbell>,
}

fn open(frames: usize) -> Pair {
    let pool = FramePool::new_heap(frames);
    let doorbell = Arc::new(Doorbell::new(4, Box::new(NobodySleeps)));
    let shared = StreamShared::new(Arc::clone(&doorbell));
    let end = |port| Endpoint::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let tuple = FourTuple { local: end(1), remote: end(2) };
    shared.set_identity(ConnectionId::default(), tuple);
    shared.set_open();
    shared.set_chunk_len(100);
    Pair {
        stream: Stream::new(Arc::clone(&shared), tuple, &pool, ControlHandle::detached()),
        shared,
        worker: PoolCache::new(Arc::clone(&pool)),
        pool,
        doorbell,
    }
}

impl Pair {
    /// The worker delivers received bytes.
    fn deliver(&mut self, bytes: &[u8]) {
        let mut frame = self.worker.alloc().expect("a free frame");
        self.worker.flush();
        self.pool.bytes_mut(&mut frame)[7..7 + bytes.len()].copy_from_slice(bytes);
        let chunk = Chunk::new(frame, 7, bytes.len());
        self.shared.deliver(chunk).expect("room in the ring");
        self.shared.wake_reader();
    }

    /// The worker takes all chunks that are to be sent.
    fn taken(&mut self) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        while let Some(chunk) = self.shared.take() {
            assert!(chunk.offset() >= TX_HEADROOM, "room for headers");
            let bytes = self.pool.chunk(&chunk);
            assert_eq!(chunk.sum(), Some(checksum::sum(0, bytes)), "made while they were in the cache");
            taken.push(bytes.to_vec());
            self.worker.free_chunk(chunk);
        }
        taken
    }

    /// What the pool has in use besides the caches.
    fn used(&mut self) -> usize {
        self.pool.used()
    }
}

#[test]
fn reading_crosses_chunks_and_ends_with_the_peer() {
    let mut pair = open(8);
    pair.deliver(b"hello ");
    pair.deliver(b"world");
    pair.shared.set_receive_finished();
    let mut first = [0; 4];
    assert_eq!((&pair.stream).read(&mut first).expect("data"), 4);
    let mut rest = String::new();
    (&pair.stream).read_to_string(&mut rest).expect("data");
    assert_eq!((&first, rest.as_str()), (b"hell", "o world"));
    assert_eq!((&pair.stream).read(&mut first).expect("still the end"), 0);
    assert_eq!(pair.used(), 0);
}

#[test]
fn reading_gives_what_there_is_without_waiting_for_more() {
    let mut pair = open(8);
    pair.deliver(b"abc");
    let mut buffer = [0; 100];
    assert_eq!((&pair.stream).read(&mut buffer).expect("data"), 3);
}

#[test]
fn a_reader_waits_for_the_worker() {
    let mut pair = open(8);
    let stream = std::mem::replace(&mut pair.stream, open(1).stream);
    let reader = thread::spawn(move || {
        let mut buffer = [0; 3];
        (&stream).read_exact(&mut buffer).map(|()| buffer)
    });
    pair.deliver(b"a");
    pair.deliver(b"bc");
    assert_eq!(reader.join().expect("no panic").expect("data"), *b"abc");
}

#[test]
fn a_read_time_out_is_an_error_and_not_an_end() {
    let mut pair = open(8);
    pair.stream.set_read_timeout(Some(Duration::from_millis(1)));
    let error = (&pair.stream).read(&mut [0; 3]).expect_err("nothing came");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    pair.deliver(b"late");
    assert_eq!((&pair.stream).read(&mut [0; 9]).expect("data"), 4);
}

#[test]
fn data_before_a_reset_is_read_before_the_error() {
    let mut pair = open(8);
    pair.deliver(b"last words");
    pair.shared.set_closed(CloseReason::Reset);
    assert_eq!((&pair.stream).read(&mut [0; 99]).expect("data"), 10);
    let error = (&pair.stream).read(&mut [0; 99]).expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let error = (&pair.stream).write(b"x").expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn writing_fills_chunks_of_a_segment_each() {
    let mut pair = open(8);
    let bytes: Vec<u8> = (0..250).map(|n| n as u8).collect();
    assert_eq!((&pair.stream).write(&bytes).expect("room"), 250);
    let taken = pair.taken();
    assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
    assert_eq!(taken.concat(), bytes);
    assert_eq!(pair.doorbell.next(), Some(ConnectionId::default()), "the worker is told");
    assert_eq!(pair.used(), 0);
}

#[test]
fn a_chunk_is_never_larger_than_a_frame_takes() {
    let mut pair = open(8);
    pair.shared.set_chunk_len(1 << 20);
    let written = (&pair.stream).write(&[1; 2 * FRAME_SIZE]).expect("room");
    assert_eq!(written, 2 * FRAME_SIZE);
    assert_eq!(pair.taken()[0].len(), TX_PAYLOAD_MAX);
}

#[test]
fn send_with_sends_what_was_filled_in_place() {
    let mut pair = open(8);
    let sent = pair.stream.send_with(|buffer| {
        assert_eq!(buffer.len(), 100);
        buffer[..3].copy_from_slice(b"abc");
        3
    });
    assert_eq!(sent.expect("room"), 3);
    assert_eq!(pair.stream.send_with(|_| 0).expect("nothing is no error"), 0);
    assert_eq!(pair.taken(), [b"abc".to_vec()]);
    assert_eq!(pair.used(), 0);
}

#[test]
fn a_full_ring_makes_a_short_write_and_then_a_wait() {
    let mut pair = open(2 * RING_CHUNKS);
    pair.stream.set_write_timeout(Some(Duration::from_millis(1)));
    let written = (&pair.stream).write(&vec![7; 100 * (RING_CHUNKS + 10)]).expect("room for some");
    assert_eq!(written, 100 * RING_CHUNKS);
    let error = (&pair.stream).write(b"more").expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(pair.taken().len(), RING_CHUNKS);
    assert_eq!((&pair.stream).write(b"more").expect("room again"), 4);
}

#[test]
fn an_exhausted_pool_makes_a_short_write_and_then_a_wait() {
    let mut pair = open(3);
    pair.stream.set_write_timeout(Some(Duration::from_millis(1)));
    assert_eq!((&pair.stream).write(&[7; 500]).expect("three frames"), 300);
    let error = (&pair.stream).write(b"more").expect_err("no frame");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    pair.taken();
    pair.worker.flush();
    assert_eq!((&pair.stream).write(b"more").expect("frames again"), 4);
}

#[test]
fn a_writer_waits_for_the_worker() {
    let mut pair = open(RING_CHUNKS);
    let stream = std::mem::replace(&mut pair.stream, open(1).stream);
    let total = 100 * RING_CHUNKS * 3;
    let writer = thread::spawn(move || (&stream).write_all(&vec![7; total]).map(|()| stream));
    let mut taken = 0;
    while taken < total {
        taken += pair.taken().iter().map(Vec::len).sum::<usize>();
        pair.worker.flush();
        thread::yield_now();
    }
    writer.join().expect("no panic").expect("all was written");
}

#[test]
fn after_close_send_nothing_is_written() {
    let pair = open(8);
    pair.stream.close_send();
    assert!(pair.shared.is_send_closed());
    let error = (&pair.stream).write(b"x").expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert!(!pair.stream.wait_sent(Some(Duration::from_millis(1))).expect("open"));
    pair.shared.set_send_finished();
    assert!(pair.stream.wait_sent(None).expect("open"));
}

#[test]
fn wait_sent_tells_of_a_reset() {
    let pair = open(8);
    pair.shared.set_closed(CloseReason::Reset);
    assert_eq!(pair.stream.wait_sent(None).expect_err("reset").kind(), ErrorKind::ConnectionReset);
}

#[test]
fn chunks_are_read_in_place_and_go_back_when_dropped() {
    let mut pair = open(8);
    pair.deliver(b"abc");
    pair.deliver(b"");
    pair.deliver(b"def");
    pair.shared.set_receive_finished();
    (&pair.stream).read_exact(&mut [0; 1]).expect("data");
    {
        let first = pair.stream.recv_chunk().expect("open").expect("data");
        let second = pair.stream.recv_chunk().expect("open").expect("data");
        assert_eq!((&*first, &*second), (&b"bc"[..], &b"def"[..]));
        assert_eq!(pair.pool.used(), 2);
    }
    assert_eq!(pair.used(), 0);
    assert!(pair.stream.recv_chunk().expect("open").is_none());
}

#[test]
fn dropping_a_stream_leaves_the_rings_to_the_worker() {
    let mut pair = open(8);
    pair.deliver(b"unread");
    let Pair { stream, shared, pool, .. } = pair;
    (&stream).write_all(b"to be sent").expect("room");
    drop(stream);
    assert!(shared.is_abandoned() && shared.is_send_closed());
    assert_eq!(pool.used(), 2, "the worker still sends one and sees that the other is unread");
}

#[test]
fn dropping_a_closed_stream_frees_what_is_in_the_rings() {
    let mut pair = open(8);
    pair.deliver(b"unread");
    pair.deliver(b"half");
    (&pair.stream).write_all(b"never sent").expect("room");
    (&pair.stream).read_exact(&mut [0; 2]).expect("data");
    pair.shared.set_closed(CloseReason::Reset);
    let Pair { stream, pool, .. } = pair;
    drop(stream);
    assert_eq!(pool.used(), 0);
}

#[test]
fn the_worker_hears_once_of_what_was_turned() {
    let pair = open(8);
    assert!(pair.shared.take_turned().is_none() && pair.stream.tuning() == Tuning::default());
    pair.stream.tune(|tuning| tuning.cork = true);
    pair.stream.tune(|tuning| tuning.nodelay = false);
    pair.stream.set_buffers(Some(4000), None);
    assert!(pair.doorbell.next().is_some(), "the worker is rung for");
    let turned = pair.shared.take_turned().expect("settings were changed");
    assert_eq!(turned.tuning, Some(Tuning { cork: true, nodelay: false, ..Tuning::default() }));
    assert_eq!((turned.send_buffer, turned.receive_buffer), (Some(4000), None));
    assert!(pair.shared.take_turned().is_none());
    (&pair.stream).flush().expect("open");
    assert!(pair.shared.take_flush() && !pair.shared.take_flush());
    pair.stream.abort();
    assert!(pair.shared.is_reset() && pair.shared.is_abandoned());
}

#[test]
fn what_can_be_read_is_counted() {
    let mut pair = open(8);
    pair.deliver(&[1; 50]);
    pair.deliver(&[2; 30]);
    assert_eq!(pair.shared.readable_bytes(), 80);
    let mut buffer = [0; 10];
    // A chunk is taken as a whole.
    assert_eq!((&pair.stream).read(&mut buffer).expect("bytes"), 10);
    assert_eq!(pair.shared.readable_bytes(), 30);
}
