//! What TCP needs where there is no connection yet, or none at all: initial sequence numbers, and the answer to a
//! segment that nobody expects.

use crate::base::{Instant, SeqNum};
use crate::wire::{Endpoint, FourTuple, TcpFlags, TcpRepr};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::net::IpAddr;

/// RFC 6528 §3: ISN = M + F(localip, localport, remoteip, remoteport, secretkey), M a clock of 4 µs.
pub fn initial_sequence(secret: &[u8; 16], tuple: &FourTuple, now: Instant) -> SeqNum {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length (RFC 2104 §3)");
    for Endpoint { addr, port } in [tuple.local, tuple.remote] {
        match addr {
            IpAddr::V4(addr) => mac.update(&addr.octets()),
            IpAddr::V6(addr) => mac.update(&addr.octets()),
        }
        mac.update(&port.to_be_bytes());
    }
    let digest = mac.finalize().into_bytes();
    let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    SeqNum::new(hash) + (now.as_micros() / 4) as u32
}

/// RFC 9293 §3.10.7.1: the RST that answers a segment for which there is no connection. None if that is a RST.
pub fn reset_for(tcp: &TcpRepr, payload_len: usize) -> Option<TcpRepr> {
    if tcp.flags.contains(TcpFlags::RST) {
        return None;
    }
    let answer = |seq, ack, flags| Some(TcpRepr { seq, ack, flags, window: 0, urgent: 0 });
    if tcp.flags.contains(TcpFlags::ACK) {
        return answer(tcp.ack, SeqNum::default(), TcpFlags::RST);
    }
    let len = payload_len as u32
        + u32::from(tcp.flags.contains(TcpFlags::SYN))
        + u32::from(tcp.flags.contains(TcpFlags::FIN));
    answer(SeqNum::default(), tcp.seq + len, TcpFlags::RST | TcpFlags::ACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(port: u16) -> FourTuple {
        FourTuple {
            local: Endpoint::new([10, 0, 0, 1].into(), 5201),
            remote: Endpoint::new([10, 0, 0, 2].into(), port),
        }
    }

    #[test]
    fn sequence_numbers_differ_by_connection_and_secret_and_follow_the_clock() {
        let at = Instant::from_millis;
        let first = initial_sequence(&[1; 16], &tuple(1000), at(0));
        assert_eq!(initial_sequence(&[1; 16], &tuple(1000), at(4)), first + 1000);
        assert_ne!(initial_sequence(&[1; 16], &tuple(1001), at(0)), first);
        assert_ne!(initial_sequence(&[2; 16], &tuple(1000), at(0)), first);
        assert_ne!(initial_sequence(&[1; 16], &tuple(1000).reversed(), at(0)), first);
    }

    #[test]
    fn a_reset_answers_with_and_without_an_acknowledgment() {
        let (seq, ack) = (SeqNum::new(u32::MAX), SeqNum::new(77));
        let segment = |flags| TcpRepr { seq, ack, flags, window: 9, urgent: 0 };
        let reset = reset_for(&segment(TcpFlags::ACK | TcpFlags::FIN), 5).expect("no RST");
        assert_eq!((reset.seq, reset.flags), (ack, TcpFlags::RST));
        let reset = reset_for(&segment(TcpFlags::SYN | TcpFlags::FIN), 5).expect("no RST");
        assert_eq!((reset.seq.raw(), reset.ack.raw()), (0, 6));
        assert_eq!(reset.flags, TcpFlags::RST | TcpFlags::ACK);
        assert_eq!(reset_for(&segment(TcpFlags::RST), 0), None);
    }
}
