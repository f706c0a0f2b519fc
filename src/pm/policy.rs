//! Policies: what the host's addresses are used for where no endpoint of the user's says it.

use super::endpoint::Flags;
use std::fmt;
use std::str::FromStr;

/// Subflows that ndiffports opens at most: as many as a connection can have.
pub const NDIFFPORTS_MAX: u8 = crate::mptcp::connection::SUBFLOWS_MAX as u8;

/// What is done with addresses that no endpoint of the user's speaks of.
///
/// Whoever opened the connection opens its subflows; the other end announces its addresses, and opens none: it could
/// not reach an initiator behind a NAT (RFC 8684 §3.2 lets either do it; the kernel's default is the same convention).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// A subflow from each address to each address of the peer, wherever a route leads that way.
    #[default]
    Fullmesh,
    /// So many subflows between the addresses of the first one, from different ports: routers that spread flows over
    /// equal ways (ECMP) send them different ways.
    Ndiffports(u8),
    /// One subflow from each NIC.
    OnePerNic,
    /// Nothing: only endpoints count, as in the kernel.
    Endpoints,
}

/// Not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no policy; there are: fullmesh, ndiffports=N (N from 1 to {NDIFFPORTS_MAX}), one-per-nic, endpoints"
)]
pub struct UnknownPolicy(String);

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let unknown = || UnknownPolicy(text.to_owned());
        match text {
            "fullmesh" => Ok(Self::Fullmesh),
            "one-per-nic" => Ok(Self::OnePerNic),
            "endpoints" => Ok(Self::Endpoints),
            _ => {
                let count = text.strip_prefix("ndiffports=").ok_or_else(unknown)?;
                let count = count.parse().ok().filter(|count| (1..=NDIFFPORTS_MAX).contains(count));
                count.map(Self::Ndiffports).ok_or_else(unknown)
            }
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fullmesh => f.write_str("fullmesh"),
            Self::Ndiffports(count) => write!(f, "ndiffports={count}"),
            Self::OnePerNic => f.write_str("one-per-nic"),
            Self::Endpoints => f.write_str("endpoints"),
        }
    }
}

/// What one address is used for in one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Uses {
    /// To be announced.
    pub(super) signal: bool,
    /// A subflow to the peer's first address.
    pub(super) first: bool,
    /// A subflow to each address that the peer announces.
    pub(super) announced: bool,
    /// One subflow, to an announced address that no other one leads to.
    pub(super) laminar: bool,
    /// One subflow, unless its NIC has one.
    pub(super) per_nic: bool,
    /// It is the policy's choice: addresses of the other family come in only where they are needed.
    pub(super) by_policy: bool,
}

impl Policy {
    /// What an address is used for, by its flags and by who opened the connection.
    pub(super) fn uses(self, flags: Flags, initiator: bool) -> Uses {
        let none = Uses::default();
        if flags.say_use() {
            let Flags { signal, subflow, fullmesh, laminar, backup: _ } = flags;
            return Uses { signal, first: subflow, announced: fullmesh, laminar, ..none };
        }
        let by_policy = Uses { by_policy: true, ..none };
        match (self, initiator) {
            (Self::Endpoints, _) | (Self::Ndiffports(_), _) => none,
            (Self::Fullmesh, true) => Uses { first: true, announced: true, ..by_policy },
            (Self::OnePerNic, true) => Uses { per_nic: true, ..by_policy },
            (Self::Fullmesh | Self::OnePerNic, false) => Uses { signal: true, ..by_policy },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_written_as_they_are_read() {
        for policy in [Policy::Fullmesh, Policy::Ndiffports(4), Policy::OnePerNic, Policy::Endpoints] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        for wrong in ["", "mesh", "ndiffports", "ndiffports=0", "ndiffports=33", "ndiffports=-1"] {
            let error = wrong.parse::<Policy>().expect_err(wrong).to_string();
            assert!(error.contains("one-per-nic"), "{error}");
        }
    }

    #[test]
    fn flags_that_say_a_use_override_the_policy() {
        let backup = Flags { backup: true, ..Flags::NONE };
        let laminar = Flags { laminar: true, ..backup };
        for policy in [Policy::Fullmesh, Policy::OnePerNic, Policy::Ndiffports(2), Policy::Endpoints] {
            let uses = policy.uses(laminar, false);
            assert_eq!(uses, Uses { laminar: true, ..Uses::default() }, "{policy}");
        }
        assert!(Policy::Fullmesh.uses(backup, true).announced, "only a backup, but of the policy's choice");
        assert_eq!(Policy::Endpoints.uses(backup, true), Uses::default());
    }
}
