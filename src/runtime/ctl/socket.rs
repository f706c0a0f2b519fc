//! The file of a control socket: where it is, who may open it, and what becomes of those that dead processes left behind.
//!
//! A socket gets its name only when it listens: it is made under a hidden name, closed to others, and then renamed. So
//! a name that nobody answers at is that of a dead process, and may be taken.

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Where sockets are by default.
pub const FOLDER: &str = "/run/braid";
/// Runtimes of one process that get a socket by default.
const OF_ONE_PROCESS_MAX: u32 = 1000;
/// Clients that may wait to be accepted.
const BACKLOG: i32 = 16;

/// Where to open the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CtlPath {
    /// Under [`FOLDER`], by the process's id; where that cannot be, nowhere, and [`crate::runtime::Runtime::ctl`] says
    /// why.
    #[default]
    Default,
    /// Here.
    At(PathBuf),
    /// Nowhere.
    None,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CtlError {
    /// Somebody answers there.
    #[error("{} is the control socket of a running process{}; choose another path with --ctl", path.display(), pid_in_words(*pid))]
    InUse {
        /// The path.
        path: PathBuf,
        /// Whose.
        pid: Option<u32>,
    },
    /// Something else is there.
    #[error("{} exists and is no socket; choose another path with --ctl", .0.display())]
    NoSocket(PathBuf),
    /// More than fits into the address of a socket.
    #[error("{} is too long for the path of a socket (about 90 bytes at most)", .0.display())]
    TooLong(PathBuf),
    /// The folder is not there.
    #[error("there is no folder {}; make it, or choose another path with --ctl", .0.display())]
    NoFolder(PathBuf),
    /// The kernel refused.
    #[error("cannot open the control socket {}: {source}; choose another path with --ctl, or none", path.display())]
    Kernel {
        /// The path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

fn pid_in_words(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" ({pid})"))
}

/// A socket that listens. Its name goes with it.
#[derive(Debug)]
pub(super) struct BoundSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: so that we never remove another one of the same name.
    identity: (u64, u64),
}

impl BoundSocket {
    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a socket by the process's id.
    pub(super) fn open_default() -> Result<Self, CtlError> {
        let folder = Path::new(FOLDER);
        if let Err(source) = std::fs::create_dir_all(folder) {
            return Err(CtlError::Kernel { path: folder.to_owned(), source });
        }
        sweep(folder);
        let pid = std::process::id();
        let names = (1..OF_ONE_PROCESS_MAX).map(|number| match number {
            1 => format!("{pid}.sock"),
            _ => format!("{pid}-{number}.sock"),
        });
        let mut taken = None;
        for name in names {
            match Self::open(&folder.join(name)) {
                Err(error @ CtlError::InUse { .. }) => taken = Some(error),
                opened => return opened,
            }
        }
        Err(taken.unwrap_or_else(|| CtlError::NoFolder(folder.to_owned())))
    }

    /// Opens a socket at `path`, in the place of one that a dead process has left there.
    pub(super) fn open(path: &Path) -> Result<Self, CtlError> {
        let refused = |source: Errno| match source {
            Errno::NAMETOOLONG => CtlError::TooLong(path.to_owned()),
            _ => CtlError::Kernel { path: path.to_owned(), source: source.into() },
        };
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            Some(_) | None => Path::new("."),
        };
        if !folder.is_dir() {
            return Err(CtlError::NoFolder(folder.to_owned()));
        }
        let _locked = lock(folder).map_err(refused)?;
        make_room(path)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(path.file_name().unwrap_or(OsStr::new("braid")));
        let hidden = folder.join(hidden);
        // Nobody else makes one while the folder is locked: it can only be left over.
        let _ = rustix::fs::unlink(&hidden);
        let listener = listen(&hidden).map_err(refused)?;
        let named = rustix::fs::renameat_with(CWD, &hidden, CWD, path, RenameFlags::NOREPLACE);
        let identity = named.and_then(|()| identity(path));
        let identity = identity.map_err(|error| {
            let _ = rustix::fs::unlink(&hidden);
            refused(error)
        })?;
        Ok(Self { listener: UnixListener::from(listener), path: path.to_owned(), identity })
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if identity(&self.path) == Ok(self.identity) {
            // Whoever finds it later will find that nobody answers.
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

fn identity(path: &Path) -> rustix::io::Result<(u64, u64)> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// A socket that listens at `path`, for its owner alone.
fn listen(path: &Path) -> rustix::io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &address)?;
    // Nobody can connect before it listens.
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Keeps other processes from making or removing sockets in `folder` meanwhile.
fn lock(folder: &Path) -> rustix::io::Result<OwnedFd> {
    let folder =
        rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::flock(&folder, FlockOperation::LockExclusive)?;
    Ok(folder)
}

/// Removes what a dead process has left at `path`.
fn make_room(path: &Path) -> Result<(), CtlError> {
    let refused = |source: io::Error| CtlError::Kernel { path: path.to_owned(), source };
    let stat = match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NAMETOOLONG) => return Err(CtlError::TooLong(path.to_owned())),
        stat => stat.map_err(|error| refused(error.into()))?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(CtlError::NoSocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(stream) => Err(CtlError::InUse { path: path.to_owned(), pid: peer_of(&stream) }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            rustix::fs::unlink(path).map_err(|error| refused(error.into()))
        }
        Err(error) => Err(refused(error)),
    }
}

fn peer_of(stream: &UnixStream) -> Option<u32> {
    let credentials = rustix::net::sockopt::socket_peercred(stream).ok()?;
    u32::try_from(credentials.pid.as_raw_nonzero().get()).ok()
}

/// Removes the sockets of dead processes. Best effort: others may do the same.
fn sweep(folder: &Path) {
    let Ok(_locked) = lock(folder) else { return };
    for path in sockets(folder) {
        let _ = make_room(&path);
    }
}

fn sockets(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension() == Some(OsStr::new("sock"))).collect();
    paths.sort();
    paths
}

/// The control sockets in `folder` at which somebody answers, with the process behind each.
pub fn live_sockets(folder: &Path) -> Vec<(PathBuf, Option<u32>)> {
    let answering = |path: PathBuf| {
        let stream = UnixStream::connect(&path).ok()?;
        Some((path, peer_of(&stream)))
    };
    sockets(folder).into_iter().filter_map(answering).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("there is room for scratch files")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("it is there");
        let name = |entry: io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
        entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_socket_is_its_owners_alone_and_goes_with_its_owner() {
        let folder = folder();
        let path = folder.path().join("a.sock");
        let socket = BoundSocket::open(&path).expect("it can be opened");
        let metadata = std::fs::symlink_metadata(&path).expect("it is there");
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["a.sock"]);
        let pid = Some(std::process::id());
        assert_eq!(live_sockets(folder.path()), [(path.clone(), pid)]);
        drop(socket);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn the_socket_of_a_living_process_is_left_alone_and_that_of_a_dead_one_is_replaced() {
        let folder = folder();
        let path = folder.path().join("a.sock");
        let first = BoundSocket::open(&path).expect("it can be opened");
        let error = BoundSocket::open(&path).expect_err("in use");
        assert!(matches!(error, CtlError::InUse { pid: Some(_), .. }), "{error}");
        // The name of a listener that is closed stays, as after a process that was killed.
        let stale = folder.path().join("b.sock");
        drop(UnixListener::bind(&stale).expect("the name is free"));
        let second = BoundSocket::open(&stale).expect("nobody answers there");
        assert_eq!(live_sockets(folder.path()).len(), 2);
        drop(second);
        assert!(!stale.exists() && path.exists());
        drop(first);
    }

    #[test]
    fn another_socket_of_the_same_name_is_not_removed() {
        let folder = folder();
        let path = folder.path().join("a.sock");
        let socket = BoundSocket::open(&path).expect("it can be opened");
        std::fs::remove_file(&path).expect("it is there");
        let other = UnixListener::bind(&path).expect("the name is free");
        drop(socket);
        assert!(path.exists());
        drop(other);
    }

    #[test]
    fn what_is_in_the_way_is_told() {
        let folder = folder();
        let file = folder.path().join("file");
        std::fs::write(&file, "mine").expect("there is room");
        assert!(matches!(BoundSocket::open(&file), Err(CtlError::NoSocket(_))));
        assert_eq!(std::fs::read(&file).expect("it is there"), b"mine");
        let missing = folder.path().join("none/a.sock");
        assert!(matches!(BoundSocket::open(&missing), Err(CtlError::NoFolder(_))));
        let long = folder.path().join("x".repeat(200));
        assert!(matches!(BoundSocket::open(&long), Err(CtlError::TooLong(_))));
        let longer = folder.path().join("x".repeat(300));
        assert!(matches!(BoundSocket::open(&longer), Err(CtlError::TooLong(_))));
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn sockets_of_the_dead_are_swept() {
        let folder = folder();
        let living = BoundSocket::open(&folder.path().join("1.sock")).expect("it can be opened");
        drop(UnixListener::bind(folder.path().join("2.sock")).expect("the name is free"));
        std::fs::write(folder.path().join("3.sock"), "").expect("there is room");
        sweep(folder.path());
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left, ["1.sock", "3.sock"]);
        drop(living);
    }
}
