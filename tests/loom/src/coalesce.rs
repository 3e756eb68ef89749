//! Coalescing: the flight, how it changes hands and who is woken.

#[path = "../../../tower-chassis-resilience/src/coalesce/flight.rs"]
mod flight;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Wake, Waker},
    thread,
};

use self::flight::{Flight, Member, Turn};
use crate::explore;

/// What is flown: how many polls it had.
type Call = u32;

#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Woken {
    fn count(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

fn poll(flight: &Flight<Call>, member: &Member, woken: &Arc<Woken>) -> Turn<Call> {
    flight.poll(member, &Waker::from(Arc::clone(woken)))
}

/// The one who drives goes, while another is polled: that one drives at once, or is woken.
pub fn who_waits_is_woken_to_take_over() {
    explore(|| {
        let (flight, first) = Flight::new();
        let flight = Arc::new(flight);
        let second = flight.join().unwrap();
        let other = Arc::clone(&flight);
        let thread = thread::spawn(move || other.hand_back(first, 7));
        let woken = Arc::new(Woken::default());
        let turn = poll(&flight, &second, &woken);
        assert_eq!(thread.join().unwrap(), None);
        match turn {
            Turn::Drive(call) => assert_eq!(call, 7),
            Turn::Wait => {
                assert_eq!(woken.count(), 1, "not woken");
                assert_eq!(poll(&flight, &second, &woken), Turn::Drive(7));
            }
            Turn::Over => panic!("nobody ended it"),
        }
    });
}

/// The one who drives and the one who would take over go at once: the third is woken, or has the call.
pub fn an_heir_that_goes_passes_it_on() {
    explore(|| {
        let (flight, first) = Flight::new();
        let flight = Arc::new(flight);
        let (second, third) = (flight.join().unwrap(), flight.join().unwrap());
        let woken = Arc::new(Woken::default());
        assert_eq!(poll(&flight, &second, &Arc::default()), Turn::Wait);
        assert_eq!(poll(&flight, &third, &woken), Turn::Wait);
        let other = Arc::clone(&flight);
        let thread = thread::spawn(move || other.hand_back(first, 7));
        assert_eq!(flight.leave(second), None);
        assert_eq!(thread.join().unwrap(), None);
        assert!(woken.count() >= 1, "not woken");
        assert_eq!(poll(&flight, &third, &woken), Turn::Drive(7));
    });
}

/// All go at once: one of them has the call to drop.
pub fn the_last_one_has_the_call() {
    explore(|| {
        let (flight, first) = Flight::new();
        let flight = Arc::new(flight);
        let second = flight.join().unwrap();
        let other = Arc::clone(&flight);
        let thread = thread::spawn(move || other.leave(second));
        let mine = flight.hand_back(first, 7);
        let theirs = thread.join().unwrap();
        assert!(mine.is_some() ^ theirs.is_some(), "{mine:?} {theirs:?}");
        assert!(flight.join().is_none());
    });
}

/// The one who began it puts it down, as another comes by: that one polls it, with a waker that reaches all.
pub fn who_comes_by_as_it_is_put_down_polls_it() {
    explore(|| {
        let (flight, _) = Flight::new();
        let flight = Arc::new(flight);
        let second = flight.join().unwrap();
        let (own, other) = (Arc::new(Woken::default()), Arc::clone(&flight));
        let waker = Waker::from(own);
        let thread = thread::spawn(move || other.deposit(7, waker));
        let woken = Arc::new(Woken::default());
        if poll(&flight, &second, &woken) == Turn::Wait {
            thread.join().unwrap();
            assert_eq!(woken.count(), 1, "not woken");
            assert_eq!(poll(&flight, &second, &woken), Turn::Drive(7));
        } else {
            thread.join().unwrap();
        }
    });
}

/// It can move on while the one who drove it gives it back and is not polled again: another is woken and polls it.
pub fn nobody_waits_for_one_that_is_parked() {
    explore(|| {
        let (flight, _) = Flight::new();
        let flight = Arc::new(flight);
        let second = flight.join().unwrap();
        let parked = flight.deposit(7, Waker::from(Arc::<Woken>::default()));
        assert_eq!(poll(&flight, &parked, &Arc::default()), Turn::Drive(7));
        let other = Arc::clone(&flight);
        let gives = thread::spawn(move || other.give(8));
        let other = Arc::clone(&flight);
        let moves = thread::spawn(move || other.wake());
        let woken = Arc::new(Woken::default());
        let turn = poll(&flight, &second, &woken);
        gives.join().unwrap();
        moves.join().unwrap();
        match turn {
            Turn::Drive(call) => assert_eq!(call, 8),
            Turn::Wait => {
                assert!(woken.count() >= 1, "not woken");
                assert_eq!(poll(&flight, &second, &woken), Turn::Drive(8));
            }
            Turn::Over => panic!("nobody ended it"),
        }
    });
}

/// The one who was woken goes, while it can move on once more: another is woken.
pub fn one_that_goes_passes_on_what_it_was_woken_for() {
    explore(|| {
        let (flight, _) = Flight::new();
        let flight = Arc::new(flight);
        let second = flight.join().unwrap();
        let first = flight.deposit(7, Waker::from(Arc::<Woken>::default()));
        let woken = Arc::new(Woken::default());
        assert_eq!(poll(&flight, &first, &Arc::default()), Turn::Drive(7));
        assert_eq!(poll(&flight, &second, &woken), Turn::Wait);
        flight.give(8);
        let other = Arc::clone(&flight);
        let moves = thread::spawn(move || other.wake());
        assert_eq!(flight.leave(first), None);
        moves.join().unwrap();
        assert!(woken.count() >= 1, "not woken");
        assert_eq!(poll(&flight, &second, &woken), Turn::Drive(8));
    });
}

/// It ends while one begins to wait: that one sees the end, or is woken once.
pub fn the_end_is_not_missed() {
    explore(|| {
        let (flight, first) = Flight::<Call>::new();
        let flight = Arc::new(flight);
        let second = flight.join().unwrap();
        let other = Arc::clone(&flight);
        let thread = thread::spawn(move || {
            assert!(!other.land());
            other.landed();
            other.leave(first);
        });
        let woken = Arc::new(Woken::default());
        let turn = poll(&flight, &second, &woken);
        thread.join().unwrap();
        if turn == Turn::Wait {
            assert_eq!(woken.count(), 1, "not woken");
        }
        assert_eq!(poll(&flight, &second, &woken), Turn::Over);
        assert_eq!(flight.leave(second), None);
    });
}

/// It ends while one joins: that one gets the result, or begins a call of its own; nobody lays out a result for
/// nobody and leaves somebody without.
pub fn whoever_joins_at_the_end_is_told_of_it() {
    explore(|| {
        let (flight, first) = Flight::<Call>::new();
        let flight = Arc::new(flight);
        let other = Arc::clone(&flight);
        let thread = thread::spawn(move || {
            let alone = other.land();
            if !alone {
                other.landed();
            }
            other.leave(first);
            alone
        });
        let woken = Arc::new(Woken::default());
        let joined = flight.join();
        let turn = joined.as_ref().map(|member| poll(&flight, member, &woken));
        assert_eq!(thread.join().unwrap(), joined.is_none());
        if let Some(member) = joined {
            assert!(turn == Some(Turn::Over) || woken.count() == 1, "not woken");
            assert_eq!(poll(&flight, &member, &woken), Turn::Over);
        }
    });
}

/// The one who drives goes while another joins and is polled: it has the call, or finds that nobody has.
pub fn whoever_joins_as_the_last_one_goes_is_not_left_alone() {
    explore(|| {
        let (flight, first) = Flight::new();
        let flight = Arc::new(flight);
        let other = Arc::clone(&flight);
        let thread = thread::spawn(move || other.hand_back(first, 7));
        let woken = Arc::new(Woken::default());
        let joined = flight.join();
        let turn = joined.as_ref().map(|member| poll(&flight, member, &woken));
        let dropped = thread.join().unwrap();
        match (joined, turn) {
            (None, _) => assert_eq!(dropped, Some(7)),
            (Some(_), Some(Turn::Drive(7))) => assert_eq!(dropped, None),
            (Some(member), Some(Turn::Wait)) => {
                assert_eq!((dropped, woken.count()), (None, 1));
                assert_eq!(poll(&flight, &member, &woken), Turn::Drive(7));
            }
            other => panic!("{other:?}"),
        }
    });
}
