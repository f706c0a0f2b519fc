//! Zero-copy on drivers that really do it: virtio_net and igb in a guest under software emulation, where Braid's frames
//! are the NICs' own. Two hosts, two paths, Braid at both ends; the paths are pipes of ours that have a rate and a queue,
//! and lose packets.
//! `tests/guest/fetch` gets kernel and emulator, `tests/guest/init` is what runs inside.

// The pipes have a clock of their own.
#![allow(clippy::disallowed_methods)]

mod support;

use braid::base::Prng;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::{BRAID, Background, alone, run, skip};

const FETCH_LIMIT: Duration = Duration::from_secs(300);
/// It takes half a minute on a quiet machine.
const BOOT_LIMIT: Duration = Duration::from_secs(600);
/// What `fetch` ends with where the packages can't be had.
const UNAVAILABLE: i32 = 75;
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest");
/// The file that is sent: 64 MiB, made here, where random bytes cost little.
const SOURCE: usize = 64 << 20;
/// One packet in so many is lost on each path, in each direction.
const LOST_ONE_IN: u64 = 2000;
/// 80 Mbit/s: more than the emulator can do on a busy machine, so that it is seldom the pipe that is waited for.
const NANOS_PER_BYTE: u64 = 100;
/// What waits longer than this for its turn on the line is lost.
const QUEUE: Duration = Duration::from_millis(50);
/// The longest frame, and more.
const FRAME_MAX: usize = 4096;
/// How soon a pipe notices that it is to end.
const PATIENCE: Duration = Duration::from_millis(100);

/// A NIC as QEMU makes it.
#[derive(Clone, Copy)]
enum Driver {
    Virtio,
    Igb,
}

impl Driver {
    fn name(self) -> &'static str {
        match self {
            Driver::Virtio => "virtio_net",
            Driver::Igb => "igb",
        }
    }

    /// The arguments that put a NIC with this network and Ethernet address into the `slot`-th place.
    fn device(self, net: &str, mac: &str, slot: usize) -> Vec<String> {
        match self {
            // Without iommu_platform the driver maps no memory of ours, and refuses zero-copy.
            Driver::Virtio => vec![
                "-device".into(),
                format!("virtio-net-pci,netdev={net},mac={mac},romfile=,disable-legacy=on,iommu_platform=on"),
            ],
            Driver::Igb => vec![
                "-device".into(),
                format!("pcie-root-port,id=rp{slot},chassis={slot},slot={slot}"),
                "-device".into(),
                format!("igb,bus=rp{slot},netdev={net},mac={mac},romfile="),
            ],
        }
    }
}

/// Kernel, modules, emulator, busybox; `None` after a loud skip.
fn fetch(test: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    let outcome = run(Command::new(format!("{FOLDER}/fetch")).arg(&folder), FETCH_LIMIT);
    match outcome.status.and_then(|status| status.code()) {
        Some(0) => Some(folder),
        Some(UNAVAILABLE) => {
            skip(test, outcome.stdout.trim());
            None
        }
        _ => panic!("tests/guest/fetch failed:\n{}\n{}", outcome.stdout, outcome.stderr),
    }
}

/// Copies a program and the libraries that it needs to the same places below `root`.
fn carry(program: &Path, root: &Path) {
    let name = program.file_name().expect("programs have names");
    let bin = root.join("bin").join(name);
    // Debug information would fill the guest's memory.
    run(Command::new("objcopy").arg("--strip-debug").arg(program).arg(&bin), FETCH_LIMIT)
        .expect_success("objcopy");
    let libraries = run(Command::new("ldd").arg(program), FETCH_LIMIT).expect_success("ldd").stdout;
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let place = root.join(&library[1..]);
        fs::create_dir_all(place.parent().expect("below root")).expect("room for the guest");
        fs::copy(library, place).expect("room for the guest");
    }
}

/// The guest's root file system, as an archive that the kernel unpacks.
fn initrd(guest: &Path, scratch: &Path, driver: Driver) -> PathBuf {
    let root = scratch.join("root");
    for folder in ["bin", "applets", "proc", "sys", "dev", "tmp", "run", "modules", "var"] {
        fs::create_dir_all(root.join(folder)).expect("room for the guest");
    }
    std::os::unix::fs::symlink("/run", root.join("var/run")).expect("a new name");
    fs::copy(guest.join("busybox"), root.join("bin/busybox")).expect("fetch has put it there");
    let applets =
        run(Command::new(guest.join("busybox")).arg("--list"), FETCH_LIMIT).expect_success("busybox").stdout;
    for applet in applets.lines() {
        std::os::unix::fs::symlink("/bin/busybox", root.join("applets").join(applet)).expect("a new name");
    }
    for module in fs::read_dir(guest.join("modules")).expect("fetch has put it there") {
        let module = module.expect("a readable folder");
        fs::copy(module.path(), root.join("modules").join(module.file_name())).expect("room for the guest");
    }
    let found =
        run(Command::new("sh").args(["-c", "command -v ip"]), FETCH_LIMIT).expect_success("ip").stdout;
    let ip = fs::canonicalize(found.trim()).expect("the shell has found it");
    [Path::new(BRAID), &ip].into_iter().for_each(|program| carry(program, &root));
    let mut source = vec![0; SOURCE];
    Prng::new(1).fill(&mut source);
    fs::write(root.join("source"), source).expect("room for the guest");
    fs::write(root.join("plan"), format!("driver={}\n", driver.name())).expect("room for the guest");
    fs::copy(format!("{FOLDER}/init"), root.join("init")).expect("room for the guest");
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).expect("a file of ours");
    let archive = scratch.join("initrd");
    let packed = "find . | \"$1\" cpio -o -H newc > \"$2\"";
    let mut pack = Command::new("sh");
    pack.args(["-c", packed, "pack"]).arg(guest.join("busybox")).arg(&archive).current_dir(&root);
    run(&mut pack, FETCH_LIMIT).expect_success("pack the initrd");
    archive
}

/// One direction of a path: frames go from one NIC to the other through a queue, and some are lost.
struct Pipe {
    ends: [JoinHandle<()>; 2],
    stop: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
}

impl Pipe {
    /// Takes frames at the socket `from`, and passes them to the NIC whose socket is `to`.
    fn new(from: &Path, to: PathBuf, seed: u64) -> Self {
        let socket = UnixDatagram::bind(from).expect("a new name");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out that is not zero");
        let (stop, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (Arc::clone(&stop), Arc::clone(&lost));
        let out = socket.try_clone().expect("a descriptor is free");
        let (queue, line) = mpsc::channel::<(Instant, Vec<u8>)>();
        let entry = std::thread::spawn(move || {
            let mut prng = Prng::new(seed);
            let mut frame = [0; FRAME_MAX];
            let mut line_free = Instant::now();
            while !until.load(Ordering::Relaxed) {
                let length = match socket.recv(&mut frame) {
                    Ok(length) => length,
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                        continue;
                    }
                    Err(error) => panic!("a pipe has broken: {error}"),
                };
                let now = Instant::now();
                let full = line_free > now + QUEUE;
                // ARP and the like are spared: it is Braid that is tested.
                if length > 100 && (full || prng.below(LOST_ONE_IN) == 0) {
                    count.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                line_free = line_free.max(now) + Duration::from_nanos(length as u64 * NANOS_PER_BYTE);
                // The other end is gone only when the test is over.
                let _ = queue.send((line_free, frame[..length].to_vec()));
            }
        });
        let exit = std::thread::spawn(move || {
            for (leaves_at, frame) in line {
                std::thread::sleep(leaves_at.saturating_duration_since(Instant::now()));
                // The other NIC may be gone: the guest has ended.
                let _ = out.send_to(&frame, &to);
            }
        });
        Self { ends: [entry, exit], stop, lost }
    }

    /// Ends it; how many frames it lost.
    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.ends.into_iter().for_each(|end| end.join().expect("the pipe's own error"));
        self.lost.load(Ordering::Relaxed)
    }
}

/// The emulator, with the four NICs and their pipes.
fn boot(guest: &Path, scratch: &Path, driver: Driver) -> (Command, Vec<Pipe>) {
    let qemu = guest.join("qemu");
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|folder| qemu.join(folder));
    let libraries = libraries.map(|folder| folder.to_string_lossy().into_owned()).join(":");
    let mut command = Command::new(qemu.join("usr/bin/qemu-system-x86_64"));
    command.env("LD_LIBRARY_PATH", libraries).stdin(Stdio::null());
    for folder in ["usr/share/qemu", "usr/share/seabios"] {
        command.arg("-L").arg(qemu.join(folder));
    }
    command
        .args("-nodefaults -no-user-config -display none -serial stdio -monitor none -no-reboot".split(' '))
        // A processor without the newer instructions: emulated, those are slower than what they replace. SHA-256 in
        // instructions is the exception: the files' digests were a third of what Braid did there.
        .args("-accel tcg,thread=multi -cpu Nehalem,+sha-ni -M q35 -smp 2 -m 1024".split(' '))
        .args([
            "-append",
            "console=ttyS0 panic=-1 loglevel=5 mitigations=off init_on_alloc=0 hardened_usercopy=off audit=0",
        ])
        .arg("-kernel")
        .arg(guest.join("kernel"))
        .arg("-initrd")
        .arg(initrd(guest, scratch, driver));
    let socket = |path: usize, host: usize, end: &str| scratch.join(format!("{path}-{host}-{end}"));
    let mut pipes = Vec::new();
    for (slot, (path, host)) in [(1, 1), (1, 2), (2, 1), (2, 2)].into_iter().enumerate() {
        let (net, mac) = (format!("n{path}{host}"), format!("52:54:00:00:{path:02x}:{host:02x}"));
        let (nic, wire) = (socket(path, host, "nic"), socket(path, host, "wire"));
        command.arg("-netdev").arg(format!(
            "dgram,id={net},local.type=unix,local.path={},remote.type=unix,remote.path={}",
            nic.display(),
            wire.display()
        ));
        command.args(driver.device(&net, &mac, slot + 1));
        pipes.push(Pipe::new(&wire, socket(path, 3 - host, "nic"), slot as u64));
    }
    (command, pipes)
}

fn guest(test: &str, driver: Driver) {
    // Both guests run at once: each waits much, for links that come up.
    let guest = {
        let _alone = alone();
        fetch(test)
    };
    let Some(guest) = guest else { return };
    let scratch = tempfile::tempdir().expect("there is room for scratch files");
    let (mut command, pipes) = boot(&guest, scratch.path(), driver);
    let outcome = Background::start(&mut command).finish(BOOT_LIMIT);
    let lost: u64 = pipes.into_iter().map(Pipe::finish).sum();
    let console = outcome.stdout;
    // A guest whose kernel has stumbled may still reach its end.
    for complaint in ["Oops", "BUG:", "WARNING:", "Call Trace", "Kernel panic"] {
        assert!(!console.contains(complaint), "{complaint} on the console:\n{console}\n{}", outcome.stderr);
    }
    let passed = console.lines().any(|line| line.trim_end() == "PASS");
    assert!(passed, "no PASS on the console:\n{console}\n{}", outcome.stderr);
    assert!(lost > 0, "the pipes lost nothing");
    // BRAID_LOG=1 shows the whole console.
    let whole = std::env::var_os("BRAID_LOG").is_some();
    for line in console.lines().filter(|line| whole || line.starts_with("ok: ")) {
        println!("{} {}", driver.name(), line.trim_end());
    }
}

#[test]
fn virtio_net() {
    guest("virtio_net", Driver::Virtio);
}

#[test]
fn igb() {
    guest("igb", Driver::Igb);
}
