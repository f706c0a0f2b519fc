//! Whole transfers over good and bad links.

use super::pair::{Link, Pair};
use crate::tcp::{CloseReason, TcpConfig, TcpEvent};

#[test]
fn bytes_go_both_ways_and_both_close() {
    let mut pair = Pair::new(1, [TcpConfig::default(); 2], Link::clean());
    pair.connect();
    pair.load(0, 1_000_000);
    pair.load(1, 300_000);
    pair.run();
    pair.check_complete();
    for host in &pair.hosts {
        let finished = TcpEvent::Closed(CloseReason::Finished);
        assert_eq!(host.events, [TcpEvent::Established, TcpEvent::PeerFinished, finished]);
    }
    assert!(pair.log.iter().all(|segment| !segment.retransmission), "nothing is lost on a clean link");
}
