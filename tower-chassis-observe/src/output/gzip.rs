//! Compresses a file, in steps.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

/// So many bytes are compressed at a time: a millisecond or two.
const STEP: usize = 64 * 1024;

/// A file that is being compressed. What is there under the name of the result is whole.
pub(super) struct Gzip {
    from: PathBuf,
    unfinished: PathBuf,
    input: File,
    output: GzEncoder<File>,
    piece: Vec<u8>,
}

/// The name of the result.
pub(super) fn result(of: &Path) -> PathBuf {
    with(of, ".gz")
}

/// The name while it is being made.
pub(super) fn unfinished(of: &Path) -> PathBuf {
    with(of, ".gz.tmp")
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

impl Gzip {
    pub(super) fn begin(from: PathBuf) -> io::Result<Self> {
        let unfinished = unfinished(&from);
        let input = File::open(&from)?;
        let output = File::create(&unfinished)?;
        // As readable as the log itself.
        output.set_permissions(input.metadata()?.permissions())?;
        Ok(Self {
            from,
            unfinished,
            input,
            output: GzEncoder::new(output, Compression::default()),
            piece: vec![0; STEP],
        })
    }

    /// Whether it is done.
    pub(super) fn step(&mut self) -> io::Result<bool> {
        match self.input.read(&mut self.piece) {
            Ok(0) => {
                self.output.try_finish()?;
                self.output.get_ref().sync_all()?;
                // Deleted meanwhile, because it was the oldest.
                if !self.from.exists() {
                    fs::remove_file(&self.unfinished)?;
                    return Ok(true);
                }
                fs::rename(&self.unfinished, result(&self.from))?;
                fs::remove_file(&self.from)?;
                Ok(true)
            }
            Ok(read) => {
                self.output.write_all(&self.piece[..read])?;
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether this is what it is making.
    pub(super) fn makes(&self, path: &Path) -> bool {
        self.unfinished == path
    }

    /// Leaves the file as it was.
    pub(super) fn give_up(self) {
        _ = fs::remove_file(&self.unfinished);
    }
}
