//! What streams carry: a pattern, or the content of a file. A file's bytes go through SHA-256 on the way, so that
//! both ends can be compared.

use crate::app::perf::error::PerfError;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes that a file is read or written in.
const FILE_BUFFER: usize = 256 << 10;

/// A file and the digest of what went through it.
#[derive(Debug)]
pub struct Source {
    file: io::BufReader<File>,
    path: PathBuf,
    digest: Sha256,
}

impl Source {
    /// Opens `path` to send it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path) -> Result<Self, PerfError> {
        let failed = |source| PerfError::File { action: "read", path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        Ok(Self {
            file: io::BufReader::with_capacity(FILE_BUFFER, file),
            path: path.to_owned(),
            digest: Sha256::new(),
        })
    }

    /// Fills `buffer` as far as the file goes; 0 at its end.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, PerfError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(PerfError::File { action: "read", path: self.path.clone(), source });
                }
            }
        }
        Ok(filled)
    }

    /// These bytes, which [`Source::read`] gave, have been accepted for sending.
    pub fn sent(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// The digest of all that was sent, in hexadecimal.
    pub fn finish(self) -> String {
        hexadecimal(&self.digest.finalize())
    }
}

/// A file that received bytes are written to.
#[derive(Debug)]
pub struct Sink {
    file: BufWriter<File>,
    path: PathBuf,
    digest: Sha256,
}

impl Sink {
    /// Makes the file, or empties it.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn create(path: &Path) -> Result<Self, PerfError> {
        let file = File::create(path).map_err(|source| PerfError::File {
            action: "write to",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            file: BufWriter::with_capacity(FILE_BUFFER, file),
            path: path.to_owned(),
            digest: Sha256::new(),
        })
    }

    /// Writes received bytes.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PerfError> {
        self.digest.update(bytes);
        self.file.write_all(bytes).map_err(|source| self.failed(source))
    }

    /// Everything is in the file; the digest of it, in hexadecimal.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn finish(mut self) -> Result<String, PerfError> {
        match self.file.flush() {
            Ok(()) => Ok(hexadecimal(&self.digest.finalize())),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> PerfError {
        PerfError::File { action: "write to", path: self.path.clone(), source }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_through_with_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, b"abc").unwrap();
        let mut source = Source::open(&from).unwrap();
        let mut buffer = [0; 2];
        let mut sink = Sink::create(&to).unwrap();
        loop {
            let read = source.read(&mut buffer).unwrap();
            if read == 0 {
                break;
            }
            source.sent(&buffer[..read]);
            sink.write(&buffer[..read]).unwrap();
        }
        // FIPS 180-2, B.1.
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(source.finish(), digest);
        assert_eq!(sink.finish().unwrap(), digest);
        assert_eq!(std::fs::read(&to).unwrap(), b"abc");
    }

    #[test]
    fn a_folder_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = Source::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("cannot read"), "{error}");
    }
}
