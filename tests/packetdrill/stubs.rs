//! The shell commands of scripts: stubs of `sysctl`, `ip`, `tc`, `nstat` in PATH (see `run.rs`) send their words over a
//! Unix socket, and get back what they should print and their status.

use crate::kernel::Kernel;
use crate::world::World;
use braid::pm::{EndpointSpec, Flags};
use braid::wire::mptcp::AddressId;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// Separates words on the way.
pub const SEPARATOR: char = '\u{1f}';

/// Answers stubs for as long as the process lives.
///
/// # Errors
/// The socket cannot be made.
pub fn serve(path: &Path, kernel: &'static Kernel) -> std::io::Result<()> {
    let listener = UnixListener::bind(path)?;
    std::thread::Builder::new().name("stubs".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = answer(stream, kernel) {
                eprintln!("a stub was not answered: {error}");
            }
        }
    })?;
    Ok(())
}

fn answer(mut stream: UnixStream, kernel: &Kernel) -> std::io::Result<()> {
    let mut question = String::new();
    stream.read_to_string(&mut question)?;
    let words: Vec<&str> = question.split(SEPARATOR).collect();
    let (status, text) = kernel.call(|world| command(world, &words));
    stream.write_all(format!("{status}\n{text}").as_bytes())?;
    stream.shutdown(Shutdown::Both)
}

/// A command: its status and what it prints.
fn command(world: &mut World, words: &[&str]) -> (u8, String) {
    match words {
        ["sysctl", rest @ ..] => sysctl(world, rest),
        ["ip", rest @ ..] => ip(world, rest),
        ["tc", rest @ ..] => tc(world, rest),
        ["nstat", rest @ ..] => nstat(world, rest),
        ["ethtool", ..] => (0, String::new()),
        [name, ..] => {
            world.wants.add(format!("command {name}"));
            (127, String::new())
        }
        [] => (127, String::new()),
    }
}

/// `sysctl [-q] [-w] [-n] [-e] NAME[=VALUE]...`.
fn sysctl(world: &mut World, words: &[&str]) -> (u8, String) {
    let mut text = String::new();
    for word in words.iter().filter(|word| !word.starts_with('-')) {
        let (name, value) = word.split_once('=').map_or((*word, None), |(name, value)| (name, Some(value)));
        let name = name.trim_start_matches("/proc/sys/").replace('/', ".");
        if name == "net.ipv4.tcp_fastopen_cookies" {
            // Linux never had it, and scripts do without.
            return (255, format!("sysctl: cannot stat /proc/sys/{}\n", name.replace('.', "/")));
        }
        match value {
            Some(value) => {
                let value = value.trim_matches('"');
                if !world.persona.set(&name, value) {
                    world.wants.add(format!("sysctl {name}={value}"));
                }
                world.apply_settings();
            }
            None => {
                text.push_str(world.persona.get(&name).unwrap_or("0"));
                text.push('\n');
            }
        }
    }
    (0, text)
}

/// `ip mptcp ...`, and what else scripts say to `ip`.
fn ip(world: &mut World, words: &[&str]) -> (u8, String) {
    let words: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with('-')).collect();
    let after = |name: &str| {
        let place = words.iter().position(|word| *word == name)?;
        words.get(place + 1)?.parse::<usize>().ok()
    };
    match words[..] {
        ["mptcp", "endpoint", "flush", ..] => world.flush_endpoints(),
        ["mptcp", "endpoint", "add", addr, ..] => {
            let Ok(addr) = addr.parse::<IpAddr>() else { return (1, String::new()) };
            let has = |flag| words.contains(&flag);
            let flags = Flags {
                signal: has("signal"),
                subflow: has("subflow"),
                backup: has("backup"),
                fullmesh: has("fullmesh"),
                laminar: has("laminar"),
            };
            let port = after("port").and_then(|port| u16::try_from(port).ok());
            let id = after("id").and_then(|id| u8::try_from(id).ok()).map(AddressId);
            if let Err(error) = world.add_endpoint(EndpointSpec { addr, port, nic: None, id, flags }) {
                return (2, format!("{error}\n"));
            }
        }
        ["mptcp", "limits", "set", ..] => {
            world.set_limits(after("subflows"), after("add_addr_accepted"));
        }
        // Fast Open cookies.
        ["tcp_metrics", "flush", ..] => world.forget(),
        // The addresses of packets are whatever the script says.
        ["addr" | "address", ..] | ["route", ..] => {}
        _ => world.wants.add(format!("ip {}", words.join(" "))),
    }
    (0, String::new())
}

/// `tc`: the only queue that scripts take for granted is the plain one.
fn tc(world: &mut World, words: &[&str]) -> (u8, String) {
    if words.contains(&"fq") || words.contains(&"limit") {
        world.wants.add(format!("tc {}", words.join(" ")));
    }
    (0, String::new())
}

/// `nstat -n` begins anew; `nstat -zjs` prints counters as JSON: those of MPTCP, which are all that scripts read.
fn nstat(world: &mut World, words: &[&str]) -> (u8, String) {
    let now = world.mptcp_counters();
    if words.contains(&"-n") {
        world.counted = now;
        return (0, String::new());
    }
    let rows: Vec<String> = now
        .iter()
        .map(|(counter, count)| {
            format!("\"MPTcpExt{}\":{}", counter.name(), count - world.counted.get(counter))
        })
        .collect();
    (0, format!("{{\"kernel\":{{{}}}}}\n", rows.join(",")))
}
