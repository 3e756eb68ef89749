//! One call that many wait for: who polls it, who waits, and how it changes hands.
//!
//! Knows nothing of tower, keys or results. The call itself (`F`) lies here, but while somebody polls it. Any member may, and
//! nobody has to: of those who wait, the one who polled it last is woken when it moves on, and one more, in case that one is
//! neither polled nor dropped. No foreign code runs under the lock: wakers are cloned before it, dropped and woken after it.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

/// A call that is shared, without its result.
pub(super) struct Flight<F>(Mutex<Board<F>>);

struct Board<F> {
    seat: Seat<F>,
    /// By member. The one who began it has one once it [waits](Flight::deposit).
    places: Vec<Place>,
    /// The first place that is vacant.
    vacant: usize,
    members: usize,
    /// Who polled the call last, and who came by last beside that one.
    driver: usize,
    second: usize,
    /// The place of the one who began it, while it waits.
    beginner: usize,
    /// Whoever comes next polls the call: it was woken, or its driver went.
    due: bool,
}

enum Seat<F> {
    /// Whoever has to may poll it.
    Free(F),
    /// Somebody polls it, or the one who began it did not yet.
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
    /// It polls the call once, with a waker that [wakes](Flight::wake) the flight, and [gives it back](Flight::give) or
    /// [lands](Flight::land).
    Drive(F),
    /// The result is there.
    Over,
}

impl<F> Flight<F> {
    /// A call with one member, who began it and has it in hand.
    pub(super) fn new() -> (Self, Member) {
        let board = Board {
            seat: Seat::Taken,
            places: Vec::new(),
            vacant: 0,
            members: 1,
            driver: NOBODY,
            second: NOBODY,
            beginner: NOBODY,
            due: false,
        };
        (Self(Mutex::new(board)), BEGINNER)
    }

    /// One more member; `None` if it is over, or nobody is left to poll it.
    pub(super) fn join(&self) -> Option<Member> {
        let mut board = self.lock();
        if board.members == 0 || matches!(board.seat, Seat::Landing | Seat::Over) {
            return None;
        }
        board.members += 1;
        Some(board.place(None))
    }

    /// The one who began it has polled it, with its own `waker`, and waits from now on as the others do.
    pub(super) fn deposit(&self, call: F, waker: Waker) -> Member {
        let mut board = self.lock();
        let member = board.place(Some(waker));
        (board.driver, board.beginner) = (member.0, member.0);
        board.seat = Seat::Free(call);
        // That waker is of no use to the others: the next one who comes polls it with the flight's.
        board.due = true;
        let next = board.next(member.0);
        drop(board);
        wake([next]);
        member
    }

    /// What `member` does, who is woken by `waker`.
    pub(super) fn poll(&self, member: &Member, waker: &Waker) -> Turn<F> {
        // Dropped after the lock.
        let mut mine = Some(waker.clone());
        let mut board = self.lock();
        if let Some(Place::Waiting(place)) = board.places.get_mut(member.0) {
            mem::swap(place, &mut mine);
        }
        let drives = board.due || board.driver == member.0;
        let turn = match mem::replace(&mut board.seat, Seat::Taken) {
            Seat::Free(call) if drives => {
                board.due = false;
                if board.driver != member.0 {
                    board.second = mem::replace(&mut board.driver, member.0);
                }
                Turn::Drive(call)
            }
            seat => {
                let over = matches!(seat, Seat::Over);
                board.seat = seat;
                if board.driver != member.0 {
                    board.second = member.0;
                }
                if over { Turn::Over } else { Turn::Wait }
            }
        };
        drop(board);
        drop(mine);
        turn
    }

    /// Who drove has polled it, and it is not over.
    pub(super) fn give(&self, call: F) {
        let mut board = self.lock();
        board.seat = Seat::Free(call);
        // It was woken meanwhile. So was the one who gives it back, and another, who found it taken.
        let driver = board.driver;
        let next = if board.due { board.next(driver) } else { None };
        drop(board);
        wake([next]);
    }

    /// The call can move on: wakes the one who drove it last, and one more.
    pub(super) fn wake(&self) {
        let mut board = self.lock();
        if matches!(board.seat, Seat::Landing | Seat::Over) {
            return;
        }
        board.due = true;
        let (driver, second) = (board.driver, board.second);
        let first = board.waker(driver);
        let other = board.waker(second).or_else(|| board.next(driver));
        drop(board);
        wake([first, other]);
    }

    /// Nobody joins from now on. Whether the one who drove is alone: then there is nobody to lay out a result for.
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

    /// `member`, who has the call in hand, goes before the end. The call, if nobody is left for it.
    pub(super) fn hand_back(&self, member: Member, call: F) -> Option<F> {
        let mut board = self.lock();
        board.seat = Seat::Free(call);
        board.due = true;
        self.left(board, member)
    }

    /// `member`, who does not have it, goes. The call, if nobody is left for it.
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
        if board.second == member.0 {
            board.second = NOBODY;
        }
        if board.beginner == member.0 {
            board.beginner = NOBODY;
        }
        if board.driver == member.0 {
            board.driver = NOBODY;
            board.due = true;
        }
        let (mut next, mut call) = (None, None);
        if let Seat::Free(_) = board.seat {
            if board.members == 0 {
                if let Seat::Free(last) = mem::replace(&mut board.seat, Seat::Landing) {
                    call = Some(last);
                }
            } else if board.due {
                // Whoever was woken before may be the one who goes.
                next = board.next(NOBODY);
            }
        }
        drop(board);
        drop(gone);
        wake([next]);
        call
    }

    /// Whether it was `member` who began it.
    pub(super) fn was_begun_by(&self, member: &Member) -> bool {
        self.lock().beginner == member.0
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

impl<F> Board<F> {
    fn place(&mut self, waker: Option<Waker>) -> Member {
        let index = self.vacant;
        match self.places.get_mut(index) {
            Some(place) => {
                if let Place::Vacant(next) = mem::replace(place, Place::Waiting(waker)) {
                    self.vacant = next;
                }
            }
            None => {
                self.places.push(Place::Waiting(waker));
                self.vacant = self.places.len();
            }
        }
        Member(index)
    }

    /// Takes the waker of one, who leaves another when it is polled: one that is never polled is woken once.
    fn waker(&mut self, at: usize) -> Option<Waker> {
        match self.places.get_mut(at) {
            Some(Place::Waiting(waker)) => waker.take(),
            _ => None,
        }
    }

    /// The waker of anybody but one.
    fn next(&mut self, but: usize) -> Option<Waker> {
        let mut places = self.places.iter_mut().enumerate();
        places.find_map(|(at, place)| match place {
            Place::Waiting(waker) if at != but => waker.take(),
            _ => None,
        })
    }
}

fn wake<const N: usize>(wakers: [Option<Waker>; N]) {
    wakers.into_iter().flatten().for_each(Waker::wake);
}

const NOBODY: usize = usize::MAX;

/// The first one needs no place before it waits.
pub(super) const BEGINNER: Member = Member(NOBODY);
