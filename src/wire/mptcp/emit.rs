//! Writing the options of MPTCP.

use super::{
    AddAddr, Dss, DssMapping, KIND, MpCapable, MpJoin, MpPrio, MpTcpRst, MptcpOption, ShortOrLong, subtype,
};
use crate::wire::cursor::Writer;
use std::net::IpAddr;

impl MptcpOption {
    /// How many bytes the option takes, kind and length included, padding not.
    #[inline]
    pub fn wire_len(&self) -> usize {
        match self {
            MptcpOption::Dss(dss) => dss.wire_len(),
            MptcpOption::Capable(capable) => capable.wire_len(),
            MptcpOption::Join(join) => join.wire_len(),
            MptcpOption::AddAddr(add) => add.wire_len(),
            MptcpOption::RemoveAddr(remove) => 3 + remove.address_ids.len(),
            MptcpOption::Prio(_) => 3,
            MptcpOption::Fail(_) | MptcpOption::FastClose(_) => 12,
            MptcpOption::Reset(_) => 4,
        }
    }

    /// Writes the option.
    #[inline]
    pub(in crate::wire) fn emit(&self, out: &mut Writer<'_>) {
        let len = self.wire_len() as u8;
        match self {
            MptcpOption::Dss(dss) => dss.emit(out, len),
            MptcpOption::Capable(capable) => capable.emit(out, len),
            MptcpOption::Join(join) => join.emit(out, len),
            MptcpOption::AddAddr(add) => add.emit(out, len),
            MptcpOption::RemoveAddr(remove) => {
                head(out, len, subtype::REMOVE_ADDR, 0);
                remove.address_ids.iter().for_each(|id| out.u8(id.0));
            }
            MptcpOption::Prio(prio) => {
                head(out, len, subtype::PRIO, if prio.backup { MpPrio::FLAG_BACKUP } else { 0 });
            }
            MptcpOption::Fail(fail) => {
                head(out, len, subtype::FAIL, 0);
                out.u8(0);
                out.u64(fail.data_seq.raw());
            }
            MptcpOption::FastClose(close) => {
                head(out, len, subtype::FAST_CLOSE, 0);
                out.u8(0);
                out.u64(close.receiver_key.0);
            }
            MptcpOption::Reset(reset) => {
                let transient = if reset.transient { MpTcpRst::FLAG_TRANSIENT } else { 0 };
                let others = reset.flags & 0x0f & !MpTcpRst::FLAG_TRANSIENT;
                head(out, len, subtype::RESET, others | transient);
                out.u8(reset.reason.code());
            }
        }
    }
}

/// Kind, length, subtype, and the four bits next to it.
#[inline(always)]
fn head(out: &mut Writer<'_>, len: u8, subtype: u8, low: u8) {
    out.array([KIND, len, subtype << 4 | low]);
}

impl ShortOrLong {
    /// How many bytes it takes.
    pub const fn wire_len(self) -> usize {
        match self {
            ShortOrLong::Short(_) => 4,
            ShortOrLong::Long(_) => 8,
        }
    }

    #[inline(always)]
    fn emit(self, out: &mut Writer<'_>) {
        match self {
            ShortOrLong::Short(low) => out.u32(low),
            ShortOrLong::Long(full) => out.u64(full),
        }
    }
}

impl DssMapping {
    const fn wire_len(&self) -> usize {
        self.data_seq.wire_len() + if self.checksum.is_some() { 8 } else { 6 }
    }
}

impl Dss {
    #[inline(always)]
    fn wire_len(&self) -> usize {
        4 + self.data_ack.map_or(0, ShortOrLong::wire_len)
            + self.mapping.as_ref().map_or(0, DssMapping::wire_len)
    }

    #[inline(always)]
    fn emit(&self, out: &mut Writer<'_>, len: u8) {
        let mut flags = if self.data_fin { Dss::FLAG_DATA_FIN } else { 0 };
        flags |= match self.data_ack {
            None => 0,
            Some(ShortOrLong::Short(_)) => Dss::FLAG_ACK,
            Some(ShortOrLong::Long(_)) => Dss::FLAG_ACK | Dss::FLAG_ACK_LONG,
        };
        flags |= match self.mapping.map(|mapping| mapping.data_seq) {
            None => 0,
            Some(ShortOrLong::Short(_)) => Dss::FLAG_MAPPING,
            Some(ShortOrLong::Long(_)) => Dss::FLAG_MAPPING | Dss::FLAG_DATA_SEQ_LONG,
        };
        out.array([KIND, len, subtype::DSS << 4, flags]);
        if let Some(ack) = self.data_ack {
            ack.emit(out);
        }
        if let Some(mapping) = &self.mapping {
            mapping.data_seq.emit(out);
            out.u32(mapping.subflow_seq);
            out.u16(mapping.len);
            if let Some(checksum) = mapping.checksum {
                out.u16(checksum);
            }
        }
    }
}

impl MpCapable {
    fn wire_len(&self) -> usize {
        match self {
            MpCapable::Syn { .. } => 4,
            MpCapable::SynAck { .. } => 12,
            MpCapable::Ack { .. } => 20,
            MpCapable::Data { checksum: None, .. } => 22,
            MpCapable::Data { checksum: Some(_), .. } => 24,
        }
    }

    fn emit(&self, out: &mut Writer<'_>, len: u8) {
        head(out, len, subtype::CAPABLE, self.version() & 0x0f);
        out.u8(self.flags().0);
        match *self {
            MpCapable::Syn { .. } => {}
            MpCapable::SynAck { sender_key, .. } => out.u64(sender_key.0),
            MpCapable::Ack { sender_key, receiver_key, .. } => {
                out.u64(sender_key.0);
                out.u64(receiver_key.0);
            }
            MpCapable::Data { sender_key, receiver_key, data_len, checksum, .. } => {
                out.u64(sender_key.0);
                out.u64(receiver_key.0);
                out.u16(data_len);
                if let Some(checksum) = checksum {
                    out.u16(checksum);
                }
            }
        }
    }
}

impl MpJoin {
    fn wire_len(&self) -> usize {
        match self {
            MpJoin::Syn { .. } => 12,
            MpJoin::SynAck { .. } => 16,
            MpJoin::Ack { .. } => 24,
        }
    }

    fn emit(&self, out: &mut Writer<'_>, len: u8) {
        let flag = |backup| if backup { MpJoin::FLAG_BACKUP } else { 0 };
        match *self {
            MpJoin::Syn { backup, address_id, token, nonce } => {
                head(out, len, subtype::JOIN, flag(backup));
                out.u8(address_id.0);
                out.u32(token.0);
                out.u32(nonce);
            }
            MpJoin::SynAck { backup, address_id, hmac, nonce } => {
                head(out, len, subtype::JOIN, flag(backup));
                out.u8(address_id.0);
                out.u64(hmac);
                out.u32(nonce);
            }
            MpJoin::Ack { hmac } => {
                // RFC 8684 §3.2, figure 7: the third ACK has no address id; those bits are reserved.
                head(out, len, subtype::JOIN, 0);
                out.u8(0);
                out.array(hmac);
            }
        }
    }
}

impl AddAddr {
    fn wire_len(&self) -> usize {
        let (addr, port, hmac_len) = match self {
            AddAddr::Announce { addr, port, .. } => (addr, port, 8),
            AddAddr::Echo { addr, port, .. } => (addr, port, 0),
        };
        let addr_len = if addr.is_ipv4() { 4 } else { 16 };
        4 + addr_len + if port.is_some() { 2 } else { 0 } + hmac_len
    }

    fn emit(&self, out: &mut Writer<'_>, len: u8) {
        let (address_id, addr, port, hmac) = match *self {
            AddAddr::Announce { address_id, addr, port, hmac } => (address_id, addr, port, Some(hmac)),
            AddAddr::Echo { address_id, addr, port } => (address_id, addr, port, None),
        };
        head(out, len, subtype::ADD_ADDR, if hmac.is_none() { AddAddr::FLAG_ECHO } else { 0 });
        out.u8(address_id.0);
        match addr {
            IpAddr::V4(addr) => out.array(addr.octets()),
            IpAddr::V6(addr) => out.array(addr.octets()),
        }
        if let Some(port) = port {
            out.u16(port);
        }
        if let Some(hmac) = hmac {
            out.u64(hmac);
        }
    }
}
