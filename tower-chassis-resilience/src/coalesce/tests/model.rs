//! Calls that come, are polled, end and are dropped in any order, against a model that keeps lists; and the flight
//! under threads.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use proptest::prelude::*;
use tower_chassis_core::{
    BoxError,
    testing::{Hand, Plan, Polled},
};

use super::{
    super::flight::{Flight, Turn},
    rig,
};

#[derive(Clone, Debug)]
enum Step {
    Call(u32),
    Poll(usize),
    Drop(usize),
    ReleaseOne,
    /// The next inner call panics.
    Panic,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u32..3).prop_map(Step::Call),
        6 => (0_usize..8).prop_map(Step::Poll),
        3 => (0_usize..8).prop_map(Step::Drop),
        2 => Just(Step::ReleaseOne),
        1 => Just(Step::Panic),
    ]
}

/// What a flight should be.
struct Flown {
    key: u32,
    members: BTreeSet<usize>,
    over: bool,
}

#[derive(Default)]
struct Model {
    flights: Vec<Flown>,
    calls: usize,
}

impl Model {
    fn call(&mut self, key: u32, id: usize) {
        let open =
            |flown: &&mut Flown| flown.key == key && !flown.over && !flown.members.is_empty();
        if let Some(flown) = self.flights.iter_mut().find(open) {
            flown.members.insert(id);
        } else {
            self.calls += 1;
            self.flights.push(Flown {
                key,
                members: BTreeSet::from([id]),
                over: false,
            });
        }
    }

    fn gone(&mut self, id: usize, over: bool) {
        let mut with = self
            .flights
            .iter_mut()
            .filter(|flown| flown.members.contains(&id));
        let flown = with.next().unwrap();
        flown.members.remove(&id);
        flown.over |= over;
    }

    fn in_flight(&self) -> usize {
        let open = |flown: &&Flown| !flown.over && !flown.members.is_empty();
        self.flights.iter().filter(open).count()
    }
}

type Hands = Vec<(usize, Hand<Result<u32, BoxError>>)>;

/// Polls one; it leaves if it is over.
fn poll(hands: &mut Hands, at: usize, model: &mut Model) {
    let (id, hand) = &mut hands[at];
    match hand.poll() {
        Polled::Pending => assert_eq!(hand.self_wakes(), 0),
        Polled::Ready(_) | Polled::Panicked => {
            model.gone(*id, true);
            hands.remove(at);
        }
    }
}

fn long(cases: u32) -> ProptestConfig {
    let factor = if std::env::var_os("CHASSIS_LONG").is_some() {
        100
    } else {
        1
    };
    ProptestConfig::with_cases(cases * factor)
}

proptest! {
    #![proptest_config(long(256))]

    #[test]
    fn every_order_of_events_ends_well(steps in prop::collection::vec(step(), 1..60)) {
        let rig = rig(100);
        let control = rig.inner.control();
        control.plan(Plan::answer().held());
        let (mut hands, mut model) = (Hands::new(), Model::default());
        for (id, step) in steps.into_iter().enumerate() {
            match step {
                Step::Call(key) => {
                    model.call(key, id);
                    hands.push((id, rig.call(key)));
                }
                Step::Poll(at) if !hands.is_empty() => {
                    let at = at % hands.len();
                    poll(&mut hands, at, &mut model);
                }
                Step::Drop(at) if !hands.is_empty() => {
                    let (id, _) = hands.remove(at % hands.len());
                    model.gone(id, false);
                }
                Step::ReleaseOne => control.release_one(),
                Step::Panic => control.next(Plan::panic().held()),
                Step::Poll(_) | Step::Drop(_) => {}
            }
            prop_assert_eq!(control.counts().calls, model.calls);
            prop_assert_eq!(rig.handle.in_flight(), model.in_flight());
        }
        // Now each is polled when it is woken, and not else: nobody is left behind.
        control.release();
        while let Some(at) = hands.iter().position(|(_, hand)| hand.is_woken()) {
            poll(&mut hands, at, &mut model);
        }
        prop_assert!(hands.is_empty(), "{} wait for ever", hands.len());
        let counts = control.counts();
        prop_assert_eq!((rig.handle.in_flight(), counts.in_flight, counts.reserved), (0, 0, 0));
        prop_assert_eq!((counts.polls_after_end, counts.unready_calls), (0, 0));
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Members on threads drive a call of a hundred polls, hand it back at each third, and one of them ends it.
#[test]
fn a_flight_under_threads_loses_nobody() {
    const THREADS: usize = 4;
    for _ in 0..500 {
        let (flight, first) = Flight::<u32>::new();
        let flight = Arc::new(flight);
        let members: Vec<_> = (1..THREADS).map(|_| flight.join().unwrap()).collect();
        assert!(flight.hand_back(first, 0).is_none());
        let over = Arc::new(AtomicU32::new(0));
        let driving = Arc::new(Mutex::new(()));
        let threads: Vec<_> = members
            .into_iter()
            .enumerate()
            .map(|(at, member)| {
                let (flight, over, driving) =
                    (Arc::clone(&flight), Arc::clone(&over), Arc::clone(&driving));
                thread::spawn(move || {
                    let waker = Waker::from(Arc::new(Unpark(thread::current())));
                    loop {
                        match flight.poll(&member, &waker) {
                            Turn::Wait => thread::park_timeout(Duration::from_secs(10)),
                            Turn::Drive(polls) => {
                                let alone = driving.try_lock().expect("two drive at once");
                                // All but one leave as they drive.
                                if at > 0 && polls < 2 {
                                    drop(alone);
                                    assert!(flight.hand_back(member, polls + 1).is_none());
                                    return;
                                }
                                let last = flight.land();
                                over.fetch_add(1, Relaxed);
                                drop(alone);
                                if !last {
                                    flight.landed();
                                }
                                flight.leave(member);
                                return;
                            }
                            Turn::Over => {
                                flight.leave(member);
                                return;
                            }
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!((over.load(Relaxed), flight.members()), (1, 0));
        assert!(flight.join().is_none());
    }
}
