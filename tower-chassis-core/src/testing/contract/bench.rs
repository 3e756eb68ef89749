use std::{future::poll_fn, time::Duration};

use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{
    Case,
    script::Script,
    subject::{Answer, AnyCall, Subject},
};
use crate::{
    BoxError,
    testing::{
        Control, Marked, Plan,
        hand::{Hand, Polled, settle},
    },
};

/// How long, of the paused clock, anything may take: every timer of a layer has fired by then.
pub(super) const LONG: Duration = Duration::from_secs(3600);

/// How a call ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Read to its end, with the bytes and whether trailers came.
    Answered {
        summary: String,
        bytes: Vec<u8>,
        trailers: bool,
    },
    NotReady(BoxError),
    Failed(BoxError),
    BrokenBody,
    Panicked,
    /// Nothing more happened.
    Hung,
}

impl Outcome {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Answered { summary, .. } => summary.clone(),
            Self::NotReady(error) => format!("not ready: {}", name(error)),
            Self::Failed(error) => format!("failed: {}", name(error)),
            Self::BrokenBody => "broken body".to_owned(),
            Self::Panicked => "panicked".to_owned(),
            Self::Hung => "hung".to_owned(),
        }
    }

    pub(super) const fn is_answered(&self) -> bool {
        matches!(self, Self::Answered { .. })
    }
}

fn name(error: &BoxError) -> String {
    match Marked::find(&**error) {
        Some(_) => "the inner error".to_owned(),
        None => error.to_string(),
    }
}

/// Makes the service ready and hands it back.
pub(super) async fn ready(mut service: Box<dyn Subject>) -> Result<Box<dyn Subject>, BoxError> {
    poll_fn(|cx| service.poll_ready(cx)).await?;
    Ok(service)
}

/// Reads a body; `Err` if it broke.
pub(super) async fn read(answer: Answer) -> Result<(Vec<u8>, bool), BoxError> {
    let (mut bytes, mut trailers) = (Vec::new(), false);
    let Answer { body, rest, .. } = answer;
    if let Some(mut body) = body {
        while let Some(frame) = body.frame().await {
            let frame = frame?;
            trailers |= frame.is_trailers();
            if let Some(data) = frame.data_ref() {
                bytes.extend_from_slice(data);
            }
        }
    }
    drop(rest);
    Ok((bytes, trailers))
}

/// A whole call: readiness, the future, the body.
pub(super) async fn whole(service: Box<dyn Subject>) -> Outcome {
    let mut service = match ready(service).await {
        Ok(service) => service,
        Err(error) => return Outcome::NotReady(error),
    };
    let future = service.call();
    // The caller has its future; the instance goes.
    drop(service);
    finish_call(future).await
}

pub(super) async fn finish_call(future: AnyCall) -> Outcome {
    match future.await {
        Err(error) => Outcome::Failed(error),
        Ok(answer) => {
            let summary = answer.summary.clone();
            match read(answer).await {
                Ok((bytes, trailers)) => Outcome::Answered {
                    summary,
                    bytes,
                    trailers,
                },
                Err(_) => Outcome::BrokenBody,
            }
        }
    }
}

/// What is held now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Holding {
    /// By the layer's own account.
    pub(super) probe: Option<String>,
    /// Of the inner service: ready instances, calls in flight, bodies.
    pub(super) inner: [usize; 3],
}

impl std::fmt::Display for Holding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [reserved, in_flight, bodies] = self.inner;
        if let Some(probe) = &self.probe {
            write!(f, "the layer holds {probe}; ")?;
        }
        write!(
            f,
            "the inner service has {reserved} ready instances unused, {in_flight} calls in flight, {bodies} bodies"
        )
    }
}

/// A case that was set up, with a service that is never readied nor called itself.
pub(super) struct Bench {
    pub(super) case: Case,
    pub(super) control: Control,
    base: Box<dyn Subject>,
    blocks: bool,
}

impl Bench {
    pub(super) async fn new(case: Case, control: Control, blocks: bool) -> Self {
        let base = (case.service)();
        let bench = Self {
            case,
            control,
            base,
            blocks,
        };
        if !bench.case.before.is_empty() {
            let mut script = Script::default();
            for step in &bench.case.before {
                script.step(&bench, *step, bench.service()).await;
            }
            settle().await;
        }
        bench
    }

    /// A clone of the service.
    pub(super) fn service(&self) -> Box<dyn Subject> {
        self.base.duplicate()
    }

    /// Another service of the same layer; another clone where there is no layer.
    pub(super) fn another(&self) -> Box<dyn Subject> {
        (self.case.service)()
    }

    pub(super) fn call(&self) -> Hand<Outcome> {
        Hand::new(whole(self.service()))
    }

    pub(super) fn future_size(&self) -> usize {
        self.base.future_size()
    }

    pub(super) fn holding(&self) -> Holding {
        let counts = self.control.counts();
        Holding {
            probe: self.case.held.as_ref().map(|held| held()),
            inner: [counts.reserved, counts.in_flight, counts.bodies],
        }
    }

    /// What is held while calls are under way.
    pub(super) fn holding_now(&self) -> Holding {
        if self.blocks {
            let counts = self.control.counts();
            return Holding {
                probe: None,
                inner: [counts.reserved, counts.in_flight, counts.bodies],
            };
        }
        self.holding()
    }

    /// Says what is different from `before`, and whether the layer's limit can still be reached.
    pub(super) async fn leaked(&self, before: &Holding) -> Option<String> {
        settle().await;
        let after = self.holding();
        if after != *before {
            return Some(format!("before, {before}; after, {after}"));
        }
        // Without a probe of its own, the limit tells.
        let limit = self.case.limit.filter(|_| self.case.held.is_none())?;
        self.reset();
        self.control.plan(Plan::answer().held());
        let mut calls: Vec<_> = (0..limit).map(|_| self.call()).collect();
        for call in &mut calls {
            self.poll_through(call);
        }
        let got = self.control.counts().in_flight;
        (got < limit).then(|| format!("after, only {got} of {limit} calls reach the inner service"))
    }

    /// The inner service answers everything.
    pub(super) fn reset(&self) {
        self.control.plan(Plan::answer());
        self.control.open();
        self.control.release_bodies();
    }

    /// Polls as long as it is woken, a hundred times at most; nothing else happens meanwhile.
    pub(super) fn poll_through(&self, hand: &mut Hand<Outcome>) -> Option<Outcome> {
        for _ in 0..100 {
            if !hand.is_woken() {
                break;
            }
            match hand.poll() {
                Polled::Ready(outcome) => return Some(outcome),
                Polled::Panicked => return Some(Outcome::Panicked),
                Polled::Pending => {}
            }
        }
        None
    }

    /// Runs it to its end: calls that wait for polls are nudged, timers fire.
    pub(super) async fn finish<T>(&self, hand: &mut Hand<T>) -> Polled<T> {
        for _ in 0..1000 {
            match hand.poll() {
                Polled::Pending => {}
                over => return over,
            }
            if !self.next_wake(hand).await {
                return Polled::Pending;
            }
        }
        Polled::Pending
    }

    /// Nudges, lets tasks run, then time: until it is woken, or nothing more happens.
    pub(super) async fn next_wake<T>(&self, hand: &Hand<T>) -> bool {
        if !hand.is_woken() {
            self.control.nudge();
        }
        hand.is_woken() || timeout(LONG, hand.woken()).await.is_ok()
    }

    pub(super) async fn outcome(&self, mut hand: Hand<Outcome>) -> Outcome {
        match self.finish(&mut hand).await {
            Polled::Ready(outcome) => outcome,
            Polled::Panicked => Outcome::Panicked,
            Polled::Pending => Outcome::Hung,
        }
    }
}

/// Runs all that are woken, and only those, until all are over or nothing happens for long.
pub(super) async fn run_woken(bench: &Bench, hands: &mut [Hand<Outcome>]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut rounds = 0;
    loop {
        for hand in hands.iter_mut().filter(|hand| hand.is_woken()) {
            outcomes.extend(bench.poll_through(hand));
        }
        rounds += 1;
        // A layer that wakes itself must not keep the suite for ever; another law finds it.
        if rounds > 200 || hands.iter().all(Hand::is_over) {
            return outcomes;
        }
        let woken = poll_fn(|cx| {
            let any = hands.iter().filter(|hand| !hand.is_over()).any(|hand| {
                let mut woken = std::pin::pin!(hand.woken());
                woken.as_mut().poll(cx).is_ready()
            });
            if any {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        });
        if timeout(LONG, woken).await.is_err() {
            return outcomes;
        }
    }
}
