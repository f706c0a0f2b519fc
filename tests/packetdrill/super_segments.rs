//! PSH as Linux sets it. Linux sends bulk data as super-segments that the NIC cuts (TSO) and marks the end of each with
//! PSH, so that the receiver's GRO passes it on; scripts expect those marks. Braid has no TSO, and a mark on every second
//! segment would only cut a receiver's GRO short. PSH is advice, and whether it stands inside of a burst is not what is
//! judged here: this adds the marks to what the stack emits, and takes none away.

use std::collections::BTreeMap;

const PSH: u8 = 0x08;

/// What of a packet matters here.
#[derive(Debug, Clone, Copy)]
struct Data {
    seq: u32,
    end: u32,
    /// Where its TCP header begins in the IP packet.
    tcp: usize,
}

/// The super-segments of one connection, from what left of it.
#[derive(Debug, Default)]
pub struct SuperSegments {
    /// Of each super-segment that was sent whole: its end, and where it began.
    sent: BTreeMap<u32, u32>,
    /// The highest number sent so far.
    next: Option<u32>,
}

impl SuperSegments {
    /// Marks the ends of super-segments, of `segments` segments at most, in `burst`: what left at one time, in order,
    /// without Ethernet headers.
    pub fn mark(&mut self, burst: &mut [Vec<u8>], segments: usize) {
        let mut run: Vec<(usize, Data)> = Vec::new();
        for place in 0..=burst.len() {
            let data = burst.get(place).and_then(|packet| read(packet));
            let follows = match (run.last(), data) {
                (Some((_, last)), Some(data)) => {
                    let first = run[0].1;
                    data.seq == last.end && last.end - last.seq == first.end - first.seq
                }
                _ => false,
            };
            if !follows || run.len() >= segments {
                self.finish(&run, burst);
                run.clear();
            }
            run.extend(data.map(|data| (place, data)));
        }
    }

    /// `run` is one super-segment, if it has the segments.
    fn finish(&mut self, run: &[(usize, Data)], burst: &mut [Vec<u8>]) {
        let (Some((_, first)), Some((place, last))) = (run.first(), run.last()) else { return };
        let fresh = self.next.is_none_or(|next| first.seq.wrapping_sub(next) as i32 >= 0);
        if fresh {
            self.next = Some(last.end);
            if run.len() > 1 {
                self.sent.insert(last.end, first.seq);
            }
        }
        // What is sent again is marked where it is a whole super-segment again.
        let whole = run.len() > 1 && self.sent.get(&last.end) == Some(&first.seq);
        if whole {
            set_push(&mut burst[*place], last.tcp);
        }
    }
}

/// A packet that carries data, and no FIN or SYN.
fn read(packet: &[u8]) -> Option<Data> {
    let (tcp, end) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 15) * 4;
            (header, usize::from(u16::from_be_bytes([packet[2], packet[3]])))
        }
        _ => (40, 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]))),
    };
    let header = packet.get(tcp..end)?;
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let payload = header.len().checked_sub(usize::from(header[12] >> 4) * 4)?;
    (payload > 0).then(|| Data { seq: word(4), end: word(4).wrapping_add(payload as u32), tcp })
}

/// Sets PSH and mends the checksum (RFC 1624 §3, equation 3).
fn set_push(packet: &mut [u8], tcp: usize) {
    let flags = &mut packet[tcp + 13];
    if *flags & PSH != 0 {
        return;
    }
    let before = u16::from(*flags);
    *flags |= PSH;
    let after = u16::from(*flags);
    let sum = u16::from_be_bytes([packet[tcp + 16], packet[tcp + 17]]);
    let mut mended = u32::from(!sum) + u32::from(!before) + u32::from(after);
    mended = (mended & 0xffff) + (mended >> 16);
    mended = (mended & 0xffff) + (mended >> 16);
    packet[tcp + 16..tcp + 18].copy_from_slice(&(!(mended as u16)).to_be_bytes());
}
