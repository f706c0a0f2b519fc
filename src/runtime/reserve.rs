//! Local TCP ports, reserved in the kernel: a socket that is bound and never listens. So the kernel gives the port to
//! nobody else; what it would answer to the port's packets does not matter, since it doesn't see them.

use crate::wire::Endpoint;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind, getsockname, listen, shutdown, socket_with,
    sockopt,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// How often a port that is free in one family and taken in the other is exchanged for another.
const BOTH_FAMILIES_TRIES: usize = 16;

/// Lets the process have as many open files as it may ever have. Each flow of ours holds a socket, and shells allow 1024.
pub(super) fn allow_many() {
    let limits = getrlimit(Resource::Nofile);
    // Best effort: a reservation that finds no room says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits });
}

/// A port that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    local: Endpoint,
    _sockets: Vec<OwnedFd>,
}

impl Reservation {
    /// Reserves `local`; its port may be 0, then the kernel chooses one.
    ///
    /// # Errors
    /// [`ErrorKind::AddrInUse`]: another program has it, or all ports are taken. [`ErrorKind::AddrNotAvailable`]: not
    /// an address of this host.
    pub(super) fn new(local: Endpoint) -> io::Result<Self> {
        let (socket, local) = reserve(local)?;
        Ok(Self { local, _sockets: vec![socket] })
    }

    /// Reserves a port at all addresses of both families (or of IPv4 where there is no IPv6).
    ///
    /// # Errors
    /// Like [`Reservation::new`].
    pub(super) fn any(port: u16) -> io::Result<Self> {
        let mut tries = 0;
        loop {
            let (v4, local) = reserve(Endpoint::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))?;
            match reserve(Endpoint::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), local.port)) {
                Ok((v6, _)) => return Ok(Self { local, _sockets: vec![v4, v6] }),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {
                    tries += 1;
                    if port != 0 || tries == BOTH_FAMILIES_TRIES {
                        return Err(error);
                    }
                }
                // The kernel has no IPv6, or it is switched off.
                Err(_) => return Ok(Self { local, _sockets: vec![v4] }),
            }
        }
    }

    /// What is reserved.
    pub(super) fn local(&self) -> Endpoint {
        self.local
    }
}

/// Binds to a port that only connections of the past still hold, in TIME-WAIT: a server is often started again at once.
fn bind_beside_the_past(socket: &OwnedFd, local: Endpoint) -> rustix::io::Result<()> {
    sockopt::set_socket_reuseaddr(socket, true)?;
    bind(socket, &SocketAddr::from(local))?;
    // Whoever allows the same would be let pass by bind, but not by listen: it finds a listener, and another
    // reservation, whose socket no longer allows it.
    listen(socket, 1)?;
    shutdown(socket, Shutdown::Read)?;
    sockopt::set_socket_reuseaddr(socket, false)
}

fn reserve(local: Endpoint) -> io::Result<(OwnedFd, Endpoint)> {
    let family = if local.addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if local.addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    match bind(&socket, &SocketAddr::from(local)) {
        Err(Errno::ADDRINUSE) if local.port != 0 => bind_beside_the_past(&socket, local)?,
        bound => bound?,
    }
    let bound = SocketAddr::try_from(getsockname(&socket)?)?;
    Ok((socket, bound.into()))
}

/// For tests: whether another program could have a port, at once or in a moment: a child that another test forks holds
/// copies of all descriptors until it runs its program.
#[cfg(test)]
pub(super) fn becomes_free(local: Endpoint) -> bool {
    (0..200).any(|_| {
        let free = std::net::TcpListener::bind(SocketAddr::from(local)).is_ok();
        if !free {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        free
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn reserve_free() -> Reservation {
        Reservation::new(Endpoint::new(LOOPBACK, 0)).expect("a free port")
    }

    #[test]
    fn a_reserved_port_is_nobody_elses_until_it_is_given_back() {
        let reserved = reserve_free();
        let local = reserved.local();
        assert_ne!(local.port, 0);
        let taken = TcpListener::bind(SocketAddr::from(local)).expect_err("reserved");
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        assert_eq!(Reservation::new(local).expect_err("reserved").kind(), ErrorKind::AddrInUse);
        drop(reserved);
        assert!(becomes_free(local));
    }

    #[test]
    fn a_reserved_port_does_not_listen() {
        let reserved = reserve_free();
        let refused = TcpStream::connect(SocketAddr::from(reserved.local())).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn any_reserves_every_address_of_both_families() {
        let reserved = Reservation::any(0).expect("a free port");
        let port = reserved.local().port;
        for addr in [LOOPBACK, IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            match TcpListener::bind((addr, port)) {
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                // A machine without IPv6.
                Err(error) => assert!(addr.is_ipv6(), "{error}"),
                Ok(_) => panic!("{addr} is not reserved"),
            }
        }
    }

    #[test]
    fn a_listener_in_the_way_is_an_error_in_either_family() {
        for addr in [LOOPBACK, IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let Ok(listener) = TcpListener::bind((addr, 0)) else {
                assert!(addr.is_ipv6(), "a machine without IPv6");
                continue;
            };
            let port = listener.local_addr().expect("it is bound").port();
            assert_eq!(Reservation::any(port).expect_err("in use").kind(), ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn connections_of_the_past_are_not_in_the_way() {
        let listener = TcpListener::bind((LOOPBACK, 0)).expect("a free port");
        let local = Endpoint::from(listener.local_addr().expect("it is bound"));
        let client = TcpStream::connect(SocketAddr::from(local)).expect("it listens");
        let (server, _) = listener.accept().expect("it has connected");
        // The end that closes first is left in TIME-WAIT.
        drop(server);
        let mut rest = Vec::new();
        (&client).read_to_end(&mut rest).expect("the server has closed");
        drop((client, listener));

        let reserved = Reservation::new(local).expect("nobody has it any more");
        let second = Reservation::new(local).expect_err("reserved");
        assert_eq!(second.kind(), ErrorKind::AddrInUse);
        let taken = TcpListener::bind(SocketAddr::from(local)).expect_err("reserved");
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        let refused = TcpStream::connect(SocketAddr::from(local)).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        drop(reserved);
        Reservation::new(local).expect("free again");
    }

    #[test]
    fn an_address_of_another_host_is_refused() {
        let elsewhere = Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0);
        assert_eq!(Reservation::new(elsewhere).expect_err("not ours").kind(), ErrorKind::AddrNotAvailable);
    }
}
