//! What ends of frames alone, without a stack, need of each other.

use crate::common::Outcome;
use braid::lab::{Host, Lab, nic};
use braid::wire::MacAddr;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

/// The hardware address of host b on the first path.
pub fn hardware_address(lab: &Lab) -> Outcome<String> {
    let file = format!("/sys/class/net/{}/address", nic(1));
    let output = lab.exec(Host::B).args(["cat", &file]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Reads what [`hardware_address`] has told.
pub fn parse_hardware_address(text: &str) -> Outcome<MacAddr> {
    let mut address = [0; 6];
    for (byte, text) in address.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(text, 16)?;
    }
    Ok(MacAddr(address))
}

/// Waits until standard input ends, whose other end is held by whoever started us, and says so.
pub fn stop_with_input(stop: &AtomicBool) {
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
    stop.store(true, Ordering::Relaxed);
}
