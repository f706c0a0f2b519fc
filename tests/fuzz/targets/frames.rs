//! Whole frames into `wire::parse`; what it takes for a TCP segment is written again, and must be the same when read.

#![no_main]

use braid::wire::{ChecksumMode, Packet, Parsed, SegmentRepr, emit, parse};

libfuzzer_sys::fuzz_target!(|frame: &[u8]| {
    let _ = parse(frame, ChecksumMode::Software);
    if let Ok(Parsed::Tcp(packet)) = parse(frame, ChecksumMode::Off)
        // More than one packet holds, were all options written as we write them.
        && packet.options.wire_len() <= 40
    {
        check_again(frame, &packet);
    }
});

/// What was read, and written again, is read as before.
fn check_again(frame: &[u8], packet: &Packet) {
    let Packet { link, tuple, ecn, tcp, options, payload, .. } = packet;
    let (link, bytes) = (link.reversed(), &frame[payload.clone()]);
    let mut again = vec![0; 256 + bytes.len()];
    again[256..].copy_from_slice(bytes);
    let segment = SegmentRepr { link: &link, tuple: tuple.reversed(), ecn: *ecn, tcp: *tcp, options };
    let place = 256..again.len();
    let start = emit(&segment, &mut again, place, ChecksumMode::Software);
    let Ok(Parsed::Tcp(read)) = parse(&again[start..], ChecksumMode::Software) else {
        panic!("what we write is not read: {packet:?}");
    };
    assert_eq!((read.tuple, read.ecn, read.tcp, &read.options), (*tuple, *ecn, *tcp, options));
    assert_eq!(&again[start..][read.payload], bytes);
}
