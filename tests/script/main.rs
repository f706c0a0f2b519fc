//! Scripts of packets and calls against one stack in virtual time, one for each rule that a script can show: the files in
//! `cases/`. `line.rs` reads their lines and describes the language, `driver.rs` carries them out.

mod driver;
mod line;

use driver::Driver;
use std::fs;
use std::path::{Path, PathBuf};

fn run(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    run_text(&text)
}

fn run_text(text: &str) -> Result<(), String> {
    let mut driver = Driver::new();
    for (number, text) in text.lines().enumerate() {
        let at = |error: String| format!("line {}: `{}`: {error}", number + 1, text.trim());
        if let Some(line) = line::parse(text).map_err(at)? {
            driver.run(&line).map_err(at)?;
        }
    }
    driver.finish()
}

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/script/cases");
    let entries = fs::read_dir(&folder).expect("the folder of cases");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "script"));
    files.sort();
    let wanted = std::env::var("SCRIPT").unwrap_or_default();
    files.retain(|file| file.to_string_lossy().contains(&wanted));
    assert!(!files.is_empty(), "no scripts in {}", folder.display());
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed: Vec<String> = files
        .iter()
        .filter_map(|file| run(file).err().map(|error| format!("{}: {error}", name(file))))
        .collect();
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), files.len(), failed.join("\n"));
}

/// What a script says has to happen, or it fails: a driver that takes everything would prove nothing.
#[test]
fn wrong_scripts_fail() {
    let handshake = "listen\n< syn seq 0 mss 1000\n> syn seq 0 ack 1 mss 1460\n< seq 1 ack 1\naccept\n";
    assert_eq!(run_text(&format!("{handshake}write 10\n> psh seq 1 ack 1 len 10\n< seq 1 ack 11")), Ok(()));
    for wrong in [
        "write 10\n> psh seq 1 ack 1 len 11",
        "write 10\n> psh seq 2 ack 1 len 10",
        "write 10\n> psh fin seq 1 ack 1 len 10",
        "write 10\n> psh seq 1 ack 1 len 10 win 1",
        "write 10\n+10ms > psh seq 1 ack 1 len 10",
        "write 10\nquiet 10ms",
        "> seq 1 ack 1",
        "+1s > seq 1 ack 1",
        "read 1",
        "end",
        "closed reset",
        "write 10",
        "jump",
        "< seq",
    ] {
        assert!(run_text(&format!("{handshake}{wrong}")).is_err(), "{wrong}");
    }
}
