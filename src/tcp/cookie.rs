//! SYN cookies (RFC 4987 §3.6): what a SYN said, kept in the sequence number of the SYN/ACK until the peer brings it back,
//! so that a flood of SYNs costs no memory.
//!
//! Bernstein's scheme keeps the MSS, and loses window scaling and SACK; others keep those in our timestamp, and lose them
//! where the peer has none. Here 8 bits of the number hold all of it, and 24 bits a code that only we can make. Timestamps
//! need no bit: the third ACK has them if both ends do.

use crate::base::time::Duration;
use crate::base::{Instant, SeqNum};
use crate::wire::{Endpoint, FourTuple, TcpOptions, TcpRepr};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::net::IpAddr;

/// RFC 4987 appendix A: the counter in the code goes up this often. A cookie holds good for one to two of them.
const PERIOD: Duration = Duration::from_secs(64);
/// How long after a cookie was given out one may come back.
pub const COOKIE_LIFE: Duration = Duration::from_secs(2 * 64);
/// The largest of these that is not larger than the peer's MSS is taken for it: RFC 9293's default, tunnels, Ethernet,
/// jumbo frames.
const MSS_V4: [u16; 4] = [536, 1300, 1460, 8960];
/// The same over IPv6, which guarantees 1280 bytes.
const MSS_V6: [u16; 4] = [536, 1220, 1440, 8940];
/// In the place of a window scale: the peer does not scale.
const NO_SCALE: u8 = 15;
/// Names what the secret is used for: it makes initial sequence numbers, too.
const PURPOSE: &[u8] = b"SYN cookie";

/// A cookie, and what follows from the same hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Our initial sequence number.
    pub iss: SeqNum,
    /// For the clock of our timestamps, which has to be the same when the peer comes back.
    pub timestamp_offset: u32,
    /// Secret bits for whatever else has to be the same then.
    pub seed: [u8; 16],
    /// What the SYN said, as it is known when the peer comes back: MSS, window scale, SACK.
    pub options: TcpOptions,
    /// The SYN had MP_CAPABLE.
    pub capable: bool,
}

impl Cookie {
    /// The cookie for a SYN. `None` where it can't say what the SYN does: an MSS below 536.
    pub fn new(
        secret: &[u8; 16],
        now: Instant,
        tuple: &FourTuple,
        syn: &TcpRepr,
        options: &TcpOptions,
        capable: bool,
    ) -> Option<Self> {
        let data = encode(tuple, options, capable)?;
        let digest = digest(secret, tuple, syn.seq, period_of(now));
        Some(Self::from_digest(&digest, tuple, data))
    }

    /// The cookie that an ACK brings back, if it is one of ours that still holds good.
    pub fn verify(secret: &[u8; 16], now: Instant, tuple: &FourTuple, ack: &TcpRepr) -> Option<Self> {
        let period = period_of(now);
        [Some(period), period.checked_sub(1)].into_iter().flatten().find_map(|period| {
            // The third ACK, and the first data behind it, stand right behind the SYN; what acknowledges the cookie is
            // right behind it.
            let digest = digest(secret, tuple, ack.seq - 1, period);
            let (iss, [.., pad]) = ((ack.ack - 1).raw(), code(&digest));
            let cookie = Self::from_digest(&digest, tuple, iss as u8 ^ pad);
            (cookie.iss.raw() == iss).then_some(cookie)
        })
    }

    fn from_digest(digest: &[u8; 32], tuple: &FourTuple, data: u8) -> Self {
        let [a, b, c, pad] = code(digest);
        let mut seed = [0; 16];
        seed.copy_from_slice(&digest[16..]);
        let (options, capable) = decode(tuple, data);
        Self {
            // The data is not in the code: who has a cookie could have sent another SYN as well. It is covered, so that
            // the number can't be guessed from the SYN.
            iss: SeqNum::new(u32::from_be_bytes([a, b, c, data ^ pad])),
            timestamp_offset: u32::from_be_bytes([digest[4], digest[5], digest[6], digest[7]]),
            seed,
            options,
            capable,
        }
    }
}

fn period_of(now: Instant) -> u64 {
    now.as_nanos() / PERIOD.as_nanos()
}

/// The first bytes of the digest: three for the code, one to cover the data with.
fn code(digest: &[u8; 32]) -> [u8; 4] {
    [digest[0], digest[1], digest[2], digest[3]]
}

fn digest(secret: &[u8; 16], tuple: &FourTuple, irs: SeqNum, period: u64) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length (RFC 2104 §3)");
    mac.update(PURPOSE);
    for Endpoint { addr, port } in [tuple.local, tuple.remote] {
        match addr {
            IpAddr::V4(addr) => mac.update(&addr.octets()),
            IpAddr::V6(addr) => mac.update(&addr.octets()),
        }
        mac.update(&port.to_be_bytes());
    }
    mac.update(&irs.raw().to_be_bytes());
    mac.update(&period.to_be_bytes());
    mac.finalize().into_bytes().into()
}

fn table(tuple: &FourTuple) -> &'static [u16; 4] {
    if tuple.remote.addr.is_ipv4() { &MSS_V4 } else { &MSS_V6 }
}

/// Two bits of MSS, four of window scale, one each for SACK and MP_CAPABLE.
fn encode(tuple: &FourTuple, options: &TcpOptions, capable: bool) -> Option<u8> {
    let table = table(tuple);
    // RFC 9293 §3.7.1: 536 where the peer says nothing.
    let mss = options.mss.unwrap_or(table[0]);
    let index = table.iter().rposition(|entry| *entry <= mss)? as u8;
    // RFC 7323 §2.3: at most 14.
    let scale = options.window_scale.map_or(NO_SCALE, |shift| shift.min(NO_SCALE - 1));
    Some(index | scale << 2 | u8::from(options.sack_permitted) << 6 | u8::from(capable) << 7)
}

fn decode(tuple: &FourTuple, data: u8) -> (TcpOptions, bool) {
    let scale = data >> 2 & 0xf;
    let options = TcpOptions {
        mss: Some(table(tuple)[usize::from(data & 3)]),
        window_scale: (scale != NO_SCALE).then_some(scale),
        sack_permitted: data & 0x40 != 0,
        ..TcpOptions::default()
    };
    (options, data & 0x80 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::TcpFlags;

    const SECRET: [u8; 16] = [7; 16];

    fn tuple(port: u16) -> FourTuple {
        FourTuple {
            local: Endpoint::new([10, 0, 0, 1].into(), 80),
            remote: Endpoint::new([10, 0, 0, 2].into(), port),
        }
    }

    fn header(seq: u32, ack: SeqNum) -> TcpRepr {
        TcpRepr { seq: SeqNum::new(seq), ack, flags: TcpFlags::ACK, window: 1000, urgent: 0 }
    }

    fn options(mss: u16, window_scale: Option<u8>, sack_permitted: bool) -> TcpOptions {
        TcpOptions { mss: Some(mss), window_scale, sack_permitted, ..TcpOptions::default() }
    }

    fn cookie(now: Instant, options: &TcpOptions, capable: bool) -> Cookie {
        let syn = header(99, SeqNum::default());
        Cookie::new(&SECRET, now, &tuple(1), &syn, options, capable).expect("an MSS that can be said")
    }

    #[test]
    fn what_the_syn_said_comes_back_and_the_mss_never_larger() {
        let now = Instant::from_millis(1_000_000);
        for (mss, told) in
            [(536, 536), (1299, 536), (1300, 1300), (1459, 1300), (1460, 1460), (8959, 1460), (9000, 8960)]
        {
            for scale in (0..=14).map(Some).chain([None]) {
                for (sack, capable) in [(false, false), (true, false), (false, true), (true, true)] {
                    let given = cookie(now, &options(mss, scale, sack), capable);
                    let back = Cookie::verify(&SECRET, now, &tuple(1), &header(100, given.iss + 1));
                    assert_eq!(back, Some(given.clone()));
                    assert_eq!(given.options, options(told, scale, sack));
                    assert_eq!(given.capable, capable);
                }
            }
        }
        let syn = header(99, SeqNum::default());
        let tiny = options(535, None, false);
        assert_eq!(
            Cookie::new(&SECRET, now, &tuple(1), &syn, &tiny, false),
            None,
            "rather none than a larger"
        );
    }

    #[test]
    fn a_cookie_is_good_for_its_connection_for_a_while_and_for_nothing_else() {
        let now = Instant::from_millis(1_000_000);
        let given = cookie(now, &options(1460, Some(7), true), true);
        let verify = |at, tuple: &FourTuple, seq, ack| Cookie::verify(&SECRET, at, tuple, &header(seq, ack));
        assert!(verify(now + PERIOD, &tuple(1), 100, given.iss + 1).is_some());
        assert!(verify(now + COOKIE_LIFE, &tuple(1), 100, given.iss + 1).is_none(), "too old");
        assert!(verify(now, &tuple(2), 100, given.iss + 1).is_none(), "another port");
        assert!(verify(now, &tuple(1), 101, given.iss + 1).is_none(), "another SYN");
        assert!(Cookie::verify(&[8; 16], now, &tuple(1), &header(100, given.iss + 1)).is_none());
        // Of the numbers around it none but those with the same code will do.
        let good =
            (0..4096).filter(|by| verify(now, &tuple(1), 100, given.iss + by * 256 + 1).is_some()).count();
        assert_eq!(good, 1);
    }
}
