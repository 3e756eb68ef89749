//! The names of rolled files.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::access_log::write_rfc3339;

/// `20261121T232155123Z`.
const STAMP: usize = 19;

/// The names of a file and of what was rolled from it: `dir/stem-STAMPend`, perhaps with `.gz`.
#[derive(Debug)]
pub(super) struct Names {
    dir: PathBuf,
    stem: OsString,
    /// With its dot, if there is one.
    end: OsString,
    /// The last stamp that was given: they go up, whatever the clock does.
    last: Option<SystemTime>,
}

/// A rolled file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Rolled {
    /// Orders them by time.
    pub(super) stamp: String,
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Plain,
    Compressed,
    /// Left by a run that did not come to the end of it.
    Unfinished,
}

impl Names {
    pub(super) fn of(path: &Path) -> Self {
        let dir = match path.parent() {
            Some(dir) if dir != Path::new("") => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut end = OsString::new();
        if let Some(extension) = path.extension() {
            end.push(".");
            end.push(extension);
        }
        Self {
            dir,
            stem: path.file_stem().unwrap_or_default().to_owned(),
            end,
            last: None,
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A name that nothing has yet.
    pub(super) fn free(&mut self, now: SystemTime) -> PathBuf {
        let millisecond = Duration::from_millis(1);
        let mut at = match self.last {
            Some(last) if now < last + millisecond => last + millisecond,
            _ => now,
        };
        loop {
            self.last = Some(at);
            let mut name = self.stem.clone();
            name.push("-");
            name.push(stamp(at));
            name.push(&self.end);
            let path = self.dir.join(&name);
            name.push(".gz");
            let taken = |path: &Path| path.symlink_metadata().is_ok();
            if !taken(&path) && !taken(&self.dir.join(name)) {
                return path;
            }
            at += millisecond;
        }
    }

    /// What was rolled and is still there, the oldest first.
    pub(super) fn rolled(&self) -> io::Result<Vec<Rolled>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            if let Some((stamp, kind)) = self.read(&name) {
                let path = self.dir.join(name);
                found.push(Rolled { stamp, path, kind });
            }
        }
        found.sort();
        Ok(found)
    }

    /// Nothing that could be somebody else's.
    fn read(&self, name: &OsStr) -> Option<(String, Kind)> {
        let rest = name.as_encoded_bytes();
        let rest = rest.strip_prefix(self.stem.as_encoded_bytes())?;
        let (stamp, rest) = rest.strip_prefix(b"-")?.split_at_checked(STAMP)?;
        let digits = |from: usize, upto: usize| stamp[from..upto].iter().all(u8::is_ascii_digit);
        if !digits(0, 8) || stamp[8] != b'T' || !digits(9, 18) || stamp[18] != b'Z' {
            return None;
        }
        let kind = match rest.strip_prefix(self.end.as_encoded_bytes())? {
            b"" => Kind::Plain,
            b".gz" => Kind::Compressed,
            b".gz.tmp" => Kind::Unfinished,
            _ => return None,
        };
        Some((String::from_utf8_lossy(stamp).into_owned(), kind))
    }
}

/// A time as it is in a name.
pub(super) fn stamp(at: SystemTime) -> String {
    let mut text = String::with_capacity(24);
    write_rfc3339(&mut text, at);
    text.retain(|c| !matches!(c, '-' | ':' | '.'));
    text
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn what_is_rolled_is_told_from_what_is_not() {
        let names = Names::of(Path::new("log/chassis.log"));
        assert_eq!(names.dir(), Path::new("log"));
        for (name, read) in [
            ("chassis-20261121T232155123Z.log", Some(Kind::Plain)),
            ("chassis-20261121T232155123Z.log.gz", Some(Kind::Compressed)),
            (
                "chassis-20261121T232155123Z.log.gz.tmp",
                Some(Kind::Unfinished),
            ),
            ("chassis.log", None),
            ("chassis-20261121T232155123Z.txt", None),
            ("chassis-20261121T232155123Z.log.bak", None),
            ("chassis-20261121t232155123Z.log", None),
            ("chassis-2026112XT232155123Z.log", None),
            ("chassis-20261121.log", None),
            ("chassis-audit-20261121T232155123Z.log", None),
            ("chassis-", None),
        ] {
            let kind = names.read(OsStr::new(name)).map(|(_, kind)| kind);
            assert_eq!(kind, read, "{name}");
        }
        let bare = Names::of(Path::new("messages"));
        assert_eq!(bare.dir(), Path::new("."));
        assert!(
            bare.read(OsStr::new("messages-20261121T232155123Z"))
                .is_some()
        );
    }

    #[test]
    fn names_go_up_where_the_clock_goes_back() {
        let mut names = Names::of(Path::new("/nowhere/a.log"));
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let all = [5_000, 5_000, 4_000, 6_000].map(|millis| names.free(at(millis)));
        assert_eq!(all[0], Path::new("/nowhere/a-19700101T000005000Z.log"));
        assert_eq!(all[2], Path::new("/nowhere/a-19700101T000005002Z.log"));
        assert!(all.is_sorted());
    }

    #[test]
    fn a_name_that_is_taken_is_not_given() {
        let dir = std::env::temp_dir().join(format!("chassis-names-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for taken in ["a-19700101T000005000Z.log", "a-19700101T000005001Z.log.gz"] {
            fs::write(dir.join(taken), "").unwrap();
        }
        let at = UNIX_EPOCH + Duration::from_secs(5);
        let free = Names::of(&dir.join("a.log")).free(at);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(free, dir.join("a-19700101T000005002Z.log"));
    }
}
