//! SYNs that the SYN queue has no room for: answered with a cookie (RFC 4987 §3.6), as the connection would that they ask
//! for, which is forgotten then. The segment that brings the cookie back makes it anew.
//!
//! RFC 8684 §3.1 has provided for that: the third packet carries both keys, and ours can be made from the cookie again.

use super::strays::STRAYS_MAX;
use super::{Connection, ConnectionId, Slot, Stack, find_listener};
use crate::base::{Instant, PoolCache, PortId};
use crate::mptcp::crypto::KeyMaterial;
use crate::mptcp::{ConnectOptions, Mib, Setup, Transmit};
use crate::tcp::{COOKIE_LIFE, Cookie, TcpConfig};
use crate::wire::mptcp::{CapableFlags, Key, MpCapable, VERSION};
use crate::wire::{MptcpOption, Packet, TcpFlags, TcpOptions};

/// Keys that a cookie can make for each worker there is: the token of one has to name this worker, and to be new.
const KEYS_PER_WORKER: u64 = 16;

/// What came of a segment that may bring a cookie back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Returned {
    /// It does: this connection is to be given it.
    Connection(ConnectionId),
    /// It does, and there is no room. That is no reason for a reset: what comes behind it brings the cookie, too.
    Dropped,
    /// It does not.
    Stray,
}

impl Stack {
    /// Answers a SYN without remembering it.
    pub(super) fn answer_with_cookie(
        &mut self,
        now: Instant,
        port: PortId,
        packet: &Packet,
        options: ConnectOptions,
        cache: &mut PoolCache,
    ) {
        let offer = capable(&packet.options);
        let cookie =
            Cookie::new(&self.secret, now, &packet.tuple, &packet.tcp, &packet.options, offer.is_some());
        let Some(cookie) = cookie.filter(|_| self.strays.len() < STRAYS_MAX) else {
            self.counters.refused_connections += 1;
            return;
        };
        self.counted.mptcp.add(Mib::CapableSynRx, u64::from(offer.is_some()));
        // RFC 8684 §3.1: where no key will do, no MP_CAPABLE is sent.
        let key = self.cookie_keys(&cookie).find(|key| self.is_good_token(key.token));
        let mut syn = as_remembered(packet, &cookie);
        syn.tcp = packet.tcp;
        syn.tcp.flags = TcpFlags::SYN;
        syn.options.mptcp.extend(offer.filter(|_| key.is_some()).map(MptcpOption::Capable));
        let key = key.unwrap_or_else(|| self.new_key());
        let setup = self.cookie_setup(port, packet, &cookie, options, key);
        let mut connection = Connection::accept(now, &setup, &syn);
        let rooms = vec![1; self.config.ports.len()];
        match connection.poll_transmit(now, &rooms, &mut self.emitter, cache) {
            Transmit::Packet(port, packet) => self.strays.push_back((port, packet)),
            // Out of frames: the SYN comes again.
            Transmit::Blocked | Transmit::Idle => {
                self.counters.refused_connections += 1;
                return;
            }
        }
        self.counters.cookies_sent += 1;
        self.cookies_until = Some(now + COOKIE_LIFE);
    }

    /// Whether a segment without a connection may bring a cookie back: some are out, and it is for a listener.
    pub(super) fn may_be_cookie(&mut self, now: Instant, packet: &Packet) -> bool {
        let flags = packet.tcp.flags;
        self.cookies_until.is_some_and(|until| now < until)
            && flags.contains(TcpFlags::ACK)
            && !flags.intersects(TcpFlags::SYN | TcpFlags::RST)
            && find_listener(&mut self.listeners, packet.tuple.local).is_some()
    }

    /// Makes the connection of a cookie that `packet` brings back.
    pub(super) fn take_cookie(
        &mut self,
        now: Instant,
        port: PortId,
        packet: &Packet,
        cache: &mut PoolCache,
    ) -> Returned {
        let Some(cookie) = Cookie::verify(&self.secret, now, &packet.tuple, &packet.tcp) else {
            self.counters.cookies_failed += 1;
            return Returned::Stray;
        };
        let Some(listener) = find_listener(&mut self.listeners, packet.tuple.local) else {
            return Returned::Stray;
        };
        let (listener_id, options) = (listener.id, listener.options.connection);
        if listener.accept.is_full() {
            self.counters.accept_overflows += 1;
            return Returned::Dropped;
        }
        if !self.has_room(now, cache) {
            self.counters.refused_connections += 1;
            return Returned::Dropped;
        }
        let mut syn = as_remembered(packet, &cookie);
        let mut key = None;
        if cookie.capable {
            // The flags of the SYN come again, with what we have asked for; what has to be agreed is in them.
            let Some((flags, ours)) = third(&packet.options) else { return Returned::Dropped };
            syn.options.mptcp.push(MptcpOption::Capable(MpCapable::Syn { version: VERSION, flags }));
            key = self.cookie_keys(&cookie).find(|key| key.key == ours && self.is_good_token(key.token));
        }
        let key = key.unwrap_or_else(|| self.new_key());
        let setup = self.cookie_setup(port, packet, &cookie, options, key);
        let connection = Connection::resume(now, &setup, &syn);
        self.counters.accepted += 1;
        self.counters.cookies_received += 1;
        if let Some(listener) = find_listener(&mut self.listeners, packet.tuple.local) {
            listener.half_open += 1;
        }
        Returned::Connection(self.insert(Slot::new(connection, None, Some(listener_id)), setup.tuple))
    }

    /// The keys that belong to a cookie, in the order in which they are tried.
    fn cookie_keys(&self, cookie: &Cookie) -> impl Iterator<Item = KeyMaterial> + use<> {
        let seed = u128::from_be_bytes(cookie.seed);
        let (first, step) = ((seed >> 64) as u64, seed as u64 | 1);
        let count = KEYS_PER_WORKER * self.config.workers.max(1) as u64;
        (0..count).map(move |n| KeyMaterial::new(Key(first.wrapping_add(step.wrapping_mul(n)))))
    }

    fn cookie_setup(
        &self,
        port: PortId,
        packet: &Packet,
        cookie: &Cookie,
        options: ConnectOptions,
        key: KeyMaterial,
    ) -> Setup {
        Setup {
            tuple: packet.tuple,
            path: self.answering_path(port, packet),
            options,
            tcp: TcpConfig { timestamp_offset: cookie.timestamp_offset, ..self.config.tcp },
            key,
            iss: cookie.iss,
        }
    }
}

fn capable(options: &TcpOptions) -> Option<MpCapable> {
    options.mptcp.iter().find_map(|option| match option {
        MptcpOption::Capable(capable) => Some(*capable),
        _ => None,
    })
}

/// The flags and our key from the third packet of a handshake with MP_CAPABLE. A segment with other options overtook it,
/// and is dropped: `None`. One without any means plain TCP, and any key will do for that.
fn third(options: &TcpOptions) -> Option<(CapableFlags, Key)> {
    match capable(options) {
        Some(MpCapable::Ack { flags, receiver_key, .. } | MpCapable::Data { flags, receiver_key, .. }) => {
            Some((flags, receiver_key))
        }
        Some(MpCapable::Syn { .. } | MpCapable::SynAck { .. }) => None,
        None => options.mptcp.is_empty().then_some((CapableFlags(CapableFlags::HMAC_SHA256), Key(0))),
    }
}

/// The SYN of a cookie that `packet` brings back, as far as it is known then. ECN is not (RFC 3168 §6.1.1: without it no
/// harm is done).
fn as_remembered(packet: &Packet, cookie: &Cookie) -> Packet {
    let mut syn = Packet { payload: 0..0, payload_sum: None, ecn: 0, ..packet.clone() };
    syn.tcp.seq = packet.tcp.seq - 1;
    syn.tcp.flags = TcpFlags::SYN;
    syn.options = TcpOptions { timestamps: packet.options.timestamps, ..cookie.options.clone() };
    syn
}
