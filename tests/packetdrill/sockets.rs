//! Sockets over the stack: what each descriptor stands for, and what the system calls do to it. Nothing waits here: a call
//! that would have to gives `EAGAIN`, and `kernel.rs` decides whether to wait. `options.rs` has the socket options.

use crate::ready::Epoll;
use crate::world::{Host, World};
use braid::base::pool::{TX_HEADROOM, TX_PAYLOAD_MAX};
use braid::base::{Chunk, PoolCache};
use braid::stack::stream::StreamState;
use braid::stack::{
    AcceptQueue, CloseReason, Command, ConnectOptions, ConnectionId, ListenOptions, ListenerId, StreamShared,
};
use braid::wire::{Endpoint, FourTuple};
use libc::c_int;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// Linux's largest super-segment: 64 KiB, headers included.
const SUPER_SEGMENT_MAX: u64 = 65_536 - 321;

/// A system call's error: an `errno`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub c_int);

/// What a system call gives.
pub type Outcome<T> = Result<T, Errno>;

/// Would have to wait.
pub const AGAIN: Errno = Errno(libc::EAGAIN);

/// A connection as its socket sees it.
#[derive(Debug)]
pub struct Connected {
    /// The application's side of it.
    pub shared: Arc<StreamShared>,
    /// `connect` has said how it went.
    pub reported: bool,
    /// `shutdown(SHUT_RD)`.
    pub read_shut: bool,
    /// `shutdown(SHUT_WR)`.
    pub write_shut: bool,
    /// The error of its end was told.
    pub error_told: bool,
    /// What is left of a chunk that was read in part.
    pub left: Option<Chunk>,
    /// Bytes written so far.
    pub written: u64,
    /// Bytes of the super-segment that was begun last.
    begun: u64,
    /// The largest window that the peer has offered.
    largest_window: u64,
    /// A writer found no room (Linux's `SOCK_NOSPACE`): tell when there is some again.
    pub starved: bool,
}

/// What a socket is.
#[derive(Debug)]
pub enum State {
    /// Neither listening nor connected.
    Fresh,
    /// Accepting.
    Listening {
        /// Its name.
        id: ListenerId,
        /// Connections that nobody has taken.
        accept: Arc<AcceptQueue>,
        /// The next of them, looked at and not taken.
        next: Option<Arc<StreamShared>>,
    },
    /// Connected, connecting, or what is left of that.
    Connected(Connected),
}

/// A socket.
#[derive(Debug)]
pub struct Socket {
    /// Its descriptor: a real one, so that nobody else gets its number.
    pub fd: OwnedFd,
    /// Its address family.
    pub domain: c_int,
    /// Where it is bound.
    pub bound: Option<Endpoint>,
    /// `O_NONBLOCK`.
    pub nonblocking: bool,
    /// What it is.
    pub state: State,
    /// What its connections are like.
    pub options: ConnectOptions,
    /// TCP_FASTOPEN: how many connections of a listener may begin with data.
    pub fast_open_queue: u32,
    /// TCP_FASTOPEN_CONNECT.
    pub fast_open_connect: bool,
    /// Where the first write is to connect to.
    pub deferred: Option<Endpoint>,
    /// TCP_SYNCNT.
    pub syn_retries: Option<u32>,
    /// `SO_LINGER` with so many seconds.
    pub linger_s: Option<u32>,
    /// Values of options that are only kept, by level and name.
    pub kept: BTreeMap<(c_int, c_int), c_int>,
    /// How long `connect` and `write` wait.
    pub send_timeout_us: Option<u64>,
    /// How long `read` and `accept` wait.
    pub receive_timeout_us: Option<u64>,
    /// Counts what would wake who waits for it.
    pub wake_ups: u64,
    /// What was seen last, to tell what is new.
    seen: (u64, u8, bool),
}

/// What a descriptor stands for.
#[derive(Debug)]
pub enum File {
    /// A socket.
    Socket(Box<Socket>),
    /// An epoll instance.
    Epoll(Epoll),
}

/// All descriptors of ours.
#[derive(Debug, Default)]
pub struct Sockets {
    files: BTreeMap<RawFd, File>,
    next_listener: u32,
}

impl Sockets {
    /// Adds one; its descriptor.
    pub fn add(&mut self, file: File) -> RawFd {
        let fd = match &file {
            File::Socket(socket) => socket.fd.as_raw_fd(),
            File::Epoll(epoll) => epoll.fd.as_raw_fd(),
        };
        self.files.insert(fd, file);
        fd
    }

    /// The connections of all sockets.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.files.values().filter_map(|file| match file {
            File::Socket(socket) => match &socket.state {
                State::Connected(connected) => connected.id(),
                State::Fresh | State::Listening { .. } => None,
            },
            File::Epoll(_) => None,
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether it is ours.
    pub fn has(&self, fd: RawFd) -> bool {
        self.files.contains_key(&fd)
    }

    /// Takes one out.
    pub fn remove(&mut self, fd: RawFd) -> Option<File> {
        self.files.remove(&fd)
    }

    /// A socket.
    pub fn socket(&mut self, fd: RawFd) -> Outcome<&mut Socket> {
        match self.files.get_mut(&fd) {
            Some(File::Socket(socket)) => Ok(socket),
            Some(File::Epoll(_)) => Err(Errno(libc::ENOTSOCK)),
            None => Err(Errno(libc::EBADF)),
        }
    }

    /// A socket, to look at.
    pub fn peek(&self, fd: RawFd) -> Option<&Socket> {
        match self.files.get(&fd)? {
            File::Socket(socket) => Some(socket),
            File::Epoll(_) => None,
        }
    }

    /// An epoll instance, to look at.
    pub fn peek_epoll(&self, fd: RawFd) -> Option<&Epoll> {
        match self.files.get(&fd)? {
            File::Epoll(epoll) => Some(epoll),
            File::Socket(_) => None,
        }
    }

    /// An epoll instance.
    pub fn epoll(&mut self, fd: RawFd) -> Outcome<&mut Epoll> {
        match self.files.get_mut(&fd) {
            Some(File::Epoll(epoll)) => Ok(epoll),
            Some(File::Socket(_)) => Err(Errno(libc::EINVAL)),
            None => Err(Errno(libc::EBADF)),
        }
    }

    /// Counts what has happened to each socket since the last time: what arrived, and changes of state.
    pub fn note_wake_ups(&mut self, host: Option<&mut Host>) {
        let Some(host) = host else { return };
        for file in self.files.values_mut() {
            let File::Socket(socket) = file else { continue };
            let seen = match &mut socket.state {
                State::Fresh => (0, 0, false),
                State::Listening { accept, next, .. } => {
                    if next.is_none() {
                        *next = accept.pop();
                    }
                    (0, 0, next.is_some())
                }
                State::Connected(connected) => {
                    let arrived = connected.shared.readable_bytes() + connected.read_so_far(host);
                    let room = connected.starved && connected.is_writable(host, &socket.options);
                    connected.starved &= !room;
                    let state = connected.shared.state() as u8 * 2 + u8::from(connected.shared.is_drained());
                    (arrived, state, room)
                }
            };
            let news = seen.0 > socket.seen.0 || seen.1 != socket.seen.1 || seen.2;
            socket.wake_ups += u64::from(news);
            socket.seen = seen;
        }
    }
}

impl Connected {
    fn new(shared: Arc<StreamShared>, reported: bool) -> Self {
        Self {
            shared,
            reported,
            read_shut: false,
            write_shut: false,
            error_told: false,
            left: None,
            written: 0,
            begun: 0,
            largest_window: 0,
            starved: false,
        }
    }

    /// Its name at the stack.
    pub fn id(&self) -> Option<ConnectionId> {
        self.shared.identity().map(|(id, _)| id)
    }

    /// Bytes that the application has taken, what is left of a chunk included.
    fn read_so_far(&self, host: &Host) -> u64 {
        let received = self.id().and_then(|id| host.stack.connection(id));
        received.map_or(0, |connection| {
            connection.figures().map(|figures| figures.tcp.bytes_received).sum::<u64>()
        })
    }

    /// Bytes written and not acknowledged.
    pub fn queued(&self, host: &Host) -> u64 {
        match self.id().and_then(|id| host.stack.connection(id)) {
            Some(connection) => self.written.saturating_sub(connection.acknowledged_bytes()),
            None => 0,
        }
    }

    /// How many bytes Linux takes from a writer who finds `limit` bytes of send buffer. It fills one super-segment after
    /// the other, as long as half of the largest window that the peer has offered, and asks for room only where one
    /// begins (`tcp_sendmsg`): a buffer may hold more than its size.
    fn takes(&mut self, host: &Host, limit: u64) -> u64 {
        let connection = self.id().and_then(|id| host.stack.connection(id));
        let figures = connection.as_ref().and_then(|it| it.figures().next());
        let (Some(connection), Some(figures)) = (connection, figures) else {
            return limit.saturating_sub(self.written);
        };
        self.largest_window = self.largest_window.max(u64::from(figures.tcp.peer_window));
        let segment = connection.chunk_len().max(1) as u64;
        let goal = (self.largest_window / 2).min(SUPER_SEGMENT_MAX) / segment * segment;
        let queued = self.queued(host);
        // What has left of it does not count.
        self.begun = self.begun.min(queued.saturating_sub(u64::from(figures.tcp.in_flight)));
        let rest = if self.begun > 0 { goal.saturating_sub(self.begun) } else { 0 };
        if rest == 0 && queued < limit {
            self.begun = 0;
            return goal.max(segment);
        }
        rest
    }

    /// Linux's `sk_stream_is_writeable`: a third of the buffer is free.
    pub fn is_writable(&self, host: &Host, options: &ConnectOptions) -> bool {
        self.shared.state() == StreamState::Open
            && self.queued(host) <= u64::from(options.send_buffer) / 3 * 2
    }

    /// The error that the next call tells, if the connection has ended badly.
    pub fn error(&self) -> Option<Errno> {
        let reason = self.shared.close_reason().filter(|_| !self.error_told)?;
        let connecting = self.shared.fallback().is_none();
        let errno = match reason {
            CloseReason::Finished => return None,
            CloseReason::Refused => libc::ECONNREFUSED,
            // RFC 9293 §3.10.7.4: the peer had finished already.
            CloseReason::Reset if self.shared.is_drained() => libc::EPIPE,
            CloseReason::Reset => libc::ECONNRESET,
            CloseReason::TimedOut => libc::ETIMEDOUT,
            CloseReason::Unreachable => libc::EHOSTUNREACH,
            CloseReason::Aborted if connecting => libc::ECONNREFUSED,
            CloseReason::Aborted => libc::ECONNABORTED,
            CloseReason::PathDown => libc::ENETDOWN,
            CloseReason::NoResources => libc::ENOBUFS,
            CloseReason::Protocol => libc::EPROTO,
        };
        (self.shared.state() == StreamState::Closed).then_some(Errno(errno))
    }

    /// Tells the error, once.
    pub fn take_error(&mut self) -> Option<Errno> {
        let error = self.error()?;
        self.error_told = true;
        Some(error)
    }

    /// Nothing more will be read.
    pub fn is_at_end(&self) -> bool {
        self.left.is_none()
            && (self.shared.is_drained()
                || (self.shared.state() == StreamState::Closed && self.shared.readable_bytes() == 0))
    }

    /// Whether a read would give something now.
    pub fn has_input(&self) -> bool {
        self.left.is_some() || self.shared.readable_bytes() > 0
    }

    /// Bytes that a read would give.
    pub fn input_bytes(&self) -> u64 {
        self.shared.readable_bytes() + self.left.as_ref().map_or(0, |chunk| chunk.len() as u64)
    }
}

impl World {
    /// `socket`, over the real descriptor `fd`.
    pub fn socket(&mut self, fd: OwnedFd, domain: c_int, kind: c_int, protocol: c_int) -> Outcome<RawFd> {
        const MPTCP: c_int = libc::IPPROTO_MPTCP;
        if kind & 0xf != libc::SOCK_STREAM {
            self.wants.add("socket type other than SOCK_STREAM");
            return Err(Errno(libc::EPROTONOSUPPORT));
        }
        if ![0, libc::IPPROTO_TCP, MPTCP].contains(&protocol) {
            self.wants.add(format!("socket protocol {protocol}"));
            return Err(Errno(libc::EPROTONOSUPPORT));
        }
        self.host();
        let socket = Socket {
            fd,
            domain,
            bound: None,
            nonblocking: kind & libc::SOCK_NONBLOCK != 0,
            state: State::Fresh,
            options: self.persona.options(protocol == MPTCP),
            fast_open_queue: 0,
            fast_open_connect: false,
            deferred: None,
            syn_retries: None,
            linger_s: None,
            kept: BTreeMap::new(),
            send_timeout_us: None,
            receive_timeout_us: None,
            wake_ups: 0,
            seen: (0, 0, false),
        };
        Ok(self.sockets.add(File::Socket(Box::new(socket))))
    }

    /// `bind`.
    pub fn bind(&mut self, fd: RawFd, local: Endpoint) -> Outcome<()> {
        let port = if local.port == 0 { self.ephemeral_port() } else { local.port };
        let socket = self.sockets.socket(fd)?;
        match socket.state {
            State::Fresh if socket.bound.is_none() => {
                socket.bound = Some(Endpoint::new(local.addr, port));
                Ok(())
            }
            _ => Err(Errno(libc::EINVAL)),
        }
    }

    /// `listen`.
    pub fn listen(&mut self, fd: RawFd, backlog: c_int) -> Outcome<()> {
        self.sockets.next_listener += 1;
        let id = ListenerId(self.sockets.next_listener);
        let socket = self.sockets.socket(fd)?;
        let (State::Fresh, Some(bound)) = (&socket.state, socket.bound) else {
            return Err(Errno(libc::EINVAL));
        };
        // As Linux counts: one more than was asked for.
        let accept = AcceptQueue::new(usize::try_from(backlog).unwrap_or(0) + 1);
        socket.options.fast_open = self.persona.takes_syn_data(socket.fast_open_queue);
        let (addr, options) = (
            Some(bound.addr).filter(|addr| !addr.is_unspecified()),
            ListenOptions { connection: socket.options },
        );
        socket.state = State::Listening { id, accept: Arc::clone(&accept), next: None };
        self.command(Command::Listen { id, port: bound.port, addr, options, accept });
        Ok(())
    }

    /// What a listening socket's connections are like has changed.
    pub fn listen_again(&mut self, fd: RawFd) {
        let Ok(socket) = self.sockets.socket(fd) else { return };
        let (State::Listening { id, accept, .. }, Some(bound)) = (&socket.state, socket.bound) else {
            return;
        };
        let (id, accept) = (*id, Arc::clone(accept));
        socket.options.fast_open = self.persona.takes_syn_data(socket.fast_open_queue);
        let addr = Some(bound.addr).filter(|addr| !addr.is_unspecified());
        let options = ListenOptions { connection: socket.options };
        self.command(Command::Unlisten(id));
        self.command(Command::Listen { id, port: bound.port, addr, options, accept });
    }

    /// `accept`: the new socket, over the real descriptor `make` gives, and the peer.
    pub fn accept(
        &mut self,
        fd: RawFd,
        make: impl FnOnce() -> Outcome<OwnedFd>,
    ) -> Outcome<(RawFd, Endpoint, c_int)> {
        let socket = self.sockets.socket(fd)?;
        let State::Listening { accept, next, .. } = &mut socket.state else {
            return Err(Errno(libc::EINVAL));
        };
        let shared = next.take().or_else(|| accept.pop()).ok_or(AGAIN)?;
        let (_, tuple) = shared.identity().expect("what is accepted has a name");
        let accepted = Socket {
            fd: make()?,
            domain: socket.domain,
            bound: Some(tuple.local),
            nonblocking: false,
            state: State::Connected(Connected::new(shared, true)),
            options: socket.options,
            fast_open_queue: 0,
            fast_open_connect: false,
            deferred: None,
            syn_retries: None,
            linger_s: socket.linger_s,
            kept: socket.kept.clone(),
            send_timeout_us: None,
            receive_timeout_us: None,
            wake_ups: 0,
            seen: (0, 0, false),
        };
        let domain = socket.domain;
        let accepted = self.sockets.add(File::Socket(Box::new(accepted)));
        self.settle();
        Ok((accepted, tuple.remote, domain))
    }

    /// `connect`: begins, or tells how it went.
    pub fn connect(&mut self, fd: RawFd, remote: Endpoint, local_addr: IpAddr) -> Outcome<()> {
        let socket = self.sockets.socket(fd)?;
        match &mut socket.state {
            State::Listening { .. } => return Err(Errno(libc::EISCONN)),
            State::Connected(connected) => {
                return match connected.shared.state() {
                    StreamState::Connecting => Err(Errno(libc::EALREADY)),
                    StreamState::Open if connected.reported => Err(Errno(libc::EISCONN)),
                    StreamState::Open => {
                        connected.reported = true;
                        Ok(())
                    }
                    StreamState::Closed => Err(connected.take_error().unwrap_or(Errno(libc::ECONNABORTED))),
                };
            }
            State::Fresh if socket.deferred.is_some() => return Err(Errno(libc::EISCONN)),
            State::Fresh => {}
        }
        if socket.fast_open_connect {
            return self.connect_with_first_write(fd, remote, local_addr);
        }
        self.begin(fd, remote, local_addr, false)?;
        Err(Errno(libc::EINPROGRESS))
    }

    /// A connection of a fresh socket begins, with Fast Open or without.
    pub fn begin(&mut self, fd: RawFd, remote: Endpoint, local_addr: IpAddr, fast_open: bool) -> Outcome<()> {
        let port = self.ephemeral_port();
        let path = self.path();
        let doorbell = Arc::clone(&self.host().doorbell);
        let mut tcp = self.persona.tcp();
        let socket = self.sockets.socket(fd)?;
        let bound = socket.bound;
        let local_addr =
            bound.map(|bound| bound.addr).filter(|addr| !addr.is_unspecified()).unwrap_or(local_addr);
        let local = Endpoint::new(local_addr, bound.map_or(port, |bound| bound.port));
        let tuple = FourTuple { local, remote };
        let shared = StreamShared::with_tuning(doorbell, socket.options.tuning);
        socket.state = State::Connected(Connected::new(Arc::clone(&shared), false));
        socket.options.fast_open = fast_open;
        let options = socket.options;
        tcp.syn_retries = socket.syn_retries.unwrap_or(tcp.syn_retries);
        self.host().stack.set_tcp(tcp);
        self.command(Command::Connect { tuple, path, options, stream: shared });
        self.apply_settings();
        Ok(())
    }

    /// `connect` with `AF_UNSPEC`: the socket is a fresh one again.
    pub fn disconnect(&mut self, fd: RawFd) -> Outcome<()> {
        let socket = self.sockets.socket(fd)?;
        if let State::Connected(connected) = std::mem::replace(&mut socket.state, State::Fresh) {
            self.release(connected, true);
        }
        Ok(())
    }

    /// `close`. The descriptor goes back to the caller.
    pub fn close(&mut self, fd: RawFd) -> Outcome<OwnedFd> {
        match self.sockets.remove(fd).ok_or(Errno(libc::EBADF))? {
            File::Epoll(epoll) => Ok(epoll.fd),
            File::Socket(socket) => {
                let Socket { fd, state, linger_s, .. } = *socket;
                match state {
                    State::Fresh => {}
                    State::Listening { id, accept, next } => {
                        accept.close();
                        for shared in next.into_iter().chain(std::iter::from_fn(|| accept.pop())) {
                            shared.reset();
                        }
                        self.command(Command::Unlisten(id));
                    }
                    State::Connected(connected) => self.release(connected, linger_s == Some(0)),
                }
                Ok(fd)
            }
        }
    }

    /// The application gives a connection up.
    fn release(&mut self, connected: Connected, abort: bool) {
        let Connected { shared, left, .. } = connected;
        let unread = left.is_some();
        let cache = &mut self.host().cache;
        left.into_iter().for_each(|chunk| cache.free_chunk(chunk));
        if abort || unread {
            shared.reset();
        } else {
            shared.abandon();
        }
        // A connection that is over is nobody's any more.
        if shared.state() == StreamState::Closed {
            let rest = std::iter::from_fn(|| shared.pop()).chain(std::iter::from_fn(|| shared.take()));
            rest.for_each(|chunk| cache.free_chunk(chunk));
        }
        self.settle();
    }

    /// Whether calls that receive may wait, and how long.
    pub fn receive_patience(&mut self, fd: RawFd) -> (bool, Option<u64>) {
        self.sockets.peek(fd).map_or((false, None), |socket| (!socket.nonblocking, socket.receive_timeout_us))
    }

    /// The same of calls that send.
    pub fn send_patience(&mut self, fd: RawFd) -> (bool, Option<u64>) {
        self.sockets.peek(fd).map_or((false, None), |socket| (!socket.nonblocking, socket.send_timeout_us))
    }

    /// `ioctl` with SIOCINQ, SIOCOUTQ and SIOCOUTQNSD: bytes that wait.
    pub fn queue_length(&mut self, fd: RawFd, request: libc::c_ulong) -> Outcome<c_int> {
        /// Not in the libc crate: bytes that were never sent.
        const SIOCOUTQNSD: libc::c_ulong = 0x894b;
        let socket = self.sockets.peek(fd).ok_or(Errno(libc::EBADF))?;
        let State::Connected(connected) = &socket.state else { return Err(Errno(libc::EINVAL)) };
        let host = self.view().ok_or(Errno(libc::EINVAL))?;
        let bytes = match request {
            libc::FIONREAD => connected.input_bytes(),
            libc::TIOCOUTQ => connected.queued(host),
            SIOCOUTQNSD => {
                let figures = connected.id().and_then(|id| host.stack.connection(id)?.figures().next());
                let in_flight = figures.map_or(0, |figures| u64::from(figures.tcp.in_flight));
                connected.queued(host).saturating_sub(in_flight)
            }
            request => {
                self.wants.add(format!("ioctl {request:#x}"));
                return Err(Errno(libc::ENOTTY));
            }
        };
        Ok(c_int::try_from(bytes).unwrap_or(c_int::MAX))
    }

    /// `epoll_create`.
    pub fn epoll_create(&mut self, fd: OwnedFd) -> RawFd {
        self.sockets.add(File::Epoll(Epoll::new(fd)))
    }

    /// `shutdown`.
    pub fn shutdown(&mut self, fd: RawFd, how: c_int) -> Outcome<()> {
        let socket = self.sockets.socket(fd)?;
        let State::Connected(connected) = &mut socket.state else {
            return Err(Errno(libc::ENOTCONN));
        };
        if connected.shared.state() == StreamState::Closed {
            return Err(Errno(libc::ENOTCONN));
        }
        connected.read_shut |= how == libc::SHUT_RD || how == libc::SHUT_RDWR;
        if how == libc::SHUT_WR || how == libc::SHUT_RDWR {
            connected.write_shut = true;
            connected.shared.close_send();
        }
        socket.wake_ups += 1;
        self.settle();
        Ok(())
    }

    /// `read` and its kin: into `buffer`, or only to look.
    pub fn read(&mut self, fd: RawFd, buffer: &mut [u8], peek: bool) -> Outcome<usize> {
        let Self { sockets, .. } = self;
        let socket = sockets.socket(fd)?;
        if socket.deferred.is_some() {
            return Err(AGAIN);
        }
        let State::Connected(connected) = &mut socket.state else {
            return Err(Errno(libc::ENOTCONN));
        };
        if !connected.has_input() {
            return match connected.take_error() {
                Some(Errno(libc::EPIPE)) => Ok(0),
                Some(error) => Err(error),
                None if connected.is_at_end() || connected.read_shut => Ok(0),
                None => Err(AGAIN),
            };
        }
        let shared = Arc::clone(&connected.shared);
        let mut copied = 0;
        let mut left = connected.left.take();
        let cache = &mut self.host().cache;
        while copied < buffer.len() || (peek && left.is_none()) {
            let Some(mut chunk) = left.take().or_else(|| shared.pop()) else { break };
            let len = chunk.len().min(buffer.len() - copied);
            buffer[copied..copied + len].copy_from_slice(&cache.pool().chunk(&chunk)[..len]);
            copied += len;
            if peek {
                // One chunk is enough to look at.
                left = Some(chunk);
                break;
            }
            chunk.trim_front(len);
            match chunk.is_empty() {
                true => cache.free_chunk(chunk),
                false => left = Some(chunk),
            }
        }
        if let Ok(Socket { state: State::Connected(connected), .. }) = self.sockets.socket(fd) {
            connected.left = left;
        }
        self.settle();
        Ok(copied)
    }

    /// `write` and its kin. `more`: the rest of a message follows. Takes what there is room for.
    pub fn write(&mut self, fd: RawFd, bytes: &[u8], more: bool) -> Outcome<usize> {
        let socket = self.sockets.socket(fd)?;
        let limit = u64::from(socket.options.send_buffer);
        let State::Connected(connected) = &mut socket.state else {
            return Err(Errno(libc::EPIPE));
        };
        if let Some(error) = connected.take_error() {
            return Err(error);
        }
        if connected.write_shut || connected.shared.state() == StreamState::Closed {
            return Err(Errno(libc::EPIPE));
        }
        if connected.shared.state() == StreamState::Connecting {
            return Err(AGAIN);
        }
        let shared = Arc::clone(&connected.shared);
        let mut taken = 0;
        while taken < bytes.len() {
            let room = self.takes(fd, limit);
            let part = &bytes[taken..bytes.len().min(taken + room)];
            // The rest of this call's bytes follows, too.
            let follows = more || taken + part.len() < bytes.len();
            let pushed = self.push(&shared, part, follows);
            if let Ok(Socket { state: State::Connected(connected), .. }) = self.sockets.socket(fd) {
                connected.written += pushed as u64;
                connected.begun += pushed as u64;
            }
            self.settle();
            taken += pushed;
            if pushed == 0 || pushed < part.len() {
                break;
            }
        }
        let short = taken < bytes.len();
        if short {
            // Who waits for room holds nothing back.
            shared.set_more(more);
            shared.ring();
        }
        if let Ok(Socket { state: State::Connected(connected), .. }) = self.sockets.socket(fd) {
            connected.starved |= short;
        }
        self.settle();
        if taken == 0 && !bytes.is_empty() { Err(AGAIN) } else { Ok(taken) }
    }

    /// How many bytes a writer may give now.
    fn takes(&mut self, fd: RawFd, limit: u64) -> usize {
        let Self { sockets, host, .. } = self;
        match (sockets.socket(fd), host) {
            (Ok(Socket { state: State::Connected(connected), .. }), Some(host)) => {
                connected.takes(host, limit) as usize
            }
            _ => 0,
        }
    }

    /// Gives bytes to the worker, a segment's worth at a time.
    fn push(&mut self, shared: &StreamShared, bytes: &[u8], more: bool) -> usize {
        let mut taken = 0;
        shared.set_more(more);
        while taken < bytes.len() {
            if shared.push_room() == 0 {
                shared.ring();
                self.settle();
                if shared.push_room() == 0 {
                    break;
                }
            }
            let cache = &mut self.host().cache;
            let len = shared.chunk_len().clamp(1, TX_PAYLOAD_MAX).min(bytes.len() - taken);
            let Some(chunk) = filled(cache, &bytes[taken..taken + len]) else { break };
            if let Err(chunk) = shared.push(chunk) {
                cache.free_chunk(chunk);
                break;
            }
            taken += len;
        }
        shared.ring();
        taken
    }
}

/// A chunk that holds `bytes`.
pub fn filled(cache: &mut PoolCache, bytes: &[u8]) -> Option<Chunk> {
    let mut frame = cache.alloc()?;
    cache.pool_arc().clone().bytes_mut(&mut frame)[TX_HEADROOM..TX_HEADROOM + bytes.len()]
        .copy_from_slice(bytes);
    Some(Chunk::new(frame, TX_HEADROOM, bytes.len()))
}

/// An address as its family in the socket's domain has it: IPv4 addresses of an IPv6 socket are mapped.
pub fn in_domain(addr: IpAddr, domain: c_int) -> IpAddr {
    match addr {
        IpAddr::V4(v4) if domain == libc::AF_INET6 => IpAddr::V6(v4.to_ipv6_mapped()),
        addr => addr,
    }
}

/// The address that packets show: mapped ones are IPv4.
pub fn on_the_wire(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(addr, IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// The unspecified address of a family.
pub fn unspecified(domain: c_int) -> IpAddr {
    if domain == libc::AF_INET6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}
