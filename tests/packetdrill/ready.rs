//! Who may go on: the events of poll(2) for each descriptor, and epoll on top.

use crate::sockets::{Errno, Outcome, Socket, State};
use crate::world::World;
use braid::stack::stream::StreamState;
use libc::{c_int, c_short};
use std::collections::BTreeMap;
use std::os::fd::{OwnedFd, RawFd};

/// An entry of an epoll instance.
#[derive(Debug)]
struct Entry {
    events: u32,
    data: u64,
    /// Edge-triggered: what woke it last was told.
    told: Option<u64>,
    /// EPOLLONESHOT, and it has fired.
    spent: bool,
}

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll {
    /// Its descriptor.
    pub fd: OwnedFd,
    entries: BTreeMap<RawFd, Entry>,
}

impl Epoll {
    /// Watches nothing yet.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, entries: BTreeMap::new() }
    }

    /// What it watches.
    pub fn watched(&self) -> Vec<RawFd> {
        self.entries.keys().copied().collect()
    }
}

impl World {
    /// The events of poll(2) that `fd` shows now, whether asked for or not.
    pub fn events(&self, fd: RawFd) -> c_short {
        let Some(socket) = self.sockets.peek(fd) else { return libc::POLLNVAL };
        match &socket.state {
            // What it writes opens the connection.
            State::Fresh if socket.deferred.is_some() => libc::POLLOUT | libc::POLLWRNORM,
            // Linux: a socket that was never connected hangs up.
            State::Fresh => libc::POLLOUT | libc::POLLHUP,
            State::Listening { next, .. } => {
                if next.is_some() {
                    libc::POLLIN
                } else {
                    0
                }
            }
            State::Connected(_) => self.connection_events(socket),
        }
    }

    fn connection_events(&self, socket: &Socket) -> c_short {
        let State::Connected(connected) = &socket.state else { return 0 };
        let mut events = 0;
        let state = connected.shared.state();
        if state == StreamState::Connecting {
            return 0;
        }
        let ended = connected.is_at_end() || connected.read_shut;
        if connected.has_input() || ended {
            events |= libc::POLLIN | libc::POLLRDNORM;
        }
        if ended {
            events |= libc::POLLRDHUP;
        }
        let closed = state == StreamState::Closed;
        if closed || (ended && connected.write_shut) {
            events |= libc::POLLHUP;
        }
        if connected.error().is_some() {
            events |= libc::POLLERR;
        }
        let room = self.view().is_some_and(|host| connected.is_writable(host, &socket.options));
        if closed || connected.write_shut || room {
            events |= libc::POLLOUT | libc::POLLWRNORM;
        }
        events
    }

    /// `epoll_ctl`.
    pub fn epoll_ctl(&mut self, epfd: RawFd, op: c_int, fd: RawFd, events: u32, data: u64) -> Outcome<()> {
        if !self.sockets.has(fd) {
            return Err(Errno(libc::EBADF));
        }
        let entries = &mut self.sockets.epoll(epfd)?.entries;
        let entry = Entry { events, data, told: None, spent: false };
        match (op, entries.contains_key(&fd)) {
            (libc::EPOLL_CTL_ADD, true) => return Err(Errno(libc::EEXIST)),
            (libc::EPOLL_CTL_ADD, false) | (libc::EPOLL_CTL_MOD, true) => {
                entries.insert(fd, entry);
            }
            (libc::EPOLL_CTL_DEL, true) => {
                entries.remove(&fd);
            }
            (libc::EPOLL_CTL_MOD | libc::EPOLL_CTL_DEL, false) => return Err(Errno(libc::ENOENT)),
            _ => return Err(Errno(libc::EINVAL)),
        }
        Ok(())
    }

    /// What `epoll_wait` gives now: events and data of at most `max` entries.
    pub fn epoll_take(&mut self, epfd: RawFd, max: usize) -> Outcome<Vec<(u32, u64)>> {
        let watched = self.sockets.epoll(epfd)?.watched();
        let mut taken = Vec::new();
        for fd in watched {
            if taken.len() >= max {
                break;
            }
            let Some((events, wake_ups)) = self.epoll_ready(epfd, fd) else { continue };
            let entry = self.sockets.epoll(epfd)?.entries.get_mut(&fd);
            if let Some(entry) = entry {
                entry.told = Some(wake_ups);
                entry.spent = entry.events & libc::EPOLLONESHOT as u32 != 0;
                taken.push((events, entry.data));
            }
        }
        Ok(taken)
    }

    /// Whether an entry would be told now: its events, and what woke it.
    pub fn epoll_ready(&self, epfd: RawFd, fd: RawFd) -> Option<(u32, u64)> {
        let entry = self.sockets.peek_epoll(epfd)?.entries.get(&fd)?;
        let socket = self.sockets.peek(fd)?;
        let always = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
        let events = self.events(fd) as u16 as u32 & (entry.events | always);
        let edge = entry.events & libc::EPOLLET as u32 != 0;
        let news = !edge || entry.told != Some(socket.wake_ups);
        (events != 0 && news && !entry.spent).then_some((events, socket.wake_ups))
    }
}
