use crate::testing::{
    Plan,
    contract::{
        Rig, Tried,
        bench::{Bench, Holding, LONG, Outcome, finish_call, ready, whole},
        script::Script,
        subject::Subject,
    },
    hand::{Hand, Polled},
};

pub(super) async fn readied_is_called(rig: &Rig, tried: &mut Tried) {
    for (what, plans) in [
        ("a call that is answered", [Plan::answer(), Plan::answer()]),
        (
            "a call that fails at first",
            [Plan::error(), Plan::answer()],
        ),
    ] {
        let bench = rig.bench().await;
        let before = bench.control.counts().unready_calls;
        for plan in plans {
            bench.control.next(plan);
        }
        // One instance, several calls: each needs a readiness of its own.
        let mut service = bench.service();
        for _ in 0..3 {
            let Some(back) = make_ready(&bench, service).await else {
                break;
            };
            service = back;
            let call = Hand::new(finish_call(service.call()));
            bench.outcome(call).await;
        }
        let unready = bench.control.counts().unready_calls - before;
        if unready > 0 {
            tried.found.push(format!(
                "{what}: {unready} times an instance of the inner service was called that was not readied"
            ));
        }
    }
}

async fn make_ready(bench: &Bench, service: Box<dyn Subject>) -> Option<Box<dyn Subject>> {
    let mut hand = Hand::new(ready(service));
    match bench.finish(&mut hand).await {
        Polled::Ready(Ok(service)) => Some(service),
        _ => None,
    }
}

pub(super) async fn clone_starts_unready(rig: &Rig, tried: &mut Tried) {
    // Where a single call breaks the first law, this one has nothing to say.
    let bench = rig.bench().await;
    bench.outcome(bench.call()).await;
    if bench.control.counts().unready_calls > 0 {
        tried
            .skipped
            .push("calls the wrong instance anyway".to_owned());
        return;
    }
    for close in [false, true] {
        let bench = rig.bench().await;
        let before = bench.control.counts();
        let Some(original) = make_ready(&bench, bench.service()).await else {
            continue;
        };
        if close {
            bench.control.close();
        }
        let mut copy = Hand::new(whole(original.duplicate()));
        bench.poll_through(&mut copy);
        let mut counts = bench.control.counts();
        if close && counts.calls > before.calls {
            tried.found.push(
                "a clone of a ready service called the inner service, which had become not ready"
                    .to_owned(),
            );
        }
        bench.control.open();
        bench.outcome(copy).await;
        drop(original);
        counts = bench.control.counts();
        if counts.unready_calls > before.unready_calls {
            tried.found.push(
                "a clone of a ready service took itself for ready, and called an instance that was not".to_owned(),
            );
        }
    }
}

/// What was seen of an instance whose readiness was asked for so many times.
struct Repeated {
    /// What was held when it was ready.
    ready: Holding,
    /// What stays after its call.
    leaked: Option<String>,
    /// How many calls others get in beside it.
    room: usize,
}

async fn repeat(bench: &Bench, times: usize) -> Option<Repeated> {
    let before = bench.holding();
    let mut service = bench.service();
    for _ in 0..times {
        service = make_ready(bench, service).await?;
    }
    let ready = bench.holding_now();
    bench.control.plan(Plan::answer().held());
    let beside = bench.case.limit.unwrap_or(1) - 1;
    let mut others: Vec<_> = (0..beside).map(|_| bench.call()).collect();
    for call in &mut others {
        bench.poll_through(call);
    }
    let room = bench.control.counts().in_flight;
    drop(others);
    bench.reset();
    let call = Hand::new(finish_call(service.call()));
    drop(service);
    bench.outcome(call).await;
    Some(Repeated {
        ready,
        leaked: bench.leaked(&before).await,
        room,
    })
}

pub(super) async fn repeated_ready(rig: &Rig, tried: &mut Tried) {
    let Some(once) = repeat(&rig.bench().await, 1).await else {
        tried.skipped.push("never ready".to_owned());
        return;
    };
    let Some(again) = repeat(&rig.bench().await, 8).await else {
        tried.found.push(format!(
            "ready, and not any more when asked again; waited {LONG:?}"
        ));
        return;
    };
    if again.ready != once.ready {
        tried.found.push(format!(
            "ready once, {}; asked eight times, {}",
            once.ready, again.ready
        ));
    }
    if again.room < once.room {
        tried.found.push(format!(
            "beside an instance that was asked once there is room for {} calls; asked eight times, for {}",
            once.room, again.room
        ));
    }
    if let (None, Some(leak)) = (once.leaked, again.leaked) {
        tried
            .found
            .push(format!("a call after eight `poll_ready`: {leak}"));
    }
}

pub(super) async fn refuses_in_call(rig: &Rig, tried: &mut Tried) {
    let bench = rig.bench().await;
    let mut script = Script::default();
    for step in bench.case.script_steps() {
        for outcome in script.step(&bench, step, bench.service()).await {
            if let Outcome::NotReady(error) = outcome {
                tried.found.push(format!(
                    "`poll_ready` failed with \"{error}\", though the inner service's did not, at {step:?}"
                ));
                return;
            }
        }
    }
}
