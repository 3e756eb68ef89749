use std::{sync::mpsc, thread, time::Duration};

use tokio::runtime::Handle;

use crate::testing::{
    Plan,
    contract::{
        Rig, Step, Tried,
        bench::{Bench, Outcome, finish_call, ready},
        script::Script,
    },
    hand::{Hand, Polled, settle},
};

/// For a read that takes no time unless it blocks.
const READ_BOUND: Duration = Duration::from_secs(5);

/// One line for each step of the script: what became of it.
async fn play(bench: &Bench, alternate: bool) -> Vec<String> {
    let services = [bench.another(), bench.another()];
    let mut script = Script::default();
    let mut lines = Vec::new();
    for (number, step) in bench.case.script_steps().into_iter().enumerate() {
        let service = &services[if alternate { number % 2 } else { 0 }];
        let before = bench.control.counts().calls;
        let outcomes = script.step(bench, step, service.duplicate()).await;
        let calls = bench.control.counts().calls - before;
        let outcomes: Vec<_> = outcomes.iter().map(Outcome::text).collect();
        lines.push(format!(
            "step {} ({step:?}): {calls} inner calls, [{}]",
            number + 1,
            outcomes.join(", ")
        ));
    }
    bench.control.release();
    drop(script);
    settle().await;
    if let Some(held) = &bench.case.held {
        lines.push(format!("at the end the layer holds {}", held()));
    }
    if let Some(reads) = &bench.case.reads {
        lines.push(format!("at the end the handle shows {}", reads()));
    }
    lines
}

pub(super) async fn shared_state(rig: &Rig, tried: &mut Tried) {
    let alone = play(&rig.bench().await, false).await;
    let bench = rig.bench().await;
    let both = play(&bench, true).await;
    if let Some((one, two)) = alone.iter().zip(&both).find(|(one, two)| one != two) {
        let two_of = if bench.case.is_layer {
            "two services of the same layer"
        } else {
            "two clones"
        };
        tried
            .found
            .push(format!("with one service, {one}; with {two_of}, {two}"));
    }
}

pub(super) async fn calls_go_on(rig: &Rig, tried: &mut Tried) {
    let bench = rig.bench().await;
    let control = &bench.control;
    let before = control.counts().calls;
    let held = bench.case.limit.map_or(4, |limit| limit.saturating_sub(1));
    if held == 0 {
        tried.skipped.push("the limit is one call".to_owned());
        return;
    }
    control.plan(Plan::answer().held());
    let mut calls: Vec<_> = (0..held).map(|_| bench.call()).collect();
    for call in &mut calls {
        bench.poll_through(call);
    }
    settle().await;
    for call in &mut calls {
        bench.poll_through(call);
    }
    let got = control.counts().calls - before;
    if got < held {
        tried.found.push(format!(
            "of {held} calls on clones, only {got} reach an inner service that holds them"
        ));
        return;
    }
    control.plan(Plan::answer());
    let mut last = bench.call();
    let mut outcome = bench.poll_through(&mut last);
    settle().await;
    if outcome.is_none() {
        outcome = bench.poll_through(&mut last);
    }
    match outcome {
        Some(outcome) if outcome.is_answered() => {}
        Some(outcome) => tried.found.push(format!(
            "with {held} calls pending, one more was not answered but {}",
            outcome.text()
        )),
        None => tried.found.push(format!(
            "with {held} calls pending, one more waits, though the inner service would answer it"
        )),
    }
}

pub(super) async fn reads_go_on(rig: &Rig, tried: &mut Tried) {
    for what in ["ready and not made", "in the inner service", "in its body"] {
        let bench = rig.bench().await;
        let probes = [bench.case.held.clone(), bench.case.reads.clone()];
        if probes.iter().all(Option::is_none) {
            tried.skipped.push("nothing to read".to_owned());
            return;
        }
        let mut hand = Hand::new(ready(bench.service()));
        let Polled::Ready(Ok(mut service)) = bench.finish(&mut hand).await else {
            continue;
        };
        let mut call = None;
        if what != "ready and not made" {
            match what {
                "in its body" => bench.control.hold_bodies(1),
                _ => bench.control.plan(Plan::answer().held()),
            }
            let future = Hand::new(finish_call(service.call()));
            bench.poll_through(call.insert(future));
        }
        // The clock of this runtime is the layer's; it is paused, and the runtime waits for the read.
        let clock = Handle::current();
        let (done, outcome) = mpsc::channel();
        let reader = thread::spawn(move || {
            let _clock = clock.enter();
            for probe in probes.into_iter().flatten() {
                probe();
            }
            let _ = done.send(());
        });
        match outcome.recv_timeout(READ_BOUND) {
            Ok(()) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                drop(reader.join());
                tried
                    .found
                    .push(format!("the probe panicked while a call was {what}"));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => tried.found.push(format!(
                "the probe was blocked for {READ_BOUND:?} while a call was {what}"
            )),
        }
        drop((call, service));
        if !tried.found.is_empty() {
            return;
        }
    }
}

pub(super) async fn limit_holds(rig: &Rig, tried: &mut Tried) {
    let bench = rig.bench().await;
    let Some(limit) = bench.case.limit else {
        tried.skipped.push("no limit declared".to_owned());
        return;
    };
    let peak = |bench: &Bench| {
        let peak = bench.control.counts().in_flight;
        (peak > limit)
            .then(|| format!("{peak} calls in the inner service at once, with a limit of {limit}"))
    };
    // One after another.
    bench.control.plan(Plan::answer().held());
    let mut calls: Vec<_> = (0..limit + 3).map(|_| bench.call()).collect();
    for call in &mut calls {
        bench.poll_through(call);
    }
    tried.found.extend(peak(&bench));
    // All ready first, where that is possible, then all called.
    let bench = rig.bench().await;
    bench.control.plan(Plan::answer().held());
    let mut services = Vec::new();
    for _ in 0..limit + 3 {
        let mut hand = Hand::new(ready(bench.service()));
        if let Polled::Ready(Ok(service)) = hand.poll() {
            services.push(service);
        }
    }
    let mut calls = Vec::new();
    for service in &mut services {
        let mut call = Hand::new(finish_call(service.call()));
        bench.poll_through(&mut call);
        calls.push(call);
    }
    tried
        .found
        .extend(peak(&bench).map(|what| format!("made ready first, and then called: {what}")));
    drop(calls);
    // Over two services of the layer, and again after errors.
    let bench = rig.bench().await;
    let mut script = Script::default();
    for step in [Step::Fail, Step::Succeed] {
        script.step(&bench, step, bench.service()).await;
    }
    bench.control.plan(Plan::answer().held());
    let mut calls: Vec<_> = (0..limit + 3).map(|_| bench.call()).collect();
    for call in &mut calls {
        bench.poll_through(call);
    }
    tried
        .found
        .extend(peak(&bench).map(|what| format!("after an error: {what}")));
}
