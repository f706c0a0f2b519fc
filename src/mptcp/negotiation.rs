//! What two hosts agree on by MP_CAPABLE (RFC 8684 §3.1): the version, the algorithm behind the keys, checksums, and
//! whether the address of the first subflow may be joined.

use crate::mptcp::{ChecksumPolicy, ConnectOptions};
use crate::wire::mptcp::{CapableFlags, Key, MpCapable, VERSION};
use serde::{Deserialize, Serialize};

/// Flags D to H: the algorithms that a host proposes or has chosen.
const ALGORITHMS: u8 = 0x1f;

/// Our side of it, and how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Negotiation {
    policy: ChecksumPolicy,
    no_join_here: bool,
    /// One of the two hosts requires checksums.
    checksum: bool,
    no_join_remote: bool,
}

/// What the third packet of the handshake says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThirdPacket {
    /// The initiator's key.
    pub sender_key: Key,
    /// Ours, as the initiator knows it.
    pub receiver_key: Key,
    /// The mapping of the data that it carries: its length, and its checksum.
    pub mapping: Option<(u16, Option<u16>)>,
}

impl Negotiation {
    /// Before anything was said.
    pub fn new(options: &ConnectOptions) -> Self {
        let ConnectOptions { checksum: policy, no_join_here, .. } = *options;
        Self { policy, no_join_here, checksum: policy == ChecksumPolicy::Required, no_join_remote: false }
    }

    /// The flags that our MP_CAPABLE carries: what we want, and from the answer on what is agreed.
    pub fn flags(&self) -> CapableFlags {
        let flag = |set, flag| if set { flag } else { 0 };
        CapableFlags(
            CapableFlags::HMAC_SHA256
                | flag(self.checksum, CapableFlags::CHECKSUM)
                | flag(self.no_join_here, CapableFlags::NO_JOIN_HERE),
        )
    }

    /// Whether mappings have checksums.
    pub fn checksum(&self) -> bool {
        self.checksum
    }

    /// We have said that our first address is not to be joined.
    pub fn no_join_here(&self) -> bool {
        self.no_join_here
    }

    /// The peer has said so of its own.
    pub fn no_join_remote(&self) -> bool {
        self.no_join_remote
    }

    /// The peer's MP_CAPABLE on its SYN. False: the option is as good as absent.
    pub fn take_syn(&mut self, option: &MpCapable) -> bool {
        match *option {
            // A higher version is no reason to fall back: we answer with ours, and the peer may take it or leave it. A
            // lower one is: version 0 has another handshake.
            MpCapable::Syn { version, flags } if version >= VERSION => {
                flags.has(CapableFlags::HMAC_SHA256) && self.take_flags(flags)
            }
            // Version 0 has a key on the SYN.
            MpCapable::Syn { .. }
            | MpCapable::SynAck { .. }
            | MpCapable::Ack { .. }
            | MpCapable::Data { .. } => false,
        }
    }

    /// The peer's MP_CAPABLE on its SYN/ACK: its key, if we can go on with what it says.
    pub fn take_syn_ack(&mut self, option: &MpCapable) -> Option<Key> {
        match *option {
            MpCapable::SynAck { version: VERSION, flags, sender_key } if is_choice(flags) => {
                self.take_flags(flags).then_some(sender_key)
            }
            // Middleboxes that send an unknown option back as it came are told by the form.
            MpCapable::Syn { .. }
            | MpCapable::SynAck { .. }
            | MpCapable::Ack { .. }
            | MpCapable::Data { .. } => None,
        }
    }

    /// The peer's MP_CAPABLE on its third packet, if it confirms what was agreed.
    pub fn take_third(&mut self, option: &MpCapable) -> Option<ThirdPacket> {
        let (version, flags, sender_key, receiver_key, mapping) = match *option {
            MpCapable::Ack { version, flags, sender_key, receiver_key } => {
                (version, flags, sender_key, receiver_key, None)
            }
            MpCapable::Data { version, flags, sender_key, receiver_key, data_len, checksum } => {
                (version, flags, sender_key, receiver_key, Some((data_len, checksum)))
            }
            MpCapable::Syn { .. } | MpCapable::SynAck { .. } => return None,
        };
        // The initiator confirms by A what either host has asked for.
        let confirmed = flags.has(CapableFlags::CHECKSUM) || !self.checksum;
        if version != VERSION || !is_choice(flags) || !confirmed || !self.take_flags(flags) {
            return None;
        }
        Some(ThirdPacket { sender_key, receiver_key, mapping })
    }

    /// What the flags of the peer mean to us. False if we cannot do what they ask for.
    fn take_flags(&mut self, flags: CapableFlags) -> bool {
        let asked = flags.has(CapableFlags::CHECKSUM);
        if flags.has(CapableFlags::EXTENSIBILITY) || (asked && self.policy == ChecksumPolicy::Never) {
            return false;
        }
        self.checksum |= asked;
        self.no_join_remote |= flags.has(CapableFlags::NO_JOIN_HERE);
        true
    }
}

/// Behind the SYN exactly one algorithm stands, and there is only one.
fn is_choice(flags: CapableFlags) -> bool {
    flags.0 & ALGORITHMS == CapableFlags::HMAC_SHA256
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: u8 = CapableFlags::HMAC_SHA256;
    const A: u8 = CapableFlags::CHECKSUM;
    const B: u8 = CapableFlags::EXTENSIBILITY;
    const C: u8 = CapableFlags::NO_JOIN_HERE;
    const G: u8 = 0x02;

    fn side(checksum: ChecksumPolicy) -> Negotiation {
        Negotiation::new(&ConnectOptions { checksum, ..Default::default() })
    }

    fn syn(version: u8, flags: u8) -> MpCapable {
        MpCapable::Syn { version, flags: CapableFlags(flags) }
    }

    fn syn_ack(version: u8, flags: u8) -> MpCapable {
        MpCapable::SynAck { version, flags: CapableFlags(flags), sender_key: Key(2) }
    }

    fn third(version: u8, flags: u8) -> MpCapable {
        MpCapable::Ack { version, flags: CapableFlags(flags), sender_key: Key(1), receiver_key: Key(2) }
    }

    #[test]
    fn checksums_are_used_if_either_host_requires_them() {
        use ChecksumPolicy::{Never, Required, WhenAsked};
        for (ours, theirs, agreed) in [
            (WhenAsked, WhenAsked, Some(false)),
            (WhenAsked, Required, Some(true)),
            (Required, WhenAsked, Some(true)),
            (Required, Required, Some(true)),
            (Never, WhenAsked, Some(false)),
            (WhenAsked, Never, Some(false)),
            (Never, Required, None),
            (Required, Never, None),
        ] {
            let (mut initiator, mut responder) = (side(ours), side(theirs));
            let mut shake = || {
                responder.take_syn(&syn(VERSION, initiator.flags().0)).then_some(())?;
                initiator.take_syn_ack(&syn_ack(VERSION, responder.flags().0))?;
                responder.take_third(&third(VERSION, initiator.flags().0))
            };
            let done = shake().is_some();
            assert_eq!(done.then_some(initiator.checksum()), agreed, "{ours:?} and {theirs:?}");
            assert!(!done || initiator.checksum() == responder.checksum());
        }
    }

    #[test]
    fn a_confirmation_that_contradicts_what_was_agreed_is_none() {
        let mut responder = side(ChecksumPolicy::Required);
        assert!(responder.take_syn(&syn(VERSION, H)));
        assert_eq!(responder.take_third(&third(VERSION, H)), None);
        assert!(responder.take_third(&third(VERSION, H | A)).is_some());
    }

    #[test]
    fn higher_versions_are_answered_with_ours_and_lower_ones_not_at_all() {
        for (version, taken) in [(0, false), (1, true), (2, true), (15, true)] {
            assert_eq!(
                side(ChecksumPolicy::WhenAsked).take_syn(&syn(version, H)),
                taken,
                "version {version}"
            );
        }
        for version in [0, 2] {
            assert_eq!(side(ChecksumPolicy::WhenAsked).take_syn_ack(&syn_ack(version, H)), None);
            assert_eq!(side(ChecksumPolicy::WhenAsked).take_third(&third(version, H)), None);
        }
        // Version 0's SYN has a key.
        assert!(!side(ChecksumPolicy::WhenAsked).take_syn(&syn_ack(0, H)));
    }

    #[test]
    fn flags_are_taken_as_the_rfc_says() {
        let fresh = || side(ChecksumPolicy::WhenAsked);
        assert!(!fresh().take_syn(&syn(VERSION, H | B)), "extensibility");
        assert!(!fresh().take_syn(&syn(VERSION, G)), "another algorithm alone");
        assert!(fresh().take_syn(&syn(VERSION, H | G)), "a choice that has ours");
        assert_eq!(fresh().take_syn_ack(&syn_ack(VERSION, H | G)), None, "two were chosen");
        assert_eq!(fresh().take_syn_ack(&syn_ack(VERSION, 0)), None, "none was");
        let mut joined = fresh();
        assert!(joined.take_syn(&syn(VERSION, H | C)) && joined.no_join_remote());
        let behind_a_balancer = ConnectOptions { no_join_here: true, ..Default::default() };
        assert_eq!(Negotiation::new(&behind_a_balancer).flags().0, H | C);
    }
}
