//! The demo as `make demo` runs it, shorter: that it shows what it promises, and leaves nothing behind.

mod support;

use braid::lab::{Lab, LabOptions};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{BRAID, Background, alone};

const LIMIT: Duration = Duration::from_secs(120);

/// The demo, with its files in `folder`; `None` where labs cannot be made.
fn demo(test: &str, folder: &Path) -> Option<Command> {
    support::lab(test, &[], &LabOptions::default())?.down().expect("a lab that was just made is removed");
    let mut command = Command::new(BRAID);
    command.args(["demo", "--time", "1", "--size", "256"]).env("TMPDIR", folder);
    Some(command)
}

#[track_caller]
fn nothing_is_left(folder: &Path) {
    let labs = Lab::list().expect("labs can be listed");
    assert!(!labs.iter().any(|name| name.starts_with("braid-demo-")), "{labs:?}");
    assert_eq!(fs::read_dir(folder).expect("the folder is there").count(), 0);
}

#[test]
fn both_paths_carry_the_file_and_the_one_that_failed_does_so_again() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("there is room for scratch files");
    let Some(mut command) = demo("the_demo", folder.path()) else { return };
    let outcome = support::run(&mut command, LIMIT).expect_success("braid demo");
    for words in ["path p2 goes down", "path p2 is back", "they are             the same"] {
        assert!(outcome.stdout.contains(words), "no '{words}':\n{}", outcome.stdout);
    }
    nothing_is_left(folder.path());
}

#[test]
fn interrupted_it_removes_what_it_made() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("there is room for scratch files");
    let Some(mut command) = demo("the_demo_interrupted", folder.path()) else { return };
    for (words, signal) in [("connected to", Signal::INT), ("writing 256 MiB", Signal::TERM)] {
        let mut running = Background::start(&mut command);
        running.wait_for(words, LIMIT);
        running.signal(signal);
        assert!(!running.finish(LIMIT).success(), "interrupted at '{words}'");
        nothing_is_left(folder.path());
    }
}
