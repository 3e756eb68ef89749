//! One call that many wait for: who polls it, who waits, and how it changes hands.
//!
//! Knows nothing of tower, keys or results. The call itself (`F`) is with whoever drives it, and lies here only while
//! nobody does. No foreign code runs under the lock: wakers are cloned before it, dropped and woken after it.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

/// A call that is shared, without its result.
pub(super) struct Flight<F>(Mutex<Board<F>>);

struct Board<F> {
    seat: Seat<F>,
    /// By member; the one who drives has a place too.
    places: Vec<Place>,
    /// The first place that is vacant.
    vacant: usize,
    members: usize,
}

enum Seat<F> {
    /// Whoever is polled next drives.
    Free(F),
    /// Somebody drives.
    Taken,
    /// It is over, and its result is being laid out: who waits goes on waiting, nobody joins.
    Landing,
    /// Its result is there.
    Over,
}

enum Place {
    Waiting(Option<Waker>),
    /// The next one that is vacant.
    Vacant(usize),
}

/// A place among those who wait. To be handed back with [`Flight::leave`].
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Member(usize);

/// What a member does next.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Turn<F> {
    /// It is woken.
    Wait,
    /// It drives: it polls the call until that is over, or [hands it back](Flight::hand_back).
    Drive(F),
    /// The result is there.
    Over,
}

impl<F> Flight<F> {
    /// A call with one member, who drives.
    pub(super) fn new() -> (Self, Member) {
        let board = Board {
            seat: Seat::Taken,
            places: Vec::new(),
            vacant: 0,
            members: 1,
        };
        (Self(Mutex::new(board)), DRIVER)
    }

    /// One more member; `None` if it is over, or nobody is left to drive it.
    pub(super) fn join(&self) -> Option<Member> {
        let mut board = self.lock();
        if board.members == 0 || matches!(board.seat, Seat::Landing | Seat::Over) {
            return None;
        }
        board.members += 1;
        let index = board.vacant;
        match board.places.get_mut(index) {
            Some(place) => {
                if let Place::Vacant(next) = mem::replace(place, Place::Waiting(None)) {
                    board.vacant = next;
                }
            }
            None => {
                board.places.push(Place::Waiting(None));
                board.vacant = board.places.len();
            }
        }
        Some(Member(index))
    }

    /// What `member` does, who is woken by `waker`.
    pub(super) fn poll(&self, member: &Member, waker: &Waker) -> Turn<F> {
        // Dropped after the lock.
        let mut mine = Some(waker.clone());
        let mut board = self.lock();
        match mem::replace(&mut board.seat, Seat::Taken) {
            Seat::Free(call) => {
                if let Some(Place::Waiting(place)) = board.places.get_mut(member.0) {
                    mine = place.take();
                }
                drop(board);
                drop(mine);
                return Turn::Drive(call);
            }
            Seat::Over => {
                board.seat = Seat::Over;
                return Turn::Over;
            }
            seat => board.seat = seat,
        }
        if let Some(Place::Waiting(place)) = board.places.get_mut(member.0) {
            mem::swap(place, &mut mine);
        }
        drop(board);
        Turn::Wait
    }

    /// Nobody joins from now on. Whether `member`, who drove, is alone: then there is nobody to lay out a result for.
    pub(super) fn land(&self) -> bool {
        let mut board = self.lock();
        board.seat = Seat::Landing;
        board.members == 1
    }

    /// The result is there: wakes all who wait, each once.
    pub(super) fn landed(&self) {
        let mut board = self.lock();
        board.seat = Seat::Over;
        let places = mem::take(&mut board.places);
        drop(board);
        for place in places {
            if let Place::Waiting(Some(waker)) = place {
                waker.wake();
            }
        }
    }

    /// `member`, who drove, goes before the end. The call, if nobody is left for it.
    pub(super) fn hand_back(&self, member: Member, call: F) -> Option<F> {
        let mut board = self.lock();
        board.seat = Seat::Free(call);
        self.left(board, member)
    }

    /// `member`, who does not drive, goes. The call, if nobody is left for it.
    pub(super) fn leave(&self, member: Member) -> Option<F> {
        let board = self.lock();
        self.left(board, member)
    }

    fn left(&self, mut board: MutexGuard<'_, Board<F>>, member: Member) -> Option<F> {
        board.members -= 1;
        let vacant = board.vacant;
        let mut gone = None;
        if let Some(place @ Place::Waiting(_)) = board.places.get_mut(member.0) {
            gone = Some(mem::replace(place, Place::Vacant(vacant)));
            board.vacant = member.0;
        }
        let (mut next, mut call) = (None, None);
        if let Seat::Free(_) = board.seat {
            if board.members == 0 {
                if let Seat::Free(last) = mem::replace(&mut board.seat, Seat::Landing) {
                    call = Some(last);
                }
            } else {
                // Whoever was woken before may be the one who goes.
                next = board.places.iter_mut().find_map(|place| match place {
                    Place::Waiting(waker) => waker.take(),
                    Place::Vacant(_) => None,
                });
            }
        }
        drop(board);
        drop(gone);
        if let Some(next) = next {
            next.wake();
        }
        call
    }

    /// How many wait, with the one who drives.
    #[cfg(test)]
    pub(super) fn members(&self) -> usize {
        self.lock().members
    }

    fn lock(&self) -> MutexGuard<'_, Board<F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first one needs no place while it drives, and never waits again.
pub(super) const DRIVER: Member = Member(usize::MAX);
