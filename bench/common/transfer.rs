//! A transfer between the hosts of a lab, by the programs of Braid.

use crate::common::{Outcome, Reaped};
use braid::lab::{Host, Lab, ipv4};
use serde_json::Value;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;

/// The program: what BRAID names, or else the one that was built with the benchmark. On a machine where nothing is built,
/// both are brought along.
pub fn braid() -> OsString {
    std::env::var_os("BRAID").unwrap_or_else(|| env!("CARGO_BIN_EXE_braid").into())
}

/// With fewer cores all share all of them, and the kernel places threads better than we do.
pub const CORES_TO_PIN: usize = 4;
/// How long a worker without work spins where it has a core: the same in all cases, by default it would depend on how
/// many workers there are.
pub const IDLE_SPELL_US: &str = "50";

/// The machine's cores, those that share a processor's parts with an earlier one last.
pub fn cores() -> Vec<usize> {
    let is_second = |id: &usize| {
        let file = format!("/sys/devices/system/cpu/cpu{id}/topology/thread_siblings_list");
        let siblings = std::fs::read_to_string(file).unwrap_or_default();
        let first = siblings.trim().split([',', '-']).next().and_then(|first| first.parse::<usize>().ok());
        first.is_some_and(|first| first != *id)
    };
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_by_key(|id| (is_second(id), *id));
    cores
}

/// From host a to host b, over what the options say.
pub struct Transfer<'a> {
    /// The hosts.
    pub lab: &'a Lab,
    /// How long it takes.
    pub seconds: u64,
    /// Options of `braid client`.
    pub client: Vec<&'a str>,
    /// Options of `braid server`.
    pub server: Vec<&'a str>,
}

impl Transfer<'_> {
    /// Received bits a second. `look` is called once both have started, with the process ids of the client and of the
    /// server; the client does not wait for it.
    pub fn run<T>(&self, look: impl FnOnce(u32, u32) -> Outcome<T>) -> Outcome<(f64, T)> {
        let mut server = self.lab.exec(Host::B);
        let server = server.arg(braid()).args(["server", "-1"]).args(&self.server);
        let mut server = Reaped(server.stdout(Stdio::piped()).spawn()?);
        // Its first lines say that it listens.
        let mut banner = BufReader::new(server.0.stdout.take().ok_or("no output")?).lines();
        banner.by_ref().map_while(Result::ok).find(|line| line.contains("listening"));
        let rest = thread::spawn(move || banner.for_each(drop));
        let host = ipv4(Host::B, 1).ok_or("host b has an address")?.to_string();
        let seconds = self.seconds.to_string();
        let mut client = self.lab.exec(Host::A);
        let client = client.arg(braid()).args(["client", &host, "-J", "-i", "0", "-t", &seconds]);
        let mut client = Reaped(client.args(&self.client).stdout(Stdio::piped()).spawn()?);
        let seen = look(client.0.id(), server.0.id())?;
        let result: Value = serde_json::from_reader(client.0.stdout.take().ok_or("no output")?)?;
        client.0.wait()?;
        let status = server.0.wait()?;
        drop(rest.join());
        if let Some(error) = result["error"].as_str() {
            return Err(format!("the client failed: {error}").into());
        }
        if !status.success() {
            return Err("the server failed".into());
        }
        let rate = result["end"]["sum_received"]["bits_per_second"].as_f64();
        Ok((rate.ok_or("no figure in the report")?, seen))
    }
}
