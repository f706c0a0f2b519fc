//! The UMEM: the memory that all NICs share with us, as a [`FramePool`].

use crate::base::FramePool;
use crate::base::pool::FRAME_SIZE;
use crate::xdp::XdpError;
use crate::xdp::privilege;
use std::cell::OnceCell;
use std::error::Error as _;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::{FrameDesc, Umem};

/// Entries of each fill and each completion ring.
pub(crate) const RING: u32 = 4096;

/// Memory for all NICs.
#[derive(Debug)]
pub(crate) struct SharedUmem {
    pub(crate) umem: Umem,
    pub(crate) pool: Arc<FramePool>,
    pub(crate) layout: DescLayout,
    /// The first socket on it, once there is one.
    pub(crate) first: OnceCell<RawFd>,
}

impl SharedUmem {
    pub(crate) fn new(frames: usize) -> Result<Self, XdpError> {
        let count = u32::try_from(frames).ok().and_then(NonZeroU32::new);
        let count = count.expect("the configuration was checked");
        let ring = QueueSize::new(RING).expect("a power of two");
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(FRAME_SIZE as u32).expect("above the kernel's minimum"))
            .fill_queue_size(ring)
            .comp_queue_size(ring)
            .frame_headroom(0)
            .build()
            .expect("a frame has room for the kernel's headroom");
        let (umem, descriptors) = Umem::new(config, count, false).map_err(|error| {
            let error = error.source().and_then(|source| source.downcast_ref::<io::Error>());
            creation_error(error.and_then(io::Error::raw_os_error), frames)
        })?;
        let first = descriptors[0];
        // SAFETY: a descriptor of this UMEM, that nobody else has yet.
        let first_data = unsafe { umem.data(&first) }.contents().as_ptr();
        // The slice that this pointer comes from is empty, so it may not be used for the whole region. The region's
        // own pointer was exposed when the kernel got it.
        let base = std::ptr::with_exposed_provenance_mut(first_data.expose_provenance() - first.addr());
        let base = NonNull::new(base).expect("the region was mapped");
        // SAFETY: the UMEM has `frames` frames of FRAME_SIZE bytes from `base` on, which stay mapped as long as a
        // handle of it lives; one goes into the pool. Only the kernel writes to it besides the pool.
        let pool = unsafe { FramePool::from_raw(base, frames, Box::new(umem.clone()), close_empty) };
        Ok(Self { umem, pool, layout: DescLayout::probe(), first: OnceCell::new() })
    }
}

/// Nobody has the pool any more, so nobody can give back what is still held: a leak, which debug builds do not let pass.
/// What a NIC has is no leak.
fn close_empty(pool: &FramePool) {
    let held = pool.held();
    let complain = !held.is_empty() && !std::thread::panicking();
    assert!(!complain, "{} frames were never given back:\n{}", held.len(), held.join("\n"));
}

fn creation_error(errno: Option<i32>, frames: usize) -> XdpError {
    let wanted = (frames * FRAME_SIZE) as u64;
    match errno {
        Some(libc::EPERM | libc::EACCES) => {
            XdpError::NoPrivilege { doing: "register packet memory", missing: privilege::missing() }
        }
        // The kernel says ENOBUFS where pinning goes over RLIMIT_MEMLOCK.
        Some(libc::ENOBUFS | libc::ENOMEM) if privilege::memlock_limit().is_some() => {
            let limit =
                privilege::memlock_limit().map_or("none".to_owned(), |limit| format!("{limit} bytes"));
            XdpError::MemlockTooLow { wanted, limit }
        }
        errno => XdpError::kernel(
            format!("register {wanted} bytes of packet memory"),
            io::Error::from_raw_os_error(errno.unwrap_or(libc::EIO)),
        ),
    }
}

/// Where a [`FrameDesc`] keeps its address and its length. xsk-rs lets nobody set the address, because its own users
/// send from where a frame begins; our packets begin wherever their headers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DescLayout {
    addr: usize,
    len: usize,
}

impl DescLayout {
    /// Finds out by writing a number to each place in turn and looking where it comes out.
    fn probe() -> Self {
        let find = |get: fn(&FrameDesc) -> usize| {
            let places = (0..size_of::<FrameDesc>() / size_of::<usize>()).map(|i| i * size_of::<usize>());
            let number = 0x5a5a_1234;
            let mut hits = places.filter(|place| {
                let mut desc = FrameDesc::default();
                // SAFETY: inside the descriptor and aligned. All of its fields are integers, which take any bits.
                unsafe { (&raw mut desc).cast::<u8>().add(*place).cast::<usize>().write(number) };
                get(&desc) == number
            });
            let place = hits.next().expect("the descriptor has such a field");
            assert!(hits.next().is_none(), "a field is in one place");
            place
        };
        Self { addr: find(FrameDesc::addr), len: find(|desc| desc.lengths().data()) }
    }

    /// The descriptor of `len` bytes at `addr` of the UMEM.
    pub(crate) fn desc(self, addr: usize, len: usize) -> FrameDesc {
        let mut desc = FrameDesc::default();
        let base = (&raw mut desc).cast::<u8>();
        // SAFETY: `probe` found both fields there.
        unsafe {
            base.add(self.addr).cast::<usize>().write(addr);
            base.add(self.len).cast::<usize>().write(len);
        }
        desc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "1 frames were never given back")]
    fn a_frame_that_is_held_at_the_end_is_a_leak() {
        let mut memory = vec![0u64; 2 * FRAME_SIZE / 8].into_boxed_slice();
        let base = NonNull::new(memory.as_mut_ptr().cast::<u8>()).expect("not null");
        // SAFETY: two frames' bytes, which belong to the pool from here on.
        let pool = unsafe { FramePool::from_raw(base, 2, Box::new(memory), close_empty) };
        let mut cache = crate::base::PoolCache::new(pool);
        let _lost = cache.alloc();
        let with_nic = cache.alloc().expect("free");
        cache.pool().start_fill(with_nic);
    }

    #[test]
    fn a_descriptor_says_what_it_was_made_of() {
        let layout = DescLayout::probe();
        for (addr, len) in [(0, 0), (1, 2), (4096 * 77 + 42, 1514), (usize::MAX, 9000)] {
            let desc = layout.desc(addr, len);
            assert_eq!((desc.addr(), desc.lengths().data(), desc.options()), (addr, len, 0));
        }
    }
}
