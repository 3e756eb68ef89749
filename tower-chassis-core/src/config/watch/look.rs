//! One look at a file and at the way to it.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File, Metadata},
    hash::{DefaultHasher, Hasher as _},
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
    time::SystemTime,
};

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

/// More than the loader reads.
const MAX_HASHED: u64 = (16 << 20) + 1;

/// What there was to see.
#[derive(Debug)]
pub(super) struct Look {
    /// `None` if there is no file that can be read.
    pub(super) print: Option<Print>,
    pub(super) directories: BTreeMap<PathBuf, Option<u64>>,
}

impl Look {
    pub(super) fn at(path: &Path) -> Self {
        // The way first: if it changes in between, the next look sees both.
        let directories = directories(path);
        Self {
            print: print(path),
            directories,
        }
    }
}

/// By what a file is told from what it was. The content is part of it because an edit may leave the length
/// alone and happen within one tick of the clock of the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Print {
    real: PathBuf,
    modified: Option<SystemTime>,
    length: u64,
    id: Option<u64>,
    content: u64,
}

pub(super) fn print(path: &Path) -> Option<Print> {
    read(path).ok()
}

fn read(path: &Path) -> io::Result<Print> {
    let real = fs::canonicalize(path)?;
    let metadata = fs::metadata(&real)?;
    let mut hasher = DefaultHasher::new();
    // To open a pipe is to wait for its other end.
    if metadata.is_file() {
        let mut file = File::open(&real)?.take(MAX_HASHED);
        let mut buffer = [0; 8192];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hasher.write(buffer.get(..n).unwrap_or_default());
        }
    }
    Ok(Print {
        modified: metadata.modified().ok(),
        length: metadata.len(),
        id: id(&metadata),
        content: hasher.finish(),
        real,
    })
}

#[cfg(unix)]
fn id(metadata: &Metadata) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::ino(metadata))
}

#[cfg(not(unix))]
fn id(_: &Metadata) -> Option<u64> {
    None
}

/// The directories in which something can happen that makes `path` another file: the ones that hold its
/// links, and the one that holds the file in the end.
///
/// Each with what tells it from another directory at the same path; those that do not exist are left out.
pub(super) fn directories(path: &Path) -> BTreeMap<PathBuf, Option<u64>> {
    let mut found = BTreeMap::new();
    let mut add = |directory: &Path| {
        if let Ok(metadata) = fs::metadata(directory)
            && metadata.is_dir()
        {
            found.insert(directory.to_owned(), id(&metadata));
        }
    };
    let mut here = PathBuf::new();
    let mut links = 0;
    let mut rest: VecDeque<PathBuf> = components(path);
    while let Some(step) = rest.pop_front() {
        match step.components().next() {
            Some(Component::ParentDir) => _ = here.pop(),
            Some(Component::Normal(_)) => {
                let next = here.join(&step);
                match fs::read_link(&next) {
                    Ok(target) if links < MAX_LINKS => {
                        links += 1;
                        add(&here);
                        // An absolute one begins with the root, which replaces `here`.
                        for component in components(&target).into_iter().rev() {
                            rest.push_front(component);
                        }
                    }
                    _ => {
                        // The file, or the place where a missing part of the way will appear.
                        if rest.is_empty() || !next.exists() {
                            add(&here);
                        }
                        here = next;
                    }
                }
            }
            Some(Component::RootDir | Component::Prefix(_)) => here.push(step),
            Some(Component::CurDir) | None => {}
        }
    }
    found
}

fn components(path: &Path) -> VecDeque<PathBuf> {
    path.components()
        .map(|component| PathBuf::from(component.as_os_str()))
        .collect()
}
