//! What a worker remembers for TCP Fast Open (RFC 7413): as a client the cookies of servers and the paths where it failed, as
//! a server how many of its connections began with data and are not confirmed.

use crate::base::Instant;
use crate::base::time::Duration;
use crate::tcp::FastOpenReport;
use crate::wire::{Endpoint, FastOpen, FastOpenCookie, FourTuple, Mss};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;

/// Cookies that are kept, and paths where Fast Open failed. A full table forgets what was used the longest time ago.
const TABLE_MAX: usize = 1024;
/// RFC 7413 §4.1.3.1: how long a path where it failed is left alone after the first time; twice as long each further time.
const BLOCK: Duration = Duration::from_secs(60);
/// No longer than 2^this times that: about 17 hours. Middleboxes are replaced, and servers upgraded.
const DOUBLINGS_MAX: u32 = 10;
/// RFC 7413 §4.1.3: no more data on a SYN than this, whatever MSS the server gave: a longer SYN confuses middleboxes.
const MSS_MAX_V4: u16 = 1460;
/// The same over IPv6.
const MSS_MAX_V6: u16 = 1440;

/// What our SYN says to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Nothing: it failed on this path a short while ago.
    Nothing,
    /// It asks for a cookie.
    Request,
    /// It brings the server's cookie, and data that the server's MSS has room for.
    Cookie(FastOpenCookie, Mss),
}

#[derive(Debug, Clone, Copy)]
struct Known {
    cookie: FastOpenCookie,
    mss: Mss,
    used_at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    until: Instant,
    times: u32,
    used_at: Instant,
}

/// The client's memory.
#[derive(Debug, Default)]
pub struct FastOpenCache {
    /// By both addresses: a multihomed client has a cookie for each of its own.
    cookies: HashMap<(IpAddr, IpAddr), Known>,
    /// With the port: servers enable it by port.
    failures: HashMap<(IpAddr, Endpoint), Failure>,
}

impl FastOpenCache {
    /// What the SYN of a new connection says.
    pub fn offer(&mut self, now: Instant, tuple: &FourTuple) -> Offer {
        if let Some(failure) = self.failures.get_mut(&(tuple.local.addr, tuple.remote)) {
            failure.used_at = now;
            if now < failure.until {
                return Offer::Nothing;
            }
        }
        match self.cookies.get_mut(&(tuple.local.addr, tuple.remote.addr)) {
            Some(known) => {
                known.used_at = now;
                Offer::Cookie(known.cookie, known.mss)
            }
            None => Offer::Request,
        }
    }

    /// A connection that said something is established. False: that counts as a failure, and the path is left alone for a
    /// while.
    pub fn learn(&mut self, now: Instant, tuple: &FourTuple, report: &FastOpenReport) -> bool {
        let FastOpenReport { asked, answer, sent_bytes, acked_bytes, peer_mss } = *report;
        let most = if tuple.remote.addr.is_ipv4() { MSS_MAX_V4 } else { MSS_MAX_V6 };
        let mss = peer_mss.min(Mss::new(most));
        let place = (tuple.local.addr, tuple.remote.addr);
        // RFC 7413 §4.2.2: the MSS is news, whatever came of cookie and data.
        self.cookies.get_mut(&place).into_iter().for_each(|known| known.mss = mss);
        let cookie = match (answer, asked) {
            (Some(cookie), _) => cookie,
            (None, FastOpen::Cookie(cookie)) if acked_bytes > 0 => cookie,
            // Nothing was risked, and nothing is learned.
            (None, FastOpen::Cookie(_)) if sent_bytes == 0 => return true,
            (None, FastOpen::Cookie(_) | FastOpen::Request) => {
                self.fail(now, tuple);
                return false;
            }
        };
        self.failures.remove(&(tuple.local.addr, tuple.remote));
        insert(&mut self.cookies, place, Known { cookie, mss, used_at: now }, |known| known.used_at);
        true
    }

    /// A connection that said something did not come about, or had no answer to what it said.
    pub fn fail(&mut self, now: Instant, tuple: &FourTuple) {
        let path = (tuple.local.addr, tuple.remote);
        let times = self.failures.get(&path).map_or(0, |failure| failure.times);
        let until = now + BLOCK * 2u32.pow(times.min(DOUBLINGS_MAX));
        let failure = Failure { until, times: times + 1, used_at: now };
        insert(&mut self.failures, path, failure, |failure| failure.used_at);
    }
}

/// Puts a value into a table. A full one forgets what was used the longest time ago. That is looked for in all of it, but
/// only a new server of a new connection makes it so. Keys decide between the equally old: no result depends on a hash.
fn insert<K: Eq + Hash + Ord + Copy, V>(
    table: &mut HashMap<K, V>,
    key: K,
    value: V,
    used_at: impl Fn(&V) -> Instant,
) {
    if table.len() >= TABLE_MAX
        && !table.contains_key(&key)
        && let Some((_, oldest)) = table.iter().map(|(key, value)| (used_at(value), *key)).min()
    {
        table.remove(&oldest);
    }
    table.insert(key, value);
}

/// RFC 7413 §5.1: connections of a worker that began with data and are not confirmed. What more SYNs bring is left to the
/// handshake.
pub const PENDING_MAX: usize = 128;
/// RFC 7413 §5.1: how long one that was reset or given up keeps its place. The resets of hosts whose addresses were forged
/// would make room for more of the same.
const PENALTY: Duration = Duration::from_secs(60);

/// The server's PendingFastOpenRequests (RFC 7413 §4.2).
#[derive(Debug, Default)]
pub struct PendingFastOpens {
    pending: usize,
    /// When the places of those that failed are free, oldest first.
    failed: VecDeque<Instant>,
}

impl PendingFastOpens {
    /// Whether one more may begin.
    pub fn has_room(&mut self, now: Instant) -> bool {
        while self.failed.front().is_some_and(|free_at| *free_at <= now) {
            self.failed.pop_front();
        }
        self.pending + self.failed.len() < PENDING_MAX
    }

    /// Whether none is unconfirmed.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// One begins.
    pub fn begin(&mut self) {
        self.pending += 1;
    }

    /// One is confirmed.
    pub fn confirm(&mut self) {
        self.pending -= 1;
    }

    /// One ended before it was.
    pub fn fail(&mut self, now: Instant) {
        self.pending -= 1;
        self.failed.push_back(now + PENALTY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(client: u8, server: u16, port: u16) -> FourTuple {
        let [high, low] = server.to_be_bytes();
        FourTuple {
            local: Endpoint::new([10, 0, 0, client].into(), 40_000),
            remote: Endpoint::new([10, 1, high, low].into(), port),
        }
    }

    fn cookie(byte: u8) -> FastOpenCookie {
        FastOpenCookie::new(&[byte; 6]).expect("a cookie")
    }

    fn report(asked: FastOpen, answer: Option<FastOpenCookie>, sent: u32, acked: u32) -> FastOpenReport {
        let peer_mss = Mss::new(9000);
        FastOpenReport { asked, answer, sent_bytes: sent, acked_bytes: acked, peer_mss }
    }

    fn given(byte: u8) -> FastOpenReport {
        report(FastOpen::Request, Some(cookie(byte)), 0, 0)
    }

    const START: Instant = Instant::from_millis(1_000);

    #[test]
    fn a_cookie_is_for_both_addresses_and_for_every_port() {
        let mut cache = FastOpenCache::default();
        assert_eq!(cache.offer(START, &tuple(1, 1, 80)), Offer::Request);
        assert!(cache.learn(START, &tuple(1, 1, 80), &given(5)));
        // RFC 7413 §4.1.3: no more than 1460 bytes, though the server takes 9000.
        let known = Offer::Cookie(cookie(5), Mss::new(1460));
        assert_eq!(cache.offer(START, &tuple(1, 1, 80)), known);
        assert_eq!(cache.offer(START, &tuple(1, 1, 443)), known);
        assert_eq!(cache.offer(START, &tuple(2, 1, 80)), Offer::Request);
        assert_eq!(cache.offer(START, &tuple(1, 2, 80)), Offer::Request);
        // The latest one counts; and data that was taken says that the cookie is still good.
        let old = FastOpen::Cookie(cookie(5));
        assert!(cache.learn(START, &tuple(1, 1, 80), &report(old, Some(cookie(6)), 100, 0)));
        assert_eq!(cache.offer(START, &tuple(1, 1, 80)), Offer::Cookie(cookie(6), Mss::new(1460)));
        assert!(cache.learn(START, &tuple(1, 1, 80), &report(FastOpen::Cookie(cookie(6)), None, 100, 100)));
        assert!(cache.learn(START, &tuple(1, 1, 80), &report(FastOpen::Cookie(cookie(6)), None, 0, 0)));
        assert_eq!(cache.offer(START, &tuple(1, 1, 80)), Offer::Cookie(cookie(6), Mss::new(1460)));
        // A new one counts in answer to a SYN without data, too.
        let old = FastOpen::Cookie(cookie(6));
        assert!(cache.learn(START, &tuple(1, 1, 80), &report(old, Some(cookie(7)), 0, 0)));
        assert_eq!(cache.offer(START, &tuple(1, 1, 80)), Offer::Cookie(cookie(7), Mss::new(1460)));
    }

    #[test]
    fn no_more_goes_with_a_syn_than_the_server_said_last_and_middleboxes_are_used_to() {
        let mut cache = FastOpenCache::default();
        let v6 = FourTuple {
            local: Endpoint::new(std::net::Ipv6Addr::LOCALHOST.into(), 40_000),
            remote: Endpoint::new(std::net::Ipv6Addr::LOCALHOST.into(), 80),
        };
        cache.learn(START, &v6, &given(5));
        assert_eq!(cache.offer(START, &v6), Offer::Cookie(cookie(5), Mss::new(MSS_MAX_V6)));
        // The MSS counts where no cookie came back: data was ignored, or none was sent.
        let v4 = tuple(1, 1, 80);
        cache.learn(START, &v4, &given(5));
        for (sent, mss) in [(0, 500), (100, 600)] {
            let report = FastOpenReport {
                peer_mss: Mss::new(mss),
                ..report(FastOpen::Cookie(cookie(5)), None, sent, 0)
            };
            assert_eq!(cache.learn(START, &v4, &report), sent == 0);
            assert_eq!(cache.offer(START, &tuple(1, 1, 81)), Offer::Cookie(cookie(5), Mss::new(mss)));
        }
    }

    #[test]
    fn a_path_where_it_fails_is_left_alone_for_longer_each_time() {
        let mut cache = FastOpenCache::default();
        let mut now = START;
        cache.learn(now, &tuple(1, 1, 80), &given(5));
        let ignored = report(FastOpen::Cookie(cookie(5)), None, 100, 0);
        for times in 0..13 {
            assert!(
                !cache.learn(now, &tuple(1, 1, 80), &ignored),
                "the data was ignored, and no cookie came"
            );
            let wait = BLOCK * 2u32.pow(times.min(DOUBLINGS_MAX));
            let almost = (now + wait).back(Duration::from_nanos(1));
            assert_eq!(cache.offer(almost, &tuple(1, 1, 80)), Offer::Nothing, "{times}");
            assert!(matches!(cache.offer(almost, &tuple(1, 1, 81)), Offer::Cookie(..)), "another port");
            now += wait;
            assert!(matches!(cache.offer(now, &tuple(1, 1, 80)), Offer::Cookie(..)), "tried again");
        }
        // Once it works the count begins anew.
        cache.learn(now, &tuple(1, 1, 80), &report(FastOpen::Cookie(cookie(5)), None, 100, 50));
        cache.fail(now, &tuple(1, 1, 80));
        assert!(matches!(cache.offer(now + BLOCK, &tuple(1, 1, 80)), Offer::Cookie(..)));
        // A server that has no cookies is not asked each time.
        assert!(!cache.learn(now, &tuple(1, 2, 80), &report(FastOpen::Request, None, 0, 0)));
        assert_eq!(cache.offer(now, &tuple(1, 2, 80)), Offer::Nothing);
        assert_eq!(cache.offer(now + BLOCK, &tuple(1, 2, 80)), Offer::Request);
    }

    #[test]
    fn a_full_table_forgets_what_was_used_the_longest_time_ago() {
        let mut cache = FastOpenCache::default();
        let at = |n: usize| START + Duration::from_millis(n as u64);
        for n in 0..TABLE_MAX {
            cache.learn(at(n), &tuple(1, n as u16, 80), &given(5));
            cache.fail(at(n), &tuple(2, n as u16, 80));
        }
        // The first one is used once more, so the second one goes.
        let later = at(TABLE_MAX);
        assert!(matches!(cache.offer(later, &tuple(1, 0, 80)), Offer::Cookie(..)));
        assert_eq!(cache.offer(later, &tuple(2, 0, 80)), Offer::Nothing);
        cache.learn(later, &tuple(1, TABLE_MAX as u16, 80), &given(5));
        cache.fail(later, &tuple(2, TABLE_MAX as u16, 80));
        assert_eq!((cache.cookies.len(), cache.failures.len()), (TABLE_MAX, TABLE_MAX));
        for n in [0, 2, TABLE_MAX] {
            assert!(matches!(cache.offer(later, &tuple(1, n as u16, 80)), Offer::Cookie(..)), "{n}");
            assert_eq!(cache.offer(later, &tuple(2, n as u16, 80)), Offer::Nothing, "{n}");
        }
        for client in [1, 2] {
            assert_eq!(cache.offer(later, &tuple(client, 1, 80)), Offer::Request);
        }
        // What is there already takes no more room.
        cache.learn(later, &tuple(1, 2, 80), &given(6));
        assert!(matches!(cache.offer(later, &tuple(1, 3, 80)), Offer::Cookie(..)));
    }

    #[test]
    fn pending_connections_are_few_and_those_that_failed_count_for_a_while() {
        let mut pending = PendingFastOpens::default();
        for _ in 0..PENDING_MAX {
            assert!(pending.has_room(START));
            pending.begin();
        }
        assert!(!pending.has_room(START));
        pending.confirm();
        assert!(pending.has_room(START));
        pending.fail(START);
        pending.begin();
        assert!(!pending.has_room((START + PENALTY).back(Duration::from_nanos(1))), "a reset makes no room");
        assert!(pending.has_room(START + PENALTY));
    }
}
