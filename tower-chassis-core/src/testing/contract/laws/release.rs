use crate::testing::{
    Plan,
    contract::{
        Rig, Tried,
        bench::{Bench, read, ready, whole},
        subject::Answer,
    },
    hand::{Hand, Polled},
};

/// More polls than any call takes; one that takes more is not followed further.
const POLLS: usize = 40;

pub(super) async fn dropped_ready(rig: &Rig, tried: &mut Tried) {
    for instances in [1, 2] {
        let bench = rig.bench().await;
        let before = bench.holding();
        let instances = instances.min(bench.case.limit.unwrap_or(2));
        let mut services = Vec::new();
        for _ in 0..instances {
            let mut hand = Hand::new(ready(bench.service()));
            if let Polled::Ready(Ok(service)) = bench.finish(&mut hand).await {
                services.push(service);
            }
        }
        drop(services);
        if let Some(leak) = bench.leaked(&before).await {
            tried.found.push(format!(
                "{instances} services made ready and dropped without a call: {leak}"
            ));
        }
    }
    let bench = rig.bench().await;
    let before = bench.holding();
    bench.control.close();
    let mut hand = Hand::new(ready(bench.service()));
    let _ = hand.poll();
    drop(hand);
    bench.control.open();
    if let Some(leak) = bench.leaked(&before).await {
        tried.found.push(format!(
            "a service dropped while the inner one was not ready: {leak}"
        ));
    }
}

/// How the inner service treats the call that is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scene {
    Answers,
    FailsAtFirst,
    NotReadyAtFirst,
    NeverAnswers,
}

impl Scene {
    const fn text(self) -> &'static str {
        match self {
            Self::Answers => "the inner service answers after two polls",
            Self::FailsAtFirst => "the inner service fails after a poll, then answers",
            Self::NotReadyAtFirst => "the inner service is not ready at first",
            Self::NeverAnswers => "the inner service does not answer",
        }
    }

    fn set(self, bench: &Bench) {
        let control = &bench.control;
        control.plan(Plan::answer().after_polls(2));
        match self {
            Self::Answers => {}
            Self::FailsAtFirst => control.next(Plan::error().after_polls(1)),
            Self::NotReadyAtFirst => control.close(),
            Self::NeverAnswers => control.plan(Plan::answer().held()),
        }
    }
}

pub(super) async fn dropped_future(rig: &Rig, tried: &mut Tried) {
    let scenes = [
        Scene::Answers,
        Scene::FailsAtFirst,
        Scene::NotReadyAtFirst,
        Scene::NeverAnswers,
    ];
    for scene in scenes {
        // Readiness, the future, the body: the whole call as one future, and the future by itself.
        for readied in [false, true] {
            for polls in 0..POLLS {
                let bench = rig.bench().await;
                let before = bench.holding();
                let dropped = if readied {
                    drop_call(&bench, scene, polls).await
                } else {
                    scene.set(&bench);
                    drop_after(&bench, bench.call(), polls).await
                };
                if dropped == Dropped::TooLate {
                    break;
                }
                bench.reset();
                if let Some(leak) = bench.leaked(&before).await {
                    let what = if readied { "future" } else { "whole call" };
                    tried.found.push(format!(
                        "{}; the {what} dropped after {polls} polls: {leak}",
                        scene.text()
                    ));
                    break;
                }
                if dropped == Dropped::AtTheEnd {
                    break;
                }
            }
        }
    }
}

/// How far a call had come when it was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dropped {
    /// It was under way.
    Midway,
    /// It was pending, and nothing would have woken it any more.
    AtTheEnd,
    /// It was over before.
    TooLate,
}

/// Makes the service ready, calls it, polls its future so many times and drops it.
async fn drop_call(bench: &Bench, scene: Scene, polls: usize) -> Dropped {
    let mut hand = Hand::new(ready(bench.service()));
    let Polled::Ready(Ok(mut service)) = bench.finish(&mut hand).await else {
        return Dropped::TooLate;
    };
    scene.set(bench);
    let future = Hand::new(service.call());
    drop(service);
    drop_after(bench, future, polls).await
}

async fn drop_after<T>(bench: &Bench, mut hand: Hand<T>, polls: usize) -> Dropped {
    for poll in 0..polls {
        match hand.poll() {
            Polled::Pending => {}
            Polled::Ready(_) | Polled::Panicked => return Dropped::TooLate,
        }
        bench.control.open();
        if poll + 1 < polls && !bench.next_wake(&hand).await {
            return Dropped::AtTheEnd;
        }
    }
    Dropped::Midway
}

/// Gets the head of a response.
async fn head(bench: &Bench) -> Option<Answer> {
    let mut hand = Hand::new(ready(bench.service()));
    let Polled::Ready(Ok(mut service)) = bench.finish(&mut hand).await else {
        return None;
    };
    let mut future = Hand::new(service.call());
    drop(service);
    match bench.finish(&mut future).await {
        Polled::Ready(Ok(answer)) => Some(answer),
        _ => None,
    }
}

pub(super) async fn dropped_body(rig: &Rig, tried: &mut Tried) {
    // Two frames, trailers, the end.
    for frames in 0..=4 {
        for pending in [false, true] {
            let bench = rig.bench().await;
            let before = bench.holding();
            bench.control.trailers(true);
            if pending {
                bench.control.hold_bodies(frames);
            }
            let Some(answer) = head(&bench).await else {
                tried.skipped.push("no answer".to_owned());
                return;
            };
            let Answer { body, rest, .. } = answer;
            let Some(body) = body else {
                tried.skipped.push("a response without a body".to_owned());
                return;
            };
            let mut body = body;
            let mut hand = Hand::new(async move {
                for _ in 0..frames {
                    http_body_util::BodyExt::frame(&mut body).await;
                }
                if pending {
                    http_body_util::BodyExt::frame(&mut body).await;
                }
                drop((body, rest));
            });
            if pending {
                // Dropped while the next frame is waited for.
                let _ = hand.poll();
            } else {
                bench.finish(&mut hand).await;
            }
            drop(hand);
            bench.reset();
            if let Some(leak) = bench.leaked(&before).await {
                let while_pending = if pending {
                    " and one that was waited for"
                } else {
                    ""
                };
                tried.found.push(format!(
                    "a body dropped after {frames} frames{while_pending}: {leak}"
                ));
            }
        }
    }
    for frame in 0..=1 {
        let bench = rig.bench().await;
        let before = bench.holding();
        bench.control.break_bodies(frame);
        if let Some(answer) = head(&bench).await {
            bench.finish(&mut Hand::new(read(answer))).await;
        }
        if let Some(leak) = bench.leaked(&before).await {
            tried
                .found
                .push(format!("a body that broke after {frame} frames: {leak}"));
        }
    }
}

pub(super) async fn inner_error(rig: &Rig, tried: &mut Tried) {
    for polls in [0, 2] {
        let bench = rig.bench().await;
        let before = bench.holding();
        bench.control.plan(Plan::error().after_polls(polls));
        bench.outcome(bench.call()).await;
        bench.reset();
        if let Some(leak) = bench.leaked(&before).await {
            tried
                .found
                .push(format!("a call failed after {polls} polls: {leak}"));
        }
    }
    for waits in [false, true] {
        let bench = rig.bench().await;
        let before = bench.holding();
        if waits {
            bench.control.close();
        }
        let mut hand = Hand::new(whole(bench.service()));
        if waits {
            bench.poll_through(&mut hand);
            bench.control.open();
        }
        bench.control.fail_ready();
        bench.outcome(hand).await;
        if let Some(leak) = bench.leaked(&before).await {
            let at_first = if waits { " after it was pending" } else { "" };
            tried
                .found
                .push(format!("readiness failed{at_first}: {leak}"));
        }
    }
    // Ready, asked again, and failed.
    let bench = rig.bench().await;
    let before = bench.holding();
    let mut hand = Hand::new(ready(bench.service()));
    if let Polled::Ready(Ok(service)) = bench.finish(&mut hand).await {
        bench.control.fail_ready();
        bench.outcome(Hand::new(whole(service))).await;
        if let Some(leak) = bench.leaked(&before).await {
            tried
                .found
                .push(format!("readiness failed when it was asked again: {leak}"));
        }
    }
}

pub(super) async fn inner_panic(rig: &Rig, tried: &mut Tried) {
    let plans = [
        ("`call` panicked", Some(Plan::panic_in_call())),
        ("the future panicked at its first poll", Some(Plan::panic())),
        (
            "the future panicked at its third poll",
            Some(Plan::panic().after_polls(2)),
        ),
        ("`poll_ready` panicked", None),
    ];
    for (what, plan) in plans {
        let bench = rig.bench().await;
        let before = bench.holding();
        match plan {
            Some(plan) => bench.control.next(plan),
            None => bench.control.panic_ready(),
        }
        bench.outcome(bench.call()).await;
        bench.reset();
        if let Some(leak) = bench.leaked(&before).await {
            tried
                .found
                .push(format!("{what} in the inner service: {leak}"));
        }
    }
}
