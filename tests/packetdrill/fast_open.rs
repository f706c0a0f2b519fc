//! TCP Fast Open (RFC 7413) as Linux's sockets have it: `sendto` with MSG_FASTOPEN, and TCP_FASTOPEN_CONNECT, with which the
//! first write does what `connect` has put off. What the SYN says is the stack's affair.

use crate::sockets::{Errno, Outcome, State, filled};
use crate::world::World;
use braid::stack::stream::{FastOpenUse, StreamState};
use braid::wire::Endpoint;
use std::net::IpAddr;
use std::os::fd::RawFd;

impl World {
    /// Where a call that sends has to begin a connection first: to `to` with MSG_FASTOPEN (`flag`), or to where a `connect`
    /// said that it would.
    pub fn opens(&mut self, fd: RawFd, flag: bool, to: Option<Endpoint>) -> Outcome<Option<Endpoint>> {
        let allowed = self.persona.opens_with_data();
        let socket = self.sockets.socket(fd)?;
        match &socket.state {
            State::Fresh => match socket.deferred.take() {
                Some(remote) => Ok(Some(remote)),
                None if !flag => Ok(None),
                None => to.filter(|_| allowed).map(Some).ok_or(Errno(libc::EOPNOTSUPP)),
            },
            State::Connected(connected) if flag && connected.shared.state() == StreamState::Connecting => {
                Err(Errno(libc::EALREADY))
            }
            State::Connected(_) | State::Listening { .. } => Ok(None),
        }
    }

    /// Begins a connection. How many of `bytes` have left with the SYN: none where there is no cookie, nor where nothing is
    /// given.
    pub fn open_with(&mut self, fd: RawFd, remote: Endpoint, local: IpAddr, bytes: &[u8]) -> Outcome<usize> {
        self.begin(fd, remote, local, true)?;
        let Some(room) = self.syn_room(fd) else { return Ok(0) };
        let cache = &mut self.host().cache;
        let first = &bytes[..bytes.len().min(room)];
        let chunk = if first.is_empty() { None } else { filled(cache, first) };
        let State::Connected(connected) = &mut self.sockets.socket(fd)?.state else { return Ok(0) };
        let len = chunk.as_ref().map_or(0, |chunk| chunk.len());
        connected.written += len as u64;
        if let Some(chunk) = chunk {
            connected.shared.push(chunk).expect("a ring that was empty");
        }
        // There is no more: the SYN need not wait.
        connected.shared.flush();
        self.settle();
        Ok(len)
    }

    /// `connect` with TCP_FASTOPEN_CONNECT. Linux puts it off where it has a cookie. Whether the stack has one shows in a SYN
    /// that waits for data: then the connection is taken back before anything has left.
    pub fn connect_with_first_write(&mut self, fd: RawFd, remote: Endpoint, local: IpAddr) -> Outcome<()> {
        self.begin(fd, remote, local, true)?;
        if self.syn_room(fd).is_none() {
            return Err(Errno(libc::EINPROGRESS));
        }
        self.disconnect(fd)?;
        self.sockets.socket(fd)?.deferred = Some(remote);
        Ok(())
    }

    /// How many bytes a SYN takes that waits for them.
    fn syn_room(&self, fd: RawFd) -> Option<usize> {
        let State::Connected(connected) = &self.sockets.peek(fd)?.state else { return None };
        self.view()?.stack.connection(connected.id()?)?.syn_room()
    }

    /// Linux's TCPI_OPT_SYN_DATA: all data of a SYN was taken.
    pub fn had_syn_data(&self, fd: RawFd) -> bool {
        let Some(State::Connected(connected)) = self.sockets.peek(fd).map(|socket| &socket.state) else {
            return false;
        };
        let connection = self.view().and_then(|host| connected.id().and_then(|id| host.stack.connection(id)));
        match connection.and_then(|connection| connection.fast_open()) {
            Some(report) => report.sent_bytes > 0 && report.acked_bytes == report.sent_bytes,
            None => connected.shared.fast_open() == FastOpenUse::Accepted,
        }
    }
}
