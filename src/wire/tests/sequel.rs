//! What is taken as the next segment of a run is what would have been found in it otherwise, and nothing else is taken.

use super::pattern::{HEADROOM, Row, any_numbers, any_row, two_payloads};
use crate::wire::sequel::Next;
use crate::wire::{ChecksumMode, MptcpOption, Numbers, Packet, Parsed, Sequel, TcpFlags, parse};
use proptest::prelude::*;

/// Fewer bytes of payload are no bulk data.
const LEN_MIN: usize = 8;

fn numbers_after(numbers: Numbers, payload_len: usize) -> Numbers {
    let Numbers { seq, data_seq, subflow_seq } = numbers;
    Numbers {
        seq: seq + payload_len as u32,
        data_seq: data_seq + payload_len as u64,
        subflow_seq: subflow_seq.wrapping_add(payload_len as u32),
    }
}

fn frame(row: &Row, numbers: Numbers, payload: &[u8]) -> Vec<u8> {
    let (frame, start) = row.frame(numbers, payload);
    frame[start..HEADROOM + payload.len()].to_vec()
}

fn packet(frame: &[u8], checksum: ChecksumMode) -> Option<Packet> {
    match parse(frame, checksum) {
        Ok(Parsed::Tcp(packet)) => Some(packet),
        _ => None,
    }
}

/// Whether the long way would have come to the same.
fn is_same(next: Next, packet: &Packet, model: &Packet) -> bool {
    let mapping = packet.options.dss().and_then(|dss| dss.mapping);
    let numbers = mapping
        .map(|mapping| (mapping.data_seq.resolve(next.mapping.unwrap_or_default().0), mapping.subflow_seq));
    // All that a sequel does not tell is as it was.
    let mut rest = packet.clone();
    (rest.tcp.seq, rest.payload_sum) = (model.tcp.seq, model.payload_sum);
    if let (Some(MptcpOption::Dss(dss)), Some(MptcpOption::Dss(of_model))) =
        (rest.options.mptcp.first_mut(), model.options.mptcp.first())
    {
        dss.mapping = of_model.mapping;
    }
    (next.tcp, next.mapping, next.payload_at, next.payload_sum)
        == (packet.tcp, numbers, packet.payload.start, packet.payload_sum)
        && rest == *model
}

/// A row whose segments can be a run.
fn any_run() -> impl Strategy<Value = Row> {
    any_row().prop_map(|mut row| {
        row.dss = row.dss.map(|(data_ack, _)| (data_ack, false));
        row.ecn %= 3;
        row
    })
}

proptest! {
    #[test]
    fn the_next_one_is_taken_and_says_the_same(
        row in any_run(),
        first in any_numbers(),
        (before, payload) in two_payloads(),
        at in any::<prop::sample::Index>(),
        change in 1..=255u8,
    ) {
        prop_assume!(before.len() >= LEN_MIN);
        let model = frame(&row, first, &before);
        let model_packet = packet(&model, row.checksum).expect("good");
        let sequel = || Sequel::of(&model_packet, &model, row.checksum).expect("a run");
        let numbers = numbers_after(first, before.len());
        let mut bytes = frame(&row, numbers, &payload);
        let mut taken = sequel();
        let next = taken.take(&bytes).expect("the next one");
        prop_assert!(is_same(next, &packet(&bytes, row.checksum).expect("good"), &model_packet), "{next:?}");
        prop_assert_eq!(taken.take(&bytes), None, "the same again");
        let after = frame(&row, numbers_after(numbers, payload.len()), &before);
        prop_assert!(taken.take(&after).is_some(), "the one after it");
        prop_assert_eq!(sequel().take(&after), None, "one is missing");
        let elsewhere = Numbers { data_seq: numbers.data_seq + 5_000, ..numbers };
        let elsewhere = frame(&row, elsewhere, &payload);
        let next = sequel().take(&elsewhere).expect("what lies between came elsewhere");
        prop_assert!(is_same(next, &packet(&elsewhere, row.checksum).expect("good"), &model_packet), "{next:?}");
        prop_assert_eq!(sequel().take(&bytes[..bytes.len() - 1]), None, "a shorter one");
        // Whatever byte is another: if it is taken, then rightly.
        bytes[at.index(model.len())] ^= change;
        if let Some(next) = sequel().take(&bytes) {
            let packet = packet(&bytes, row.checksum);
            prop_assert!(packet.is_some_and(|packet| is_same(next, &packet, &model_packet)), "{next:?}");
        }
    }

    #[test]
    fn what_says_more_than_the_next_is_no_beginning(
        row in any_run(),
        numbers in any_numbers(),
        (payload, _) in two_payloads(),
    ) {
        let model = frame(&row, numbers, &payload);
        let good = packet(&model, row.checksum).expect("good");
        let begins = |packet: &Packet, frame: &[u8]| Sequel::of(packet, frame, row.checksum).is_some();
        prop_assert_eq!(begins(&good, &model), payload.len() >= LEN_MIN);
        for flag in [TcpFlags::FIN, TcpFlags::PSH, TcpFlags::URG, TcpFlags::CWR, TcpFlags::ECE] {
            let mut packet = good.clone();
            packet.tcp.flags = packet.tcp.flags | flag;
            prop_assert!(!begins(&packet, &model), "{flag:?}");
        }
        prop_assert!(!begins(&Packet { ecn: 3, ..good.clone() }, &model), "a mark");
        let padded = [&model[..], &[0]].concat();
        prop_assert!(!begins(&good, &padded), "padding");
        if let Some((data_ack, _)) = row.dss {
            let mut summed = row.clone();
            summed.dss = Some((data_ack, true));
            let model = frame(&summed, numbers, &payload);
            prop_assert!(!begins(&packet(&model, row.checksum).expect("good"), &model), "a checksum");
        }
    }
}
