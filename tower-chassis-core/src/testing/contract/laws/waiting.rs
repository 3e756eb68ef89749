use std::time::Duration;

use crate::testing::{
    Plan,
    contract::{
        Rig, Tried,
        bench::{Bench, LONG, Outcome, run_woken},
    },
    hand::{Hand, settle},
};

/// More wakes in a second than anyone needs to look whether something has changed.
const TICKS: usize = 100;

/// Something that calls wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wait {
    /// The inner service is not ready.
    Closed,
    /// The inner service holds the calls.
    Held,
    /// The body stops after a frame.
    Body,
    /// Others fill the limit of the layer, or the one slot of the inner service where there is none.
    Full,
}

impl Wait {
    const ALL: [Self; 4] = [Self::Closed, Self::Held, Self::Body, Self::Full];

    const fn text(self) -> &'static str {
        match self {
            Self::Closed => "the inner service is not ready",
            Self::Held => "the inner service holds the call",
            Self::Body => "the body has stopped",
            Self::Full => "other calls fill the limit",
        }
    }

    /// Sets the scene, and gives the calls that fill it.
    fn set(self, bench: &Bench) -> Vec<Hand<Outcome>> {
        let control = &bench.control;
        match self {
            Self::Closed => control.close(),
            Self::Held => control.plan(Plan::answer().held()),
            Self::Body => control.hold_bodies(1),
            Self::Full => return fill(bench),
        }
        Vec::new()
    }

    fn end(self, bench: &Bench) {
        let control = &bench.control;
        match self {
            Self::Closed => control.open(),
            Self::Held | Self::Full => {
                control.plan(Plan::answer());
                control.release();
            }
            Self::Body => control.release_bodies(),
        }
    }
}

fn fill(bench: &Bench) -> Vec<Hand<Outcome>> {
    let control = &bench.control;
    let room = bench.case.limit.unwrap_or_else(|| {
        control.slots(1);
        1
    });
    control.plan(Plan::answer().held());
    let mut filling: Vec<_> = (0..room).map(|_| bench.call()).collect();
    for call in &mut filling {
        bench.poll_through(call);
    }
    control.plan(Plan::answer());
    filling
}

pub(super) async fn self_wake(rig: &Rig, tried: &mut Tried) {
    for wait in Wait::ALL {
        let bench = rig.bench().await;
        let _filling = wait.set(&bench);
        let mut call = bench.call();
        let over = bench.poll_through(&mut call).is_some();
        // What background tasks do may wake it, but not for ever.
        for _ in 0..20 {
            settle().await;
            if over || !call.is_woken() {
                break;
            }
            bench.poll_through(&mut call);
        }
        let storm = !over && call.is_woken();
        let polls = call.polls();
        if !over && !storm {
            let second = tokio::time::sleep(Duration::from_secs(1));
            let mut second = std::pin::pin!(second);
            while call.polls() - polls < TICKS {
                tokio::select! {
                    biased;
                    () = &mut second => break,
                    () = call.woken() => {}
                }
                if bench.poll_through(&mut call).is_some() {
                    break;
                }
            }
        }
        if call.self_wakes() > 0 {
            tried.found.push(format!(
                "{}: {} of {} polls woke their own task and were pending",
                wait.text(),
                call.self_wakes(),
                call.polls()
            ));
        } else if storm {
            tried.found.push(format!(
                "{}: polled {polls} times, and woken again each time without a cause",
                wait.text()
            ));
        } else if call.polls() - polls >= TICKS {
            tried
                .found
                .push(format!("{}: polled {TICKS} times in a second", wait.text()));
        }
    }
}

/// How what is waited for comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Release {
    AllAtOnce,
    OneByOne,
    Dropped,
}

pub(super) async fn all_waiters_wake(rig: &Rig, tried: &mut Tried) {
    for wait in Wait::ALL {
        for release in [Release::AllAtOnce, Release::OneByOne, Release::Dropped] {
            if release != Release::AllAtOnce && wait != Wait::Full {
                continue;
            }
            let bench = rig.bench().await;
            let mut filling = wait.set(&bench);
            let waiting = bench.case.limit.unwrap_or(1) + 4;
            let mut calls: Vec<_> = (0..waiting).map(|_| bench.call()).collect();
            let mut over = 0;
            for call in &mut calls {
                over += usize::from(bench.poll_through(call).is_some());
            }
            settle().await;
            match release {
                Release::AllAtOnce => wait.end(&bench),
                Release::OneByOne => {
                    while !filling.is_empty() {
                        bench.control.release_one();
                        run_woken(&bench, &mut filling).await;
                        let before = filling.len();
                        filling.retain(|call| !call.is_over());
                        if filling.len() == before {
                            break;
                        }
                        for call in calls.iter_mut().filter(|call| call.is_woken()) {
                            over += usize::from(bench.poll_through(call).is_some());
                        }
                    }
                }
                Release::Dropped => filling.clear(),
            }
            // Calls that fill the limit finish as well, in the same turn.
            let filled = filling.len();
            calls.append(&mut filling);
            over += run_woken(&bench, &mut calls).await.len();
            let all = waiting + filled;
            if over < all {
                tried.found.push(format!(
                    "{}: of {all} calls {} were not woken within {LONG:?} after it was over ({release:?})",
                    wait.text(),
                    all - over
                ));
            }
        }
    }
}

pub(super) async fn waiter_gives_up(rig: &Rig, tried: &mut Tried) {
    // Where one that waits is forgotten anyway, this law has nothing to say.
    let bench = rig.bench().await;
    let mut calls = fill(&bench);
    calls.extend([bench.call(), bench.call()]);
    for call in &mut calls {
        bench.poll_through(call);
    }
    Wait::Full.end(&bench);
    run_woken(&bench, &mut calls).await;
    if !calls.iter().all(Hand::is_over) {
        tried
            .skipped
            .push("forgets those that wait anyway".to_owned());
        return;
    }
    for early in [true, false] {
        for which in [0, 1] {
            let bench = rig.bench().await;
            let before = bench.holding();
            let mut filling = fill(&bench);
            let mut waiters = vec![bench.call(), bench.call()];
            for call in &mut waiters {
                if bench.poll_through(call).is_some() {
                    tried
                        .skipped
                        .push("refuses where another layer waits".to_owned());
                    return;
                }
            }
            settle().await;
            if early {
                waiters.remove(which);
            }
            // One comes free: a waiter is woken, and leaves before it is polled.
            bench.control.release_one();
            run_woken(&bench, &mut filling[..1]).await;
            settle().await;
            if !early {
                let woken = |index: usize| waiters.get(index).is_some_and(Hand::is_woken);
                if !woken(which) {
                    continue;
                }
                waiters.remove(which);
                settle().await;
            }
            if run_woken(&bench, &mut waiters).await.is_empty() {
                let when = if early { "before" } else { "after" };
                tried.found.push(format!(
                    "of two that wait, number {} gave up {when} a place came free, and the other was not woken within {LONG:?}",
                    which + 1
                ));
                continue;
            }
            bench.control.release();
            run_woken(&bench, &mut filling).await;
            drop((filling, waiters));
            if let Some(leak) = bench.leaked(&before).await {
                tried
                    .found
                    .push(format!("after one gave up waiting: {leak}"));
            }
        }
    }
}

pub(super) async fn latest_waker(rig: &Rig, tried: &mut Tried) {
    for wait in Wait::ALL {
        let bench = rig.bench().await;
        let mut filling = wait.set(&bench);
        let mut call = bench.call();
        if bench.poll_through(&mut call).is_some() {
            continue;
        }
        settle().await;
        bench.poll_through(&mut call);
        call.move_task();
        let _ = call.poll();
        wait.end(&bench);
        run_woken(&bench, &mut filling).await;
        drop(filling);
        let woken = call.is_woken()
            || run_woken(&bench, std::slice::from_mut(&mut call))
                .await
                .len()
                == 1;
        if !woken && !call.is_over() {
            tried.found.push(format!(
                "{}: a call that moved to another task was not woken there",
                wait.text()
            ));
        }
    }
}
