//! A file that is rolled by size and age.

mod config;
mod names;
#[cfg(test)]
mod tests;

#[cfg(feature = "compress")]
use std::collections::VecDeque;
use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

pub use self::config::{RollingConfig, RollingPolicy};
use self::names::{Kind, Names, Rolled, stamp};
#[cfg(feature = "compress")]
use super::gzip::{self, Gzip};
use super::writer::{COMPLAINTS, Target, say};

/// So often it looks whether the file is still the one under its name, and so long it waits after it could not roll.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct RollingFile {
    config: RollingConfig,
    names: Names,
    current: Option<Current>,
    looked: Instant,
    /// It could not be rolled: not before then again.
    hold: Option<Instant>,
    complained: Option<Instant>,
    /// Rolled files that are still to be compressed.
    #[cfg(feature = "compress")]
    to_compress: VecDeque<PathBuf>,
    #[cfg(feature = "compress")]
    compresses: Option<Gzip>,
    pub(super) clock: fn() -> SystemTime,
}

struct Current {
    file: File,
    /// As far as is known: somebody else may write too.
    len: u64,
    since: SystemTime,
    /// And no device or pipe, whose name is somebody else's.
    regular: bool,
}

impl RollingFile {
    pub(super) fn open(policy: RollingPolicy) -> io::Result<Self> {
        let mut config = policy.config().clone();
        // Whatever folder the process goes to.
        config.path = std::path::absolute(&config.path)?;
        // It is the file that is rolled, not what points to it.
        if let Ok(about) = config.path.symlink_metadata()
            && about.is_symlink()
            && let Ok(path) = pointed_to(&config.path)
        {
            config.path = path;
        }
        let mut this = Self {
            names: Names::of(&config.path),
            config,
            current: None,
            looked: Instant::now(),
            hold: None,
            complained: None,
            #[cfg(feature = "compress")]
            to_compress: VecDeque::new(),
            #[cfg(feature = "compress")]
            compresses: None,
            clock: SystemTime::now,
        };
        this.current = Some(this.begin()?);
        this.tidy();
        Ok(this)
    }

    /// Opens the file under its name, at its end, and makes it if there is none.
    fn begin(&self) -> io::Result<Current> {
        fs::create_dir_all(self.names.dir())?;
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .append(true)
            .create(true)
            .open(&self.config.path)?;
        let about = file.metadata()?;
        let mut len = about.len();
        // Somebody was cut off within a line: what comes next begins a new one.
        if len > 0 && about.is_file() {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                len += 1;
            }
        }
        let now = (self.clock)();
        // Not every file system knows when a file was made.
        let since = about.created().or_else(|_| about.modified());
        let since = if len == 0 { now } else { since.unwrap_or(now) };
        let regular = about.is_file();
        Ok(Current {
            file,
            len,
            since,
            regular,
        })
    }

    /// Sees to it that the file is the one under its name; whether it is another one now. Keeps the old one where no
    /// other can be opened.
    fn look(&mut self) -> bool {
        let here = match (&self.current, fs::metadata(&self.config.path)) {
            (Some(current), Ok(there)) => is_same(&current.file, &there).then_some(there.len()),
            _ => None,
        };
        match (here, &mut self.current) {
            // Somebody may have made it shorter.
            (Some(len), Some(current)) => {
                current.len = len;
                false
            }
            _ => match self.begin() {
                Ok(begun) => {
                    self.current = Some(begun);
                    true
                }
                Err(_) => false,
            },
        }
    }

    fn is_due(&self, line: u64) -> bool {
        let Some(current) = &self.current else {
            return false;
        };
        let age = (self.clock)()
            .duration_since(current.since)
            .unwrap_or_default();
        let old = !self.config.age.is_zero() && age >= self.config.age;
        current.regular
            && current.len > 0
            && (old || current.len.saturating_add(line) > self.config.size)
    }

    /// Rolls it, if that is still due where nobody else does so.
    fn roll_alone(&mut self, line: u64) -> io::Result<()> {
        // Of several processes that have the same file one rolls it; the others find the new one. Not every file system
        // knows locks: there it is rolled without.
        // A few times: others may be as fast.
        for _ in 0..8 {
            if !self.is_due(line) {
                break;
            }
            let lock = self.current.as_ref().map(|current| current.file.try_lock());
            if let Some(Err(TryLockError::WouldBlock)) = lock {
                break;
            }
            // What is renamed must be what is written to, and locked. A file that is no longer current is closed, and
            // its lock with it.
            if self.look() {
                continue;
            }
            let rolled = if self.is_due(line) {
                self.roll()
            } else {
                Ok(())
            };
            if let Some(current) = &self.current {
                _ = current.file.unlock();
            }
            return rolled;
        }
        Ok(())
    }

    /// Says that it cannot be rolled, once in a while.
    fn complain(&mut self, now: Instant, error: &io::Error) {
        let lately = |at: Instant| now.saturating_duration_since(at) < COMPLAINTS;
        if !self.complained.is_some_and(lately) {
            self.complained = Some(now);
            let path = self.config.path.display();
            say(format_args!("{path} cannot be rolled: {error}"));
        }
    }

    /// Gives the file another name, and begins a new one.
    fn roll(&mut self) -> io::Result<()> {
        let rolled = self.names.free((self.clock)());
        fs::rename(&self.config.path, &rolled)?;
        // Until the new one is there the lines go to the old one.
        match self.begin() {
            Ok(begun) => self.current = Some(begun),
            Err(error) => {
                _ = fs::rename(&rolled, &self.config.path);
                return Err(error);
            }
        }
        self.tidy();
        Ok(())
    }

    /// Deletes rolled files that are too many or too old, and notes which ones are to be compressed.
    fn tidy(&mut self) {
        if !self.config.rotate {
            return;
        }
        let Ok(mut rolled) = self.names.rolled() else {
            return;
        };
        rolled.retain(|rolled| !self.is_left_over(rolled));
        let oldest = (!self.config.keep.is_zero())
            .then(|| (self.clock)().checked_sub(self.config.keep))
            .flatten()
            .map(stamp);
        let surplus = rolled.len().saturating_sub(self.config.backups as usize);
        for (nth, rolled) in rolled.iter().enumerate() {
            let old = oldest.as_ref().is_some_and(|oldest| rolled.stamp < *oldest);
            if nth < surplus || old {
                _ = fs::remove_file(&rolled.path);
            }
        }
        #[cfg(feature = "compress")]
        if self.config.compress {
            let plain = rolled
                .into_iter()
                .filter(|rolled| rolled.kind == Kind::Plain);
            self.to_compress = plain.map(|rolled| rolled.path).collect();
        }
    }

    /// Whether it is what a run that was cut off has left; then it is deleted.
    fn is_left_over(&self, rolled: &Rolled) -> bool {
        let left = match rolled.kind {
            Kind::Compressed => false,
            #[cfg(feature = "compress")]
            Kind::Plain => self.config.compress && gzip::result(&rolled.path).exists(),
            #[cfg(not(feature = "compress"))]
            Kind::Plain => false,
            Kind::Unfinished => !self.is_being_made(rolled),
        };
        if left {
            _ = fs::remove_file(&rolled.path);
        }
        left || rolled.kind == Kind::Unfinished
    }

    #[cfg(feature = "compress")]
    fn is_being_made(&self, rolled: &Rolled) -> bool {
        let at_work = self.compresses.as_ref();
        at_work.is_some_and(|gzip| gzip.makes(&rolled.path))
    }

    #[cfg(not(feature = "compress"))]
    #[allow(clippy::unused_self, reason = "the same with the feature")]
    fn is_being_made(&self, _: &Rolled) -> bool {
        false
    }
}

impl Target for RollingFile {
    fn prepare(&mut self, line: usize) -> io::Result<usize> {
        let now = Instant::now();
        if self.current.is_none() || now.saturating_duration_since(self.looked) >= LOOK {
            self.looked = now;
            self.look();
        }
        let held = self.hold.is_some_and(|until| now < until);
        if !held {
            self.hold = None;
        }
        if self.config.rotate
            && !held
            && let Err(error) = self.roll_alone(line as u64)
        {
            self.hold = Some(now + LOOK);
            self.complain(now, &error);
        }
        let Some(current) = &self.current else {
            self.current = Some(self.begin()?);
            return Ok(line);
        };
        if !self.config.rotate || !current.regular || self.hold.is_some() {
            return Ok(usize::MAX);
        }
        Ok(usize::try_from(self.config.size.saturating_sub(current.len)).unwrap_or(usize::MAX))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(current) = &mut self.current else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let wrote = current.file.write(bytes)?;
        current.len += wrote as u64;
        Ok(wrote)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn recover(&mut self, _: bool) -> io::Result<()> {
        self.current = Some(self.begin()?);
        Ok(())
    }

    #[cfg(feature = "compress")]
    fn work(&mut self) -> bool {
        let Some(mut gzip) = self.compresses.take() else {
            if let Some(next) = self.to_compress.pop_front() {
                // It may have been deleted as the oldest meanwhile.
                self.compresses = Gzip::begin(next).ok();
            }
            return self.compresses.is_some() || !self.to_compress.is_empty();
        };
        match gzip.step() {
            Ok(true) => {}
            Ok(false) => self.compresses = Some(gzip),
            Err(error) => {
                gzip.give_up();
                say(format_args!(
                    "{} was not compressed: {error}",
                    self.config.path.display()
                ));
            }
        }
        self.compresses.is_some() || !self.to_compress.is_empty()
    }
}

/// What a link points to, made if it is not there yet.
fn pointed_to(link: &Path) -> io::Result<PathBuf> {
    link.canonicalize().or_else(|_| {
        OpenOptions::new().append(true).create(true).open(link)?;
        link.canonicalize()
    })
}

#[cfg(unix)]
fn is_same(file: &File, there: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |about: &Metadata| (about.dev(), about.ino());
    file.metadata().is_ok_and(|here| id(&here) == id(there))
}

/// There nobody can rename or delete a file that is open.
#[cfg(not(unix))]
fn is_same(_: &File, _: &Metadata) -> bool {
    true
}
