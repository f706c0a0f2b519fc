//! What scripts ask for and the stack or the shim lacks: each wish is written down once for each script, so that the
//! summary tells which features scripts wanted.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// The wishes of one script.
#[derive(Debug, Default)]
pub struct Wants {
    seen: BTreeSet<String>,
    /// Where they are written; nowhere in a self-test.
    file: Option<PathBuf>,
}

impl Wants {
    /// Written to `file`, a line each, at once: a script that fails ends the process.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { seen: BTreeSet::new(), file }
    }

    /// One wish.
    pub fn add(&mut self, what: impl Into<String>) {
        let what = what.into();
        if self.seen.contains(&what) {
            return;
        }
        if let Some(file) = &self.file {
            let written = OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .and_then(|mut file| writeln!(file, "{what}"));
            if let Err(error) = written {
                eprintln!("cannot note the wish for {what} in {}: {error}", file.display());
            }
        }
        self.seen.insert(what);
    }
}
