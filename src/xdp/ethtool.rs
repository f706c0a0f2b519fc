//! What the kernel tells of a NIC by ioctl: number, addresses, driver, queues. By ioctl and not from sysfs, because a
//! socket sees the thread's own network namespace, and sysfs that of whoever mounted it.

use crate::wire::MacAddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::ffi::{CStr, c_char};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus: [u8; 32],
    rom: [u8; 32],
    reserved: [u8; 12],
    counts: [u32; 5],
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    value: u32,
}

// Commands of <linux/ethtool.h>.
const GET_DRIVER: u32 = 0x03;
const GET_LINK: u32 = 0x0a;
const GET_TX_CHECKSUM: u32 = 0x16;
const GET_CHANNELS: u32 = 0x3c;

/// A NIC of this thread's network namespace, to ask about.
#[derive(Debug)]
pub(crate) struct Nic {
    name: String,
    socket: OwnedFd,
}

impl Nic {
    /// Does not look whether there is such a NIC; every question says so.
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(Self { name: name.to_owned(), socket })
    }

    /// The kernel's number of it.
    pub(crate) fn ifindex(&self) -> io::Result<u32> {
        let request = self.ask(libc::SIOCGIFINDEX, None)?;
        // SAFETY: SIOCGIFINDEX filled this member in.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
    }

    /// The longest IP packet.
    pub(crate) fn mtu(&self) -> io::Result<usize> {
        let request = self.ask(libc::SIOCGIFMTU, None)?;
        // SAFETY: SIOCGIFMTU filled this member in.
        Ok(unsafe { request.ifr_ifru.ifru_mtu }.max(0) as usize)
    }

    /// Its Ethernet address.
    pub(crate) fn mac(&self) -> io::Result<MacAddr> {
        let request = self.ask(libc::SIOCGIFHWADDR, None)?;
        // SAFETY: SIOCGIFHWADDR filled this member in.
        let data = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
        Ok(MacAddr(std::array::from_fn(|i| data[i] as u8)))
    }

    /// Whether it is set up.
    pub(crate) fn is_up(&self) -> io::Result<bool> {
        let request = self.ask(libc::SIOCGIFFLAGS, None)?;
        // SAFETY: SIOCGIFFLAGS filled this member in.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        Ok(i32::from(flags) & libc::IFF_UP != 0)
    }

    /// The driver's name.
    pub(crate) fn driver(&self) -> io::Result<String> {
        let mut info = DriverInfo {
            command: GET_DRIVER,
            driver: [0; 32],
            version: [0; 32],
            firmware: [0; 32],
            bus: [0; 32],
            rom: [0; 32],
            reserved: [0; 12],
            counts: [0; 5],
        };
        self.ethtool(&mut info)?;
        let name = CStr::from_bytes_until_nul(&info.driver).map_err(io::Error::other)?;
        Ok(name.to_string_lossy().into_owned())
    }

    /// How many receive queues are in use: 1 where the driver doesn't tell, since then it has no more.
    pub(crate) fn receive_queues(&self) -> usize {
        let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
        match self.ethtool(&mut channels) {
            Ok(()) => (channels.rx + channels.combined).max(1) as usize,
            Err(_) => 1,
        }
    }

    /// Whether it sees a carrier.
    pub(crate) fn has_carrier(&self) -> io::Result<bool> {
        self.value(GET_LINK)
    }

    /// Whether transmit checksums are left to it.
    pub(crate) fn offloads_tx_checksum(&self) -> io::Result<bool> {
        self.value(GET_TX_CHECKSUM)
    }

    fn value(&self, command: u32) -> io::Result<bool> {
        let mut value = Value { command, value: 0 };
        self.ethtool(&mut value)?;
        Ok(value.value != 0)
    }

    fn ethtool<T>(&self, command: &mut T) -> io::Result<()> {
        self.ask(libc::SIOCETHTOOL, Some((command as *mut T).cast())).map(drop)
    }

    fn ask(&self, what: libc::c_ulong, data: Option<*mut c_char>) -> io::Result<libc::ifreq> {
        // SAFETY: all members are plain integers or pointers, for which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if self.name.is_empty() || self.name.len() >= libc::IFNAMSIZ {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(self.name.bytes()) {
            *to = from as c_char;
        }
        if let Some(data) = data {
            request.ifr_ifru.ifru_data = data;
        }
        // SAFETY: `request` is what these requests take; for SIOCETHTOOL its pointer is to the structure of the
        // command, exclusively borrowed by the caller for as long as this call lasts.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), what as _, &mut request) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(request),
        }
    }
}

/// Names of all NICs of this thread's network namespace.
pub(crate) fn nic_names() -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: the list ends with an entry of index 0, and is given back below.
    unsafe {
        let list = libc::if_nameindex();
        let mut entry = list;
        while !entry.is_null() && (*entry).if_index != 0 {
            names.push(CStr::from_ptr((*entry).if_name).to_string_lossy().into_owned());
            entry = entry.add(1);
        }
        if !list.is_null() {
            libc::if_freenameindex(list);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_known_and_a_strange_name_is_not() {
        assert!(nic_names().contains(&"lo".to_owned()));
        assert_eq!(Nic::new("lo").and_then(|nic| nic.ifindex()).ok(), Some(1));
        for name in ["nosuchnic0", "", "a-name-longer-than-the-kernel-takes"] {
            let error = Nic::new(name).and_then(|nic| nic.mtu()).expect_err("there is none");
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{name}");
        }
    }
}
