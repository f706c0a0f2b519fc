//! Whatever is written is read back as it was, and no bytes can make the reader panic.

use crate::base::{DataSeq, SeqNum};
use crate::wire::mptcp::{
    AddAddr, AddressId, CapableFlags, Dss, DssMapping, Key, MpCapable, MpFail, MpFastClose, MpJoin, MpPrio,
    MpTcpRst, RemoveAddr, ResetReason, ShortOrLong, Token,
};
use crate::wire::tcp::{MPTCP_OPTIONS_MAX, OPTIONS_MAX};
use crate::wire::{
    ChecksumMode, Endpoint, FastOpen, FastOpenCookie, FourTuple, LinkHeader, MacAddr, Malformed, MptcpOption,
    Packet, Parsed, SegmentRepr, TcpFlags, TcpOptions, TcpRepr, Timestamps, checksum, emit, parse,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn any_v4() -> impl Strategy<Value = IpAddr> {
    (1..=223u8, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d).into())
}

fn any_v6() -> impl Strategy<Value = IpAddr> {
    (0x2000..=0xfdffu16, any::<[u16; 7]>())
        .prop_map(|(a, [b, c, d, e, f, g, h])| Ipv6Addr::new(a, b, c, d, e, f, g, h).into())
}

fn any_addr() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any_v4(), any_v6()]
}

pub(super) fn any_tuple() -> impl Strategy<Value = FourTuple> {
    (prop_oneof![(any_v4(), any_v4()).boxed(), (any_v6(), any_v6()).boxed()], any::<(u16, u16)>()).prop_map(
        |((local, remote), (local_port, remote_port))| FourTuple {
            local: Endpoint::new(local, local_port),
            remote: Endpoint::new(remote, remote_port),
        },
    )
}

pub(super) fn any_link() -> impl Strategy<Value = LinkHeader> {
    (any::<[u8; 6]>(), any::<[u8; 6]>(), any::<Option<u16>>()).prop_map(|(src, dst, vlan)| LinkHeader {
        src: MacAddr(src),
        dst: MacAddr(dst),
        vlan,
    })
}

fn any_capable() -> impl Strategy<Value = MpCapable> {
    let head = || (0..16u8, any::<u8>().prop_map(CapableFlags));
    let key = || any::<u64>().prop_map(Key);
    prop_oneof![
        head().prop_map(|(version, flags)| MpCapable::Syn { version, flags }),
        (head(), key()).prop_map(|((version, flags), sender_key)| MpCapable::SynAck {
            version,
            flags,
            sender_key
        }),
        (head(), key(), key()).prop_map(|((version, flags), sender_key, receiver_key)| MpCapable::Ack {
            version,
            flags,
            sender_key,
            receiver_key
        }),
        (head(), key(), key(), any::<u16>(), any::<Option<u16>>()).prop_map(
            |((version, flags), sender_key, receiver_key, data_len, checksum)| MpCapable::Data {
                version,
                flags,
                sender_key,
                receiver_key,
                data_len,
                checksum
            }
        ),
    ]
}

fn any_join() -> impl Strategy<Value = MpJoin> {
    let head = || (any::<bool>(), any::<u8>().prop_map(AddressId));
    prop_oneof![
        (head(), any::<(u32, u32)>()).prop_map(|((backup, address_id), (token, nonce))| MpJoin::Syn {
            backup,
            address_id,
            token: Token(token),
            nonce
        }),
        (head(), any::<(u64, u32)>()).prop_map(|((backup, address_id), (hmac, nonce))| MpJoin::SynAck {
            backup,
            address_id,
            hmac,
            nonce
        }),
        any::<[u8; 20]>().prop_map(|hmac| MpJoin::Ack { hmac }),
    ]
}

fn any_number() -> impl Strategy<Value = ShortOrLong> {
    prop_oneof![any::<u32>().prop_map(ShortOrLong::Short), any::<u64>().prop_map(ShortOrLong::Long)]
}

fn any_dss() -> impl Strategy<Value = Dss> {
    let mapping = (any_number(), any::<(u32, u16)>(), any::<Option<u16>>()).prop_map(
        |(data_seq, (subflow_seq, len), checksum)| DssMapping { data_seq, subflow_seq, len, checksum },
    );
    (of(any_number()), of(mapping), any::<bool>()).prop_map(|(data_ack, mapping, data_fin)| Dss {
        data_ack,
        mapping,
        data_fin,
    })
}

fn any_add_addr() -> impl Strategy<Value = AddAddr> {
    let body = || (any::<u8>().prop_map(AddressId), any_addr(), any::<Option<u16>>());
    prop_oneof![
        (body(), any::<u64>()).prop_map(|((address_id, addr, port), hmac)| AddAddr::Announce {
            address_id,
            addr,
            port,
            hmac
        }),
        body().prop_map(|(address_id, addr, port)| AddAddr::Echo { address_id, addr, port }),
    ]
}

fn any_mptcp() -> impl Strategy<Value = MptcpOption> {
    prop_oneof![
        any_capable().prop_map(MptcpOption::Capable),
        any_join().prop_map(MptcpOption::Join),
        any_dss().prop_map(MptcpOption::Dss),
        any_add_addr().prop_map(MptcpOption::AddAddr),
        vec(any::<u8>().prop_map(AddressId), 1..=37).prop_map(|address_ids| MptcpOption::RemoveAddr(
            RemoveAddr { address_ids: address_ids.into_iter().collect() }
        )),
        any::<bool>().prop_map(|backup| MptcpOption::Prio(MpPrio { backup })),
        any::<u64>().prop_map(|seq| MptcpOption::Fail(MpFail { data_seq: DataSeq::new(seq) })),
        any::<u64>().prop_map(|key| MptcpOption::FastClose(MpFastClose { receiver_key: Key(key) })),
        (any::<bool>(), 0..8u8, any::<u8>()).prop_map(|(transient, flags, code)| MptcpOption::Reset(
            MpTcpRst { transient, flags: flags << 1, reason: ResetReason::from_code(code) }
        )),
    ]
}

/// Options as they can be, as many as fit.
fn any_fast_open() -> impl Strategy<Value = FastOpen> {
    vec(any::<u16>(), 0..=8).prop_map(|words| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        FastOpenCookie::new(&bytes).map_or(FastOpen::Request, FastOpen::Cookie)
    })
}

fn any_options() -> impl Strategy<Value = (bool, TcpOptions)> {
    let on_syn = (of(1..=u16::MAX), of(0..=14u8), any::<bool>(), of(any_fast_open()));
    let timestamps = of(any::<(u32, u32)>().prop_map(|(value, echo)| Timestamps { value, echo }));
    let sack = vec(any::<(u32, u32)>().prop_map(|(a, b)| (SeqNum::new(a), SeqNum::new(b))), 0..=4);
    let mptcp = vec(any_mptcp(), 0..=MPTCP_OPTIONS_MAX);
    (any::<bool>(), on_syn, timestamps, sack, mptcp).prop_map(
        |(syn, (mss, window_scale, sack_permitted, fast_open), timestamps, sack, mptcp)| {
            let mut options = TcpOptions { timestamps, ..TcpOptions::default() };
            if syn {
                options = TcpOptions { mss, window_scale, sack_permitted, fast_open, ..options };
            }
            for option in mptcp {
                options.mptcp.push(option);
                if options.wire_len() > OPTIONS_MAX {
                    options.mptcp.pop();
                }
            }
            for block in sack {
                options.sack.push(block);
                if options.wire_len() > OPTIONS_MAX {
                    options.sack.pop();
                }
            }
            (syn, options)
        },
    )
}

fn any_segment() -> impl Strategy<Value = (LinkHeader, FourTuple, u8, TcpRepr, TcpOptions)> {
    (any_link(), any_tuple(), 0..4u8, any::<(u32, u32, u8, u16, u16)>(), any_options()).prop_map(
        |(link, tuple, ecn, (seq, ack, flags, window, urgent), (syn, options))| {
            let flags = if syn { flags | TcpFlags::SYN.bits() } else { flags & !TcpFlags::SYN.bits() };
            let tcp = TcpRepr {
                seq: SeqNum::new(seq),
                ack: SeqNum::new(ack),
                flags: TcpFlags::from_bits(flags),
                window,
                urgent,
            };
            (link, tuple, ecn, tcp, options)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_written_is_read(
        (link, tuple, ecn, tcp, options) in any_segment(),
        body in vec(any::<u8>(), 0..200),
        padding in 0..20usize,
        headroom in 118..150usize,
        software in any::<bool>(),
    ) {
        let mode = if software { ChecksumMode::Software } else { ChecksumMode::Off };
        let mut frame = vec![0xa5; headroom];
        frame.extend_from_slice(&body);
        let payload = headroom..frame.len();
        let segment = SegmentRepr { link: &link, tuple, ecn, tcp, options: &options };
        let start = emit(&segment, &mut frame, payload.clone(), mode);
        prop_assert!(frame[..start].iter().all(|byte| *byte == 0xa5), "wrote in front of its headers");
        frame.extend(std::iter::repeat_n(0x5a, padding));
        let Ok(Parsed::Tcp(packet)) = parse(&frame[start..], mode) else {
            panic!("{:?}", parse(&frame[start..], mode));
        };
        prop_assert_eq!(&frame[start..][packet.payload.clone()], &body[..]);
        let payload = payload.start - start..payload.end - start;
        let sum = checksum::sum(0, &body);
        let payload_sum = (mode == ChecksumMode::Software).then_some(sum);
        let tuple = tuple.reversed();
        prop_assert_eq!(packet, Packet { link, tuple, ecn, tcp, options, payload, payload_sum });
    }

    #[test]
    fn no_prefix_is_taken_for_a_packet(
        (link, tuple, ecn, tcp, options) in any_segment(),
        body in vec(any::<u8>(), 0..20),
    ) {
        let mut frame = vec![0; 118];
        frame.extend_from_slice(&body);
        let payload = 118..frame.len();
        let segment = SegmentRepr { link: &link, tuple, ecn, tcp, options: &options };
        let start = emit(&segment, &mut frame, payload, ChecksumMode::Software);
        let frame = &frame[start..];
        for len in 0..frame.len() {
            prop_assert_eq!(parse(&frame[..len], ChecksumMode::Software), Err(Malformed::Truncated));
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, ChecksumMode::Software);
        let _ = parse(&bytes, ChecksumMode::Off);
    }

    #[test]
    fn damaged_packets_do_no_harm(
        (link, tuple, ecn, tcp, options) in any_segment(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut frame = vec![0; 128];
        let segment = SegmentRepr { link: &link, tuple, ecn, tcp, options: &options };
        let start = emit(&segment, &mut frame, 118..128, ChecksumMode::Off);
        let frame = &mut frame[start..];
        for (index, byte) in damage {
            frame[index.index(frame.len())] = byte;
        }
        if let Ok(Parsed::Tcp(packet)) = parse(frame, ChecksumMode::Off) {
            prop_assert!(packet.payload.start <= packet.payload.end && packet.payload.end <= frame.len());
        }
    }
}
