//! The switch of fault injection, and the places of calls under a fault (and of a mirror's copies).

#[path = "../../../tower-chassis-resilience/src/slots.rs"]
mod slots;
#[path = "../../../tower-chassis-resilience/src/fault/switch.rs"]
mod switch;

use std::{sync::Arc, thread};

use self::{slots::Slots, switch::Switch};
use crate::explore;

/// A call that found all rules to be over does not disarm those that came meanwhile.
pub fn what_is_over_does_not_disarm_what_came_since() {
    explore(|| {
        let switch = Arc::new(Switch::new());
        switch.applied(true);
        let Some(seen) = switch.armed() else {
            panic!("armed")
        };
        let other = Arc::clone(&switch);
        let thread = thread::spawn(move || other.disarm(seen));
        switch.applied(true);
        thread.join().unwrap();
        assert!(switch.armed().is_some());
        switch.disarm(seen);
        assert!(switch.armed().is_some(), "it came since");
    });
}

/// A kill holds, whatever policy comes or goes at the same time.
pub fn a_kill_holds() {
    explore(|| {
        let switch = Arc::new(Switch::new());
        switch.applied(true);
        let others = [true, false].map(|applies| {
            let switch = Arc::clone(&switch);
            thread::spawn(move || {
                if applies {
                    switch.applied(true);
                } else if let Some(seen) = switch.armed() {
                    switch.disarm(seen);
                }
            })
        });
        switch.kill();
        assert!(switch.is_killed() && switch.armed().is_none());
        for other in others {
            other.join().unwrap();
        }
        assert!(switch.is_killed() && switch.armed().is_none());
        switch.restore();
        switch.applied(true);
        assert!(switch.armed().is_some());
    });
}

/// Never more than the most, and all come back.
pub fn no_more_places_than_the_most() {
    explore(|| {
        let slots = Arc::new(Slots::new(1));
        let other = Arc::clone(&slots);
        let thread = thread::spawn(move || {
            let taken = other.take();
            if taken {
                assert_eq!(other.taken(), 1);
                other.give_back();
            }
            taken
        });
        let mine = slots.take();
        if mine {
            assert_eq!(slots.taken(), 1);
            slots.give_back();
        }
        assert!(thread.join().unwrap() || mine);
        assert_eq!(slots.taken(), 0);
    });
}
