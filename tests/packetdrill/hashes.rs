//! The kernel's hashes by AF_ALG sockets, for kernels that are built without: packetdrill's MPTCP tree computes tokens and
//! HMACs with them. What it does is enough: bind to a name, set a key, accept, send the bytes, receive the digest.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::fd::RawFd;

/// The algorithms.
#[derive(Debug, Clone, Copy)]
enum Algorithm {
    Sha1,
    HmacSha1,
    Sha256,
    HmacSha256,
}

/// What a descriptor stands for.
#[derive(Debug, Clone)]
enum Hash {
    /// Made, and not bound.
    Fresh,
    /// Bound to an algorithm, maybe with a key.
    Bound { algorithm: Algorithm, key: Vec<u8> },
    /// One computation.
    Computing { algorithm: Algorithm, key: Vec<u8>, bytes: Vec<u8> },
}

/// The hash sockets of the process.
#[derive(Debug, Default)]
pub struct Hashes(BTreeMap<RawFd, Hash>);

impl Hashes {
    /// None.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// A new one.
    pub fn add(&mut self, fd: RawFd) {
        self.0.insert(fd, Hash::Fresh);
    }

    /// Whether it is one.
    pub fn has(&self, fd: RawFd) -> bool {
        self.0.contains_key(&fd)
    }

    /// It is closed. Whether it was one.
    pub fn remove(&mut self, fd: RawFd) -> bool {
        self.0.remove(&fd).is_some()
    }

    /// `bind` to the algorithm `name`. False for one that there is not.
    pub fn bind(&mut self, fd: RawFd, name: &str) -> bool {
        let algorithm = match name {
            "sha1" => Algorithm::Sha1,
            "hmac(sha1)" => Algorithm::HmacSha1,
            "sha256" => Algorithm::Sha256,
            "hmac(sha256)" => Algorithm::HmacSha256,
            _ => return false,
        };
        self.0.insert(fd, Hash::Bound { algorithm, key: Vec::new() });
        true
    }

    /// `setsockopt(ALG_SET_KEY)`.
    pub fn set_key(&mut self, fd: RawFd, new: &[u8]) -> bool {
        match self.0.get_mut(&fd) {
            Some(Hash::Bound { key, .. }) => *key = new.to_vec(),
            _ => return false,
        }
        true
    }

    /// `accept`: `new` computes one digest.
    pub fn accept(&mut self, fd: RawFd, new: RawFd) -> bool {
        let Some(Hash::Bound { algorithm, key }) = self.0.get(&fd).cloned() else { return false };
        self.0.insert(new, Hash::Computing { algorithm, key, bytes: Vec::new() });
        true
    }

    /// `send`.
    pub fn update(&mut self, fd: RawFd, more: &[u8]) -> bool {
        match self.0.get_mut(&fd) {
            Some(Hash::Computing { bytes, .. }) => bytes.extend_from_slice(more),
            _ => return false,
        }
        true
    }

    /// `recv`.
    pub fn digest(&self, fd: RawFd) -> Option<Vec<u8>> {
        let Hash::Computing { algorithm, key, bytes } = self.0.get(&fd)? else { return None };
        Some(match algorithm {
            Algorithm::Sha1 => Sha1::digest(bytes).to_vec(),
            Algorithm::HmacSha1 => {
                Hmac::<Sha1>::new_from_slice(key).ok()?.chain_update(bytes).finalize().into_bytes().to_vec()
            }
            Algorithm::Sha256 => Sha256::digest(bytes).to_vec(),
            Algorithm::HmacSha256 => {
                Hmac::<Sha256>::new_from_slice(key).ok()?.chain_update(bytes).finalize().into_bytes().to_vec()
            }
        })
    }
}
