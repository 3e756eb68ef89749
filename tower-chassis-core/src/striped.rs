//! A reference count that cores do not fight over.
//!
//! A layer's state outlives its calls: each call holds a reference to it. With one `Arc` every call of every core adds to
//! one word, which then travels between them; six such words make two cores slower than one. [`Striped`] is an `Arc` per
//! core in front of the state, a *lane*: a call counts in the lane of its thread.
//!
//! | who | holds | a clone writes |
//! |---|---|---|
//! | layer, handle, the first service that a layer makes | all lanes: [`Striped::keep`] | one word of all cores |
//! | a clone of a service | the lane of the thread that cloned it | a word of its lane |
//! | a call: [`Striped::hold`] | the lane of the thread that began it | a word of its lane |
//!
//! What is kept keeps the lanes. A clone whose origin is gone and that has moved to a thread without a lane counts in the
//! lane that it has: no worse than an `Arc`. The state is dropped with the last reference, as that of an `Arc` is.
//!
//! # Cost
//! A call: a thread's number, an addition, a subtraction. A state: 256 bytes for each core, 16 at the most; so it is for
//! layers, and not for keys.

use std::{
    cell::Cell,
    fmt,
    ops::Deref,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

/// The most lanes: on more cores than that, some share one.
const MOST: usize = 16;

/// A number for the calling thread, small and in the order of first use.
#[inline]
#[must_use]
pub fn here() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static HERE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    match HERE.get() {
        usize::MAX => {
            let here = THREADS.fetch_add(1, Relaxed) % usize::MAX;
            HERE.set(here);
            here
        }
        here => here,
    }
}

/// Into how many cells to spread what every call writes: one for each core, a power of two, 16 at the most.
#[must_use]
pub fn stripes() -> usize {
    static STRIPES: OnceLock<usize> = OnceLock::new();
    *STRIPES.get_or_init(|| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        cores.next_power_of_two().min(MOST)
    })
}

/// The state of a layer, as its services hold it. See the [module](self).
pub struct Striped<T>(Ref<T>);

// The state is at the same place in both, so that nobody need ask which one it is.
enum Ref<T> {
    All(Arc<Lanes<T>>),
    One(Arc<Lane<T>>),
}

/// All `Arc`s to one state.
#[repr(C, align(128))]
struct Lanes<T> {
    state: Arc<T>,
    /// Their number is a power of two.
    lanes: Box<[Arc<Lane<T>>]>,
}

/// One `Arc` of many to the same state. Aligned, so that the count before it has its cache lines for itself; two,
/// because they are fetched in pairs.
#[repr(C, align(128))]
struct Lane<T> {
    state: Arc<T>,
    at: usize,
    beside: Arc<OnceLock<Box<[Weak<Self>]>>>,
}

impl<T> Striped<T> {
    /// Shares `state` among as many cores as there are.
    pub fn new(state: T) -> Self {
        Self::of(Arc::new(state), stripes())
    }

    /// Shares a state that has an `Arc` already, for those who hold it weakly ([`Live::bind`](crate::Live::bind)).
    pub fn of_arc(state: Arc<T>) -> Self {
        Self::of(state, stripes())
    }

    fn of(state: Arc<T>, lanes: usize) -> Self {
        let beside = Arc::new(OnceLock::new());
        let lane = |at| {
            Arc::new(Lane {
                state: Arc::clone(&state),
                at,
                beside: Arc::clone(&beside),
            })
        };
        let lanes: Box<[_]> = (0..lanes).map(lane).collect();
        beside.get_or_init(|| lanes.iter().map(Arc::downgrade).collect());
        Self(Ref::All(Arc::new(Lanes { state, lanes })))
    }

    /// The same state, held as this one holds it: by its maker, and not for a call.
    #[must_use]
    pub fn keep(&self) -> Self {
        Self(match &self.0 {
            Ref::All(lanes) => Ref::All(Arc::clone(lanes)),
            Ref::One(lane) => Ref::One(Arc::clone(lane)),
        })
    }

    /// Holds the state for the length of a call.
    #[inline]
    #[must_use]
    pub fn hold(&self) -> Hold<T> {
        Hold(match &self.0 {
            Ref::All(all) => Arc::clone(&all.lanes[here() & (all.lanes.len() - 1)]),
            Ref::One(lane) => lane.of_thread(),
        })
    }

    /// The `Arc` behind the lanes, to hold it weakly.
    #[inline]
    #[must_use]
    pub fn arc(&self) -> &Arc<T> {
        match &self.0 {
            Ref::All(all) => &all.state,
            Ref::One(lane) => &lane.state,
        }
    }
}

impl<T> Lane<T> {
    fn of_thread(self: &Arc<Self>) -> Arc<Self> {
        let lanes = self.beside.get().map_or(&[][..], |lanes| lanes);
        let at = here() & lanes.len().wrapping_sub(1);
        if at == self.at {
            return Arc::clone(self);
        }
        let lane = lanes.get(at).and_then(Weak::upgrade);
        lane.unwrap_or_else(|| Arc::clone(self))
    }
}

/// A clone is for a call, or for the calls of a connection: it counts where it is made.
impl<T> Clone for Striped<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self(Ref::One(self.hold().0))
    }
}

impl<T> Deref for Striped<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.arc()
    }
}

impl<T: fmt::Debug> fmt::Debug for Striped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

/// A state that is held for the length of a call.
pub struct Hold<T>(Arc<Lane<T>>);

impl<T> Clone for Hold<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self(self.0.of_thread())
    }
}

impl<T> Deref for Hold<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0.state
    }
}

impl<T: fmt::Debug> fmt::Debug for Hold<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn lane<T>(hold: &Hold<T>) -> usize {
        hold.0.at
    }

    /// Runs `with` on a thread whose lane of four is not this one's.
    fn elsewhere<R: Send>(with: impl Fn() -> R + Send + Sync) -> R {
        let home = here() & 3;
        thread::scope(|scope| {
            loop {
                let away = scope.spawn(|| (here() & 3 != home).then(&with));
                if let Some(result) = away.join().unwrap() {
                    return result;
                }
            }
        })
    }

    #[test]
    fn a_call_counts_in_the_lane_of_its_thread() {
        let striped = Striped::of(Arc::new(7), 4);
        assert_eq!(lane(&striped.hold()), here() & 3);
        assert!(elsewhere(|| lane(&striped.hold()) == here() & 3));
        // So does that of a clone which was made on another thread, as a server's connections are.
        let clone = striped.clone();
        assert_eq!(lane(&clone.hold()), here() & 3);
        assert!(elsewhere(|| lane(&clone.hold()) == here() & 3));
        assert!(elsewhere(|| lane(&clone.clone().hold()) == here() & 3));
        assert_eq!((*elsewhere(|| clone.hold()), *striped), (7, 7));
    }

    #[test]
    fn a_clone_whose_origin_is_gone_holds_what_it_has() {
        let striped = Striped::of(Arc::new(7), 4);
        let clone = striped.clone();
        drop(striped);
        let home = here() & 3;
        assert!(elsewhere(|| lane(&clone.hold()) == home));
        assert_eq!(*clone, 7);
    }

    #[test]
    fn the_state_goes_with_the_last_reference_and_not_before() {
        let (told, gone) = mpsc::channel();
        struct Tells(mpsc::Sender<()>);
        impl Drop for Tells {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let striped = Striped::of(Arc::new(Tells(told)), 4);
        let weak = Arc::downgrade(striped.arc());
        let (kept, clone) = (striped.keep(), striped.clone());
        let hold = elsewhere(|| clone.hold());
        for reference in [striped, kept, clone] {
            drop(reference);
            assert!(gone.try_recv().is_err() && weak.upgrade().is_some());
        }
        drop(hold);
        assert!(gone.try_recv().is_ok() && weak.upgrade().is_none());
    }

    #[test]
    fn counts_of_lanes_are_apart() {
        let striped = Striped::of(Arc::new(()), 4);
        let Ref::All(all) = &striped.0 else {
            unreachable!()
        };
        let mut at: Vec<_> = all
            .lanes
            .iter()
            .map(|lane| Arc::as_ptr(lane) as usize)
            .collect();
        at.sort_unstable();
        // The counts are before the lane, at the start of its block, which the alignment puts 128 bytes away.
        assert!(at.iter().all(|at| at % 128 == 0));
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 256));
    }
}
