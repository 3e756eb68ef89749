//! Lines on their way to the thread that writes them: bounded in lines and in bytes, and never waited for.
//!
//! Knows neither files nor tasks beyond a waker. The lock is held for the copy of a line and for handing over a chunk;
//! nothing is written, woken or freed under it.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

/// So many bytes are written at once, and kept for the next ones.
pub(super) const CHUNK: usize = 64 * 1024;

/// So many empty chunks are kept.
const SPARE: usize = 4;

/// Lines that are written together.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    /// Where each of them ends.
    pub(super) ends: Vec<u32>,
}

impl Chunk {
    fn push(&mut self, line: &[u8], newline: bool) {
        if self.bytes.capacity() == 0 {
            let len = line.len() + usize::from(newline);
            self.bytes.reserve_exact(CHUNK.max(len));
            // As many lines as a full chunk mostly has.
            self.ends.reserve(CHUNK / 128);
        }
        self.bytes.extend_from_slice(line);
        if newline {
            self.bytes.push(b'\n');
        }
        // The bound in bytes is far below.
        self.ends.push(self.bytes.len() as u32);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// What became of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Put {
    Taken,
    /// It is taken, and nobody writes yet.
    First,
    /// There is no room for it.
    Lost,
}

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Task {
    Write(Chunk),
    /// Everything up to this line is written: see to it that it arrives.
    Flush(u64),
    /// There is nothing to write now.
    Idle,
    /// All is written, and nothing will come any more.
    End,
}

/// What the writer is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Writer {
    Busy,
    /// It looks again soon, unless there is much for it.
    Naps,
    /// It has to be woken.
    Sleeps,
}

/// The counts at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) waiting: usize,
    pub(super) written: u64,
    pub(super) failed: u64,
    pub(super) lost: u64,
}

pub(super) struct Queue {
    lines: usize,
    bytes: usize,
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes threads that wait for a flush.
    arrived: Condvar,
}

struct State {
    /// Chunks that are full, the oldest first.
    full: VecDeque<Chunk>,
    /// The one that is filled.
    open: Chunk,
    spare: Vec<Chunk>,
    /// What waits, with what the writer has in its hands.
    lines: usize,
    bytes: usize,
    /// How many lines were taken so far.
    taken: u64,
    written: u64,
    failed: u64,
    /// So many were written since the last flush.
    unflushed: u64,
    lost: u64,
    /// How many of those that were written or failed have been flushed.
    flushed: u64,
    /// Somebody waits until so many are.
    wanted: u64,
    waiters: Vec<Waiter>,
    waiters_made: u64,
    writer: Writer,
    started: bool,
    closed: bool,
    ended: bool,
}

struct Waiter {
    id: u64,
    until: u64,
    waker: Waker,
}

/// Who waits for a flush.
#[derive(Debug)]
pub(super) struct Ticket {
    id: u64,
    until: u64,
}

impl Queue {
    /// Holds up to so many lines and bytes, at least one of each.
    pub(super) fn new(lines: usize, bytes: usize) -> Self {
        Self {
            lines: lines.max(1),
            bytes: bytes.max(1),
            state: Mutex::new(State {
                full: VecDeque::new(),
                open: Chunk::default(),
                spare: Vec::with_capacity(SPARE),
                lines: 0,
                bytes: 0,
                taken: 0,
                written: 0,
                failed: 0,
                unflushed: 0,
                lost: 0,
                flushed: 0,
                wanted: 0,
                waiters: Vec::new(),
                waiters_made: 0,
                writer: Writer::Busy,
                started: false,
                closed: false,
                ended: false,
            }),
            work: Condvar::new(),
            arrived: Condvar::new(),
        }
    }

    /// Adds a line, and the newline that it may lack.
    pub(super) fn put(&self, line: &[u8]) -> Put {
        let newline = line.last() != Some(&b'\n');
        let len = line.len() + usize::from(newline);
        let mut state = self.lock();
        if state.closed || state.lines >= self.lines || len > self.bytes - state.bytes {
            state.lost += 1;
            return Put::Lost;
        }
        state.push(line, newline, len);
        let wake = match state.writer {
            Writer::Busy => false,
            Writer::Naps => state.lines * 2 >= self.lines || state.bytes * 2 >= self.bytes,
            Writer::Sleeps => true,
        };
        if wake {
            state.writer = Writer::Busy;
        }
        let first = !mem::replace(&mut state.started, true);
        drop(state);
        if wake {
            self.work.notify_one();
        }
        if first { Put::First } else { Put::Taken }
    }

    /// A line that is not even to be tried.
    pub(super) fn lose(&self) {
        self.lock().lost += 1;
    }

    /// Nobody could be made to write. The next line tries again.
    pub(super) fn not_started(&self) {
        self.lock().started = false;
    }

    /// What the writer does next, waited for unless it has `other` work. First it naps so long, and lines that come
    /// meanwhile need not wake it; then it sleeps.
    pub(super) fn next(&self, nap: Option<Duration>, other: bool) -> Task {
        let mut nap = nap;
        let mut state = self.lock();
        loop {
            let settled = state.settled();
            let asked = state.flushed < state.wanted && state.wanted <= settled;
            if asked {
                return Task::Flush(settled);
            }
            if let Some(chunk) = state.pop() {
                return Task::Write(chunk);
            }
            if state.flushed < settled {
                return Task::Flush(settled);
            }
            if state.closed {
                return Task::End;
            }
            if other {
                return Task::Idle;
            }
            state = match nap.take() {
                Some(nap) => {
                    state.writer = Writer::Naps;
                    let waited = self.work.wait_timeout(state, nap);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    state.writer = Writer::Sleeps;
                    let waited = self.work.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
            state.writer = Writer::Busy;
        }
    }

    /// So many of the lines of `chunk`, the first ones, are written, the others are not.
    pub(super) fn settle(&self, mut chunk: Chunk, written: usize) {
        let (lines, bytes) = (chunk.ends.len(), chunk.bytes.len());
        chunk.clear();
        let mut state = self.lock();
        state.lines -= lines;
        state.bytes -= bytes;
        state.written += written as u64;
        state.unflushed += written as u64;
        state.failed += (lines - written) as u64;
        let keep = state.spare.len() < SPARE && chunk.bytes.capacity() <= CHUNK;
        if keep {
            state.spare.push(chunk);
        } else {
            drop(state);
            drop(chunk);
        }
    }

    /// What was written since the last flush did not arrive: it has failed.
    pub(super) fn not_flushed(&self) {
        let mut state = self.lock();
        let lines = mem::take(&mut state.unflushed);
        state.written -= lines;
        state.failed += lines;
    }

    /// Everything up to this line has arrived, or never will.
    pub(super) fn flushed(&self, upto: u64) {
        let mut state = self.lock();
        state.flushed = upto;
        state.unflushed = 0;
        let (over, waiters) = mem::take(&mut state.waiters)
            .into_iter()
            .partition(|waiter| waiter.until <= upto);
        state.waiters = waiters;
        drop(state);
        self.arrived.notify_all();
        let over: Vec<Waiter> = over;
        over.into_iter().for_each(|waiter| waiter.waker.wake());
    }

    /// The writer waits before it tries again; less long if somebody waits for it, or it is to end.
    pub(super) fn back_off(&self, pause: Duration) {
        let state = self.lock();
        if state.closed || state.flushed < state.wanted {
            return;
        }
        drop(self.work.wait_timeout(state, pause));
    }

    /// Whether there is much to write.
    pub(super) fn is_pressed(&self) -> bool {
        let state = self.lock();
        state.lines * 4 >= self.lines || state.bytes * 4 >= self.bytes
    }

    /// Nothing will come any more: the writer ends when it has written what is here.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        drop(state);
        self.work.notify_one();
    }

    /// The writer has ended, and let go of what it wrote to.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        drop(state);
        self.arrived.notify_all();
    }

    /// Waits on this thread until the writer has ended, if one began; false if it took longer than that.
    #[cfg(not(chassis_loom))]
    pub(super) fn wait_ended(&self, timeout: Duration) -> bool {
        self.wait_while(self.lock(), timeout, |state| state.started && !state.ended)
    }

    /// Whether nothing will come any more.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Begins to wait until all that was taken by now has arrived.
    pub(super) fn wait(&self) -> Ticket {
        let mut state = self.lock();
        state.waiters_made += 1;
        Ticket {
            id: state.waiters_made,
            until: state.taken,
        }
    }

    /// Whether it has.
    pub(super) fn poll_arrived(&self, ticket: &Ticket, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.flushed >= ticket.until {
            return Poll::Ready(());
        }
        let mut old = None;
        match state.waiters.iter_mut().find(|known| known.id == ticket.id) {
            Some(known) if known.waker.will_wake(cx.waker()) => {}
            Some(known) => old = Some(mem::replace(&mut known.waker, cx.waker().clone())),
            None => {
                let &Ticket { id, until } = ticket;
                let waker = cx.waker().clone();
                state.waiters.push(Waiter { id, until, waker });
            }
        }
        let wake = state.want(ticket.until);
        drop(state);
        if wake {
            self.work.notify_one();
        }
        drop(old);
        Poll::Pending
    }

    /// Waits no longer.
    pub(super) fn leave(&self, ticket: &Ticket) {
        let mut state = self.lock();
        let place = state.waiters.iter().position(|known| known.id == ticket.id);
        let left = place.map(|place| state.waiters.swap_remove(place));
        drop(state);
        drop(left);
    }

    /// Waits on this thread until all that was taken by now has arrived; false if it took longer than that.
    #[cfg(not(chassis_loom))]
    pub(super) fn wait_arrived(&self, timeout: Duration) -> bool {
        let mut state = self.lock();
        let wanted = state.taken;
        if state.flushed < wanted && state.want(wanted) {
            self.work.notify_one();
        }
        self.wait_while(state, timeout, |state| state.flushed < wanted)
    }

    /// By the clock of the system: that of tokio may stand still. False if it took longer. Models have no clock.
    #[cfg(not(chassis_loom))]
    fn wait_while(
        &self,
        state: MutexGuard<'_, State>,
        timeout: Duration,
        mut waits: impl FnMut(&State) -> bool,
    ) -> bool {
        let waited = self
            .arrived
            .wait_timeout_while(state, timeout, |state| waits(state));
        let (_state, over) = waited.unwrap_or_else(PoisonError::into_inner);
        !over.timed_out()
    }

    pub(super) fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            waiting: state.lines,
            written: state.written,
            failed: state.failed,
            lost: state.lost,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, line: &[u8], newline: bool, len: usize) {
        if !self.open.bytes.is_empty() && self.open.bytes.len() + len > CHUNK {
            let fresh = self.spare.pop().unwrap_or_default();
            self.full.push_back(mem::replace(&mut self.open, fresh));
        }
        self.open.push(line, newline);
        self.lines += 1;
        self.bytes += len;
        self.taken += 1;
    }

    fn pop(&mut self) -> Option<Chunk> {
        if let Some(chunk) = self.full.pop_front() {
            return Some(chunk);
        }
        if self.open.ends.is_empty() {
            return None;
        }
        let fresh = self.spare.pop().unwrap_or_default();
        Some(mem::replace(&mut self.open, fresh))
    }

    const fn settled(&self) -> u64 {
        self.written + self.failed
    }

    /// Somebody waits for so many lines to arrive. Whether the writer has to be told.
    fn want(&mut self, lines: u64) -> bool {
        let more = lines > self.wanted;
        if more {
            self.wanted = lines;
        }
        more
    }
}
