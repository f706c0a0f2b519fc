//! Socket options: those that the stack has are handed to it, some are only kept, and all others give `ENOPROTOOPT` and
//! are counted as wishes.

use crate::info::{Beside, OPTIONS_AT, SYN_DATA, tcp_info};
use crate::sockets::{Errno, Outcome, Socket, State};
use crate::world::World;
use braid::base::time::Duration;
use braid::tcp::KeepAlive;
use braid::wire::Mss;
use libc::c_int;
use std::os::fd::RawFd;

// Numbers of Linux that the libc crate lacks.
const TCP_CC_INFO: c_int = 26;
const TCP_FASTOPEN_CONNECT: c_int = 30;
const SO_MEMINFO: c_int = 55;
/// Numbers that SO_MEMINFO has.
const MEMINFO_VALUES: usize = 9;
/// Linux's states of sockets without a connection.
const TCP_SYN_SENT: u8 = 2;
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;
/// The least that Linux makes of SO_SNDBUF and SO_RCVBUF.
const BUFFER_MIN: u32 = 2304;

/// Options that mean something in the kernel, and nothing that a packet would show here; they read as they were set.
const KEPT: &[(c_int, c_int)] = &[
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::SOL_SOCKET, libc::SO_MARK),
    (libc::SOL_IP, libc::IP_MTU_DISCOVER),
    (libc::SOL_IP, libc::IP_FREEBIND),
    (libc::SOL_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_TCP, libc::TCP_QUICKACK),
    (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
];
/// Options that read as they were set, too, and whose effect is missing.
const WITHOUT_EFFECT: &[(c_int, c_int, &str)] = &[
    (libc::SOL_SOCKET, libc::SO_ZEROCOPY, "SO_ZEROCOPY"),
    (libc::SOL_IP, libc::IP_TOS, "IP_TOS"),
    (libc::SOL_IPV6, libc::IPV6_TCLASS, "IPV6_TCLASS"),
];

fn number(value: &[u8]) -> Outcome<c_int> {
    match *value {
        [a, b, c, d, ..] => Ok(c_int::from_ne_bytes([a, b, c, d])),
        // The kernel takes a byte for options of SOL_IP.
        [a] => Ok(c_int::from(a)),
        _ => Err(Errno(libc::EINVAL)),
    }
}

fn seconds(value: &[u8]) -> Outcome<Duration> {
    match number(value)? {
        seconds @ 1.. => Ok(Duration::from_secs(seconds as u64)),
        _ => Err(Errno(libc::EINVAL)),
    }
}

/// A `struct timeval` in microseconds; `None` for zero, which means for ever.
fn timeval(value: &[u8]) -> Outcome<Option<u64>> {
    let (Some(secs), Some(micros)) = (value.first_chunk::<8>(), value.get(8..16)) else {
        return Err(Errno(libc::EINVAL));
    };
    let micros = <[u8; 8]>::try_from(micros).map_err(|_| Errno(libc::EINVAL))?;
    let total = i64::from_ne_bytes(*secs) * 1_000_000 + i64::from_ne_bytes(micros);
    Ok(u64::try_from(total).ok().filter(|total| *total > 0))
}

impl Socket {
    fn tune(&mut self, change: impl Fn(&mut braid::mptcp::Tuning)) {
        change(&mut self.options.tuning);
        if let State::Connected(connected) = &self.state {
            connected.shared.tune(change);
        }
    }

    fn keep_alive(&mut self, change: impl Fn(&mut KeepAlive)) {
        // Linux keeps the times while SO_KEEPALIVE is off. Here they are with the option.
        let on = self.kept.get(&(libc::SOL_SOCKET, libc::SO_KEEPALIVE)).is_some_and(|on| *on != 0);
        let times = self.options.tuning.keep_alive.unwrap_or_default();
        self.tune(|tuning| {
            let mut times = tuning.keep_alive.unwrap_or(times);
            change(&mut times);
            tuning.keep_alive = on.then_some(times);
        });
    }
}

impl World {
    /// `setsockopt`.
    pub fn set_option(&mut self, fd: RawFd, level: c_int, name: c_int, value: &[u8]) -> Outcome<()> {
        let socket = self.sockets.socket(fd)?;
        if (level, name) == (libc::IPPROTO_TCP, libc::TCP_SYNCNT)
            && matches!(socket.state, State::Connected(_))
        {
            self.wants.add("TCP_SYNCNT behind the SYN (has no effect)");
        }
        let known = match level {
            libc::SOL_SOCKET => socket.set_socket_option(name, value)?,
            libc::IPPROTO_TCP if name == TCP_FASTOPEN_CONNECT && !self.persona.opens_with_data() => {
                return Err(Errno(libc::EOPNOTSUPP));
            }
            libc::IPPROTO_TCP => socket.set_tcp_option(name, value)?,
            _ => false,
        };
        if !known {
            self.keep_option(fd, level, name, value)?;
        }
        self.listen_again(fd);
        self.settle();
        Ok(())
    }

    fn keep_option(&mut self, fd: RawFd, level: c_int, name: c_int, value: &[u8]) -> Outcome<()> {
        let missing = WITHOUT_EFFECT.iter().find(|(l, n, _)| (*l, *n) == (level, name));
        if let Some((_, _, what)) = missing {
            self.wants.add(format!("{what} (has no effect)"));
        } else if !KEPT.contains(&(level, name)) {
            self.wants.add(format!("setsockopt level {level} option {name}"));
            return Err(Errno(libc::ENOPROTOOPT));
        }
        let value = number(value)?;
        self.sockets.socket(fd)?.kept.insert((level, name), value);
        Ok(())
    }

    /// `getsockopt`: the value's bytes.
    pub fn get_option(&mut self, fd: RawFd, level: c_int, name: c_int) -> Outcome<Vec<u8>> {
        if (level, name) == (libc::IPPROTO_TCP, libc::TCP_INFO) {
            return self.info(fd);
        }
        let int = |value: c_int| Ok(value.to_ne_bytes().to_vec());
        let mss = self.segment_size(fd);
        let socket = self.sockets.socket(fd)?;
        let tuning = socket.options.tuning;
        let keep_alive = tuning.keep_alive.unwrap_or_default();
        let secs = |duration: Duration| duration.as_secs() as c_int;
        match (level, name) {
            (libc::SOL_SOCKET, libc::SO_ERROR) => {
                let error = match &mut socket.state {
                    State::Connected(connected) => connected.take_error(),
                    State::Fresh | State::Listening { .. } => None,
                };
                int(error.map_or(0, |Errno(errno)| errno))
            }
            (libc::SOL_SOCKET, libc::SO_TYPE) => int(libc::SOCK_STREAM),
            (libc::SOL_SOCKET, libc::SO_PROTOCOL) => {
                int(if socket.options.mptcp { libc::IPPROTO_MPTCP } else { libc::IPPROTO_TCP })
            }
            (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => {
                int(c_int::from(matches!(socket.state, State::Listening { .. })))
            }
            (libc::SOL_SOCKET, libc::SO_SNDBUF) => int(socket.options.send_buffer as c_int),
            (libc::SOL_SOCKET, libc::SO_RCVBUF) => int(socket.options.receive_buffer as c_int),
            (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => int(c_int::from(tuning.keep_alive.is_some())),
            (libc::SOL_SOCKET, libc::SO_LINGER) => {
                let (on, for_s) = (socket.linger_s.is_some(), socket.linger_s.unwrap_or(0));
                Ok([c_int::from(on), for_s as c_int].iter().flat_map(|value| value.to_ne_bytes()).collect())
            }
            (libc::SOL_SOCKET, SO_MEMINFO) => {
                let mut values = [0_u32; MEMINFO_VALUES];
                (values[1], values[3]) = (socket.options.receive_buffer, socket.options.send_buffer);
                Ok(values.iter().flat_map(|value| value.to_ne_bytes()).collect())
            }
            (libc::IPPROTO_TCP, libc::TCP_NODELAY) => int(c_int::from(tuning.nodelay)),
            (libc::IPPROTO_TCP, libc::TCP_CORK) => int(c_int::from(tuning.cork)),
            (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => int(mss),
            (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE) => int(secs(keep_alive.idle)),
            (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL) => int(secs(keep_alive.interval)),
            (libc::IPPROTO_TCP, libc::TCP_KEEPCNT) => int(keep_alive.probes as c_int),
            (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) => {
                int(tuning.user_timeout.map_or(0, |timeout| timeout.as_millis() as c_int))
            }
            (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => {
                Ok(format!("{}\0", socket.options.congestion.name()).into_bytes())
            }
            (libc::IPPROTO_TCP, TCP_CC_INFO) => Ok(Vec::new()),
            _ => match socket.kept.get(&(level, name)) {
                Some(value) => int(*value),
                None if KEPT.contains(&(level, name)) => int(0),
                None => {
                    // Linux's MPTCP sockets have another word for it.
                    let errno = if socket.options.mptcp { libc::EOPNOTSUPP } else { libc::ENOPROTOOPT };
                    self.wants.add(format!("getsockopt level {level} option {name}"));
                    Err(Errno(errno))
                }
            },
        }
    }

    /// TCP_MAXSEG: what was asked for before there is a connection, then what both ends take.
    fn segment_size(&mut self, fd: RawFd) -> c_int {
        let Some(socket) = self.sockets.peek(fd) else { return 0 };
        let wanted = socket.options.max_segment.map_or(536, |mss| c_int::from(mss.raw()));
        let State::Connected(connected) = &socket.state else { return wanted };
        let connection = connected.id().and_then(|id| self.view()?.stack.connection(id));
        connection.map_or(wanted, |connection| connection.chunk_len() as c_int)
    }

    fn info(&mut self, fd: RawFd) -> Outcome<Vec<u8>> {
        let socket = self.sockets.peek(fd).ok_or(Errno(libc::EBADF))?;
        let connected = match &socket.state {
            State::Connected(connected) => connected,
            State::Listening { .. } => return Ok(nothing_but_state(TCP_LISTEN)),
            State::Fresh if socket.deferred.is_some() => return Ok(nothing_but_state(TCP_SYN_SENT)),
            State::Fresh => return Ok(nothing_but_state(TCP_CLOSE)),
        };
        let host = self.view().ok_or(Errno(libc::ENOTCONN))?;
        let syn_data = self.had_syn_data(fd);
        let connection = connected.id().and_then(|id| host.stack.connection(id));
        let figures = connection.as_ref().and_then(|connection| connection.figures().next());
        let (Some(figures), Some(connection)) = (figures, &connection) else {
            let mut closed = nothing_but_state(TCP_CLOSE);
            closed[OPTIONS_AT] = if syn_data { SYN_DATA } else { 0 };
            return Ok(closed);
        };
        let advertised = socket.options.max_segment.map_or(1460, Mss::raw).min(1460);
        let beside = Beside {
            advertised_mss: advertised,
            payload_max: connection.chunk_len(),
            syn_data,
            syn_bytes: connection.fast_open().map_or(0, |report| u64::from(report.acked_bytes)),
            unsent: connected.queued(host).saturating_sub(u64::from(figures.tcp.in_flight)),
        };
        Ok(tcp_info(&figures.tcp, &beside).to_vec())
    }
}

fn nothing_but_state(state: u8) -> Vec<u8> {
    let mut bytes = vec![0; 328];
    bytes[0] = state;
    bytes
}

impl Socket {
    /// True when it is an option that is handled here.
    fn set_socket_option(&mut self, name: c_int, value: &[u8]) -> Outcome<bool> {
        match name {
            libc::SO_SNDBUF => {
                // Linux doubles what it is told, for its own overhead.
                self.options.send_buffer = (number(value)? as u32).saturating_mul(2).max(2 * BUFFER_MIN);
                let bytes = self.options.send_buffer;
                self.set_buffers(Some(bytes), None);
            }
            libc::SO_RCVBUF => {
                self.options.receive_buffer = (number(value)? as u32).saturating_mul(2).max(BUFFER_MIN);
                let bytes = self.options.receive_buffer;
                self.set_buffers(None, Some(bytes));
            }
            libc::SO_KEEPALIVE => {
                self.kept.insert((libc::SOL_SOCKET, libc::SO_KEEPALIVE), number(value)?);
                self.keep_alive(|_| {});
            }
            libc::SO_LINGER => {
                let on = number(value)? != 0;
                let for_s = number(value.get(4..).unwrap_or_default())?;
                self.linger_s = on.then_some(for_s.max(0) as u32);
            }
            libc::SO_SNDTIMEO => self.send_timeout_us = timeval(value)?,
            libc::SO_RCVTIMEO => self.receive_timeout_us = timeval(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set_buffers(&self, send: Option<u32>, receive: Option<u32>) {
        if let State::Connected(connected) = &self.state {
            connected.shared.set_buffers(send, receive);
        }
    }

    /// True when it is an option that is handled here.
    fn set_tcp_option(&mut self, name: c_int, value: &[u8]) -> Outcome<bool> {
        match name {
            libc::TCP_NODELAY => {
                let on = number(value)? != 0;
                self.tune(|tuning| tuning.nodelay = on);
                if let (true, State::Connected(connected)) = (on, &self.state) {
                    // Linux sends what waits, cork or not.
                    connected.shared.flush();
                }
            }
            libc::TCP_CORK => {
                let on = number(value)? != 0;
                self.tune(|tuning| tuning.cork = on);
            }
            libc::TCP_MAXSEG => {
                let wanted = number(value)?;
                if wanted != 0 && !(88..=32767).contains(&wanted) {
                    return Err(Errno(libc::EINVAL));
                }
                self.options.max_segment = (wanted != 0).then(|| Mss::new(wanted as u16));
            }
            libc::TCP_USER_TIMEOUT => {
                let millis = number(value)?;
                if millis < 0 {
                    return Err(Errno(libc::EINVAL));
                }
                let timeout = (millis > 0).then(|| Duration::from_millis(millis as u64));
                self.tune(|tuning| tuning.user_timeout = timeout);
            }
            libc::TCP_FASTOPEN => self.fast_open_queue = number(value)?.max(0) as u32,
            TCP_FASTOPEN_CONNECT => self.fast_open_connect = number(value)? != 0,
            libc::TCP_SYNCNT => match number(value)? {
                retries @ 1..=127 => self.syn_retries = Some(retries as u32),
                _ => return Err(Errno(libc::EINVAL)),
            },
            libc::TCP_KEEPIDLE => {
                let idle = seconds(value)?;
                self.keep_alive(|times| times.idle = idle);
            }
            libc::TCP_KEEPINTVL => {
                let interval = seconds(value)?;
                self.keep_alive(|times| times.interval = interval);
            }
            libc::TCP_KEEPCNT => {
                let probes = number(value)?.clamp(1, 127) as u32;
                self.keep_alive(|times| times.probes = probes);
            }
            libc::TCP_CONGESTION => {
                let name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
                let found = braid::cc::CongestionAlgorithm::ALL.iter().find(|(known, _)| *known == name);
                let Some((_, algorithm)) = found else { return Err(Errno(libc::ENOENT)) };
                self.options.congestion = *algorithm;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
