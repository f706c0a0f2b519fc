//! Bytes written by hand from the figures of the RFCs, so that reader and writer can't err together.

use super::{DATA_V6, SYN_V4, hex};
use crate::base::{DataSeq, SeqNum};
use crate::wire::mptcp::{
    AddAddr, AddressId, CapableFlags, Dss, DssMapping, Key, MpCapable, MpFail, MpFastClose, MpJoin, MpPrio,
    MpTcpRst, MptcpOption, RemoveAddr, ResetReason, ShortOrLong, Token, dss_checksum,
};
use crate::wire::{
    ChecksumMode, Endpoint, FastOpen, FastOpenCookie, FourTuple, LinkHeader, MacAddr, Packet, Parsed,
    SegmentRepr, TcpFlags, TcpOptions, TcpRepr, Timestamps, checksum, emit, parse,
};

/// `digits` mean `option`, and the other way round.
fn option(digits: &str, option: MptcpOption) {
    let bytes = hex(digits);
    assert_eq!(usize::from(bytes[1]), bytes.len(), "the vector itself: {digits}");
    let mut expected = TcpOptions::default();
    expected.mptcp.push(option);
    assert_eq!(read(TcpFlags::ACK, &bytes), expected, "{digits}");
    let mut padded = bytes;
    padded.resize(padded.len().next_multiple_of(4), 1);
    assert_eq!(written(&expected), padded, "{digits}");
}

fn read(flags: TcpFlags, list: &[u8]) -> TcpOptions {
    let mut options = TcpOptions::default();
    options.parse(list, flags);
    options
}

fn written(options: &TcpOptions) -> Vec<u8> {
    let mut bytes = vec![0xee; options.wire_len()];
    options.emit(&mut bytes);
    bytes
}

const SENDER_KEY: Key = Key(0x0102_0304_0506_0708);
const RECEIVER_KEY: Key = Key(0xa1a2_a3a4_a5a6_a7a8);

#[test]
fn mp_capable() {
    let flags = CapableFlags(CapableFlags::HMAC_SHA256);
    let with_checksum = CapableFlags(CapableFlags::CHECKSUM | CapableFlags::HMAC_SHA256);
    let (sender_key, receiver_key) = (SENDER_KEY, RECEIVER_KEY);
    option("1e 04 01 01", MptcpOption::Capable(MpCapable::Syn { version: 1, flags }));
    option(
        "1e 04 02 21",
        MptcpOption::Capable(MpCapable::Syn {
            version: 2,
            flags: CapableFlags(CapableFlags::NO_JOIN_HERE | 1),
        }),
    );
    option(
        "1e 0c 01 01 0102030405060708",
        MptcpOption::Capable(MpCapable::SynAck { version: 1, flags, sender_key }),
    );
    option(
        "1e 14 01 01 0102030405060708 a1a2a3a4a5a6a7a8",
        MptcpOption::Capable(MpCapable::Ack { version: 1, flags, sender_key, receiver_key }),
    );
    option(
        "1e 16 01 01 0102030405060708 a1a2a3a4a5a6a7a8 05a8",
        MptcpOption::Capable(MpCapable::Data {
            version: 1,
            flags,
            sender_key,
            receiver_key,
            data_len: 1448,
            checksum: None,
        }),
    );
    option(
        "1e 18 01 81 0102030405060708 a1a2a3a4a5a6a7a8 05a8 beef",
        MptcpOption::Capable(MpCapable::Data {
            version: 1,
            flags: with_checksum,
            sender_key,
            receiver_key,
            data_len: 1448,
            checksum: Some(0xbeef),
        }),
    );
    // A SYN of version 0 carries a key: the version shows it.
    option(
        "1e 0c 00 81 0102030405060708",
        MptcpOption::Capable(MpCapable::SynAck { version: 0, flags: with_checksum, sender_key }),
    );
}

#[test]
fn mp_join() {
    option(
        "1e 0c 11 05 aabbccdd 01020304",
        MptcpOption::Join(MpJoin::Syn {
            backup: true,
            address_id: AddressId(5),
            token: Token(0xaabb_ccdd),
            nonce: 0x0102_0304,
        }),
    );
    option(
        "1e 10 10 06 1122334455667788 01020304",
        MptcpOption::Join(MpJoin::SynAck {
            backup: false,
            address_id: AddressId(6),
            hmac: 0x1122_3344_5566_7788,
            nonce: 0x0102_0304,
        }),
    );
    let hmac = std::array::from_fn(|index| index as u8 + 1);
    option(
        "1e 18 10 00 01020304 05060708 090a0b0c 0d0e0f10 11121314",
        MptcpOption::Join(MpJoin::Ack { hmac }),
    );
}

#[test]
fn dss() {
    use ShortOrLong::{Long, Short};
    let mapping =
        |data_seq, checksum| Some(DssMapping { data_seq, subflow_seq: 0x0102_0304, len: 1448, checksum });
    let dss = |data_ack, mapping| MptcpOption::Dss(Dss { data_ack, mapping, data_fin: false });
    let short_ack = Some(Short(0x5152_5354));
    let long_ack = Some(Long(0x5152_5354_5556_5758));
    option("1e 08 20 01 51525354", dss(short_ack, None));
    option("1e 0c 20 03 5152535455565758", dss(long_ack, None));
    option("1e 0e 20 04 61626364 01020304 05a8", dss(None, mapping(Short(0x6162_6364), None)));
    option(
        "1e 12 20 0c 6162636465666768 01020304 05a8",
        dss(None, mapping(Long(0x6162_6364_6566_6768), None)),
    );
    option(
        "1e 14 20 05 51525354 61626364 01020304 05a8 cafe",
        dss(short_ack, mapping(Short(0x6162_6364), Some(0xcafe))),
    );
    option(
        "1e 16 20 07 5152535455565758 61626364 01020304 05a8",
        dss(long_ack, mapping(Short(0x6162_6364), None)),
    );
    option(
        "1e 16 20 0d 51525354 6162636465666768 01020304 05a8",
        dss(short_ack, mapping(Long(0x6162_6364_6566_6768), None)),
    );
    option(
        "1e 1c 20 0f 5152535455565758 6162636465666768 01020304 05a8 cafe",
        dss(long_ack, mapping(Long(0x6162_6364_6566_6768), Some(0xcafe))),
    );
    // A DATA_FIN without data: subflow sequence number 0, length 1.
    option(
        "1e 1a 20 1f 5152535455565758 6162636465666768 00000000 0001",
        MptcpOption::Dss(Dss {
            data_ack: long_ack,
            mapping: Some(DssMapping {
                data_seq: Long(0x6162_6364_6566_6768),
                subflow_seq: 0,
                len: 1,
                checksum: None,
            }),
            data_fin: true,
        }),
    );
}

#[test]
fn sizes_of_numbers_that_are_not_there_do_not_count() {
    // RFC 8684 §3.3: without A and M, a and m are ignored.
    let expected = Dss { data_ack: Some(ShortOrLong::Short(7)), mapping: None, data_fin: false };
    let options = read(TcpFlags::ACK, &hex("1e 08 20 09 00000007"));
    assert_eq!(options.dss(), Some(&expected));
    let options = read(TcpFlags::ACK, &hex("1e 04 20 0a"));
    assert_eq!(options.dss(), Some(&Dss::default()));
}

#[test]
fn add_addr() {
    let v4 = "192.0.2.9".parse().unwrap();
    let v6 = "2001:db8::9".parse().unwrap();
    let (address_id, hmac) = (AddressId(3), 0x1122_3344_5566_7788);
    let announce = |addr, port| MptcpOption::AddAddr(AddAddr::Announce { address_id, addr, port, hmac });
    let echo = |addr, port| MptcpOption::AddAddr(AddAddr::Echo { address_id, addr, port });
    option("1e 10 30 03 c0000209 1122334455667788", announce(v4, None));
    option("1e 12 30 03 c0000209 1451 1122334455667788", announce(v4, Some(5201)));
    option("1e 1c 30 03 20010db8000000000000000000000009 1122334455667788", announce(v6, None));
    option("1e 1e 30 03 20010db8000000000000000000000009 1451 1122334455667788", announce(v6, Some(5201)));
    option("1e 08 31 03 c0000209", echo(v4, None));
    option("1e 0a 31 03 c0000209 1451", echo(v4, Some(5201)));
    option("1e 14 31 03 20010db8000000000000000000000009", echo(v6, None));
    option("1e 16 31 03 20010db8000000000000000000000009 1451", echo(v6, Some(5201)));
}

#[test]
fn the_other_options_of_mptcp() {
    let ids = |ids: &[u8]| {
        MptcpOption::RemoveAddr(RemoveAddr { address_ids: ids.iter().copied().map(AddressId).collect() })
    };
    option("1e 04 40 07", ids(&[7]));
    option("1e 06 40 07 08 09", ids(&[7, 8, 9]));
    option("1e 03 51", MptcpOption::Prio(MpPrio { backup: true }));
    option("1e 03 50", MptcpOption::Prio(MpPrio { backup: false }));
    option(
        "1e 0c 60 00 0102030405060708",
        MptcpOption::Fail(MpFail { data_seq: DataSeq::new(0x0102_0304_0506_0708) }),
    );
    option(
        "1e 0c 70 00 a1a2a3a4a5a6a7a8",
        MptcpOption::FastClose(MpFastClose { receiver_key: RECEIVER_KEY }),
    );
    let reset = |transient, reason| MptcpOption::Reset(MpTcpRst { transient, flags: 0, reason });
    option("1e 04 80 00", reset(false, ResetReason::Unspecified));
    option("1e 04 81 02", reset(true, ResetReason::LackOfResources));
    option("1e 04 80 06", reset(false, ResetReason::MiddleboxInterference));
    option("1e 04 80 7f", reset(false, ResetReason::Other(0x7f)));
}

#[test]
fn the_order_of_options_is_that_of_linux() {
    let timestamps = Some(Timestamps { value: 0x0001_0203, echo: 0x0405_0607 });
    let syn = TcpOptions {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps,
        ..TcpOptions::default()
    };
    assert_eq!(written(&syn), hex("020405b4 0402080a 00010203 04050607 01030307"));
    let syn = TcpOptions { timestamps: None, ..syn };
    assert_eq!(written(&syn), hex("020405b4 01010402 01030307"));
    let syn = TcpOptions { timestamps, sack_permitted: false, ..syn };
    assert_eq!(written(&syn), hex("020405b4 0101080a 00010203 04050607 01030307"));
    let fast_open = FastOpenCookie::new(&[1, 2, 3, 4, 5, 6]).map(FastOpen::Cookie);
    let syn = TcpOptions { fast_open, ..syn };
    assert_eq!(written(&syn), hex("020405b4 0101080a 00010203 04050607 01030307 22080102 03040506"));
    let syn = TcpOptions { fast_open: Some(FastOpen::Request), ..syn };
    assert_eq!(written(&syn), hex("020405b4 0101080a 00010203 04050607 01030307 22020101"));
    let mut ack = TcpOptions { timestamps, ..TcpOptions::default() };
    ack.sack.push((SeqNum::new(0x1112_1314), SeqNum::new(0x2122_2324)));
    ack.mptcp.push(MptcpOption::Prio(MpPrio { backup: true }));
    assert_eq!(written(&ack), hex("0101080a 00010203 04050607 0101050a 11121314 21222324 1e035101"));
}

#[test]
fn a_whole_syn() {
    let frame = hex(SYN_V4);
    let link =
        LinkHeader { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan: Some(0x6007) };
    let tuple = FourTuple {
        local: Endpoint::new("192.0.2.1".parse().unwrap(), 49152),
        remote: Endpoint::new("198.51.100.7".parse().unwrap(), 5201),
    };
    let tcp = TcpRepr {
        seq: SeqNum::new(0x0102_0304),
        ack: SeqNum::new(0),
        flags: TcpFlags::SYN,
        window: 64240,
        urgent: 0,
    };
    let capable = MpCapable::Syn { version: 1, flags: CapableFlags(0x81) };
    let mut options = TcpOptions {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 0x0001_0203, echo: 0 }),
        ..TcpOptions::default()
    };
    options.mptcp.push(MptcpOption::Capable(capable));
    check_frame(&frame, 0, link, tuple, tcp, options);
}

#[test]
fn a_whole_data_segment() {
    let frame = hex(DATA_V6);
    let link = LinkHeader { src: MacAddr([2, 0, 0, 0, 0, 1]), dst: MacAddr([2, 0, 0, 0, 0, 2]), vlan: None };
    let tuple = FourTuple {
        local: Endpoint::new("2001:db8::1".parse().unwrap(), 5201),
        remote: Endpoint::new("2001:db8::2".parse().unwrap(), 49152),
    };
    let tcp = TcpRepr {
        seq: SeqNum::new(0xffff_fffe),
        ack: SeqNum::new(0x0102_0305),
        flags: TcpFlags::PSH | TcpFlags::ACK,
        window: 509,
        urgent: 0,
    };
    let mut options = TcpOptions {
        timestamps: Some(Timestamps { value: 0x0001_0203, echo: 0x0405_0607 }),
        ..TcpOptions::default()
    };
    options.mptcp.push(MptcpOption::Dss(Dss {
        data_ack: Some(ShortOrLong::Long(0x1112_1314_1516_1718)),
        mapping: Some(DssMapping {
            data_seq: ShortOrLong::Long(0x2122_2324_2526_2728),
            subflow_seq: 1,
            len: 3,
            checksum: None,
        }),
        data_fin: false,
    }));
    check_frame(&frame, 2, link, tuple, tcp, options);
}

/// The segment is written as `frame`, and `frame` is read as the segment, with ECN 0 in IPv4 and 2 in IPv6.
fn check_frame(frame: &[u8], ecn: u8, link: LinkHeader, tuple: FourTuple, tcp: TcpRepr, options: TcpOptions) {
    let data = if ecn == 0 { 0 } else { 3 };
    let payload = frame.len() - data..frame.len();
    let segment = SegmentRepr { link: &link, tuple, ecn, tcp, options: &options };
    let mut written = vec![0; frame.len() + 10];
    let at = payload.start + 10..payload.end + 10;
    written[at.clone()].copy_from_slice(&frame[payload.clone()]);
    assert_eq!(emit(&segment, &mut written, at, ChecksumMode::Software), 10);
    assert_eq!(&written[10..], frame);
    let payload_sum = Some(checksum::sum(0, &frame[payload.clone()]));
    let packet = Packet { link, tuple: tuple.reversed(), ecn, tcp, options, payload, payload_sum };
    assert_eq!(parse(frame, ChecksumMode::Software), Ok(Parsed::Tcp(packet)));
}

/// RFC 8684 §3.3.1: the pseudo-header and the data as one string of bytes, summed by the definition of RFC 1071.
#[test]
fn the_dss_checksum_covers_64_bits_of_the_data_sequence_number_and_the_data() {
    let mut covered = hex("21222324a5a6a7a8 00000001 0005 0000");
    covered.extend_from_slice(b"hello");
    covered.push(0);
    let total: u32 = covered.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let expected = !((total & 0xffff) + (total >> 16)) as u16;
    let data_seq = DataSeq::new(0x2122_2324_a5a6_a7a8);
    assert_eq!(dss_checksum(data_seq, 1, 5, checksum::sum(0, b"hello")), expected);
    // A bare DATA_FIN: subflow sequence number 0, length 1, no data.
    assert_eq!(dss_checksum(DataSeq::new(0), 0, 1, 0), !1);
    assert_ne!(dss_checksum(DataSeq::new(1 << 32), 0, 1, 0), !1, "the upper half counts");
}
