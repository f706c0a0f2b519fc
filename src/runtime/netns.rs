//! For tests: hosts as network namespaces, which go when the test ends.

use std::net::IpAddr;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// A thread in a network namespace of its own, which goes when the thread does.
pub(crate) struct Host {
    work: Sender<Box<dyn FnOnce() + Send>>,
    thread: u32,
}

impl Host {
    /// `None`, and a word about it, where the test may not make one.
    pub(crate) fn new() -> Option<Host> {
        let (work, jobs): (_, Receiver<Box<dyn FnOnce() + Send>>) = channel();
        let (tell, told) = channel();
        thread::spawn(move || {
            #[allow(deprecated)] // Of this thread only the network namespace is unshared.
            let unshared = rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET);
            let _ = tell.send(unshared.map(|()| rustix::thread::gettid().as_raw_nonzero().get() as u32));
            jobs.into_iter().for_each(|job| job());
        });
        match told.recv().expect("the thread tells") {
            Ok(thread) => Some(Host { work, thread }),
            Err(error) => {
                eprintln!("SKIPPED: cannot make a network namespace ({error}); run the tests as root");
                None
            }
        }
    }

    /// Its thread's id, by which `ip link` can name the namespace.
    pub(crate) fn thread(&self) -> u32 {
        self.thread
    }

    /// Runs `job` in the namespace.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let job = move || tell.send(job()).expect("the test waits");
        self.work.send(Box::new(job)).expect("the thread runs");
        told.recv().expect("the job did not panic")
    }

    /// Runs `ip` in the namespace, with the words of `arguments`.
    pub(crate) fn ip(&self, arguments: &str) {
        let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        let done = self.run(move || Command::new("ip").args(words).output().expect("ip is installed"));
        assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Two hosts joined by a link: interface `va` of the first, `vb` of the second.
pub(crate) fn joined() -> Option<(Host, Host)> {
    let (left, right) = (Host::new()?, Host::new()?);
    left.ip(&format!("link add name va type veth peer name vb netns {}", right.thread));
    left.ip("address add 10.9.0.1/24 dev va");
    right.ip("address add 10.9.0.2/24 dev vb");
    left.ip("link set va up");
    right.ip("link set vb up");
    Some((left, right))
}

/// An address.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
