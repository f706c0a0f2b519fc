//! What follows from keys: tokens, initial data sequence numbers, and the HMACs that prove a host knows both keys.

use crate::base::DataSeq;
use crate::wire::mptcp::{AddressId, Key, Token};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// A key with what RFC 8684 §3.1 derives from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMaterial {
    /// The key.
    pub key: Key,
    /// Names the connection at the key's owner.
    pub token: Token,
    /// Initial data sequence number of the key's owner; the first data byte is one more.
    pub idsn: DataSeq,
}

impl KeyMaterial {
    /// Derives token and IDSN.
    pub fn new(key: Key) -> Self {
        // RFC 8684 §3.1: the key is hashed in network byte order; the token is the most significant 32 bits, the
        // IDSN the least significant 64.
        let digest: [u8; 32] = Sha256::digest(key.0.to_be_bytes()).into();
        let (token, idsn) = (&digest[..4], &digest[24..]);
        Self {
            key,
            token: Token(token.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))),
            idsn: DataSeq::new(idsn.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))),
        }
    }

    /// The data sequence number of the first byte of data.
    pub fn first_byte(&self) -> DataSeq {
        // RFC 8684 §3.1: the SYN with MP_CAPABLE occupies the first octet of data sequence space.
        self.idsn + 1
    }
}

/// The keys of a connection, from one host's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Ours.
    pub local: KeyMaterial,
    /// The peer's.
    pub remote: KeyMaterial,
}

impl Keys {
    /// The HMAC that we send on a join: over our nonce, then the peer's.
    pub fn join_hmac_sent(&self, local_nonce: u32, remote_nonce: u32) -> JoinHmac {
        JoinHmac(hmac(
            self.local.key,
            self.remote.key,
            &[&local_nonce.to_be_bytes(), &remote_nonce.to_be_bytes()],
        ))
    }

    /// The HMAC that the peer has to send.
    pub fn join_hmac_expected(&self, local_nonce: u32, remote_nonce: u32) -> JoinHmac {
        JoinHmac(hmac(
            self.remote.key,
            self.local.key,
            &[&remote_nonce.to_be_bytes(), &local_nonce.to_be_bytes()],
        ))
    }

    /// The HMAC of an address that we announce.
    pub fn announce_hmac_sent(&self, id: AddressId, addr: IpAddr, port: Option<u16>) -> u64 {
        announce(self.local.key, self.remote.key, id, addr, port)
    }

    /// The HMAC that the peer's announcement has to carry.
    pub fn announce_hmac_expected(&self, id: AddressId, addr: IpAddr, port: Option<u16>) -> u64 {
        announce(self.remote.key, self.local.key, id, addr, port)
    }
}

/// The HMAC of a join, which the SYN/ACK and the third ACK cut differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinHmac([u8; 32]);

impl JoinHmac {
    /// RFC 8684 §3.2: the SYN/ACK carries the leftmost 64 bits.
    pub fn syn_ack(&self) -> u64 {
        self.0[..8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    /// RFC 8684 §3.2: the third ACK carries the leftmost 160 bits.
    pub fn ack(&self) -> [u8; 20] {
        let mut left = [0; 20];
        left.copy_from_slice(&self.0[..20]);
        left
    }
}

/// HMAC-SHA256 with the sender's key followed by the receiver's.
fn hmac(sender: Key, receiver: Key, message: &[&[u8]]) -> [u8; 32] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&sender.0.to_be_bytes());
    key[8..].copy_from_slice(&receiver.0.to_be_bytes());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    message.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// RFC 8684 §3.4.1: over id, address and port (two zero bytes without one); the rightmost 64 bits.
fn announce(sender: Key, receiver: Key, id: AddressId, addr: IpAddr, port: Option<u16>) -> u64 {
    let port = port.unwrap_or(0).to_be_bytes();
    let digest = match addr {
        IpAddr::V4(v4) => hmac(sender, receiver, &[&[id.0], &v4.octets(), &port]),
        IpAddr::V6(v6) => hmac(sender, receiver, &[&[id.0], &v6.octets(), &port]),
    };
    digest[24..].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (Keys, Keys) {
        let a = KeyMaterial::new(Key(0x0102_0304_0506_0708));
        let b = KeyMaterial::new(Key(0x1112_1314_1516_1718));
        (Keys { local: a, remote: b }, Keys { local: b, remote: a })
    }

    #[test]
    fn token_and_idsn_are_the_ends_of_the_digest() {
        // SHA-256 of eight zero bytes: af5570f5 a1810b7a … 88f4e68c 4ae0e6… (computed with a separate tool).
        let digest: [u8; 32] = Sha256::digest([0u8; 8]).into();
        let material = KeyMaterial::new(Key(0));
        assert_eq!(material.token.0, 0xaf55_70f5);
        assert_eq!(material.idsn.raw().to_be_bytes(), digest[24..]);
    }

    #[test]
    fn both_ends_agree_and_directions_differ() {
        let (a, b) = keys();
        assert_eq!(a.join_hmac_sent(1, 2), b.join_hmac_expected(2, 1));
        assert_eq!(b.join_hmac_sent(2, 1), a.join_hmac_expected(1, 2));
        assert_ne!(a.join_hmac_sent(1, 2), b.join_hmac_sent(2, 1));
        assert_eq!(a.join_hmac_sent(1, 2).ack()[..8], a.join_hmac_sent(1, 2).syn_ack().to_be_bytes());
    }

    #[test]
    fn an_announcement_without_a_port_is_hashed_with_zeros() {
        let (a, b) = keys();
        let addr = "10.0.0.7".parse().expect("an address");
        assert_eq!(
            a.announce_hmac_sent(AddressId(3), addr, None),
            b.announce_hmac_expected(AddressId(3), addr, Some(0))
        );
        assert_ne!(
            a.announce_hmac_sent(AddressId(3), addr, None),
            b.announce_hmac_expected(AddressId(4), addr, None)
        );
    }
}
