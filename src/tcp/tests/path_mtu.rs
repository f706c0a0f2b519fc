//! Paths that swallow long segments and say nothing (RFC 2923, RFC 8899), and paths that are only out for a while.

use super::script::{ACK, SYN, Script, arriving, modern, plain};
use crate::tcp::OutgoingKind;
use crate::wire::Mss;
use std::collections::BTreeMap;

/// A path that lets segments through for as long as their payload is not too long, and the peer behind it.
struct Path {
    script: Script,
    /// What the peer holds: where pieces begin and end.
    held: BTreeMap<u32, u32>,
    /// All before this has arrived.
    next: u32,
    lost: usize,
}

impl Path {
    fn new() -> Self {
        Self { script: Script::established(plain()), held: BTreeMap::new(), next: 1, lost: 0 }
    }

    /// One round trip: all that may leave does, what is not longer than `passes` arrives, and the peer answers. Where nothing
    /// leaves, the next timer comes.
    fn round(&mut self, passes: usize) {
        let script = &mut self.script;
        while script.tcb.send_room() >= script.tcb.payload_max(0) {
            let len = script.tcb.payload_max(0);
            script.queue(1, len);
        }
        let sent = script.sent();
        script.pass(20);
        let mut latest = None;
        for segment in sent.iter().filter(|segment| segment.kind == OutgoingKind::Data) {
            if segment.len > passes {
                self.lost += 1;
                continue;
            }
            latest = Some(segment.seq);
            let end = segment.seq + segment.len as u32;
            let known = self.held.entry(segment.seq).or_insert(end);
            *known = end.max(*known);
            while let Some((start, end)) = self.held.first_key_value().map(|(start, end)| (*start, *end))
                && start <= self.next
            {
                self.next = self.next.max(end);
                self.held.pop_first();
            }
        }
        let blocks: Vec<(u32, u32)> = self.held.iter().map(|(start, end)| (*start, *end)).take(4).collect();
        match latest {
            Some(_) => {
                script.arrive(arriving(ACK, 1, self.next).sack(&blocks));
            }
            None if sent.is_empty() => {
                script.pass_to_timer().expect("something is outstanding");
            }
            None => {}
        }
    }

    fn mss(&self) -> usize {
        self.script.tcb.mss().get()
    }
}

#[test]
fn a_black_hole_is_found_and_then_how_wide_it_is() {
    for passes in [1459, 1400, 1300, 1200, 1170] {
        let mut path = Path::new();
        (0..300).for_each(|_| path.round(passes));
        assert!((passes - 32..=passes).contains(&path.mss()), "{} of {passes}", path.mss());
        let info = path.script.tcb.info();
        assert_eq!(info.counters.timeouts, 3, "{passes}: and none for a probe");
        assert_eq!(info.counters.fast_recoveries, 0, "{passes}: no probe is a sign of congestion");
        assert!(path.next > 1_000_000, "{passes}: {} bytes", path.next);
    }
}

#[test]
fn a_still_narrower_one_too() {
    let mut path = Path::new();
    (0..60).for_each(|_| path.round(900));
    assert!(path.mss() <= 900 && path.next > 10_000, "{} {}", path.mss(), path.next);
    assert_eq!(path.script.tcb.info().counters.timeouts, 5);
}

#[test]
fn an_outage_is_no_black_hole() {
    for silent in 1..12 {
        let mut path = Path::new();
        (0..10).for_each(|_| path.round(1460));
        // Rounds in which timers come.
        (0..silent).for_each(|_| path.round(0));
        (0..40).for_each(|_| path.round(1460));
        assert_eq!(path.mss(), 1460, "after {silent} rounds without an answer");
    }
}

#[test]
fn it_is_no_larger_than_what_the_peer_takes() {
    let mut script = Script::connect(plain());
    script.sent();
    script.arrive(arriving(SYN | ACK, 0, 1).options(|options| {
        modern(options);
        options.mss = Some(1200);
    }));
    assert_eq!((script.tcb.mss(), script.tcb.payload_max(0)), (Mss::new(1200), 1200));
}
