use crate::base::time::Duration;
use crate::base::*;
use crate::tcp::*;
use crate::wire::*;
#[derive(Debug)]
pub struct Tcb;
pub struct Accepted {
    pub accepted: bool,
    pub ack_advanced: bool,
}
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub enum OutgoingKind {
    Syn,
    SynAck,
    Data,
    Ack,
    Fin,
    Probe,
    Reset,
}
pub struct Outgoing<'a> {
    pub tcp: TcpRepr,
    pub options: TcpOptions,
    pub payload: Option<OutgoingPayload<'a>>,
    pub kind: OutgoingKind,
    pub retransmission: bool,
}
pub struct OutgoingPayload<'a> {
    pub chunk: &'a mut Chunk,
    pub data_seq: DataSeq,
    pub offset: u64,
}
pub fn reset_for(tcp: &TcpRepr, payload_len: usize) -> Option<TcpRepr> {
    todo!()
}
pub fn initial_sequence(secret: &[u8; 16], tuple: &FourTuple, now: Instant) -> SeqNum {
    todo!()
}
impl Tcb {
    pub fn connect(now: Instant, config: TcpConfig, iss: SeqNum) -> Tcb {
        todo!()
    }
    pub fn accept(now: Instant, config: TcpConfig, iss: SeqNum, syn: &TcpRepr, options: &TcpOptions) -> Tcb {
        todo!()
    }
    pub fn set_window_owner(&mut self, owner: WindowOwner) {}
    pub fn handle_segment(
        &mut self,
        now: Instant,
        tcp: &TcpRepr,
        options: &TcpOptions,
        ecn: u8,
        payload: Option<Chunk>,
        cache: &mut PoolCache,
    ) -> Accepted {
        todo!()
    }
    pub fn handle_icmp(&mut self, now: Instant, error: &IcmpError) {}
    pub fn handle_timeout(&mut self, now: Instant) {}
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    pub fn poll_event(&mut self) -> Option<TcpEvent> {
        todo!()
    }
    pub fn poll_received(&mut self) -> Option<(u64, Chunk)> {
        todo!()
    }
    pub fn send_room(&self) -> usize {
        todo!()
    }
    pub fn payload_max(&self, reserved_options: usize) -> usize {
        todo!()
    }
    pub fn enqueue(&mut self, chunk: Chunk, data_seq: DataSeq) {
        todo!()
    }
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        reserved_options: usize,
        reserved_options_data: usize,
    ) -> Option<Outgoing<'_>> {
        todo!()
    }
    pub fn has_to_send(&self, now: Instant) -> bool {
        todo!()
    }
    pub fn request_ack(&mut self) {}
    pub fn probe(&mut self, now: Instant) {}
    pub fn close(&mut self, now: Instant) {}
    pub fn abort(&mut self, now: Instant) {}
    pub fn drop_all(&mut self, cache: &mut PoolCache) {}
    pub fn set_receive_window(&mut self, bytes: u32) {}
    pub fn scaled_window(&self, tcp: &TcpRepr) -> u32 {
        todo!()
    }
    pub fn state(&self) -> State {
        todo!()
    }
    pub fn is_established(&self) -> bool {
        todo!()
    }
    pub fn acked_bytes(&self) -> u64 {
        todo!()
    }
    pub fn received_bytes(&self) -> u64 {
        todo!()
    }
    pub fn is_fin_acked(&self) -> bool {
        todo!()
    }
    pub fn in_flight(&self) -> usize {
        todo!()
    }
    pub fn unsent(&self) -> usize {
        todo!()
    }
    pub fn srtt(&self) -> Option<Duration> {
        todo!()
    }
    pub fn rto(&self) -> Duration {
        todo!()
    }
    pub fn consecutive_timeouts(&self) -> u32 {
        todo!()
    }
    pub fn mss(&self) -> Mss {
        todo!()
    }
    pub fn info(&self) -> TcpInfo {
        todo!()
    }
    pub fn has_received(&self) -> bool {
        todo!()
    }
    pub fn can_acknowledge(&self) -> bool {
        todo!()
    }
}
