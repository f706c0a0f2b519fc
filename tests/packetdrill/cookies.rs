//! Fast Open cookies. Scripts have those that the kernel makes for their two remote addresses with their key. A cookie is its
//! server's affair (RFC 7413 §4.1.2), so the shim puts the stack's in their place in SYNs that arrive, and the kernel's in the place
//! of the stack's in SYN/ACKs that leave. The stack's are always the same: its secret is. The self-test sees that they are those.

/// The kernel's for 192.0.2.1; `run/job.rs` gives it to scripts that do not have it.
pub const V4_KERNEL: [u8; 8] = [0x30, 0x21, 0xb9, 0xd8, 0x89, 0x01, 0x7e, 0xeb];
/// The kernel's for fd3d:fa7b:d17d::1.
pub const V6_KERNEL: [u8; 8] = [0xc1, 0xd1, 0xe9, 0x74, 0x2a, 0x47, 0xa9, 0xbc];
/// The stack's for 192.0.2.1.
const V4_OWN: [u8; 6] = [0xac, 0x9f, 0x08, 0x15, 0x82, 0xb2];
/// The stack's for fd3d:fa7b:d17d::1.
const V6_OWN: [u8; 6] = [0xe4, 0x05, 0x93, 0x3b, 0xa8, 0x94];

/// The option's kind (RFC 7413 §4.1.1).
const FAST_OPEN: u8 = 34;
const NOP: u8 = 1;

/// What stands for what: the kernel's cookie and the stack's, by family.
fn pair(is_v4: bool) -> ([u8; 8], [u8; 6]) {
    if is_v4 { (V4_KERNEL, V4_OWN) } else { (V6_KERNEL, V6_OWN) }
}

/// The options of a SYN that arrives, with the stack's cookie where they have the kernel's.
pub fn arriving(is_v4: bool, options: &[u8]) -> Option<Vec<u8>> {
    let (kernel, own) = pair(is_v4);
    exchanged(options, &kernel, &own)
}

/// The options of a SYN/ACK that leaves, with the kernel's cookie where they have the stack's.
pub fn leaving(is_v4: bool, options: &[u8]) -> Option<Vec<u8>> {
    let (kernel, own) = pair(is_v4);
    exchanged(options, &own, &kernel)
}

/// `options` with the cookie `to` in the place of `from`, padded behind it; `None` where it is not there.
fn exchanged(options: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let option = |cookie: &[u8]| [&[FAST_OPEN, 2 + cookie.len() as u8][..], cookie].concat();
    let old = option(from);
    let place = options.windows(old.len()).position(|window| window == old)?;
    let behind = &options[place + old.len()..];
    let padding = behind.iter().take_while(|byte| **byte == NOP).count();
    let mut new = [&options[..place], &option(to), &behind[padding..]].concat();
    new.resize(new.len().next_multiple_of(4), NOP);
    Some(new)
}
