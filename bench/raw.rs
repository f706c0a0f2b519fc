//! How many frames AF_XDP moves through a veth pair, without a stack: one core sends, one receives.
//!
//! `cargo bench --bench raw -- [FRAME_LEN...]`, as root. It makes the pair in a network namespace of its own, which
//! ends with it.

use braid::xdp::{probe_nic, raw};
use std::error::Error;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SENDER: &str = "braid-tx";
const RECEIVER: &str = "braid-rx";
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURE: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds --bench.
    let mut lengths: Vec<usize> = std::env::args().skip(1).filter_map(|length| length.parse().ok()).collect();
    if lengths.is_empty() {
        lengths = vec![64, 1514, 3500];
    }
    make_pair()?;
    println!("{:>6} {:>12} {:>9} {:>7}", "frame", "frames/s", "Gbit/s", "lost %");
    for length in lengths {
        let (sent, received) = measure(length)?;
        let gigabits = received * length as f64 * 8.0 / 1e9;
        let lost = 100.0 * (1.0 - received / sent);
        println!("{length:>6} {received:>12.0} {gigabits:>9.2} {lost:>7.2}");
    }
    Ok(())
}

/// Frames a second: sent, and received.
fn measure(length: usize) -> Result<(f64, f64), Box<dyn Error>> {
    let (stop, sent, received) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let to = probe_nic(RECEIVER)?.mac;
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let pin = |number: usize| {
        if let Some(core) = cores.get(number % cores.len().max(1)) {
            core_affinity::set_for_current(*core);
        }
    };
    thread::scope(|scope| {
        let counter = scope.spawn(|| {
            pin(1);
            raw::count(RECEIVER, &stop, &received)
        });
        let blaster = scope.spawn(|| {
            pin(0);
            raw::blast(SENDER, length, to, &stop, &sent)
        });
        thread::sleep(WARM_UP);
        let before = (sent.load(Ordering::Relaxed), received.load(Ordering::Relaxed));
        let start = now();
        thread::sleep(MEASURE);
        let after = (sent.load(Ordering::Relaxed), received.load(Ordering::Relaxed));
        let seconds = start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        blaster.join().expect("the sender does not panic")?;
        counter.join().expect("the receiver does not panic")?;
        Ok(((after.0 - before.0) as f64 / seconds, (after.1 - before.1) as f64 / seconds))
    })
}

/// A benchmark is where time is measured.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[allow(unsafe_code)]
fn make_pair() -> Result<(), Box<dyn Error>> {
    // SAFETY: only this thread's network namespace changes; threads that it starts inherit it.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET)? };
    ip(&format!("link add {SENDER} type veth peer name {RECEIVER}"))?;
    for end in [SENDER, RECEIVER] {
        ip(&format!("link set {end} mtu 3490 up"))?;
    }
    Ok(())
}

fn ip(arguments: &str) -> Result<(), Box<dyn Error>> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
