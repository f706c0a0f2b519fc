//! What the kernel counts of MPTCP in `/proc/net/netstat`, under its names. Only what is really counted is here: a counter
//! that always says 0 tells a lie.

use crate::wire::MptcpOption;
use crate::wire::mptcp::{AddAddr, MpCapable, MpJoin};

macro_rules! mib {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A counter of the kernel's table `MPTcpExt`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Mib {
            $($(#[$doc])* $variant,)*
        }

        impl Mib {
            /// All, in the kernel's order.
            pub const ALL: &[Mib] = &[$(Mib::$variant,)*];

            /// Its name without the table's: `nstat` writes `MPTcpExt` in front of it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Mib::$variant => $name,)*
                }
            }
        }
    };
}

mib! {
    /// SYNs received with an MP_CAPABLE that we can agree to.
    CapableSynRx = "MPCapableSYNRX",
    /// SYNs with MP_CAPABLE sent.
    CapableSynTx = "MPCapableSYNTX",
    /// SYN/ACKs with MP_CAPABLE received.
    CapableSynAckRx = "MPCapableSYNACKRX",
    /// Connections of peers that the third ACK, or the first data, made MPTCP.
    CapableAckRx = "MPCapableACKRX",
    /// Connections of peers that the third ACK made plain TCP.
    CapableFallbackAck = "MPCapableFallbackACK",
    /// Connections of ours that the SYN/ACK made plain TCP.
    CapableFallbackSynAck = "MPCapableFallbackSYNACK",
    /// Connections of ours whose SYNs with MP_CAPABLE were not answered.
    CapableSynTxDrop = "MPCapableSYNTXDrop",
    /// Pieces of data that were sent again on another subflow.
    Retrans = "MPTCPRetrans",
    /// Joins with a token that we don't know.
    JoinNoTokenFound = "MPJoinNoTokenFound",
    /// SYNs with MP_JOIN received, for a connection that we know.
    JoinSynRx = "MPJoinSynRx",
    /// Of these, those that ask for a backup.
    JoinSynBackupRx = "MPJoinSynBackupRx",
    /// SYN/ACKs with MP_JOIN received.
    JoinSynAckRx = "MPJoinSynAckRx",
    /// Of these, those that ask for a backup.
    JoinSynAckBackupRx = "MPJoinSynAckBackupRx",
    /// Joins of peers that came about.
    JoinAckRx = "MPJoinAckRx",
    /// Joins of peers that were refused: too many, or not wanted there.
    JoinRejected = "MPJoinRejected",
    /// SYNs with MP_JOIN sent.
    JoinSynTx = "MPJoinSynTx",
    /// Infinite mappings sent.
    InfiniteMapTx = "InfiniteMapTx",
    /// Infinite mappings received.
    InfiniteMapRx = "InfiniteMapRx",
    /// Mappings whose checksum was wrong.
    DataCsumErr = "DataCsumErr",
    /// ADD_ADDRs received, echoes not counted.
    AddAddr = "AddAddr",
    /// ADD_ADDRs sent.
    AddAddrTx = "AddAddrTx",
    /// Echoes of ADD_ADDR received.
    EchoAdd = "EchoAdd",
    /// Echoes of ADD_ADDR sent.
    EchoAddTx = "EchoAddTx",
    /// ADD_ADDRs with a port received.
    PortAdd = "PortAdd",
    /// ADD_ADDRs that were not acted upon: too many, or at odds with what we know.
    AddAddrDrop = "AddAddrDrop",
    /// Addresses in the REMOVE_ADDRs received.
    RmAddr = "RmAddr",
    /// Addresses in the REMOVE_ADDRs sent.
    RmAddrTx = "RmAddrTx",
    /// MP_PRIOs sent.
    PrioTx = "MPPrioTx",
    /// MP_PRIOs received.
    PrioRx = "MPPrioRx",
    /// MP_FAILs sent.
    FailTx = "MPFailTx",
    /// MP_FAILs received.
    FailRx = "MPFailRx",
    /// MP_FASTCLOSEs sent.
    FastcloseTx = "MPFastcloseTx",
    /// MP_FASTCLOSEs received.
    FastcloseRx = "MPFastcloseRx",
    /// MP_TCPRSTs sent.
    RstTx = "MPRstTx",
    /// MP_TCPRSTs received.
    RstRx = "MPRstRx",
    /// MPTCP connections that there are.
    CurrEstab = "MPCurrEstab",
    /// Connections that became plain TCP for want of a DSS.
    DssFallback = "DssFallback",
}

/// The counters of one worker, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MptcpCounters([u64; Mib::ALL.len()]);

impl Default for MptcpCounters {
    fn default() -> Self {
        Self([0; Mib::ALL.len()])
    }
}

impl MptcpCounters {
    /// One more.
    pub fn bump(&mut self, counter: Mib) {
        self.add(counter, 1);
    }

    /// So many more.
    pub fn add(&mut self, counter: Mib, more: u64) {
        self.0[counter as usize] += more;
    }

    /// The count.
    pub fn get(&self, counter: Mib) -> u64 {
        self.0[counter as usize]
    }

    /// Adds those of another worker.
    pub fn add_all(&mut self, other: &MptcpCounters) {
        self.0.iter_mut().zip(other.0).for_each(|(own, more)| *own += more);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Mib, u64)> + '_ {
        Mib::ALL.iter().map(|counter| (*counter, self.get(*counter)))
    }

    /// A segment with these options was written.
    pub fn count_sent(&mut self, options: &[MptcpOption]) {
        for option in options {
            match option {
                // Nearly every segment: first, and cheap.
                MptcpOption::Dss(dss) => {
                    if dss.mapping.is_some_and(|mapping| mapping.len == 0) {
                        self.bump(Mib::InfiniteMapTx);
                    }
                }
                MptcpOption::Capable(MpCapable::Syn { .. }) => self.bump(Mib::CapableSynTx),
                MptcpOption::Join(MpJoin::Syn { .. }) => self.bump(Mib::JoinSynTx),
                MptcpOption::Capable(_) | MptcpOption::Join(_) => {}
                MptcpOption::AddAddr(AddAddr::Announce { .. }) => self.bump(Mib::AddAddrTx),
                MptcpOption::AddAddr(AddAddr::Echo { .. }) => self.bump(Mib::EchoAddTx),
                MptcpOption::RemoveAddr(removal) => {
                    self.add(Mib::RmAddrTx, removal.address_ids.len() as u64);
                }
                MptcpOption::Prio(_) => self.bump(Mib::PrioTx),
                MptcpOption::Fail(_) => self.bump(Mib::FailTx),
                MptcpOption::FastClose(_) => self.bump(Mib::FastcloseTx),
                MptcpOption::Reset(_) => self.bump(Mib::RstTx),
            }
        }
    }

    /// A segment with these options has arrived, on a subflow that we know. SYNs of peers are counted where it is known
    /// what becomes of them.
    pub fn count_received(&mut self, options: &[MptcpOption]) {
        for option in options {
            match option {
                MptcpOption::Dss(dss) => {
                    if dss.mapping.is_some_and(|mapping| mapping.len == 0) {
                        self.bump(Mib::InfiniteMapRx);
                    }
                }
                MptcpOption::Capable(MpCapable::SynAck { .. }) => self.bump(Mib::CapableSynAckRx),
                MptcpOption::Join(MpJoin::SynAck { backup, .. }) => {
                    self.bump(Mib::JoinSynAckRx);
                    self.add(Mib::JoinSynAckBackupRx, u64::from(*backup));
                }
                MptcpOption::Capable(_) | MptcpOption::Join(_) => {}
                MptcpOption::AddAddr(AddAddr::Announce { port, .. }) => {
                    self.bump(Mib::AddAddr);
                    self.add(Mib::PortAdd, u64::from(port.is_some()));
                }
                MptcpOption::AddAddr(AddAddr::Echo { .. }) => self.bump(Mib::EchoAdd),
                MptcpOption::RemoveAddr(removal) => {
                    self.add(Mib::RmAddr, removal.address_ids.len() as u64);
                }
                MptcpOption::Prio(_) => self.bump(Mib::PrioRx),
                MptcpOption::Fail(_) => self.bump(Mib::FailRx),
                MptcpOption::FastClose(_) => self.bump(Mib::FastcloseRx),
                MptcpOption::Reset(_) => self.bump(Mib::RstRx),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mptcp::{AddressId, MpPrio, RemoveAddr, Token};

    #[test]
    fn options_are_counted_on_their_side_under_the_kernels_names() {
        let addr = [10, 0, 0, 1].into();
        let options = [
            MptcpOption::AddAddr(AddAddr::Announce {
                address_id: AddressId(1),
                addr,
                port: Some(9),
                hmac: 0,
            }),
            MptcpOption::AddAddr(AddAddr::Echo { address_id: AddressId(1), addr, port: None }),
            MptcpOption::RemoveAddr(RemoveAddr { address_ids: [1, 2].into_iter().map(AddressId).collect() }),
            MptcpOption::Prio(MpPrio { backup: true }),
            MptcpOption::Join(MpJoin::Syn {
                backup: true,
                address_id: AddressId(1),
                token: Token(1),
                nonce: 0,
            }),
            MptcpOption::Join(MpJoin::SynAck { backup: true, address_id: AddressId(1), hmac: 0, nonce: 0 }),
        ];
        let seen = |count: fn(&mut MptcpCounters, &[MptcpOption])| {
            let mut counters = MptcpCounters::default();
            count(&mut counters, &options);
            let counted = counters.iter().filter(|(_, count)| *count > 0);
            counted.map(|(counter, count)| (counter.name(), count)).collect::<Vec<_>>()
        };
        let sent = [("MPJoinSynTx", 1), ("AddAddrTx", 1), ("EchoAddTx", 1), ("RmAddrTx", 2), ("MPPrioTx", 1)];
        assert_eq!(seen(MptcpCounters::count_sent), sent);
        let received = [
            ("MPJoinSynAckRx", 1),
            ("MPJoinSynAckBackupRx", 1),
            ("AddAddr", 1),
            ("EchoAdd", 1),
            ("PortAdd", 1),
            ("RmAddr", 2),
            ("MPPrioRx", 1),
        ];
        assert_eq!(seen(MptcpCounters::count_received), received);
    }
}
