//! A pattern writes what would have been written without it, and is refused where it could not.

use super::roundtrip::{any_link, any_tuple};
use crate::base::{DataSeq, SeqNum};
use crate::wire::mptcp::{Dss, DssMapping, ShortOrLong, dss_checksum};
use crate::wire::{
    ChecksumMode, Endpoint, FourTuple, LinkHeader, Malformed, MptcpOption, Numbers, Parsed, Pattern, Rest,
    SegmentRepr, TcpFlags, TcpOptions, TcpRepr, Timestamps, checksum, emit_scattered, emit_summed, parse,
    parse_scattered,
};
use proptest::prelude::*;

pub(super) const HEADROOM: usize = 128;
const LEN_MAX: usize = 1460;

/// What segments of a row have in common.
#[derive(Debug, Clone)]
pub(super) struct Row {
    link: LinkHeader,
    tuple: FourTuple,
    pub(super) ecn: u8,
    ack: u32,
    window: u16,
    timestamps: Option<(u32, u32)>,
    /// The DATA_ACK, and whether mappings are summed; none for plain TCP.
    pub(super) dss: Option<(Option<ShortOrLong>, bool)>,
    pub(super) checksum: ChecksumMode,
}

pub(super) fn any_row() -> impl Strategy<Value = Row> {
    let data_ack = prop_oneof![
        Just(None),
        any::<u32>().prop_map(|low| Some(ShortOrLong::Short(low))),
        any::<u64>().prop_map(|full| Some(ShortOrLong::Long(full))),
    ];
    let checksum = prop_oneof![Just(ChecksumMode::Software), Just(ChecksumMode::Off)];
    let header = (any::<u32>(), any::<u16>(), any::<Option<(u32, u32)>>());
    let dss = prop::option::of((data_ack, any::<bool>()));
    (any_link(), any_tuple(), 0..4u8, header, dss, checksum).prop_map(
        |(link, tuple, ecn, (ack, window, timestamps), dss, checksum)| Row {
            link,
            tuple,
            ecn,
            ack,
            window,
            timestamps,
            dss,
            checksum,
        },
    )
}

impl Row {
    fn options(&self, numbers: Numbers, payload: &[u8]) -> TcpOptions {
        let timestamps = self.timestamps.map(|(value, echo)| Timestamps { value, echo });
        let mut options = TcpOptions { timestamps, ..TcpOptions::default() };
        let Numbers { data_seq, subflow_seq, .. } = numbers;
        let len = payload.len() as u16;
        options.mptcp.extend(self.dss.map(|(data_ack, summed)| {
            let checksum =
                summed.then(|| dss_checksum(data_seq, subflow_seq, len, checksum::sum(0, payload)));
            let data_seq = ShortOrLong::Long(data_seq.raw());
            let mapping = Some(DssMapping { data_seq, subflow_seq, len, checksum });
            MptcpOption::Dss(Dss { data_ack, mapping, data_fin: false })
        }));
        options
    }

    fn tcp(&self, numbers: Numbers) -> TcpRepr {
        let flags = TcpFlags::ACK;
        TcpRepr { seq: numbers.seq, ack: SeqNum::new(self.ack), flags, window: self.window, urgent: 0 }
    }

    fn segment<'a>(&'a self, tcp: TcpRepr, options: &'a TcpOptions) -> SegmentRepr<'a> {
        SegmentRepr { link: &self.link, tuple: self.tuple, ecn: self.ecn, tcp, options }
    }

    /// A whole frame, and where it begins.
    pub(super) fn frame(&self, numbers: Numbers, payload: &[u8]) -> (Vec<u8>, usize) {
        let options = self.options(numbers, payload);
        let mut frame = [&[0xee; HEADROOM][..], payload].concat();
        let range = HEADROOM..HEADROOM + payload.len();
        let segment = self.segment(self.tcp(numbers), &options);
        let start = emit_summed(&segment, &mut frame, range, self.checksum, None);
        (frame, start)
    }

    fn pattern(&self, numbers: Numbers, payload: &[u8]) -> Pattern {
        let (frame, start) = self.frame(numbers, payload);
        let options = self.options(numbers, payload);
        let segment = self.segment(self.tcp(numbers), &options);
        Pattern::new(&segment, &frame[start..HEADROOM], payload.len(), self.checksum)
            .expect("nothing special")
    }
}

pub(super) fn any_numbers() -> impl Strategy<Value = Numbers> {
    any::<(u32, u64, u32)>().prop_map(|(seq, data_seq, subflow_seq)| Numbers {
        seq: SeqNum::new(seq),
        data_seq: DataSeq::new(data_seq),
        subflow_seq,
    })
}

pub(super) fn two_payloads() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let bytes = |len| prop::collection::vec(any::<u8>(), len);
    (1..=LEN_MAX).prop_flat_map(move |len| (bytes(len), bytes(len)))
}

proptest! {
    #[test]
    fn what_follows_is_as_if_written_anew(
        row in any_row(),
        first in any_numbers(),
        next in any_numbers(),
        (before, payload) in two_payloads(),
        told in any::<bool>(),
    ) {
        let pattern = row.pattern(first, &before);
        let (expected, start) = row.frame(next, &payload);
        let mut frame = [&[0xee; HEADROOM][..], &payload].concat();
        let range = HEADROOM..HEADROOM + payload.len();
        let sum = told.then(|| checksum::sum(0, &payload));
        prop_assert_eq!(pattern.write(next, &mut frame, range, Rest::NONE, sum), start);
        prop_assert_eq!(frame, expected);
    }
}

#[test]
fn what_says_more_than_the_next_is_no_pattern() {
    let numbers = Numbers { seq: SeqNum::new(7), data_seq: DataSeq::new(70), subflow_seq: 700 };
    let row = Row {
        link: LinkHeader::default(),
        tuple: FourTuple {
            local: Endpoint::new([10, 0, 0, 1].into(), 1),
            remote: Endpoint::new([10, 0, 0, 2].into(), 2),
        },
        ecn: 0,
        ack: 5,
        window: 6,
        timestamps: Some((1, 2)),
        dss: Some((Some(ShortOrLong::Short(3)), false)),
        checksum: ChecksumMode::Software,
    };
    let payload = [1, 2, 3];
    let options = row.options(numbers, &payload);
    let is_pattern = |tcp: TcpRepr, options: &TcpOptions, len: usize| {
        Pattern::new(&row.segment(tcp, options), &[0; 90], len, ChecksumMode::Off).is_some()
    };
    let tcp = row.tcp(numbers);
    assert!(is_pattern(tcp, &options, 3));
    assert!(is_pattern(tcp, &TcpOptions::default(), 3));
    for flag in [TcpFlags::PSH, TcpFlags::FIN, TcpFlags::CWR, TcpFlags::ECE] {
        assert!(!is_pattern(TcpRepr { flags: tcp.flags | flag, ..tcp }, &options, 3), "{flag:?}");
    }
    assert!(!is_pattern(tcp, &options, 2), "a mapping of more than the payload");
    assert!(!is_pattern(tcp, &options, 0), "no payload");
    let mut gaps = options.clone();
    gaps.sack.push((SeqNum::new(1), SeqNum::new(2)));
    assert!(!is_pattern(tcp, &gaps, 3));
    let window_scale = TcpOptions { window_scale: Some(1), ..options.clone() };
    assert!(!is_pattern(tcp, &window_scale, 3));
    let mut dss = options.dss().copied().expect("a DSS");
    let with = |dss: Dss| {
        let mut options = TcpOptions::default();
        options.mptcp.push(MptcpOption::Dss(dss));
        options
    };
    dss.data_fin = true;
    assert!(!is_pattern(tcp, &with(dss), 3), "it ends the data");
    assert!(!is_pattern(tcp, &with(Dss { mapping: None, data_fin: false, ..dss }), 3));
}

/// A payload cut into the first frame's part and others.
fn cut(payload: &[u8], first: usize, second: usize) -> [&[u8]; 3] {
    let (head, rest) = payload.split_at(first.min(payload.len()));
    let (middle, end) = rest.split_at(second.min(rest.len()));
    [head, middle, end]
}

proptest! {
    #[test]
    fn a_payload_in_several_frames_is_written_and_read_as_in_one(
        row in any_row(),
        first in any_numbers(),
        next in any_numbers(),
        (before, payload) in two_payloads(),
        (head_len, middle_len) in (0..LEN_MAX, 0..LEN_MAX),
        padding in 0..9_usize,
    ) {
        let (whole, start) = row.frame(next, &payload);
        let [head, middle, end] = cut(&payload, head_len, middle_len);
        let rest = Rest::NONE
            .and(middle.len(), checksum::sum(0, middle))
            .and(end.len(), checksum::sum(0, end));
        let mut frame = [&[0xee; HEADROOM][..], head].concat();
        let range = HEADROOM..frame.len();
        let options = row.options(next, &payload);
        let segment = row.segment(row.tcp(next), &options);
        prop_assert_eq!(emit_scattered(&segment, &mut frame, range.clone(), rest, row.checksum, None), start);
        prop_assert_eq!(&frame, &whole[..range.end]);
        // As one that follows, where nothing needs the sum of all of it.
        let mut following = [&[0xee; HEADROOM][..], head].concat();
        let pattern = row.pattern(first, &before);
        let sum = Some(checksum::sum(0, head));
        prop_assert_eq!(pattern.write(next, &mut following, range.clone(), rest, sum), start);
        prop_assert_eq!(&following, &whole[..range.end]);
        // And read again, with padding behind it.
        let end = [end, &vec![0; padding]].concat();
        let mut parts = Default::default();
        let packet = parse_scattered(&frame[start..], &[middle, &end], row.checksum, &mut parts);
        let Ok(Parsed::Tcp(expected)) = parse(&whole[start..], row.checksum) else { panic!("a good packet") };
        let packet = packet.expect("a good packet");
        prop_assert_eq!(&packet.tcp, &expected.tcp);
        prop_assert_eq!(&packet.options, &expected.options);
        prop_assert_eq!(packet.payload.len(), head.len());
        let lens: Vec<usize> = parts.iter().map(|(len, _)| *len).collect();
        prop_assert_eq!(lens, [middle.len(), payload.len() - head.len() - middle.len()]);
        if row.checksum == ChecksumMode::Software && !payload.is_empty() {
            let mut wrong = end.clone();
            if let Some(byte) = wrong.first_mut().filter(|_| payload.len() > head.len() + middle.len()) {
                *byte ^= 1;
                let mut parts = Default::default();
                let read = parse_scattered(&frame[start..], &[middle, &wrong], row.checksum, &mut parts);
                prop_assert_eq!(read, Err(Malformed::Checksum));
            }
        }
    }
}
