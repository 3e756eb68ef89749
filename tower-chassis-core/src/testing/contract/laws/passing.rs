use http_body_util::BodyExt;

use crate::testing::{
    Marked, Plan,
    contract::{
        Rig, Tried,
        bench::{Bench, Outcome, finish_call, ready},
        subject::Answer,
    },
    hand::{Hand, Polled},
};

pub(super) async fn error_is_kept(rig: &Rig, tried: &mut Tried) {
    for (what, readiness) in [("the future", false), ("readiness", true)] {
        let bench = rig.bench().await;
        if readiness {
            bench.control.fail_ready();
        } else {
            bench.control.plan(Plan::error());
        }
        let outcome = bench.outcome(bench.call()).await;
        let wrong = match &outcome {
            Outcome::Answered { .. } if bench.case.answers => continue,
            // Another instance of the inner service was ready: nothing failed.
            Outcome::Answered { .. } if readiness => continue,
            Outcome::Answered { .. } => "the call was answered".to_owned(),
            Outcome::NotReady(error) | Outcome::Failed(error) if bench.case.answers => {
                format!("the call was not answered, but failed with \"{error}\"")
            }
            Outcome::NotReady(error) | Outcome::Failed(error) => match Marked::find(&**error) {
                Some(_) => continue,
                None => format!("the inner error is not in the sources of \"{error}\""),
            },
            other => other.text(),
        };
        tried
            .found
            .push(format!("{what} of the inner service failed: {wrong}"));
    }
}

pub(super) async fn not_polled_after_end(rig: &Rig, tried: &mut Tried) {
    for (what, plan) in [
        ("answered", Plan::answer()),
        ("answered later", Plan::answer().after_polls(1)),
        ("failed", Plan::error()),
        ("panicked", Plan::panic()),
    ] {
        let bench = rig.bench().await;
        bench.control.next(plan);
        bench.outcome(bench.call()).await;
        let polls = bench.control.counts().polls_after_end;
        if polls > 0 {
            tried.found.push(format!(
                "an inner future that had {what} was polled again, {polls} times"
            ));
        }
    }
}

pub(super) async fn calls_once(rig: &Rig, tried: &mut Tried) {
    let bench = rig.bench().await;
    if !bench.case.once {
        tried.skipped.push("not declared".to_owned());
        return;
    }
    let before = bench.control.counts().calls;
    let mut answered = 0;
    for _ in 0..3 {
        answered += usize::from(bench.outcome(bench.call()).await.is_answered());
    }
    let calls = bench.control.counts().calls - before;
    if calls != answered {
        tried.found.push(format!(
            "{calls} inner calls for {answered} that were answered"
        ));
    }
}

async fn answer_of(bench: &Bench) -> Option<Answer> {
    let mut hand = Hand::new(ready(bench.service()));
    let Polled::Ready(Ok(mut service)) = bench.finish(&mut hand).await else {
        return None;
    };
    match bench.finish(&mut Hand::new(service.call())).await {
        Polled::Ready(Ok(answer)) => Some(answer),
        _ => None,
    }
}

pub(super) async fn body_passes(rig: &Rig, tried: &mut Tried) {
    let bench = rig.bench().await;
    bench.control.trailers(true);
    let outcome = match answer_of(&bench).await {
        None => {
            tried.skipped.push("no answer".to_owned());
            return;
        }
        Some(Answer { body: None, .. }) => {
            tried.skipped.push("a response without a body".to_owned());
            return;
        }
        Some(answer) => {
            bench
                .outcome(Hand::new(finish_call(Box::pin(async { Ok(answer) }))))
                .await
        }
    };
    match outcome {
        Outcome::Answered {
            bytes, trailers, ..
        } => {
            if bytes != b"one two" {
                tried.found.push(format!(
                    "a body of `one two` arrived as `{}`",
                    String::from_utf8_lossy(&bytes)
                ));
            }
            if !trailers {
                tried.found.push("the trailers did not arrive".to_owned());
            }
        }
        other => tried.found.push(format!("a body was {}", other.text())),
    }
    // The first frame comes though the second has not.
    let bench = rig.bench().await;
    bench.control.hold_bodies(1);
    let Some(Answer {
        body: Some(mut body),
        ..
    }) = answer_of(&bench).await
    else {
        tried
            .found
            .push("no head as long as the body is not there".to_owned());
        return;
    };
    let mut first = Hand::new(async move {
        let frame = body.frame().await;
        (
            frame
                .and_then(Result::ok)
                .is_some_and(|frame| frame.is_data()),
            body,
        )
    });
    match first.poll() {
        Polled::Ready((true, _)) => {}
        _ => tried
            .found
            .push("the first frame did not come before the second".to_owned()),
    }
    bench.reset();
}
