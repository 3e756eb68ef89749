//! The thread that writes.

use std::{
    cell::Cell,
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use tokio::time::Instant;

use super::queue::{Chunk, Queue, Task};

/// After a line it waits so long for others before it has to be woken again: what comes meanwhile is written with one
/// call, and nobody pays for waking it.
const NAP: Duration = Duration::from_millis(5);

/// So long it waits after an error.
const PAUSE: Duration = Duration::from_secs(1);

/// So long it waits for a writer that does not block and has no room.
const FULL: Duration = Duration::from_millis(10);

/// So often it does that when it is to end.
const LAST_TRIES: u32 = 50;

/// So often it says on standard error that it cannot write.
pub(super) const COMPLAINTS: Duration = Duration::from_secs(60);

/// Where lines are written to.
pub(super) trait Target: Send {
    /// A line of so many bytes comes next. How many bytes may be written before this is called again; that line may be
    /// in any case.
    ///
    /// # Errors
    /// Nothing can be written.
    fn prepare(&mut self, line: usize) -> io::Result<usize> {
        let _ = line;
        Ok(usize::MAX)
    }
    /// Writes some of `bytes`, as [`Write::write`] does.
    ///
    /// # Errors
    /// They could not be written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// What is written arrives.
    ///
    /// # Errors
    /// It did not.
    fn flush(&mut self) -> io::Result<()>;
    /// Begins again after an error. If the last line is `torn`, it is ended.
    ///
    /// # Errors
    /// It is no better.
    fn recover(&mut self, torn: bool) -> io::Result<()>;
    /// Does a piece of the work that can wait; whether there is more of it.
    fn work(&mut self) -> bool {
        false
    }
}

/// A writer of the user's.
pub(super) struct Plain<W>(pub(super) W);

impl<W: Write + Send> Target for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
    fn recover(&mut self, torn: bool) -> io::Result<()> {
        if torn {
            self.0.write_all(b"\n")
        } else {
            Ok(())
        }
    }
}

thread_local! {
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is a thread that writes. What it says itself must not be written: that would never end.
pub(super) fn is_writing() -> bool {
    // Fails while the thread ends.
    WRITES.try_with(Cell::get).unwrap_or_default()
}

/// Writes until the queue is closed.
pub(super) fn run(queue: &Queue, target: &mut dyn Target, complains: bool) {
    WRITES.set(true);
    let mut hand = Hand {
        queue,
        target,
        broken: false,
        torn: false,
        complains,
        complained: None,
    };
    // What another run has left.
    let mut more = true;
    loop {
        match queue.next(Some(NAP), more) {
            Task::Write(chunk) => {
                hand.chunk(chunk);
                if !queue.is_pressed() {
                    more = hand.work();
                }
            }
            Task::Flush(upto) => {
                if let Err(error) = caught(|| hand.target.flush()) {
                    queue.not_flushed();
                    hand.complain(&error);
                }
                queue.flushed(upto);
            }
            Task::Idle => more = hand.work(),
            Task::End => return,
        }
    }
}

struct Hand<'a> {
    queue: &'a Queue,
    target: &'a mut dyn Target,
    /// The last attempt failed, perhaps within a line.
    broken: bool,
    torn: bool,
    complains: bool,
    complained: Option<Instant>,
}

impl Hand<'_> {
    fn chunk(&mut self, chunk: Chunk) {
        let (lines, error) = self.write(&chunk);
        self.queue.settle(chunk, lines);
        if let Some(error) = error {
            self.broken = true;
            self.complain(&error);
            self.queue.back_off(PAUSE);
        }
    }

    /// How many of its lines were written, and what went wrong then.
    fn write(&mut self, chunk: &Chunk) -> (usize, Option<io::Error>) {
        if self.broken {
            let torn = self.torn;
            if let Err(error) = caught(|| self.target.recover(torn)) {
                return (0, Some(error));
            }
            (self.broken, self.torn) = (false, false);
        }
        let mut from = 0;
        let mut lines = 0;
        while let Some(end) = chunk.ends.get(lines) {
            let next = *end as usize - from;
            let room = match caught(|| self.target.prepare(next)) {
                Ok(room) => from.saturating_add(room.max(next)),
                Err(error) => return (lines, Some(error)),
            };
            let fitting = chunk.ends.partition_point(|end| *end as usize <= room);
            let upto = chunk.ends[fitting - 1] as usize;
            let (wrote, error) = self.write_all(&chunk.bytes[from..upto]);
            from += wrote;
            lines = chunk.ends.partition_point(|end| *end as usize <= from);
            if error.is_some() {
                self.torn = lines
                    .checked_sub(1)
                    .map_or(0, |last| chunk.ends[last] as usize)
                    < from;
                return (lines, error);
            }
        }
        (lines, None)
    }

    /// How many bytes were written, and what went wrong then.
    fn write_all(&mut self, bytes: &[u8]) -> (usize, Option<io::Error>) {
        let mut wrote = 0;
        let mut tries = 0;
        while wrote < bytes.len() {
            match caught(|| self.target.write(&bytes[wrote..])) {
                Ok(0) => return (wrote, Some(io::ErrorKind::WriteZero.into())),
                Ok(more) => {
                    wrote = bytes.len().min(wrote + more);
                    tries = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Standard output may be shared with somebody who has said that it shall not block.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.queue.is_closed() {
                        tries += 1;
                    }
                    if tries > LAST_TRIES {
                        return (wrote, Some(error));
                    }
                    std::thread::park_timeout(FULL);
                }
                Err(error) => return (wrote, Some(error)),
            }
        }
        (wrote, None)
    }

    fn work(&mut self) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.target.work())).unwrap_or_default()
    }

    fn complain(&mut self, error: &io::Error) {
        let now = Instant::now();
        let lately = |at: Instant| now.saturating_duration_since(at) < COMPLAINTS;
        if self.complains && !self.complained.is_some_and(lately) {
            self.complained = Some(now);
            say(format_args!("lines of a log cannot be written: {error}"));
        }
    }
}

/// Says something on standard error, if it can be said.
pub(super) fn say(what: std::fmt::Arguments<'_>) {
    _ = writeln!(io::stderr(), "tower-chassis: {what}");
}

/// A writer that panics is one that fails.
fn caught<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(io::Error::other("the writer panicked")))
}
