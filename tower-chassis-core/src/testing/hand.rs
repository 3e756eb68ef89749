use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

/// How many times [`settle`] lets every task run that can.
const ROUNDS: usize = 64;

/// Lets spawned tasks run until none can go on (64 rounds), without moving the clock.
pub async fn settle() {
    for _ in 0..ROUNDS {
        tokio::task::yield_now().await;
    }
}

/// Moves the paused clock by `time`, timer by timer in their order, and [settles](settle).
///
/// # Panics
/// If the clock is not paused.
pub async fn advance(time: Duration) {
    // Panics where the clock is not paused, before anything sleeps in earnest.
    tokio::time::advance(Duration::ZERO).await;
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
    settle().await;
}

/// Polls `future` once, with a waker that does nothing.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Asserts that a [`Poll`] is pending: `assert_pending!(poll_once(&mut future))`.
#[macro_export]
macro_rules! assert_pending {
    ($poll:expr $(,)?) => {
        match $poll {
            ::std::task::Poll::Pending => {}
            ::std::task::Poll::Ready(_) => {
                ::std::panic!(::std::concat!("ready: ", ::std::stringify!($poll)))
            }
        }
    };
}

/// Asserts that a [`Poll`] is ready, and gives what it is ready with.
#[macro_export]
macro_rules! assert_ready {
    ($poll:expr $(,)?) => {
        match $poll {
            ::std::task::Poll::Ready(output) => output,
            ::std::task::Poll::Pending => {
                ::std::panic!(::std::concat!("pending: ", ::std::stringify!($poll)))
            }
        }
    };
}

/// A waker that counts.
#[derive(Debug, Default)]
pub struct CountingWaker {
    wakes: AtomicUsize,
    /// Who waits for the next wake.
    parent: Mutex<Option<Waker>>,
}

impl CountingWaker {
    /// A waker that was not woken yet. `Waker::from(Arc::clone(&it))` is what a future is polled with.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How many times it was woken.
    #[must_use]
    pub fn wakes(&self) -> usize {
        self.wakes.load(Ordering::SeqCst)
    }

    fn listen(&self, cx: &Context<'_>) {
        *self.parent.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        let parent = self
            .parent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

/// What one poll of a [`Hand`] gave.
#[derive(Debug)]
pub enum Polled<T> {
    /// It is over.
    Ready(T),
    /// It goes on.
    Pending,
    /// It panicked, and was dropped while its stack unwound, as a task of tokio's is.
    Panicked,
}

/// A future that is polled by hand, as a task of its own: with a waker that counts.
pub struct Hand<T> {
    future: Option<Pin<Box<dyn Future<Output = T>>>>,
    waker: Arc<CountingWaker>,
    /// Wakes that were known before the last poll; `None` before the first.
    seen: Option<usize>,
    self_wakes: usize,
    polls: usize,
}

impl<T> std::fmt::Debug for Hand<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hand")
            .field("polls", &self.polls)
            .field("wakes", &self.waker.wakes())
            .finish_non_exhaustive()
    }
}

impl<T> Hand<T> {
    /// Takes `future` in hand; it is not polled yet.
    pub fn new(future: impl Future<Output = T> + 'static) -> Self {
        Self {
            future: Some(Box::pin(future)),
            waker: CountingWaker::new(),
            seen: None,
            self_wakes: 0,
            polls: 0,
        }
    }

    /// Polls once. Pending for ever once it was over.
    pub fn poll(&mut self) -> Polled<T> {
        let Some(mut future) = self.future.take() else {
            return Polled::Pending;
        };
        let before = self.waker.wakes();
        self.seen = Some(before);
        self.polls += 1;
        let waker = Waker::from(Arc::clone(&self.waker));
        // The future moves in, so that a panic drops it while the stack unwinds.
        let polled = catch_unwind(AssertUnwindSafe(move || {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => {
                    drop(future);
                    Ok(output)
                }
                Poll::Pending => Err(future),
            }
        }));
        match polled {
            Ok(Ok(output)) => Polled::Ready(output),
            Ok(Err(future)) => {
                self.future = Some(future);
                self.self_wakes += usize::from(self.waker.wakes() > before);
                Polled::Pending
            }
            Err(_) => Polled::Panicked,
        }
    }

    /// Whether it is to be polled: it never was, or was woken since.
    #[must_use]
    pub fn is_woken(&self) -> bool {
        self.future.is_some() && self.seen.is_none_or(|seen| self.waker.wakes() > seen)
    }

    /// Whether it is over.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.future.is_none()
    }

    /// How many polls there were.
    #[must_use]
    pub const fn polls(&self) -> usize {
        self.polls
    }

    /// How many polls were pending and had woken their own waker before they returned.
    #[must_use]
    pub const fn self_wakes(&self) -> usize {
        self.self_wakes
    }

    /// Takes another waker, as if another task polled from now on.
    pub fn move_task(&mut self) {
        self.waker = CountingWaker::new();
        self.seen = Some(0);
    }

    /// Waits until it [is woken](Self::is_woken).
    pub async fn woken(&self) {
        poll_fn(|cx| {
            self.waker.listen(cx);
            if self.is_woken() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
