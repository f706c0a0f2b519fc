//! ICMP errors that quote TCP.

use super::{DATA_V6, SYN_V4, hex};
use crate::base::SeqNum;
use crate::wire::{
    ChecksumMode, Endpoint, FourTuple, IcmpError, IcmpErrorKind, Malformed, Parsed, checksum, parse,
};
use std::net::IpAddr;

/// A router's message to the sender of the segment in `frame`, about its first `quoted` bytes from the IP header on.
fn message(frame: &str, head: &str, quoted: usize) -> Vec<u8> {
    let frame = hex(frame);
    let v4 = frame[12] == 0x81;
    let packet = if v4 { &frame[18..] } else { &frame[14..] };
    let mut message = hex(head);
    message.extend_from_slice(&packet[..quoted]);
    let mut out = hex("020000000001 020000000009");
    if v4 {
        let sum = checksum::sum(0, &message);
        message[2..4].copy_from_slice(&(!sum).to_be_bytes());
        let mut header = hex("45000000 00000000 40010000 cb007101");
        header.extend_from_slice(&packet[12..16]);
        header[2..4].copy_from_slice(&(20 + message.len() as u16).to_be_bytes());
        let sum = checksum::sum(0, &header);
        header[10..12].copy_from_slice(&(!sum).to_be_bytes());
        out.extend_from_slice(&[0x08, 0x00]);
        out.extend_from_slice(&header);
    } else {
        let router = hex("20010db8000000000000000000000fff");
        let mut header = hex("60000000 0000 3a 40");
        header[4..6].copy_from_slice(&(message.len() as u16).to_be_bytes());
        header.extend_from_slice(&router);
        header.extend_from_slice(&packet[8..24]);
        let mut sum = checksum::sum(0, &header[8..]);
        sum = checksum::sum(sum, &(message.len() as u16).to_be_bytes());
        sum = checksum::sum(sum, &[0, 58]);
        sum = checksum::sum(sum, &message);
        message[2..4].copy_from_slice(&(!sum).to_be_bytes());
        out.extend_from_slice(&[0x86, 0xdd]);
        out.extend_from_slice(&header);
    }
    out.extend_from_slice(&message);
    out
}

fn endpoint(addr: &str, port: u16) -> Endpoint {
    Endpoint::new(addr.parse::<IpAddr>().unwrap(), port)
}

fn about_v4(kind: IcmpErrorKind) -> Result<Parsed, Malformed> {
    let tuple = FourTuple { local: endpoint("192.0.2.1", 49152), remote: endpoint("198.51.100.7", 5201) };
    Ok(Parsed::Icmp(IcmpError { tuple, seq: SeqNum::new(0x0102_0304), kind }))
}

fn about_v6(kind: IcmpErrorKind) -> Result<Parsed, Malformed> {
    let tuple = FourTuple { local: endpoint("2001:db8::1", 5201), remote: endpoint("2001:db8::2", 49152) };
    Ok(Parsed::Icmp(IcmpError { tuple, seq: SeqNum::new(0xffff_fffe), kind }))
}

fn read(frame: &[u8]) -> Result<Parsed, Malformed> {
    parse(frame, ChecksumMode::Software)
}

#[test]
fn packets_that_are_too_big() {
    let frame = message(SYN_V4, "03040000 0000 05dc", 28);
    assert_eq!(read(&frame), about_v4(IcmpErrorKind::TooBig { mtu: 1500 }));
    // An old router, which doesn't tell; one that quotes the whole packet.
    let frame = message(SYN_V4, "03040000 0000 0000", 64);
    assert_eq!(read(&frame), about_v4(IcmpErrorKind::TooBig { mtu: 0 }));
    let frame = message(DATA_V6, "02000000 00010500", 48);
    assert_eq!(read(&frame), about_v6(IcmpErrorKind::TooBig { mtu: 0x1_0500 }));
}

#[test]
fn hosts_that_cannot_be_reached() {
    for code in [0, 1, 2, 3, 13] {
        let frame = message(SYN_V4, &format!("03{code:02x}0000 00000000"), 28);
        assert_eq!(read(&frame), about_v4(IcmpErrorKind::Unreachable { code }));
        let frame = message(DATA_V6, &format!("01{code:02x}0000 00000000"), 60);
        assert_eq!(read(&frame), about_v6(IcmpErrorKind::Unreachable { code }));
    }
}

#[test]
fn messages_that_say_nothing_about_a_segment_of_ours() {
    // An echo request, a redirect, time exceeded; an echo request and time exceeded.
    for head in ["08000000 00000000", "05010000 cb007101", "0b000000 00000000"] {
        assert_eq!(read(&message(SYN_V4, head, 28)), Err(Malformed::BadIcmp), "{head}");
    }
    for head in ["80000000 00000000", "03000000 00000000"] {
        assert_eq!(read(&message(DATA_V6, head, 60)), Err(Malformed::BadIcmp), "{head}");
    }
}

#[test]
fn quotations_that_are_too_short() {
    for quoted in 0..28 {
        let frame = message(SYN_V4, "03040000 000005dc", quoted);
        assert_eq!(read(&frame), Err(Malformed::BadIcmp), "{quoted}");
    }
    for quoted in 0..48 {
        let frame = message(DATA_V6, "02000000 00000500", quoted);
        assert_eq!(read(&frame), Err(Malformed::BadIcmp), "{quoted}");
    }
}

/// Changes a byte of the quoted IP header of a message about [`SYN_V4`], the ICMP checksum along with it.
fn misquote(at: usize, byte: u8) -> Vec<u8> {
    let mut frame = message(SYN_V4, "03040000 000005dc", 28);
    let icmp = &mut frame[34..];
    icmp[8 + at] = byte;
    icmp[2..4].fill(0);
    let sum = checksum::sum(0, icmp);
    icmp[2..4].copy_from_slice(&(!sum).to_be_bytes());
    frame
}

#[test]
fn quotations_of_something_else() {
    // Another version, a header length that can't be, UDP, a later fragment, another source.
    for (at, byte) in [(0, 0x65), (0, 0x44), (0, 0x4f), (9, 17), (7, 1), (12, 193)] {
        assert_eq!(read(&misquote(at, byte)), Err(Malformed::BadIcmp), "{byte:02x} at {at}");
    }
    // What routers change does not matter: TTL, checksum, type of service.
    for (at, byte) in [(8, 1), (10, 0), (1, 3)] {
        assert_eq!(read(&misquote(at, byte)), about_v4(IcmpErrorKind::TooBig { mtu: 1500 }), "{at}");
    }
}

#[test]
fn checksums_are_verified_whatever_the_mode() {
    for (frame, at) in
        [(message(SYN_V4, "03040000 000005dc", 28), 40), (message(DATA_V6, "02000000 00000500", 48), 60)]
    {
        let mut frame = frame;
        assert!(read(&frame).is_ok());
        frame[at] ^= 0x10;
        assert_eq!(read(&frame), Err(Malformed::Checksum));
        assert_eq!(parse(&frame, ChecksumMode::Off), Err(Malformed::Checksum));
    }
}

#[test]
fn no_prefix_does_harm() {
    for frame in [message(SYN_V4, "03040000 000005dc", 64), message(DATA_V6, "02000000 00000500", 100)] {
        for len in 0..frame.len() {
            assert_eq!(read(&frame[..len]), Err(Malformed::Truncated));
        }
    }
}
