//! What is not a good segment, why, and what is put up with.

use super::{DATA_V6, SYN_V4, hex};
use crate::base::SeqNum;
use crate::wire::tcp::MPTCP_OPTIONS_MAX;
use crate::wire::{
    ChecksumMode, FastOpen, FastOpenCookie, LinkHeader, Malformed, MptcpOption, Packet, Parsed, SegmentRepr,
    TcpFlags, TcpOptions, Timestamps, checksum, emit, parse,
};

/// Where the IP header of [`SYN_V4`] begins; its tag makes it four more than that of [`DATA_V6`].
const IP_V4: usize = 18;
const IP_V6: usize = 14;

fn refused(frame: &[u8]) -> Malformed {
    match parse(frame, ChecksumMode::Software) {
        Err(reason) => reason,
        Ok(parsed) => panic!("{parsed:?}"),
    }
}

fn accepted(frame: &[u8]) -> Packet {
    match parse(frame, ChecksumMode::Software) {
        Ok(Parsed::Tcp(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

/// `frame` with `bytes` at `at`.
fn with(frame: &str, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = hex(frame);
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// Makes the checksum of the IPv4 header good again.
fn repair_ipv4(frame: &mut [u8]) {
    let header = &mut frame[IP_V4..][..20];
    header[10..12].fill(0);
    let sum = checksum::sum(0, header);
    header[10..12].copy_from_slice(&(!sum).to_be_bytes());
}

#[test]
fn what_is_not_ours() {
    // ARP, a second tag, a service tag.
    assert_eq!(refused(&with(DATA_V6, 12, &[0x08, 0x06])), Malformed::NotOurs);
    assert_eq!(refused(&with(SYN_V4, 16, &[0x81, 0x00])), Malformed::NotOurs);
    assert_eq!(refused(&with(SYN_V4, 12, &[0x88, 0xa8])), Malformed::NotOurs);
    // UDP, and each version's ICMP in the other.
    for protocol in [17, 58] {
        let mut frame = with(SYN_V4, IP_V4 + 9, &[protocol]);
        repair_ipv4(&mut frame);
        assert_eq!(refused(&frame), Malformed::NotOurs);
    }
    for protocol in [17, 1, 43] {
        assert_eq!(refused(&with(DATA_V6, IP_V6 + 6, &[protocol])), Malformed::NotOurs);
    }
}

#[test]
fn ip_headers_that_cannot_be() {
    // Version, header length below the least, total length below the header's.
    for (at, bytes) in [(0, &[0x65][..]), (0, &[0x44]), (2, &[0, 19]), (0, &[0x4f, 0, 0, 56])] {
        let mut frame = with(SYN_V4, IP_V4 + at, bytes);
        repair_ipv4(&mut frame);
        assert_eq!(refused(&frame), Malformed::BadIp, "{bytes:02x?} at {at}");
    }
    assert_eq!(refused(&with(DATA_V6, IP_V6, &[0x40])), Malformed::BadIp);
    // Sources that no host has.
    for source in [[224, 0, 0, 1], [0, 0, 0, 0], [255, 255, 255, 255]] {
        let mut frame = with(SYN_V4, IP_V4 + 12, &source);
        repair_ipv4(&mut frame);
        assert_eq!(refused(&frame), Malformed::BadIp, "{source:?}");
    }
    assert_eq!(refused(&with(DATA_V6, IP_V6 + 8, &[0xff])), Malformed::BadIp);
    assert_eq!(refused(&with(DATA_V6, IP_V6 + 8, &[0; 16])), Malformed::BadIp);
    // More than there is.
    let mut frame = with(SYN_V4, IP_V4 + 2, &[0, 0x41]);
    repair_ipv4(&mut frame);
    assert_eq!(refused(&frame), Malformed::Truncated);
    assert_eq!(refused(&with(DATA_V6, IP_V6 + 4, &[0, 0x40])), Malformed::Truncated);
}

#[test]
fn fragments() {
    // More to come, or not the first.
    for fragment in [[0x20, 0x00], [0x00, 0x01], [0x1f, 0xff]] {
        let mut frame = with(SYN_V4, IP_V4 + 6, &fragment);
        repair_ipv4(&mut frame);
        assert_eq!(refused(&frame), Malformed::Fragment);
    }
    assert_eq!(refused(&with(DATA_V6, IP_V6 + 6, &[44])), Malformed::Fragment);
}

#[test]
fn every_flipped_bit_of_what_a_checksum_covers_is_seen() {
    let frame = hex(SYN_V4);
    for at in IP_V4..frame.len() {
        for bit in 0..8 {
            let mut damaged = frame.clone();
            damaged[at] ^= 1 << bit;
            let reason = refused(&damaged);
            let in_ip = at < IP_V4 + 20;
            let expected: &[Malformed] = match in_ip {
                true => &[Malformed::IpChecksum, Malformed::BadIp, Malformed::Truncated],
                false => &[Malformed::Checksum],
            };
            assert!(expected.contains(&reason), "bit {bit} at {at}: {reason:?}");
        }
    }
    let frame = hex(DATA_V6);
    // From the source address on.
    for at in IP_V6 + 8..frame.len() {
        for bit in 0..8 {
            let mut damaged = frame.clone();
            damaged[at] ^= 1 << bit;
            assert_eq!(refused(&damaged), Malformed::Checksum, "bit {bit} at {at}");
        }
    }
}

#[test]
fn an_unfinished_checksum_has_its_own_reason() {
    for (frame, ip_start, tcp_start) in [(SYN_V4, IP_V4, IP_V4 + 20), (DATA_V6, IP_V6, IP_V6 + 40)] {
        let mut frame = hex(frame);
        let addresses = if ip_start == IP_V4 { IP_V4 + 12..IP_V4 + 20 } else { IP_V6 + 8..IP_V6 + 40 };
        let segment_len = (frame.len() - tcp_start) as u16;
        let mut pseudo_header = checksum::sum(0, &frame[addresses]);
        pseudo_header = checksum::sum(pseudo_header, &segment_len.to_be_bytes());
        pseudo_header = checksum::sum(pseudo_header, &[0, 6]);
        frame[tcp_start + 16..tcp_start + 18].copy_from_slice(&pseudo_header.to_be_bytes());
        assert_eq!(refused(&frame), Malformed::PartialChecksum);
        assert!(parse(&frame, ChecksumMode::Off).is_ok());
        // Inverted, it is just wrong.
        frame[tcp_start + 16..tcp_start + 18].copy_from_slice(&(!pseudo_header).to_be_bytes());
        assert_eq!(refused(&frame), Malformed::Checksum);
    }
}

#[test]
fn data_offsets_that_cannot_be() {
    for offset in [0x00, 0x40, 0xc0, 0xf0] {
        let frame = with(SYN_V4, IP_V4 + 20 + 12, &[offset]);
        assert_eq!(parse(&frame, ChecksumMode::Off), Err(Malformed::BadTcp), "{offset:02x}");
    }
}

#[test]
fn padding_is_cut_off() {
    for frame in [SYN_V4, DATA_V6] {
        let mut frame = hex(frame);
        let expected = accepted(&frame);
        frame.extend_from_slice(&[0x77; 9]);
        assert_eq!(accepted(&frame), expected);
    }
}

#[test]
fn options_of_ip_are_skipped() {
    // Router alert, which makes the header six words long.
    let mut frame = hex(SYN_V4);
    let plain = accepted(&frame);
    frame.splice(IP_V4 + 20..IP_V4 + 20, [0x94, 4, 0, 0]);
    frame[IP_V4] = 0x46;
    frame[IP_V4 + 3] += 4;
    frame[IP_V4 + 10..IP_V4 + 12].fill(0);
    let sum = checksum::sum(0, &frame[IP_V4..IP_V4 + 24]);
    frame[IP_V4 + 10..IP_V4 + 12].copy_from_slice(&(!sum).to_be_bytes());
    let payload = plain.payload.start + 4..plain.payload.end + 4;
    assert_eq!(accepted(&frame), Packet { payload, ..plain.clone() });
    frame[IP_V4 + 21] ^= 1;
    assert_eq!(refused(&frame), Malformed::IpChecksum);
}

#[test]
fn extension_headers_that_mean_nothing_to_us_are_skipped() {
    // Hop-by-hop options of 8 bytes, then destination options of 16.
    let mut frame = hex(DATA_V6);
    let plain = accepted(&frame);
    let tcp_start = IP_V6 + 40;
    let extensions = hex("3c00010400000000 0601010c0000000000000000 00000000");
    assert_eq!(extensions.len(), 24);
    frame.splice(tcp_start..tcp_start, extensions);
    frame[IP_V6 + 6] = 0;
    frame[IP_V6 + 5] += 24;
    let payload = plain.payload.start + 24..plain.payload.end + 24;
    assert_eq!(accepted(&frame), Packet { payload, ..plain });
    // One that reaches behind the packet, one cut off, and a fragment behind one.
    for (at, byte, reason) in [
        (tcp_start + 9, 0xff, Malformed::Truncated),
        (tcp_start, 44, Malformed::Fragment),
        (tcp_start, 17, Malformed::NotOurs),
    ] {
        let mut frame = frame.clone();
        frame[at] = byte;
        assert_eq!(refused(&frame), reason);
    }
    frame[IP_V6 + 5] = 1;
    assert_eq!(refused(&frame), Malformed::Truncated);
}

fn read(flags: TcpFlags, list: &str) -> TcpOptions {
    let mut options = TcpOptions::default();
    options.parse(&hex(list), flags);
    options
}

#[test]
fn a_list_of_options_is_read_as_far_as_it_makes_sense() {
    let timestamps = Some(Timestamps { value: 1, echo: 2 });
    let good = "080a 00000001 00000002";
    let expected = TcpOptions { timestamps, ..TcpOptions::default() };
    // Its end, a length of 0 or 1, a length behind the end, a kind without length.
    for rest in ["00 050a 0000000100000002", "0500", "0501", "050a 00000001", "05", "1e0c 0000"] {
        assert_eq!(read(TcpFlags::ACK, &format!("{good} {rest}")), expected, "{rest}");
    }
    // What we don't know, and lengths that a kind doesn't have, are skipped.
    for first in
        ["fd06 f989 0102", "0204 05b4", "0203 05", "080b 000000000000000000", "0502", "0507 0102030405"]
    {
        assert_eq!(read(TcpFlags::ACK, &format!("{first} {good}")), expected, "{first}");
    }
}

#[test]
fn options_of_a_syn_count_on_a_syn_only() {
    let list = "0204 05b4 0402 0303 07";
    let on_syn = read(TcpFlags::SYN | TcpFlags::ACK, list);
    assert_eq!((on_syn.mss, on_syn.window_scale, on_syn.sack_permitted), (Some(1460), Some(7), true));
    assert_eq!(read(TcpFlags::ACK, list), TcpOptions::default());
    // RFC 7323 §2.3.
    assert_eq!(read(TcpFlags::SYN, "0303 0f").window_scale, Some(14));
    assert_eq!(read(TcpFlags::SYN, "0204 0000").mss, None);
}

#[test]
fn a_fast_open_option_of_a_wrong_length_or_without_syn_is_ignored() {
    let cookie = |bytes: &[u8]| FastOpenCookie::new(bytes).map(FastOpen::Cookie);
    let mss = "0204 05b4";
    for (list, expected) in [
        ("2202", Some(FastOpen::Request)),
        ("2206 01020304", cookie(&[1, 2, 3, 4])),
        ("2212 000102030405060708090a0b0c0d0e0f", cookie(&std::array::from_fn::<u8, 16, _>(|n| n as u8))),
        // Too short, odd, too long.
        ("2203 01", None),
        ("2204 0102", None),
        ("2205 010203", None),
        ("2207 0102030405", None),
        ("2213 000102030405060708090a0b0c0d0e0f10", None),
        ("2214 000102030405060708090a0b0c0d0e0f1011", None),
    ] {
        let options = read(TcpFlags::SYN, &format!("{list} {mss}"));
        // RFC 7413 §4.1.1: the option is ignored, and what follows it is not.
        assert_eq!((options.fast_open, options.mss), (expected, Some(1460)), "{list}");
        assert_eq!(read(TcpFlags::ACK, list), TcpOptions::default());
    }
    // A length beyond the list, and one that is none.
    for list in ["2206 0102", "2200", "2201", "22"] {
        assert_eq!(read(TcpFlags::SYN, list).fast_open, None, "{list}");
    }
}

#[test]
fn mptcp_options_that_cannot_be_are_ignored() {
    let prio = "1e03 51";
    for bad in [
        "1e02",
        // MP_CAPABLE of lengths that it doesn't have.
        "1e03 01",
        "1e08 0181 00000000",
        "1e15 0181 0102030405060708 0102030405060708 05",
        "1e17 0181 0102030405060708 0102030405060708 05a8 01",
        "1e19 0181 0102030405060708 0102030405060708 05a8 0102 03",
        // MP_JOIN.
        "1e04 1001",
        "1e0d 1001 0102030405060708 09",
        // DSS whose length is not that of its flags.
        "1e03 20",
        "1e08 2003 01020304",
        "1e09 2001 01020304 05",
        "1e0f 2004 01020304 01020304 05a8 01",
        "1e12 2004 01020304 01020304 05a8 01020304",
        // ADD_ADDR: an announcement without HMAC, an echo with one, half an address.
        "1e08 3003 c0000209",
        "1e10 3103 c0000209 1122334455667788",
        "1e06 3103 c000",
        // REMOVE_ADDR of nothing, version 0's MP_PRIO, and the rest too short or too long.
        "1e03 40",
        "1e04 5101",
        "1e04 6000",
        "1e0d 6000 0102030405060708 09",
        "1e0b 7000 01020304050607",
        "1e03 80",
        "1e05 8000 00",
        // Subtypes that we don't know: experiments and unassigned.
        "1e04 f000",
        "1e04 9000",
    ] {
        let options = read(TcpFlags::ACK, &format!("{bad} {prio}"));
        assert!(matches!(options.mptcp[..], [MptcpOption::Prio(_)]), "{bad}: {options:?}");
    }
}

#[test]
fn more_mptcp_options_than_we_take_are_left_out() {
    let options = read(TcpFlags::ACK, &"1e0351".repeat(MPTCP_OPTIONS_MAX + 3));
    assert_eq!(options.mptcp.len(), MPTCP_OPTIONS_MAX);
}

#[test]
fn the_last_of_two_sack_options_counts_and_four_blocks_are_taken() {
    let blocks = "00000001 00000002 ";
    let options = read(TcpFlags::ACK, &format!("0512 {blocks}{blocks} 050a 00000003 00000004"));
    assert_eq!(options.sack[..], [(SeqNum::new(3), SeqNum::new(4))]);
    let options = read(TcpFlags::ACK, &format!("052a {}", blocks.repeat(5)));
    assert_eq!(options.sack.len(), 4);
}

#[test]
#[should_panic(expected = "bytes of headers")]
fn headers_without_room_are_our_own_bug() {
    let packet = accepted(&hex(SYN_V4));
    let link = LinkHeader::default();
    let segment =
        SegmentRepr { link: &link, tuple: packet.tuple, ecn: 0, tcp: packet.tcp, options: &packet.options };
    emit(&segment, &mut [0; 100], 77..100, ChecksumMode::Software);
}

#[test]
#[should_panic(expected = "TCP options of 48 bytes")]
fn options_that_do_not_fit_are_our_own_bug() {
    let packet = accepted(&hex(SYN_V4));
    let mut options = packet.options;
    options.sack.extend([(SeqNum::new(1), SeqNum::new(2)); 3]);
    options.mptcp.clear();
    let link = LinkHeader::default();
    let segment =
        SegmentRepr { link: &link, tuple: packet.tuple, ecn: 0, tcp: packet.tcp, options: &options };
    emit(&segment, &mut [0; 200], 150..200, ChecksumMode::Software);
}
