//! Stubs of the commands that scripts call: they ask the shim, and print what it says.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The commands that have stubs.
pub const NAMES: &[&str] = &["sysctl", "ip", "tc", "nstat", "ethtool", "python3"];
/// Where the shim answers, in the environment of the scripts.
pub const CONTROL: &str = "BRAID_DRILL_CONTROL";
/// What PATH was before the stubs.
pub const PATH: &str = "BRAID_DRILL_PATH";
/// Separates words on the way to the shim (`stubs.rs` has the other side).
const SEPARATOR: &str = "\u{1f}";

/// Puts the stubs into a folder.
///
/// # Errors
/// A link cannot be made.
pub fn install(program: &Path, place: &Path) -> std::io::Result<()> {
    NAMES.iter().try_for_each(|name| symlink(program, place.join(name)))
}

/// The stub of `name`.
pub fn main(name: &str) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if name == "python3" {
        return python(&words);
    }
    match ask(name, &words) {
        Ok((status, text)) => {
            print!("{text}");
            ExitCode::from(status)
        }
        Err(error) => {
            eprintln!("{name}: the shim does not answer: {error}");
            ExitCode::from(1)
        }
    }
}

fn ask(name: &str, words: &[String]) -> std::io::Result<(u8, String)> {
    let control = std::env::var_os(CONTROL).ok_or(std::io::ErrorKind::NotFound)?;
    let mut stream = UnixStream::connect(control)?;
    let question: Vec<&str> = std::iter::once(name).chain(words.iter().map(String::as_str)).collect();
    stream.write_all(question.join(SEPARATOR).as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (status, text) = answer.split_once('\n').unwrap_or(("1", ""));
    Ok((status.parse().unwrap_or(1), text.to_owned()))
}

/// Google's `set_sysctls.py` writes to /proc/sys itself: its words are settings, and what it leaves behind is a script that
/// restores them. All else is for the real Python.
fn python(words: &[String]) -> ExitCode {
    match words {
        [script, settings @ ..] if script.ends_with("set_sysctls.py") => match set(settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{script}: {error}");
                ExitCode::from(1)
            }
        },
        _ => {
            let path = std::env::var_os(PATH).unwrap_or_default();
            let error = Command::new("/usr/bin/env").arg("python3").args(words).env("PATH", path).exec();
            eprintln!("python3: {error}");
            ExitCode::from(127)
        }
    }
}

fn set(settings: &[String]) -> std::io::Result<()> {
    ask("sysctl", settings)?;
    let pid = std::env::var("PACKETDRILL_PID").unwrap_or_default();
    let restore = format!("/tmp/sysctl_restore_{pid}.sh");
    std::fs::write(&restore, "#!/bin/sh\n")?;
    std::fs::set_permissions(&restore, std::fs::Permissions::from_mode(0o755))
}
