//! [`Refusal`]: why a NIC does no zero-copy, and what to do about it. The same words for `braid check`, reports and errors.

use std::io;

/// Why packets of a NIC are copied, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The NIC that is to blame, which may be another one than that whose packets are copied; `None` where nobody
    /// asked for zero-copy.
    pub nic: Option<String>,
    /// The queue that refused, where one was asked.
    pub queue: Option<u32>,
    /// Why, in words.
    pub reason: String,
    /// What to do about it, in words.
    pub remedy: String,
}

impl Refusal {
    /// Nobody wants it.
    pub(crate) fn switched_off() -> Self {
        Self {
            nic: None,
            queue: None,
            reason: "switched off".to_owned(),
            remedy: "--zero-copy prefer".to_owned(),
        }
    }

    /// The steering program runs in the kernel's generic hook, which only copies.
    pub(crate) fn not_native(nic: &str, driver: &str) -> Self {
        Self {
            nic: Some(nic.to_owned()),
            queue: None,
            reason: format!("driver {driver} does not run XDP programs itself"),
            remedy: ANOTHER_DRIVER.to_owned(),
        }
    }

    /// The driver says itself that it has no zero-copy.
    pub(crate) fn not_offered(nic: &str, driver: &str) -> Self {
        Self {
            nic: Some(nic.to_owned()),
            queue: None,
            reason: format!("driver {driver} has no zero-copy"),
            remedy: ANOTHER_DRIVER.to_owned(),
        }
    }

    /// The kernel answered `errno` when a socket was bound to `queue`.
    pub(crate) fn at_queue(nic: &str, driver: &str, queue: u32, errno: i32) -> Self {
        let reason = format!("driver {driver} refuses it at queue {queue}: {}", words(errno));
        let remedy = remedy(nic, driver, queue, errno);
        Self { nic: Some(nic.to_owned()), queue: Some(queue), reason, remedy }
    }

    /// What this refusal means for the packets of `nic`: all NICs share one memory, which has one mode.
    pub(crate) fn seen_from(&self, nic: &str) -> Self {
        match &self.nic {
            Some(culprit) if culprit != nic => Self {
                reason: format!("{culprit} cannot, and all share one memory"),
                remedy: format!("see {culprit}, or leave it out: name the others with --nic"),
                ..self.clone()
            },
            Some(_) | None => self.clone(),
        }
    }
}

const ANOTHER_DRIVER: &str = "a NIC with another driver, or a newer kernel, may have it";

/// What the kernel's answer means here.
fn words(errno: i32) -> String {
    match errno {
        libc::EOPNOTSUPP => "it has no zero-copy there (EOPNOTSUPP)".to_owned(),
        libc::EINVAL => "the queue, or the layout of our frames, does not suit it (EINVAL)".to_owned(),
        libc::EBUSY => "another program has the queue (EBUSY)".to_owned(),
        errno => io::Error::from_raw_os_error(errno).to_string(),
    }
}

fn remedy(nic: &str, driver: &str, queue: u32, errno: i32) -> String {
    match errno {
        libc::EINVAL if driver == "virtio_net" => format!(
            "give the virtual machine's device iommu_platform=on, and have no more queues than CPUs (--queues N, or ethtool -L {nic} combined N)"
        ),
        libc::EINVAL => format!(
            "a lower MTU (ip link set dev {nic} mtu 1500), fewer queues (--queues N) or a newer kernel may do"
        ),
        libc::EBUSY if queue > 0 => {
            format!("end that program, or use only the queues before it: --queues {queue}")
        }
        libc::EBUSY => "end that program".to_owned(),
        _ => ANOTHER_DRIVER.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_answers_is_told_in_words_with_a_remedy() {
        for (driver, errno, reason, remedy) in [
            ("veth", libc::EOPNOTSUPP, "no zero-copy there (EOPNOTSUPP)", "newer kernel"),
            ("virtio_net", libc::EINVAL, "does not suit it (EINVAL)", "iommu_platform=on"),
            ("virtio_net", libc::EINVAL, "does not suit it (EINVAL)", "no more queues than CPUs (--queues N"),
            ("ice", libc::EINVAL, "does not suit it (EINVAL)", "ip link set dev eth1 mtu"),
            ("ice", libc::EBUSY, "another program has the queue (EBUSY)", "--queues 3"),
            ("ice", libc::ENOBUFS, "No buffer space", "newer kernel"),
        ] {
            let refusal = Refusal::at_queue("eth1", driver, 3, errno);
            assert!(refusal.reason.contains(reason), "{refusal:?}");
            assert!(refusal.reason.contains(driver) && refusal.reason.contains("queue 3"), "{refusal:?}");
            assert!(refusal.remedy.contains(remedy), "{refusal:?}");
        }
        let first = Refusal::at_queue("eth1", "ice", 0, libc::EBUSY);
        assert!(!first.remedy.contains("--queues"), "no queue comes before the first: {first:?}");
    }

    #[test]
    fn others_learn_which_nic_is_to_blame() {
        let refusal = Refusal::at_queue("eth1", "ice", 1, libc::EINVAL);
        assert_eq!(refusal.seen_from("eth1"), refusal);
        let other = refusal.seen_from("eth2");
        assert!(other.reason.contains("eth1 cannot") && other.remedy.contains("--nic"), "{other:?}");
        assert_eq!((other.nic.as_deref(), other.queue), (Some("eth1"), Some(1)));
        assert_eq!(Refusal::switched_off().seen_from("eth1").reason, "switched off");
    }
}
