//! A peer of one stack, of whom the test writes every segment.

use super::pair::{Host, Segment};
use crate::base::{DataSeq, Instant, PortId, SeqNum};
use crate::mptcp::ConnectOptions;
use crate::mptcp::crypto::{KeyMaterial, Keys};
use crate::stack::stream::{StreamShared, StreamState};
use crate::wire::mptcp::{
    AddressId, CapableFlags, Dss, DssMapping, Key, MpCapable, MpJoin, MptcpOption, ShortOrLong, VERSION,
    dss_checksum,
};
use crate::wire::{Endpoint, FourTuple, LinkHeader, MacAddr, TcpFlags, TcpOptions, TcpRepr, checksum};
use std::sync::Arc;

pub(super) const SYN: TcpFlags = TcpFlags::SYN;
pub(super) const ACK: TcpFlags = TcpFlags::ACK;
pub(super) const RST: TcpFlags = TcpFlags::RST;
pub(super) const FIN: TcpFlags = TcpFlags::FIN;
/// HMAC-SHA256 and nothing else.
pub(super) const H: CapableFlags = CapableFlags(CapableFlags::HMAC_SHA256);

/// One subflow, as its other end.
pub(super) struct Peer {
    /// From the peer's side.
    pub(super) tuple: FourTuple,
    pub(super) port: PortId,
    /// What it sends next.
    pub(super) seq: SeqNum,
    /// What it expects next.
    pub(super) ack: SeqNum,
    pub(super) iss: SeqNum,
    pub(super) window: u16,
    /// Its key.
    pub(super) local: KeyMaterial,
    /// The host's.
    pub(super) remote: Option<KeyMaterial>,
}

impl Peer {
    /// A peer at `local` to the host's `remote`, through the host's NIC `port`.
    pub(super) fn new(local: Endpoint, remote: Endpoint, port: usize) -> Self {
        let iss = SeqNum::new(5_000);
        Self {
            tuple: FourTuple { local, remote },
            port: PortId(port as u16),
            seq: iss,
            ack: SeqNum::default(),
            iss,
            window: 60_000,
            local: KeyMaterial::new(Key(0x1234_5678)),
            remote: None,
        }
    }

    /// Another subflow of the same connection.
    pub(super) fn another(&self, local: Endpoint, remote: Endpoint, port: usize) -> Self {
        Self { local: self.local, remote: self.remote, ..Self::new(local, remote, port) }
    }

    /// Sends a segment, and takes its sequence space as sent.
    pub(super) fn send(
        &mut self,
        host: &mut Host,
        now: Instant,
        flags: TcpFlags,
        options: &[MptcpOption],
        payload: &[u8],
    ) {
        self.send_at(host, now, self.seq, flags, options, payload);
        let takes_one = flags.intersects(SYN | FIN);
        self.seq += payload.len() as u32 + u32::from(takes_one);
    }

    /// Sends a segment with another sequence number.
    pub(super) fn send_at(
        &self,
        host: &mut Host,
        now: Instant,
        seq: SeqNum,
        flags: TcpFlags,
        mptcp: &[MptcpOption],
        payload: &[u8],
    ) {
        let mut options = TcpOptions::default();
        options.mptcp.extend(mptcp.iter().cloned());
        let link =
            LinkHeader { src: MacAddr([2; 6]), dst: MacAddr([2, 0, 0, 0, 0, host.number]), vlan: None };
        let tcp = TcpRepr { seq, ack: self.ack, flags, window: self.window, urgent: 0 };
        let segment = Segment { link, tuple: self.tuple, tcp, options, payload: payload.to_vec() };
        host.deliver(now, self.port, &segment.emit());
    }

    /// What the host sends now to this peer. Its sequence space is taken as received when it is the next.
    pub(super) fn receive(&mut self, host: &mut Host, now: Instant) -> Vec<Segment> {
        let mut received = Vec::new();
        for (_, bytes) in host.turn(now) {
            let segment = Segment::parse(&bytes);
            if segment.tuple != self.tuple.reversed() {
                continue;
            }
            if segment.has(SYN) {
                self.ack = segment.tcp.seq + 1;
            } else if segment.tcp.seq == self.ack && !segment.has(RST) {
                self.ack += segment.payload.len() as u32 + u32::from(segment.has(FIN));
            }
            received.push(segment);
        }
        received
    }

    /// Opens a connection to the host by MP_CAPABLE with these flags. The accepted stream, and how it is.
    pub(super) fn connect(
        &mut self,
        host: &mut Host,
        now: Instant,
        flags: CapableFlags,
    ) -> Arc<StreamShared> {
        let syn = MptcpOption::Capable(MpCapable::Syn { version: VERSION, flags });
        self.send(host, now, SYN, &[syn], b"");
        let answers = self.receive(host, now);
        let [answer] = &answers[..] else { panic!("{} answers to a SYN", answers.len()) };
        let Some(MptcpOption::Capable(MpCapable::SynAck { sender_key, flags: agreed, .. })) =
            answer.options.mptcp.first()
        else {
            panic!("no key on the SYN/ACK: {:?}", answer.options);
        };
        self.remote = Some(KeyMaterial::new(*sender_key));
        let keys = self.third(*agreed);
        self.send(host, now, ACK, &[keys], b"");
        self.receive(host, now);
        host.accept.pop().expect("accepted")
    }

    /// MP_CAPABLE of the third ACK.
    pub(super) fn third(&self, flags: CapableFlags) -> MptcpOption {
        let receiver_key = self.remote.expect("known").key;
        let sender_key = self.local.key;
        MptcpOption::Capable(MpCapable::Ack { version: VERSION, flags, sender_key, receiver_key })
    }

    /// Has the host open a connection to this peer, and answers with a SYN/ACK that carries `answer`.
    pub(super) fn accept(
        &mut self,
        host: &mut Host,
        now: Instant,
        options: ConnectOptions,
        answer: &[MptcpOption],
    ) -> Arc<StreamShared> {
        let stream = host.connect(now, self.tuple.local, options);
        self.receive(host, now);
        self.send(host, now, SYN | ACK, answer, b"");
        assert_eq!(stream.state(), StreamState::Connecting);
        stream
    }

    /// Takes the host's key from its third ACK.
    pub(super) fn learn_key(&mut self, third: &Segment) {
        let Some(MptcpOption::Capable(MpCapable::Ack { sender_key, .. })) = third.options.mptcp.first()
        else {
            panic!("no keys on the third ACK: {:?}", third.options);
        };
        self.remote = Some(KeyMaterial::new(*sender_key));
    }

    /// MP_JOIN of a SYN from the peer's address with this id.
    pub(super) fn join_syn(&self, id: u8, nonce: u32) -> MptcpOption {
        let token = self.remote.expect("known").token;
        MptcpOption::Join(MpJoin::Syn { backup: false, address_id: AddressId(id), token, nonce })
    }

    /// Joins the host, which knows the connection, from the peer's address with this id.
    pub(super) fn join(&mut self, host: &mut Host, now: Instant, id: u8) {
        let nonce = 77;
        self.send(host, now, SYN, &[self.join_syn(id, nonce)], b"");
        let answers = self.receive(host, now);
        let Some(MptcpOption::Join(MpJoin::SynAck { nonce: host_nonce, .. })) =
            answers[0].options.mptcp.first()
        else {
            panic!("no MP_JOIN on the SYN/ACK: {:?}", answers[0].options);
        };
        let hmac = self.keys().join_hmac_sent(nonce, *host_nonce).ack();
        self.send(host, now, ACK, &[MptcpOption::Join(MpJoin::Ack { hmac })], b"");
        let fourth = self.receive(host, now);
        assert!(fourth.iter().any(|segment| segment.has(ACK)), "the third ACK is acknowledged");
    }

    /// The keys from the peer's side.
    pub(super) fn keys(&self) -> Keys {
        Keys { local: self.local, remote: self.remote.expect("known") }
    }

    /// MP_CAPABLE of a SYN/ACK.
    pub(super) fn syn_ack(&self, version: u8, flags: CapableFlags) -> MptcpOption {
        MptcpOption::Capable(MpCapable::SynAck { version, flags, sender_key: self.local.key })
    }

    /// Byte `offset` of the peer's data.
    pub(super) fn data_seq(&self, offset: u64) -> DataSeq {
        self.local.first_byte() + offset
    }

    /// Byte `offset` of the host's data.
    pub(super) fn host_data_seq(&self, offset: u64) -> DataSeq {
        self.remote.expect("known").first_byte() + offset
    }

    /// The subflow sequence number of what is sent next: relative to the SYN.
    pub(super) fn subflow_seq(&self) -> u32 {
        self.seq.distance(self.iss) as u32
    }

    /// The DSS of a payload that is sent next, at byte `offset` of the data; it acknowledges `acked` bytes.
    pub(super) fn dss(&self, offset: u64, payload: &[u8], acked: u64, with_checksum: bool) -> Dss {
        let (data_seq, subflow_seq, len) = (self.data_seq(offset), self.subflow_seq(), payload.len() as u16);
        let sum = checksum::sum(0, payload);
        let checksum = with_checksum.then(|| dss_checksum(data_seq, subflow_seq, len, sum));
        Dss {
            data_ack: Some(ShortOrLong::Long(self.host_data_seq(acked).raw())),
            mapping: Some(DssMapping {
                data_seq: ShortOrLong::Long(data_seq.raw()),
                subflow_seq,
                len,
                checksum,
            }),
            data_fin: false,
        }
    }

    /// Sends `payload` as byte `offset` of the data and what follows.
    pub(super) fn send_data(&mut self, host: &mut Host, now: Instant, offset: u64, payload: &[u8]) {
        let dss = MptcpOption::Dss(self.dss(offset, payload, 0, false));
        self.send(host, now, ACK, &[dss], payload);
    }

    /// Acknowledges `acked` bytes of the host's data, and all that came on the subflow.
    pub(super) fn data_ack(&mut self, host: &mut Host, now: Instant, acked: u64) {
        let data_ack = Some(ShortOrLong::Long(self.host_data_seq(acked).raw()));
        let dss = MptcpOption::Dss(Dss { data_ack, mapping: None, data_fin: false });
        self.send(host, now, ACK, &[dss], b"");
    }
}
