//! Where lines are written without anybody waiting for it.
//!
//! An [`Output`] copies a line into a bounded queue, and a thread of its own writes it: to standard output, to a
//! [file that rolls](RollingConfig), or to any [`io::Write`]. A disk that is full, a pipe that nobody reads or a
//! terminal that is stopped costs lines, which are counted, and never a request.
//!
//! # Example
//! ```
//! use std::time::Duration;
//!
//! use tower_chassis_observe::{
//!     access_log::{AccessLogLayer, Format},
//!     output::{Bound, Output},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let output = Output::new(std::io::sink(), Bound::default());
//! let log = AccessLogLayer::new(Format::Json, output.sink());
//!
//! assert!(output.line("a line of one's own"));
//! let handle = output.handle();
//! assert!(handle.flush(Duration::from_secs(1)).await);
//! assert_eq!((handle.written(), handle.failed(), handle.lost()), (1, 0, 0));
//! # drop(log);
//! # }
//! ```
//!
//! # Configuration
//! [`Bound`]: how many lines and bytes may wait, by default 8,192 and 8 MiB. [`RollingConfig`] of a file:
//!
//! | field | default | |
//! |---|---|---|
//! | `path` | `log/chassis.log` | folders that are missing are made; a relative one stays where it was when the process moves |
//! | `rotate` | true | off, the file grows |
//! | `size` | 10 MB | a file that would become larger is rolled |
//! | `age` | one day | one that became so old is rolled with the next line; 0 is never |
//! | `backups` | 7 | so many rolled files stay, the newest |
//! | `keep` | 0: for ever | rolled files that are older are deleted |
//! | `compress` | false | rolled files are compressed (gzip); needs the feature `compress` |
//!
//! `chassis.log` is rolled to `chassis-20261121T232155123Z.log`: the time is when it was, in UTC. A file that somebody
//! else has renamed or deleted (`logrotate`) is noticed within a second, and begun again. Several processes may write one file, and
//! one of them rolls it; then it must not be compressed, or what the others write in that second may be lost.
//!
//! # Events and metrics
//! None of its own; [`Output::handle`] counts the lines that were written, lost and failed. What is lost becomes
//! `chassis_telemetry_lost_total` where somebody says so now and then:
//!
//! ```
//! use tower_chassis_observe::{
//!     events::{Signal, lost},
//!     metrics::RecorderHandle,
//!     output::OutputHandle,
//! };
//!
//! fn sample(lines: &OutputHandle, recorder: &RecorderHandle) {
//!     lost(recorder, Signal::AccessLog).absolute(lines.lost() + lines.failed());
//! }
//! # let output = tower_chassis_observe::output::Output::new(std::io::sink(), Default::default());
//! # sample(&output.handle(), &RecorderHandle::global());
//! ```
//!
//! # What is lost
//! * A line for which there is no room is lost: [`Output::line`] says `false`.
//! * Lines that were being written when the writer failed have failed, up to 64 KiB of them. After a second it is opened again and
//!   tried again; lines that come meanwhile wait, as far as there is room. Once a minute standard error is told.
//! * Lines that were written and whose flush failed have failed too, though some of them may have arrived.
//! * What a writer itself logs on the thread that it writes on is lost, or it would never end.
//!
//! Every line that was taken is in the end written or failed, exactly.
//!
//! # Cancellation
//! A [`flush`](OutputHandle::flush) that is dropped waits no longer. When the last clone of an [`Output`] is dropped,
//! the thread writes what is there, drops the writer and ends; the drop waits for it, a second at the most.
//!
//! # Cost
//! A short lock for the copy of the line, some 40 ns for 300 bytes, and no allocation once the chunks of 64 KiB are there (two while the writer
//! keeps up). The thread begins with the first line. It is woken only by a line that comes after it had nothing to do for 5 ms.

#[cfg(feature = "compress")]
mod gzip;
mod queue;
mod rolling;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    thread,
    time::Duration,
};

pub use self::rolling::{RollingConfig, RollingPolicy};
use self::{
    queue::{Put, Queue, Ticket},
    rolling::RollingFile,
    writer::{Plain, Target},
};

/// So long the drop of the last output waits for what was not yet written.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How much may wait to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    lines: usize,
    bytes: usize,
}

impl Bound {
    /// So many lines, at least one. Default 8,192.
    #[must_use]
    pub const fn lines(lines: usize) -> Self {
        let bytes = 8 * 1024 * 1024;
        Self { lines, bytes }
    }

    /// So many bytes, at least one and less than 1 GiB. Default 8 MiB.
    #[must_use]
    pub const fn bytes(self, bytes: usize) -> Self {
        // Ends of lines are kept in 32 bits.
        let most = 1 << 30;
        let bytes = if bytes < most { bytes } else { most };
        Self { bytes, ..self }
    }
}

impl Default for Bound {
    fn default() -> Self {
        Self::lines(8_192)
    }
}

/// Takes lines, and writes them on a thread of its own. Clones share it. See the [module](self).
#[derive(Clone)]
pub struct Output(Arc<Owner>);

/// What the last clone ends.
struct Owner {
    queue: Arc<Queue>,
    /// The writer, until its thread has it.
    target: Arc<Mutex<Option<Box<dyn Target>>>>,
    complains: bool,
    terminal: bool,
}

impl Output {
    /// Writes to `writer`, which may block. It is flushed whenever there is nothing more to write.
    #[must_use]
    pub fn new(writer: impl io::Write + Send + 'static, bound: Bound) -> Self {
        Self::of(Box::new(Plain(writer)), bound, true, false)
    }

    /// Writes to standard output.
    #[must_use]
    pub fn stdout() -> Self {
        let terminal = io::IsTerminal::is_terminal(&io::stdout());
        #[cfg(unix)]
        if let Ok(file) = unlocked(&io::stdout()) {
            return Self::of(Box::new(Plain(file)), Bound::default(), true, terminal);
        }
        let plain = Box::new(Plain(io::stdout()));
        Self::of(plain, Bound::default(), true, terminal)
    }

    /// Writes to standard error.
    #[must_use]
    pub fn stderr() -> Self {
        let terminal = io::IsTerminal::is_terminal(&io::stderr());
        #[cfg(unix)]
        if let Ok(file) = unlocked(&io::stderr()) {
            return Self::of(Box::new(Plain(file)), Bound::default(), false, terminal);
        }
        let plain = Box::new(Plain(io::stderr()));
        Self::of(plain, Bound::default(), false, terminal)
    }

    /// Writes to a file that rolls. What is there already stays.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn file(policy: RollingPolicy, bound: Bound) -> io::Result<Self> {
        let file = RollingFile::open(policy)?;
        Ok(Self::of(Box::new(file), bound, true, false))
    }

    fn of(target: Box<dyn Target>, bound: Bound, complains: bool, terminal: bool) -> Self {
        Self(Arc::new(Owner {
            queue: Arc::new(Queue::new(bound.lines, bound.bytes)),
            target: Arc::new(Mutex::new(Some(target))),
            complains,
            terminal,
        }))
    }

    /// Takes a line, with or without its newline; false if there was no room for it, and it is lost. Never waits.
    pub fn line(&self, line: &str) -> bool {
        self.bytes(line.as_bytes())
    }

    /// Takes a line that may be no text.
    pub fn bytes(&self, line: &[u8]) -> bool {
        let queue = &self.0.queue;
        if writer::is_writing() {
            queue.lose();
            return false;
        }
        match queue.put(line) {
            Put::Taken => true,
            Put::First => {
                self.0.start();
                true
            }
            Put::Lost => false,
        }
    }

    /// As a sink of lines, for [`AccessLogLayer`](crate::access_log::AccessLogLayer).
    pub fn sink(&self) -> impl Fn(&str) -> bool + Clone + Send + Sync + 'static {
        let output = self.clone();
        move |line: &str| output.line(line)
    }

    /// Counts lines, and waits until they are written. It does not keep the output alive.
    #[must_use]
    pub fn handle(&self) -> OutputHandle {
        OutputHandle(Arc::clone(&self.0.queue))
    }

    /// Whether it ends on a terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.0.terminal
    }
}

/// The same without the lock that `println!` takes: who holds it while nobody reads would make others wait.
#[cfg(unix)]
fn unlocked(fd: &impl std::os::fd::AsFd) -> io::Result<std::fs::File> {
    Ok(fd.as_fd().try_clone_to_owned()?.into())
}

impl Owner {
    #[cold]
    fn start(&self) {
        let (queue, target) = (Arc::clone(&self.queue), Arc::clone(&self.target));
        let complains = self.complains;
        let begun = thread::Builder::new()
            .name("chassis-output".to_owned())
            .spawn(move || {
                let _ends = Ends(&queue);
                let target = target.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(mut target) = target {
                    writer::run(&queue, &mut *target, complains);
                }
            });
        if begun.is_err() {
            self.queue.not_started();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.queue.close();
        if !writer::is_writing() {
            self.queue.wait_ended(LAST_WAIT);
        }
    }
}

/// Tells that the thread has ended, also where the writer panics when it is dropped.
struct Ends<'a>(&'a Queue);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("counts", &self.0.queue.counts())
            .field("terminal", &self.0.terminal)
            .finish_non_exhaustive()
    }
}

/// A view of an [`Output`]. Clones are views of the same one.
#[derive(Clone)]
pub struct OutputHandle(Arc<Queue>);

impl OutputHandle {
    /// How many lines were written. Less than before where a flush has failed, see [what is lost](self#what-is-lost).
    #[must_use]
    pub fn written(&self) -> u64 {
        self.0.counts().written
    }

    /// How many lines were not taken.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.counts().lost
    }

    /// How many lines were taken and could not be written.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.0.counts().failed
    }

    /// How many lines wait to be written, or are being written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.counts().waiting
    }

    /// Waits until every line that was taken by now is written, or has failed. False if that takes longer.
    ///
    /// # Panics
    /// Outside of a tokio runtime that has its timer, as every `tokio::time::timeout`.
    #[must_use = "futures do nothing unless polled"]
    pub fn flush(&self, timeout: Duration) -> impl Future<Output = bool> + Send + 'static {
        let queue = Arc::clone(&self.0);
        let ticket = queue.wait();
        let arrived = Arrived { queue, ticket };
        async move { tokio::time::timeout(timeout, arrived).await.is_ok() }
    }

    /// The same for a thread: at the end of `main`, when there is no runtime any more.
    pub fn flush_blocking(&self, timeout: Duration) -> bool {
        self.0.wait_arrived(timeout)
    }
}

impl fmt::Debug for OutputHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OutputHandle")
            .field(&self.0.counts())
            .finish()
    }
}

/// Waits for a flush.
struct Arrived {
    queue: Arc<Queue>,
    ticket: Ticket,
}

impl Future for Arrived {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.queue.poll_arrived(&self.ticket, cx)
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        self.queue.leave(&self.ticket);
    }
}
