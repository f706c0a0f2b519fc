//! The embedded testbed: two hosts as network namespaces with real kernels, joined by real veth pairs.
//!
//! ```text
//!   NAME-a                                      NAME-b
//!   p1 10.71.1.1, fd71:1::1 ─────────────────── p1 10.71.1.2, fd71:1::2
//!   p2 10.71.2.1, fd71:2::1 ──[ bridge NAME-m2 ]── p2 10.71.2.2, fd71:2::2
//! ```
//!
//! With a rate limit (or on request) each path crosses a bridge in a namespace of its own, which throttles and loses
//! packets, and where a capture sees what passes: AF_XDP goes around the queueing disciplines, packet filters and
//! captures of the hosts themselves.
//!
//! A [`Lab`] removes itself when it is dropped, also half-way through its making; [`Lab::keep`] leaves it standing.

mod tools;

use rustix::process::{Pid, test_kill_process};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::str::FromStr;
use tools::Namespace;
pub use tools::{LabError, require_tool};

/// The most paths of a lab.
pub const MAX_PATHS: u8 = 8;
/// The most RX and TX queues of a NIC.
pub const MAX_QUEUES: u16 = 64;
/// The smallest MTU: what IPv6 asks for (RFC 8200 §5).
pub const MIN_MTU: u32 = 1280;
/// The largest MTU: that of veth.
pub const MAX_MTU: u32 = 65_535;
/// The longest name.
const MAX_NAME: usize = 40;
/// Written as the alias of `lo` in every namespace of a lab, so that only what a lab made is ever removed.
const MARK: &str = "braid-lab";

/// A place of the lab, where commands run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Host {
    /// The first host; addresses end in 1.
    A,
    /// The second host; addresses end in 2.
    B,
    /// The bridge in the middle of a path, counted from 1.
    Middle(u8),
}

impl Host {
    /// The two ends.
    pub const ENDS: [Host; 2] = [Host::A, Host::B];

    /// The last number of its addresses; `None` in the middle, which has none.
    fn number(self) -> Option<u8> {
        match self {
            Host::A => Some(1),
            Host::B => Some(2),
            Host::Middle(_) => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::A => f.write_str("a"),
            Host::B => f.write_str("b"),
            Host::Middle(path) => write!(f, "m{path}"),
        }
    }
}

impl FromStr for Host {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Host, LabError> {
        let middle = || text.strip_prefix('m')?.parse().ok().filter(|path| (1..=MAX_PATHS).contains(path));
        match text {
            "a" => Ok(Host::A),
            "b" => Ok(Host::B),
            _ => middle().map(Host::Middle).ok_or_else(|| LabError::BadHost(text.to_owned())),
        }
    }
}

/// A rate limit in bits per second, written as tc does: `500mbit`, `1gbit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// That many megabits (10^6) per second; at least 1.
    pub fn from_mbit(mbit: u32) -> Rate {
        Rate(u64::from(mbit.max(1)) * 1_000_000)
    }

    /// Bits per second.
    pub fn bits_per_second(self) -> u64 {
        self.0
    }

    /// What the token bucket may send at once: 2 ms, which its timer keeps up with at any rate.
    fn burst_bytes(self) -> u64 {
        (self.0 / 8 / 500).max(16 * 1024)
    }

    /// What waits at the token bucket at most: 20 ms, a short datacentre queue.
    fn queue_bytes(self) -> u64 {
        (self.0 / 8 / 50).max(64 * 1024)
    }
}

impl FromStr for Rate {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Rate, LabError> {
        let units = [("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];
        units
            .iter()
            .find_map(|(unit, scale)| {
                text.to_ascii_lowercase().strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*scale)
            })
            .filter(|bits| (100_000..=1_000_000_000_000).contains(bits))
            .map(Rate)
            .ok_or_else(|| LabError::BadRate(text.to_owned()))
    }
}

/// How a lab is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabOptions {
    /// How many paths, 1 to [`MAX_PATHS`].
    pub paths: u8,
    /// Bytes of an IP packet, [`MIN_MTU`] to [`MAX_MTU`].
    pub mtu: u32,
    /// RX and TX queues of each NIC of a host, 1 to [`MAX_QUEUES`].
    pub queues: u16,
    /// Puts a bridge in the middle of each path, for captures and loss.
    pub middle: bool,
    /// Limits each path in each direction; puts a bridge in the middle.
    pub rate: Option<Rate>,
}

impl Default for LabOptions {
    fn default() -> LabOptions {
        LabOptions { paths: 2, mtu: 1500, queues: 1, middle: false, rate: None }
    }
}

/// A testbed that stands. Dropping it removes it, unless it was kept or found.
#[derive(Debug)]
pub struct Lab {
    name: String,
    paths: u8,
    middle: bool,
    /// Whether dropping removes it.
    owned: bool,
}

impl Lab {
    /// Makes a lab.
    ///
    /// # Errors
    /// Without root, with a tool missing, a name taken, options out of range, or when a command fails; what was made
    /// until then is removed.
    pub fn up(name: &str, options: &LabOptions) -> Result<Lab, LabError> {
        check_name(name)?;
        check_options(options)?;
        check_machine()?;
        if Namespace::list()?.iter().any(|taken| host_of(taken, name).is_some()) {
            return Err(LabError::Taken(name.to_owned()));
        }
        let middle = options.middle || options.rate.is_some();
        let lab = Lab { name: name.to_owned(), paths: options.paths, middle, owned: true };
        lab.build(options)?;
        Ok(lab)
    }

    /// The lab of that name, made before. Dropping it leaves it standing.
    ///
    /// # Errors
    /// Without root, or when there is none.
    pub fn find(name: &str) -> Result<Lab, LabError> {
        check_name(name)?;
        check_machine()?;
        let hosts: Vec<Host> = Namespace::list()?.iter().filter_map(|space| host_of(space, name)).collect();
        if hosts.is_empty() {
            return Err(LabError::Unknown(name.to_owned()));
        }
        let middle = hosts.iter().any(|host| matches!(host, Host::Middle(_)));
        let mut lab = Lab { name: name.to_owned(), paths: 0, middle, owned: false };
        for host in hosts {
            if !lab.namespace(host).is_marked(MARK) {
                return Err(LabError::NotALab(lab.namespace(host).name().to_owned()));
            }
            let links = lab.namespace(host).links()?;
            let paths = match host {
                Host::A | Host::B => links.iter().filter(|link| link.starts_with('p')).count(),
                Host::Middle(path) => usize::from(path),
            };
            lab.paths = lab.paths.max(u8::try_from(paths).unwrap_or(MAX_PATHS));
        }
        Ok(lab)
    }

    /// The names of all labs that stand.
    ///
    /// # Errors
    /// Without root or `ip`.
    pub fn list() -> Result<Vec<String>, LabError> {
        check_machine()?;
        let spaces = Namespace::list()?;
        let ours = spaces.iter().filter(|space| Namespace::new((*space).clone()).is_marked(MARK));
        let mut names: Vec<String> =
            ours.filter_map(|space| Some(space.rsplit_once('-')?.0.to_owned())).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Removes the labs that a process left behind when it was killed: those named `prefix` and the id of a process that
    /// runs no more.
    ///
    /// # Errors
    /// Without root or `ip`, or when one could not be removed.
    pub fn sweep(prefix: &str) -> Result<(), LabError> {
        for name in Lab::list()? {
            if is_left_behind(&name, prefix) {
                Lab::find(&name)?.down()?;
            }
        }
        Ok(())
    }

    /// Leaves the lab standing when this is dropped.
    pub fn keep(mut self) {
        self.owned = false;
    }

    /// Removes the lab: ends the processes in it, then its links and namespaces.
    ///
    /// # Errors
    /// When something could not be removed; the rest is.
    pub fn down(mut self) -> Result<(), LabError> {
        self.owned = false;
        self.remove()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many paths it has.
    pub fn paths(&self) -> u8 {
        self.paths
    }

    /// Whether there is a bridge in the middle of each path.
    pub fn has_middle(&self) -> bool {
        self.middle
    }

    /// Its places: the two ends, and the bridges where it has some.
    pub fn hosts(&self) -> Vec<Host> {
        let middle = if self.middle { self.paths } else { 0 };
        Host::ENDS.into_iter().chain((1..=middle).map(Host::Middle)).collect()
    }

    /// A command that runs at `host`; add the program and its arguments. The process becomes the program: its id is
    /// the program's.
    pub fn exec(&self, host: Host) -> Command {
        self.namespace(host).command()
    }

    /// Sets the NIC of a path up or down at one end. The other end sees its carrier go, unless a bridge is between.
    ///
    /// # Errors
    /// When there is no such NIC.
    pub fn set_link(&self, host: Host, path: u8, up: bool) -> Result<(), LabError> {
        let (space, nic) = (self.namespace(host), nic(path));
        space.ip(&["link", "set", "dev", &nic, if up { "up" } else { "down" }])?;
        if let (true, Some(number)) = (up, host.number()) {
            // The kernel forgets IPv6 addresses when a link goes down.
            space.ip(&["addr", "replace", &format!("fd71:{path}::{number}/64"), "dev", &nic, "nodad"])?;
        }
        Ok(())
    }

    /// Bytes that have crossed a path since it was made, both ways together: counted at its bridge, or else at b's NIC.
    ///
    /// # Errors
    /// When there is no such path.
    pub fn crossed_bytes(&self, path: u8) -> Result<u64, LabError> {
        if self.middle {
            self.namespace(Host::Middle(path)).link_bytes("a")
        } else {
            self.namespace(Host::B).link_bytes(&nic(path))
        }
    }

    /// Loses packets at random in the middle of a path, in both directions: `per_mille` of 1000. 0 ends it, 1000
    /// and more lets nothing through, while both ends keep their carrier.
    ///
    /// # Errors
    /// When the lab has no bridges, or nft is missing.
    pub fn set_loss(&self, path: u8, per_mille: u16) -> Result<(), LabError> {
        if !self.middle {
            return Err(LabError::NoMiddle(self.name.clone()));
        }
        require_tool("nft", "nftables")?;
        let space = self.namespace(Host::Middle(path));
        // `add` before `delete`: deleting a table that isn't there is an error.
        space.run("nft", &["add", "table", "bridge", "loss"])?;
        space.run("nft", &["delete", "table", "bridge", "loss"])?;
        if per_mille > 0 {
            let chosen = if per_mille < 1000 {
                format!("numgen random mod 1000 < {per_mille}")
            } else {
                String::new()
            };
            let rules = format!(
                "table bridge loss {{ chain forward {{ type filter hook forward priority 0; {chosen} counter drop; }} ; }}"
            );
            space.run("nft", &[&rules])?;
        }
        Ok(())
    }

    fn namespace(&self, host: Host) -> Namespace {
        Namespace::new(format!("{}-{host}", self.name))
    }

    fn build(&self, options: &LabOptions) -> Result<(), LabError> {
        for host in self.hosts() {
            let space = self.namespace(host);
            space.add(MARK)?;
            match host {
                Host::A | Host::B => prepare_end(&space)?,
                Host::Middle(_) => prepare_bridge(&space, options)?,
            }
        }
        for path in 1..=options.paths {
            self.build_path(path, options)?;
        }
        Ok(())
    }

    fn build_path(&self, path: u8, options: &LabOptions) -> Result<(), LabError> {
        let nic = nic(path);
        let [a, b] = Host::ENDS.map(|host| self.namespace(host));
        if self.middle {
            let bridge = self.namespace(Host::Middle(path));
            for (end, port) in [(&a, "a"), (&b, "b")] {
                end.add_veth(&nic, options.queues, &bridge, port)?;
                prepare_bridge_port(&bridge, port, options)?;
            }
        } else {
            a.add_veth(&nic, options.queues, &b, &nic)?;
        }
        for (space, host) in [(&a, Host::A), (&b, Host::B)] {
            prepare_nic(space, host, path, options)?;
        }
        Ok(())
    }

    /// Removes all that there is of it, and goes on where something fails. The first failure is told.
    fn remove(&self) -> Result<(), LabError> {
        let mut outcome = Ok(());
        for name in Namespace::list()? {
            let space = Namespace::new(name);
            if host_of(space.name(), &self.name).is_some() && space.is_marked(MARK) {
                outcome = outcome.and(space.remove());
            }
        }
        outcome
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.owned
            && let Err(error) = self.remove()
        {
            eprintln!("braid: lab {} is not wholly removed: {error}", self.name);
        }
    }
}

/// Whether `name` is `prefix` and the id of a process that runs no more.
pub fn is_left_behind(name: &str, prefix: &str) -> bool {
    let id = name.strip_prefix(prefix).and_then(|id| id.parse().ok()).filter(|id| *id > 0);
    let process = id.and_then(Pid::from_raw);
    process.is_some_and(|id| test_kill_process(id).is_err())
}

/// The name of a path's NIC, at both ends.
pub fn nic(path: u8) -> String {
    format!("p{path}")
}

/// The IPv4 address of an end on a path; `None` for the middle, which has none.
pub fn ipv4(host: Host, path: u8) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::new(10, 71, path, host.number()?))
}

/// The IPv6 address of an end on a path; `None` for the middle, which has none.
pub fn ipv6(host: Host, path: u8) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::new(0xfd71, u16::from(path), 0, 0, 0, 0, 0, u16::from(host.number()?)))
}

/// Which place of the lab `lab` the namespace `space` is, by its name.
fn host_of(space: &str, lab: &str) -> Option<Host> {
    space.strip_prefix(lab)?.strip_prefix('-')?.parse().ok()
}

fn check_name(name: &str) -> Result<(), LabError> {
    let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let good =
        letters && (1..=MAX_NAME).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-');
    if good { Ok(()) } else { Err(LabError::BadName(name.to_owned())) }
}

fn check_options(options: &LabOptions) -> Result<(), LabError> {
    let in_range = |what: &'static str, value: u64, least: u64, most: u64| {
        if (least..=most).contains(&value) {
            Ok(())
        } else {
            Err(LabError::OutOfRange { what, value, least, most })
        }
    };
    in_range("paths", options.paths.into(), 1, MAX_PATHS.into())?;
    in_range("mtu", options.mtu.into(), MIN_MTU.into(), MAX_MTU.into())?;
    in_range("queues", options.queues.into(), 1, MAX_QUEUES.into())
}

fn check_machine() -> Result<(), LabError> {
    if !rustix::process::geteuid().is_root() {
        return Err(LabError::NotRoot);
    }
    require_tool("ip", "iproute2")?;
    require_tool("ethtool", "ethtool")
}

/// What a host needs before it has NICs.
fn prepare_end(space: &Namespace) -> Result<(), LabError> {
    space.ip(&["link", "set", "dev", "lo", "up"])?;
    // Each path has its own subnet: a strict filter would only hide mistakes of ours as silence.
    space.sysctl("net/ipv4/conf/all/rp_filter", "0")?;
    space.sysctl("net/ipv4/conf/default/rp_filter", "0")?;
    // Addresses work at once; nobody else is on these links.
    space.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
    if space.has_sysctl("net/mptcp/enabled") {
        space.sysctl("net/mptcp/enabled", "1")?;
        space.ip(&["mptcp", "limits", "set", "subflow", "8", "add_addr_accepted", "8"])?;
    }
    Ok(())
}

/// A NIC of a host: size, checksums in software, addresses.
fn prepare_nic(space: &Namespace, host: Host, path: u8, options: &LabOptions) -> Result<(), LabError> {
    let nic = nic(path);
    space.ip(&["link", "set", "dev", &nic, "mtu", &options.mtu.to_string(), "up"])?;
    checksums_in_software(space, &nic)?;
    if let (Some(v4), Some(v6)) = (ipv4(host, path), ipv6(host, path)) {
        space.ip(&["addr", "add", &format!("{v4}/24"), "dev", &nic])?;
        space.ip(&["addr", "add", &format!("{v6}/64"), "dev", &nic, "nodad"])?;
    }
    Ok(())
}

fn prepare_bridge(space: &Namespace, options: &LabOptions) -> Result<(), LabError> {
    // No neighbour discovery of its own on the wire.
    space.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
    space.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
    // Bridged packets need not pass the IP hooks of netfilter, which takes a third of the bridge's time.
    for family in ["iptables", "ip6tables", "arptables"] {
        let switch = format!("net/bridge/bridge-nf-call-{family}");
        if space.has_sysctl(&switch) {
            space.sysctl(&switch, "0")?;
        }
    }
    space.ip(&["link", "add", "bridge", "type", "bridge", "stp_state", "0", "mcast_snooping", "0"])?;
    space.ip(&["link", "set", "dev", "bridge", "mtu", &options.mtu.to_string(), "up"])
}

fn prepare_bridge_port(space: &Namespace, port: &str, options: &LabOptions) -> Result<(), LabError> {
    let mtu = options.mtu.to_string();
    space.ip(&["link", "set", "dev", port, "mtu", &mtu, "master", "bridge", "up"])?;
    checksums_in_software(space, port)?;
    if let Some(rate) = options.rate {
        require_tool("tc", "iproute2")?;
        let [bits, burst, queue] =
            [rate.bits_per_second(), rate.burst_bytes(), rate.queue_bytes()].map(|number| number.to_string());
        let shape = ["rate", &format!("{bits}bit"), "burst", &burst, "limit", &queue];
        space.run("tc", &[&["qdisc", "add", "dev", port, "root", "tbf"][..], &shape].concat())?;
    }
    Ok(())
}

/// Otherwise the kernel leaves TCP checksums half-made on veth, which no real wire would carry and no AF_XDP reader
/// could check.
fn checksums_in_software(space: &Namespace, nic: &str) -> Result<(), LabError> {
    space.run("ethtool", &["-K", nic, "tx", "off"])
}

#[cfg(test)]
mod tests;
