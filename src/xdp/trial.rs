//! [`Trial`]: whether zero-copy really works on every queue of a NIC, found out by binding a socket to each in turn.

use crate::xdp::probe::{Answer, NicReport};
use crate::xdp::refusal::Refusal;
use crate::xdp::socket::{BindError, Place, create};
use crate::xdp::umem::SharedUmem;
use crate::xdp::{XdpError, privilege};

/// Frames that a trial registers: nothing moves in it.
const FRAMES: usize = 256;

/// What became of a try of zero-copy on a NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// It was not tried; why, in words.
    NotTried(String),
    /// Every queue took a socket.
    Works,
    /// The driver says that it has none, or a queue did not take a socket.
    Refused(Refusal),
}

/// Binds a zero-copy socket to each queue of a NIC and closes it again. Nothing is tried where that might disturb
/// somebody (an XDP program is attached, or a queue has a socket), where privileges are missing, or where the NIC is down
/// (drivers take any socket then). The queue of a trial receives nothing for the moment that it takes.
pub fn try_zero_copy(nic: &NicReport) -> Trial {
    match (nic.native_xdp, nic.zero_copy) {
        (Answer::No, _) => return Trial::Refused(Refusal::not_native(&nic.name, &nic.driver)),
        (_, Answer::No) => return Trial::Refused(Refusal::not_offered(&nic.name, &nic.driver)),
        (Answer::Yes | Answer::Unknown, Answer::Yes | Answer::Unknown) => {}
    }
    let why_not = if !privilege::missing().is_empty() {
        Some("not tried, as privileges are missing")
    } else if nic.xdp_attached.is_some() {
        Some("not tried, as an XDP program is attached")
    } else if !nic.up {
        Some("not tried, as the link is down")
    } else {
        None
    };
    if let Some(why) = why_not {
        return Trial::NotTried(why.to_owned());
    }
    privilege::raise_memlock();
    for queue in 0..nic.queues as u32 {
        match try_queue(&nic.name, queue) {
            Ok(()) => {}
            Err(TrialError::Bind(error)) => {
                return Trial::Refused(Refusal::at_queue(&nic.name, &nic.driver, queue, error.errno()));
            }
            Err(TrialError::Memory(error)) => return Trial::NotTried(format!("not tried: {error}")),
        }
    }
    Trial::Works
}

enum TrialError {
    Memory(XdpError),
    Bind(BindError),
}

/// A memory of its own for each queue: so each is the first on it, and answers for itself.
fn try_queue(nic: &str, queue: u32) -> Result<(), TrialError> {
    let umem = SharedUmem::new(FRAMES).map_err(TrialError::Memory)?;
    let place = Place { nic, queue, zero_copy: true, scattered: false, fill_target: 0 };
    create(&umem, place).map(drop).map_err(TrialError::Bind)
}
