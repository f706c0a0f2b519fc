use super::*;
use crate::base::pool::TX_HEADROOM;
use crate::wire::mptcp::{CapableFlags, DssMapping, ShortOrLong, VERSION};
use crate::wire::{Endpoint, LinkHeader, SegmentRepr, TcpOptions, TcpRepr, emit};

const FLAGS: CapableFlags = CapableFlags(CapableFlags::HMAC_SHA256);
const CLIENT_KEY: Key = Key(0x0102_0304_0506_0708);
const SERVER_KEY: Key = Key(0x1112_1314_1516_1718);

fn rules(host: u8) -> NicRules {
    NicRules { addr: [10, 0, 0, host].into(), other: None, mtu: 1500 }
}

/// The client's end of the first subflow.
fn tuple() -> FourTuple {
    FourTuple { local: Endpoint::new(rules(1).addr, 50_000), remote: Endpoint::new(rules(2).addr, 5201) }
}

struct Segment {
    tuple: FourTuple,
    flags: TcpFlags,
    seq: u32,
    ack: u32,
    payload: usize,
    option: Option<MptcpOption>,
}

impl Segment {
    fn frame(self) -> Vec<u8> {
        let mut options = TcpOptions::default();
        options.mptcp.extend(self.option);
        let segment = SegmentRepr {
            link: &LinkHeader::default(),
            tuple: self.tuple,
            ecn: 0,
            tcp: TcpRepr {
                seq: SeqNum::new(self.seq),
                ack: SeqNum::new(self.ack),
                flags: self.flags,
                window: 1000,
                urgent: 0,
            },
            options: &options,
        };
        let mut frame = vec![0; TX_HEADROOM + self.payload];
        let payload = TX_HEADROOM..frame.len();
        let start = emit(&segment, &mut frame, payload, ChecksumMode::Software);
        frame.split_off(start)
    }
}

fn dss(data_ack: u64, mapping: Option<(u64, u16)>) -> Option<MptcpOption> {
    let mapping = mapping.map(|(offset, len)| DssMapping {
        data_seq: ShortOrLong::Long((first_data_seq(CLIENT_KEY) + offset).raw()),
        subflow_seq: 1,
        len,
        checksum: None,
    });
    let data_ack = Some(ShortOrLong::Short((first_data_seq(SERVER_KEY) + data_ack).low()));
    Some(MptcpOption::Dss(Dss { data_ack, mapping, data_fin: false }))
}

fn server_ack(ack: u32, data_ack: u64) -> Vec<u8> {
    let data_ack = Some(ShortOrLong::Short((first_data_seq(CLIENT_KEY) + data_ack).low()));
    let option = Some(MptcpOption::Dss(Dss { data_ack, mapping: None, data_fin: false }));
    Segment { tuple: tuple().reversed(), flags: TcpFlags::ACK, seq: 901, ack, payload: 0, option }.frame()
}

/// Three packets of handshake and 1000 bytes of data.
fn established() -> WireCheck {
    let mut check = WireCheck::default();
    let capable = |option| Some(MptcpOption::Capable(option));
    let syn = capable(MpCapable::Syn { version: VERSION, flags: FLAGS });
    let syn_ack = capable(MpCapable::SynAck { version: VERSION, flags: FLAGS, sender_key: SERVER_KEY });
    let (sender_key, receiver_key) = (CLIENT_KEY, SERVER_KEY);
    let ack = capable(MpCapable::Ack { version: VERSION, flags: FLAGS, sender_key, receiver_key });
    let (client, server) = (tuple(), tuple().reversed());
    let both = TcpFlags::SYN | TcpFlags::ACK;
    let segments = [
        (1, Segment { tuple: client, flags: TcpFlags::SYN, seq: 100, ack: 0, payload: 0, option: syn }),
        (2, Segment { tuple: server, flags: both, seq: 900, ack: 101, payload: 0, option: syn_ack }),
        (1, Segment { tuple: client, flags: TcpFlags::ACK, seq: 101, ack: 901, payload: 0, option: ack }),
        (
            1,
            Segment {
                tuple: client,
                flags: TcpFlags::ACK,
                seq: 101,
                ack: 901,
                payload: 1000,
                option: dss(0, Some((0, 1000))),
            },
        ),
    ];
    for (host, segment) in segments {
        check.begin_turn();
        assert_eq!(check.handle_transmitted(&rules(host), &segment.frame()), Ok(()));
    }
    check.begin_turn();
    check
}

#[test]
fn a_good_conversation_passes() {
    let mut check = established();
    for (ack, data_ack) in [(601, 500), (601, 500), (1101, 1000)] {
        assert_eq!(check.handle_transmitted(&rules(2), &server_ack(ack, data_ack)), Ok(()));
        check.begin_turn();
    }
    assert_eq!((check.connections(), check.data_acks()), (1, 4));
}

#[test]
fn acknowledgments_that_move_back_are_noticed() {
    let mut check = established();
    assert_eq!(check.handle_transmitted(&rules(2), &server_ack(601, 500)), Ok(()));
    check.begin_turn();
    let wrong =
        check.handle_transmitted(&rules(2), &server_ack(601, 499)).expect_err("the data ACK moved back");
    assert!(wrong.contains("data ACK moved back"), "{wrong}");
    let wrong = check.handle_transmitted(&rules(2), &server_ack(600, 500)).expect_err("the ACK moved back");
    assert!(wrong.contains("acknowledgment moved back"), "{wrong}");
}

#[test]
fn a_data_ack_moves_back_on_no_other_subflow_either() {
    let mut check = established();
    let mut other = tuple();
    (other.local.port, other.remote.port) = (50_001, 5201);
    let token = token_of(SERVER_KEY);
    let join = MpJoin::Syn { backup: false, address_id: crate::wire::mptcp::AddressId(1), token, nonce: 7 };
    let option = Some(MptcpOption::Join(join));
    let syn = Segment { tuple: other, flags: TcpFlags::SYN, seq: 5, ack: 0, payload: 0, option };
    assert_eq!(check.handle_transmitted(&rules(1), &syn.frame()), Ok(()));
    let answer = |flags, seq, data_ack: Option<u64>| {
        let option = data_ack.map(|data_ack| {
            let data_ack = Some(ShortOrLong::Short((first_data_seq(CLIENT_KEY) + data_ack).low()));
            MptcpOption::Dss(Dss { data_ack, mapping: None, data_fin: false })
        });
        Segment { tuple: other.reversed(), flags, seq, ack: 6, payload: 0, option }.frame()
    };
    let syn_ack = answer(TcpFlags::SYN | TcpFlags::ACK, 70, None);
    assert_eq!(check.handle_transmitted(&rules(2), &syn_ack), Ok(()));
    assert_eq!(check.handle_transmitted(&rules(2), &server_ack(601, 500)), Ok(()));
    // In the same turn another NIC's packet may have been made before.
    assert_eq!(check.handle_transmitted(&rules(2), &answer(TcpFlags::ACK, 71, Some(400))), Ok(()));
    check.begin_turn();
    let wrong = check.handle_transmitted(&rules(2), &answer(TcpFlags::ACK, 71, Some(450)));
    assert!(wrong.is_err_and(|wrong| wrong.contains("data ACK moved back")));
}

#[test]
fn a_client_behind_a_nat_is_known_when_the_server_joins_it() {
    let mut check = established();
    let join = |option| Some(MptcpOption::Join(option));
    let (address_id, backup) = (crate::wire::mptcp::AddressId(1), false);
    let syn = join(MpJoin::Syn { backup, address_id, token: token_of(CLIENT_KEY), nonce: 7 });
    let syn_ack = join(MpJoin::SynAck { backup, address_id, hmac: 8, nonce: 9 });
    // The server knows the client's end as the NAT shows it; the client answers from what it is.
    let mut inner = tuple();
    inner.remote.port = 20_000;
    let outer = FourTuple { local: inner.remote, remote: behind_nat(inner.local) };
    let both = TcpFlags::SYN | TcpFlags::ACK;
    let segments = [
        (2, Segment { tuple: outer, flags: TcpFlags::SYN, seq: 5, ack: 0, payload: 0, option: syn }),
        (1, Segment { tuple: inner, flags: both, seq: 70, ack: 6, payload: 0, option: syn_ack }),
    ];
    for (host, segment) in segments {
        assert_eq!(check.handle_transmitted(&rules(host), &segment.frame()), Ok(()));
    }
    // What it maps there may be acknowledged, and nothing behind it.
    let option = dss(0, Some((1000, 1)));
    let data = Segment { tuple: inner, flags: TcpFlags::ACK, seq: 71, ack: 6, payload: 1, option };
    assert_eq!(check.handle_transmitted(&rules(1), &data.frame()), Ok(()));
    assert_eq!(check.handle_transmitted(&rules(2), &server_ack(1101, 1001)), Ok(()));
    assert!(check.handle_transmitted(&rules(2), &server_ack(1101, 1002)).is_err());
}

#[test]
fn a_data_ack_of_what_was_never_sent_is_noticed() {
    let mut check = established();
    let wrong =
        check.handle_transmitted(&rules(2), &server_ack(1101, 1001)).expect_err("1000 bytes were sent");
    assert!(wrong.contains("outside"), "{wrong}");
}

#[test]
fn malformed_oversized_and_misplaced_packets_are_noticed() {
    let mut check = established();
    let data = |payload| {
        let option = dss(0, None);
        Segment { tuple: tuple(), flags: TcpFlags::ACK, seq: 1101, ack: 901, payload, option }.frame()
    };
    assert_eq!(check.handle_transmitted(&rules(1), &data(1400)), Ok(()));
    assert!(check.handle_transmitted(&rules(1), &data(1480)).is_err_and(|wrong| wrong.contains("MTU")));
    assert!(check.handle_transmitted(&rules(2), &data(10)).is_err_and(|wrong| wrong.contains("on the NIC")));
    let mut broken = data(10);
    *broken.last_mut().expect("not empty") ^= 1;
    assert!(check.handle_transmitted(&rules(1), &broken).is_err_and(|wrong| wrong.contains("Checksum")));
}
