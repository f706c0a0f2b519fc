//! Reading the options of MPTCP.

use super::{
    AddAddr, AddressId, CapableFlags, Dss, DssMapping, Key, MpCapable, MpFail, MpFastClose, MpJoin, MpPrio,
    MpTcpRst, MptcpOption, RemoveAddr, ResetReason, ShortOrLong, Token, subtype,
};
use crate::base::DataSeq;
use crate::wire::cursor::Reader;
use arrayvec::ArrayVec;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Reads one option: `body` is what stands behind its kind and length. `None` for a subtype that we don't know and
/// for a length that the subtype doesn't have: to us those are options that we don't implement, which RFC 9293 §3.1
/// (MUST-6) has us ignore.
#[inline]
pub(in crate::wire) fn parse(body: &[u8]) -> Option<MptcpOption> {
    let mut reader = Reader::new(body);
    let first = reader.u8()?;
    let (subtype, low) = (first >> 4, first & 0x0f);
    match subtype {
        subtype::DSS => dss(reader).map(MptcpOption::Dss),
        subtype::CAPABLE => capable(low, reader).map(MptcpOption::Capable),
        subtype::JOIN => join(low, reader).map(MptcpOption::Join),
        subtype::ADD_ADDR => add_addr(low, reader).map(MptcpOption::AddAddr),
        subtype::REMOVE_ADDR => remove_addr(reader).map(MptcpOption::RemoveAddr),
        subtype::PRIO => prio(low, reader).map(MptcpOption::Prio),
        subtype::FAIL => fail(reader).map(MptcpOption::Fail),
        subtype::FAST_CLOSE => fast_close(reader).map(MptcpOption::FastClose),
        subtype::RESET => reset(low, reader).map(MptcpOption::Reset),
        _ => None,
    }
}

/// RFC 8684 §3.3. Inlined: the one option of every data segment.
#[inline(always)]
fn dss(mut reader: Reader<'_>) -> Option<Dss> {
    let flags = reader.u8()?;
    let mut number = |long: u8| {
        Some(match flags & long {
            0 => ShortOrLong::Short(reader.u32()?),
            _ => ShortOrLong::Long(reader.u64()?),
        })
    };
    let data_ack = match flags & Dss::FLAG_ACK {
        0 => None,
        _ => Some(number(Dss::FLAG_ACK_LONG)?),
    };
    let mapping = match flags & Dss::FLAG_MAPPING {
        0 => None,
        _ => {
            let data_seq = number(Dss::FLAG_DATA_SEQ_LONG)?;
            let (subflow_seq, len) = (reader.u32()?, reader.u16()?);
            // §3.3: whether there is a checksum is inferred from the length.
            let checksum = optional_u16(&mut reader)?;
            Some(DssMapping { data_seq, subflow_seq, len, checksum })
        }
    };
    finished(reader)?;
    Some(Dss { data_ack, mapping, data_fin: flags & Dss::FLAG_DATA_FIN != 0 })
}

/// §3.1.
fn capable(version: u8, mut reader: Reader<'_>) -> Option<MpCapable> {
    let flags = CapableFlags(reader.u8()?);
    if reader.rest().is_empty() {
        return Some(MpCapable::Syn { version, flags });
    }
    let sender_key = Key(reader.u64()?);
    if reader.rest().is_empty() {
        return Some(MpCapable::SynAck { version, flags, sender_key });
    }
    let receiver_key = Key(reader.u64()?);
    if reader.rest().is_empty() {
        return Some(MpCapable::Ack { version, flags, sender_key, receiver_key });
    }
    let data_len = reader.u16()?;
    let checksum = optional_u16(&mut reader)?;
    Some(MpCapable::Data { version, flags, sender_key, receiver_key, data_len, checksum })
}

/// §3.2.
fn join(low: u8, mut reader: Reader<'_>) -> Option<MpJoin> {
    let backup = low & MpJoin::FLAG_BACKUP != 0;
    let address_id = AddressId(reader.u8()?);
    match reader.rest().len() {
        8 => Some(MpJoin::Syn { backup, address_id, token: Token(reader.u32()?), nonce: reader.u32()? }),
        12 => Some(MpJoin::SynAck { backup, address_id, hmac: reader.u64()?, nonce: reader.u32()? }),
        20 => Some(MpJoin::Ack { hmac: reader.array()? }),
        _ => None,
    }
}

/// §3.4.1.
fn add_addr(low: u8, mut reader: Reader<'_>) -> Option<AddAddr> {
    let echo = low & AddAddr::FLAG_ECHO != 0;
    let address_id = AddressId(reader.u8()?);
    let hmac_len = if echo { 0 } else { 8 };
    let (v6, has_port) = match reader.rest().len().checked_sub(hmac_len)? {
        4 => (false, false),
        6 => (false, true),
        16 => (true, false),
        18 => (true, true),
        _ => return None,
    };
    let addr = match v6 {
        false => Ipv4Addr::from(reader.array::<4>()?).into(),
        true => Ipv6Addr::from(reader.array::<16>()?).into(),
    };
    let port = match has_port {
        false => None,
        true => Some(reader.u16()?),
    };
    Some(match echo {
        true => AddAddr::Echo { address_id, addr, port },
        false => AddAddr::Announce { address_id, addr, port, hmac: reader.u64()? },
    })
}

/// §3.4.2.
fn remove_addr(reader: Reader<'_>) -> Option<RemoveAddr> {
    let address_ids: ArrayVec<_, 37> = reader.rest().iter().take(37).copied().map(AddressId).collect();
    (!address_ids.is_empty()).then_some(RemoveAddr { address_ids })
}

/// §3.3.8. Version 0 knew a longer form with an address id; version 1 doesn't.
fn prio(low: u8, reader: Reader<'_>) -> Option<MpPrio> {
    finished(reader)?;
    Some(MpPrio { backup: low & MpPrio::FLAG_BACKUP != 0 })
}

/// §3.7.
fn fail(mut reader: Reader<'_>) -> Option<MpFail> {
    let _reserved = reader.u8()?;
    let data_seq = DataSeq::new(reader.u64()?);
    finished(reader)?;
    Some(MpFail { data_seq })
}

/// §3.5.
fn fast_close(mut reader: Reader<'_>) -> Option<MpFastClose> {
    let _reserved = reader.u8()?;
    let receiver_key = Key(reader.u64()?);
    finished(reader)?;
    Some(MpFastClose { receiver_key })
}

/// §3.6.
fn reset(low: u8, mut reader: Reader<'_>) -> Option<MpTcpRst> {
    let reason = ResetReason::from_code(reader.u8()?);
    finished(reader)?;
    Some(MpTcpRst {
        transient: low & MpTcpRst::FLAG_TRANSIENT != 0,
        flags: low & !MpTcpRst::FLAG_TRANSIENT,
        reason,
    })
}

/// A checksum, or nothing, and then the option's end.
#[inline(always)]
fn optional_u16(reader: &mut Reader<'_>) -> Option<Option<u16>> {
    match reader.rest().len() {
        0 => Some(None),
        2 => Some(Some(reader.u16()?)),
        _ => None,
    }
}

/// `None` when something is left over.
#[inline(always)]
fn finished(reader: Reader<'_>) -> Option<()> {
    reader.rest().is_empty().then_some(())
}
