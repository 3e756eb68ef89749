//! When a file has changed.

mod look;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::Notify, time::Instant};

use self::look::{Look, Print};
use super::printable::Printable;

/// How long a file should be left alone before its change is reported: 100 ms.
pub const DEBOUNCE: Duration = Duration::from_millis(100);

/// Events get lost: on network file systems there are none, and a queue may overflow.
const POLL: Duration = Duration::from_millis(500);

/// However many events a directory has, the file is looked at this rarely.
const BREATH: Duration = Duration::from_millis(25);

/// A file that is never left alone is reported after so many times the quiet period.
const PATIENCE: u32 = 4;

/// Watches the file at `path`, which need not exist yet. A change counts from here on: watch first, then
/// load. Blocks briefly on the file system; needs no runtime.
///
/// A change is reported when the file was left alone for `debounce` (see [`DEBOUNCE`]), at the latest four
/// times as long after its first sign.
///
/// The system is asked for events of the directory that holds the file, and of those that hold the links
/// on the way to it. If it has none to give, what remains is a look every 500 ms
/// ([`FileWatch::is_polling`]).
///
/// # Errors
///
/// An empty path, or a relative one while the working directory cannot be determined.
pub fn watch_file(path: impl AsRef<Path>, debounce: Duration) -> Result<FileWatch, WatchError> {
    let notice = Arc::new(Notify::new());
    let watcher = {
        let notice = Arc::clone(&notice);
        notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // We read the file ourselves, and a look that caused the next one would never end.
            let access = |kind| matches!(kind, EventKind::Access(a) if a != AccessKind::Close(AccessMode::Write));
            if event.is_err() || event.is_ok_and(|event| !access(event.kind)) {
                notice.notify_one();
            }
        })
    };
    FileWatch::new(path.as_ref(), debounce, notice, watcher.ok())
}

/// Tells when a file has changed, in whatever way: edited in place, replaced by a rename, a link on the way
/// pointed elsewhere (as Kubernetes does), removed, created again.
///
/// What is in the file is the reader's matter: it may be gone, or half written by somebody slow. Keep what
/// was read last until something better comes.
///
/// Dropping it ends the watch.
#[derive(Debug)]
#[must_use = "a file is watched while this lives"]
pub struct FileWatch {
    path: PathBuf,
    quiet: Duration,
    notice: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, Option<u64>>,
    /// As of the last report.
    reported: Option<Print>,
    /// As of the last look.
    seen: Option<Print>,
    pending: Option<Pending>,
    /// There was an event since the last look began.
    dirty: bool,
    looked: Instant,
    #[cfg(test)]
    looks: usize,
}

/// A change that was seen and is not reported yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    first: Instant,
    last: Instant,
}

impl FileWatch {
    fn new(
        path: &Path,
        quiet: Duration,
        notice: Arc<Notify>,
        watcher: Option<RecommendedWatcher>,
    ) -> Result<Self, WatchError> {
        let absolute = std::path::absolute(path);
        let path = absolute.map_err(|source| WatchError {
            path: path.to_owned(),
            source,
        })?;
        let mut watch = Self {
            watched: BTreeMap::new(),
            reported: None,
            seen: None,
            pending: None,
            dirty: false,
            looked: Instant::now(),
            path,
            quiet,
            notice,
            watcher,
            #[cfg(test)]
            looks: 0,
        };
        // The watch is set before the look, so that nothing falls between them.
        watch.rewatch(look::directories(&watch.path));
        watch.seen = look::print(&watch.path);
        watch.reported.clone_from(&watch.seen);
        Ok(watch)
    }

    /// The file, as an absolute path; links on the way are not resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there are no events to be had, so that a change may take half a second longer.
    #[must_use]
    pub fn is_polling(&self) -> bool {
        self.watcher.is_none()
    }

    /// Waits until the file has changed since the last report.
    ///
    /// May be dropped at any time: what it has seen stays in the watch, and the next call goes on from
    /// there. Call it inside of a tokio runtime with its timer on.
    pub async fn changed(&mut self) {
        loop {
            let now = Instant::now();
            let due = self
                .pending
                .map(|p| (p.last + self.quiet).min(p.first + self.quiet * PATIENCE));
            if due.is_some_and(|due| now >= due) {
                self.pending = None;
                self.reported.clone_from(&self.seen);
                return;
            }
            // While a change is pending somebody is at work, and there may be no events to say so.
            let interval = if self.pending.is_some() {
                (self.quiet / 2).clamp(BREATH, POLL)
            } else {
                POLL
            };
            let next = self.looked + if self.dirty { BREATH } else { interval };
            if now >= next {
                self.look().await;
                continue;
            }
            let wake = due.map_or(next, |due| due.min(next));
            tokio::select! {
                () = self.notice.notified(), if !self.dirty => self.dirty = true,
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    async fn look(&mut self) {
        let path = self.path.clone();
        // A file system may take its time. A look that was dropped is made again: nothing is noted before.
        let look = tokio::task::spawn_blocking(move || Look::at(&path)).await;
        self.looked = Instant::now();
        self.dirty = false;
        #[cfg(test)]
        {
            self.looks += 1;
        }
        // Cancelled, because the runtime shuts down.
        let Ok(look) = look else { return };
        self.rewatch(look.directories);
        if look.print != self.seen {
            self.seen = look.print;
            let now = self.looked;
            self.pending
                .get_or_insert(Pending {
                    first: now,
                    last: now,
                })
                .last = now;
        }
        if self.seen == self.reported {
            self.pending = None;
        }
    }

    /// Watches these directories and no others. A directory is known by its path and by what it is: a new
    /// one at an old path has to be watched anew.
    fn rewatch(&mut self, directories: BTreeMap<PathBuf, Option<u64>>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        if self.watched == directories {
            return;
        }
        for (path, id) in &self.watched {
            if directories.get(path) != Some(id) {
                // It may be gone, and its watch with it.
                let _ = watcher.unwatch(path);
            }
        }
        let old = std::mem::take(&mut self.watched);
        for (path, id) in directories {
            let kept = old.get(&path) == Some(&id);
            // One that cannot be watched is tried again with the next look.
            if kept || watcher.watch(&path, RecursiveMode::NonRecursive).is_ok() {
                self.watched.insert(path, id);
            }
        }
    }
}

/// A file that cannot be watched.
#[derive(Debug)]
pub struct WatchError {
    path: PathBuf,
    source: io::Error,
}

impl WatchError {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, source) = (self.path.to_string_lossy(), self.source.to_string());
        write!(
            f,
            "cannot watch \"{}\": {}",
            Printable(&path),
            Printable(&source)
        )
    }
}

impl std::error::Error for WatchError {}
