//! smoltcp's TCP, for comparison: two interfaces in memory. A packet is a vector of bytes that changes hands.

use super::memory::timed;
use super::{Case, Cost, WINDOW};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::cell::RefCell;
use std::collections::VecDeque;

/// Virtual time between turns.
const STEP: Duration = Duration::from_micros(20);
const SILENCE: usize = 100_000;
/// Longer than any ACK.
const ACK_LEN_MAX: usize = 100;

/// A device whose packets are moved by hand. Buffers are used again: the allocator is no part of the figures.
struct Port {
    mtu: usize,
    checksum: bool,
    inbox: VecDeque<Vec<u8>>,
    outbox: VecDeque<Vec<u8>>,
    spare: RefCell<Vec<Vec<u8>>>,
}

struct Received<'a>(Vec<u8>, &'a RefCell<Vec<Vec<u8>>>);
struct Sent<'a>(&'a mut VecDeque<Vec<u8>>, &'a RefCell<Vec<Vec<u8>>>);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        let result = read(&self.0);
        self.1.borrow_mut().push(self.0);
        result
    }
}

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut buffer = self.1.borrow_mut().pop().unwrap_or_default();
        buffer.resize(len, 0);
        let result = write(&mut buffer);
        self.0.push_back(buffer);
        result
    }
}

impl Device for Port {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sent<'_>)> {
        let packet = self.inbox.pop_front()?;
        Some((Received(packet, &self.spare), Sent(&mut self.outbox, &self.spare)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sent<'_>> {
        Some(Sent(&mut self.outbox, &self.spare))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        if !self.checksum {
            capabilities.checksum = ChecksumCapabilities::ignored();
            capabilities.checksum.ipv4 = Checksum::Both;
        }
        capabilities
    }
}

struct Host {
    port: Port,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
}

impl Host {
    fn new(case: Case, last: u8) -> Self {
        let mtu = usize::from(case.mtu);
        let mut port = Port {
            mtu,
            checksum: case.checksum,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            spare: RefCell::default(),
        };
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut port, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::v4(10, 0, 0, last), 24)).expect("room for one address");
        });
        let buffer = || SocketBuffer::new(vec![0; WINDOW as usize]);
        let mut socket = Socket::new(buffer(), buffer());
        // Every second segment is acknowledged: without a delay every one would be.
        socket.set_ack_delay(Some(Duration::from_millis(10)));
        socket.set_nagle_enabled(false);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        Self { port, interface, sockets, socket }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn poll(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.port, &mut self.sockets);
    }
}

/// A run of bulk data; it goes on with every call.
pub fn run(case: Case) -> Result<impl FnMut(u64) -> Result<Cost, String>, String> {
    let (mut client, mut server) = (Host::new(case, 1), Host::new(case, 2));
    server.socket().listen(80).map_err(|error| error.to_string())?;
    let Host { interface, sockets, socket, .. } = &mut client;
    sockets
        .get_mut::<Socket<'_>>(*socket)
        .connect(interface.context(), (IpAddress::v4(10, 0, 0, 2), 80), 40_000)
        .map_err(|error| error.to_string())?;
    let mut now = Instant::ZERO;
    let data = vec![7; WINDOW as usize];
    let mut scratch = vec![0; WINDOW as usize];
    Ok(move |segments| {
        let mut cost = Cost::default();
        let mut silent = 0;
        while cost.segments < segments {
            now += STEP;
            let before = cost.segments;
            timed(&mut cost.sender_ns, || {
                if client.socket().can_send() {
                    let _taken = client.socket().send_slice(&data);
                }
                client.poll(now);
            });
            while !client.port.outbox.is_empty() {
                for _ in 0..case.batch {
                    let Some(packet) = client.port.outbox.pop_front() else { break };
                    cost.segments += u64::from(packet.len() > ACK_LEN_MAX);
                    server.port.inbox.push_back(packet);
                }
                cost.payload_bytes += timed(&mut cost.receiver_ns, || {
                    server.poll(now);
                    match server.socket().can_recv() {
                        true => server.socket().recv_slice(&mut scratch).unwrap_or(0) as u64,
                        false => 0,
                    }
                });
            }
            cost.acks += server.port.outbox.len() as u64;
            client.port.inbox.append(&mut server.port.outbox);
            // Buffers go back to where they are written.
            client.port.spare.borrow_mut().append(&mut server.port.spare.borrow_mut());
            silent = if cost.segments == before { silent + 1 } else { 0 };
            if silent > SILENCE {
                return Err(format!("{case:?}: nothing moves after {} segments", cost.segments));
            }
        }
        Ok(cost)
    })
}
