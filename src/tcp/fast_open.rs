//! TCP Fast Open (RFC 7413): the server's cookies, and what one connection's handshake says and hears.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::wire::{FastOpen, FastOpenCookie, Mss};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::net::IpAddr;

/// Bytes of a cookie of ours. RFC 8684 §B.1: beside MSS, SACK, timestamps, window scale and MP_CAPABLE the SYN/ACK has room
/// for no more, and an address has one cookie whether the connection is MPTCP or not. Nobody can try out 48 bits: each
/// guess is a SYN to us, and tells its sender nothing where it came from a forged address.
const COOKIE_LEN: usize = 6;
/// How often the key of cookies changes (RFC 7413 §4.1.2, 5.); a cookie holds good for one to two of these. An address that
/// goes to another host must not bring cookies along for long (§5.2): leases of addresses last for hours. Clients that
/// come back do so within minutes.
const PERIOD: Duration = Duration::from_secs(30 * 60);
/// Names what the secret is used for: it makes initial sequence numbers and SYN cookies, too.
const PURPOSE: &[u8] = b"Fast Open cookie";

/// What a cookie that a client brings is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieAge {
    /// We would make the same now.
    Current,
    /// We did so in the last period: it holds good, and is replaced.
    Previous,
    /// It is not ours, not this client's, or too old.
    Invalid,
}

/// RFC 7413 §4.1.2, GetCookie: the cookie for a client, by the current key.
pub fn fast_open_cookie(secret: &[u8; 16], now: Instant, client: IpAddr) -> FastOpenCookie {
    let digest: [u8; 32] = code(secret, period_of(now), client).finalize().into_bytes().into();
    FastOpenCookie::new(&digest[..COOKIE_LEN]).expect("a length that cookies have")
}

/// RFC 7413 §4.1.2, IsCookieValid: by the current key and the one before it.
pub fn fast_open_cookie_age(
    secret: &[u8; 16],
    now: Instant,
    client: IpAddr,
    cookie: &FastOpenCookie,
) -> CookieAge {
    let period = period_of(now);
    let is_of = |period| {
        // The length first: a part of a code is easier to guess.
        cookie.bytes().len() == COOKIE_LEN
            && code(secret, period, client).verify_truncated_left(cookie.bytes()).is_ok()
    };
    match (is_of(period), period.checked_sub(1)) {
        (true, _) => CookieAge::Current,
        (false, Some(before)) if is_of(before) => CookieAge::Previous,
        (false, _) => CookieAge::Invalid,
    }
}

fn period_of(now: Instant) -> u64 {
    now.as_nanos() / PERIOD.as_nanos()
}

fn code(secret: &[u8; 16], period: u64, client: IpAddr) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length (RFC 2104 §3)");
    mac.update(PURPOSE);
    mac.update(&period.to_be_bytes());
    match client {
        IpAddr::V4(addr) => mac.update(&addr.octets()),
        IpAddr::V6(addr) => mac.update(&addr.octets()),
    }
    mac
}

/// What came of Fast Open in a handshake of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FastOpenReport {
    /// What our first SYN said.
    pub asked: FastOpen,
    /// The cookie of the peer's SYN/ACK.
    pub answer: Option<FastOpenCookie>,
    /// Payload bytes of our first SYN.
    pub sent_bytes: u32,
    /// Those of them that the SYN/ACK acknowledged.
    pub acked_bytes: u32,
    /// The MSS that the peer gave.
    pub peer_mss: Mss,
}

/// Fast Open in the handshake of one connection.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Opening {
    /// What our first SYN or SYN/ACK says.
    pub(super) says: Option<FastOpen>,
    /// It has left.
    pub(super) said: bool,
    /// Active: payload bytes of our first SYN.
    pub(super) sent_bytes: u32,
    /// Active: those that the peer took.
    pub(super) acked_bytes: u32,
    /// Active: an ICMP error had it sent again without them.
    pub(super) shortened: bool,
    /// Active: the cookie on the SYN/ACK.
    pub(super) answer: Option<FastOpenCookie>,
    /// Passive: the peer's SYN opened the connection, and its payload was taken (RFC 7413 §4.2: FastOpened).
    pub(super) taken: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 16] = [7; 16];

    fn client(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn a_cookie_is_good_for_its_client_for_one_to_two_periods() {
        let start = Instant::ZERO + PERIOD * 7;
        let cookie = fast_open_cookie(&SECRET, start, client(1));
        let age = |at, addr, cookie: &FastOpenCookie| fast_open_cookie_age(&SECRET, at, addr, cookie);
        let tick = Duration::from_nanos(1);
        for (after, expected) in [
            (Duration::ZERO, CookieAge::Current),
            (PERIOD - tick, CookieAge::Current),
            (PERIOD, CookieAge::Previous),
            (PERIOD * 2 - tick, CookieAge::Previous),
            (PERIOD * 2, CookieAge::Invalid),
        ] {
            assert_eq!(age(start + after, client(1), &cookie), expected, "{after:?}");
        }
        assert_eq!(age(start, client(2), &cookie), CookieAge::Invalid, "another client");
        assert_eq!(
            fast_open_cookie_age(&[8; 16], start, client(1), &cookie),
            CookieAge::Invalid,
            "another server"
        );
        let mut bytes = cookie.bytes().to_vec();
        let part = FastOpenCookie::new(&bytes[..4]).expect("a cookie");
        assert_eq!(age(start, client(1), &part), CookieAge::Invalid, "a part of it");
        bytes[5] ^= 1;
        let other = FastOpenCookie::new(&bytes).expect("a cookie");
        assert_eq!(age(start, client(1), &other), CookieAge::Invalid);
        // The secret makes initial sequence numbers and SYN cookies, too: nothing that they show is a cookie.
        let mut bare = Hmac::<Sha256>::new_from_slice(&SECRET).expect("a key");
        bare.update(&7_u64.to_be_bytes());
        bare.update(&[10, 0, 0, 1]);
        let bare = FastOpenCookie::new(&bare.finalize().into_bytes()[..COOKIE_LEN]).expect("a cookie");
        assert_eq!(age(start, client(1), &bare), CookieAge::Invalid, "made for no purpose");
        // Before there was a period before.
        let first = fast_open_cookie(&SECRET, Instant::ZERO, client(1));
        assert_eq!(age(Instant::ZERO, client(1), &first), CookieAge::Current);
        assert_eq!(age(Instant::ZERO, client(1), &cookie), CookieAge::Invalid);
    }

    #[test]
    fn addresses_of_both_families_have_cookies_of_their_own() {
        let v6: IpAddr = "2001:db8::1".parse().expect("an address");
        let cookie = fast_open_cookie(&SECRET, Instant::ZERO, v6);
        assert_eq!(fast_open_cookie_age(&SECRET, Instant::ZERO, v6, &cookie), CookieAge::Current);
        assert_eq!(fast_open_cookie_age(&SECRET, Instant::ZERO, client(1), &cookie), CookieAge::Invalid);
    }
}
