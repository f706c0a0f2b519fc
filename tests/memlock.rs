//! Too little memory may be locked: the error says so. By itself in a process, whose limit it lowers.

use braid::wire::ChecksumMode;
use braid::xdp::{Xdp, XdpConfig, XdpError, ZeroCopy, probe_nic};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities, set_capabilities, unshare_unsafe};

#[test]
#[allow(unsafe_code)]
fn a_pool_beyond_the_limit_is_refused_in_words() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED a_pool_beyond_the_limit_is_refused_in_words: needs root");
    }
    let limit = 1 << 20;
    setrlimit(Resource::Memlock, Rlimit { current: Some(limit), maximum: Some(limit) })
        .expect("it is lowered");
    // SAFETY: only this thread's network namespace changes; no other thread's file descriptors are concerned.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("root may");
    let mut sets = capabilities(None).expect("one's own can be read");
    sets.effective.remove(CapabilitySet::IPC_LOCK | CapabilitySet::SYS_RESOURCE);
    set_capabilities(None, sets).expect("fewer are always allowed");

    let config = XdpConfig {
        nics: vec!["lo".to_owned()],
        workers: 1,
        queues: None,
        frames: 4096,
        zero_copy: ZeroCopy::Prefer,
        checksum: ChecksumMode::Software,
    };
    let error = Xdp::open(&config).expect_err("16 MiB may not be locked");
    assert!(matches!(error, XdpError::MemlockTooLow { wanted: 0x100_0000, .. }), "{error}");
    assert!(error.to_string().contains("limit is 1048576 bytes"), "{error}");
    assert_eq!(probe_nic("lo").expect("it is there").xdp_attached, None, "nothing stays attached");

    // Within the limit the loopback device can be opened, though only by the generic hook.
    let xdp = Xdp::open(&XdpConfig { frames: 256, ..config }).expect("1 MiB may be locked");
    assert!(!xdp.ports()[0].native);
}
