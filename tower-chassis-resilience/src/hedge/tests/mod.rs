use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use http::Extensions;
use tokio::time::{Instant, sleep};
use tower_chassis_core::{
    BoxError, Carrier, Class, Invocation, Kind, Rejection, Verdict, cause, verdict::Outcome,
};
use tower_layer::Layer;
use tower_service::Service;

use super::*;

mod bodies;
mod calls;
mod ends;
mod latency;
mod measured;
mod model;
mod tail;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A request of a protocol of one's own.
#[derive(Clone, Default)]
struct Ask {
    extensions: Extensions,
    unsafe_to_repeat: bool,
}

impl Carrier for Ask {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
    fn is_idempotent(&self) -> bool {
        !self.unsafe_to_repeat
    }
}

/// Whose answer it is, and how it is judged. Not `Clone`.
#[derive(Debug, PartialEq)]
struct Said {
    attempt: usize,
    verdict: Verdict,
}

impl Outcome for Said {
    fn verdict(&self) -> Verdict {
        self.verdict
    }
}

/// What an attempt does.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Milliseconds until its answer.
    after: u64,
    says: Says,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    Verdict(Verdict),
    Refusal,
    Panic,
}

const fn says(after: u64, verdict: Verdict) -> Plan {
    Plan {
        after,
        says: Says::Verdict(verdict),
    }
}

const fn good(after: u64) -> Plan {
    says(after, Verdict::SUCCESS)
}

const fn bad(after: u64) -> Plan {
    says(after, Verdict::FAILURE)
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Running,
    Ended,
    /// Dropped, and told so.
    Dropped(Option<Class>),
}

#[derive(Clone, Debug, PartialEq)]
struct Attempt {
    /// Milliseconds after the upstream was made.
    at: u64,
    /// As its invocation says.
    number: Option<u32>,
    fate: Fate,
}

/// Answers attempt after attempt by a script, and panics when it is called unready.
struct Upstream {
    script: Arc<dyn Fn(usize) -> Plan + Send + Sync>,
    seen: Arc<Mutex<Vec<Attempt>>>,
    /// How long a clone takes to be ready, and whether it fails then.
    readies: Option<(Duration, bool)>,
    readying: Option<Pin<Box<tokio::time::Sleep>>>,
    begun: Instant,
    ready: bool,
}

impl Upstream {
    fn new(script: impl Fn(usize) -> Plan + Send + Sync + 'static) -> Self {
        Self {
            script: Arc::new(script),
            seen: Arc::default(),
            readies: None,
            readying: None,
            begun: Instant::now(),
            ready: false,
        }
    }

    /// The first attempt does this, the second that, and so on; the last is repeated.
    fn plans(plans: impl Into<Vec<Plan>>) -> Self {
        let plans = plans.into();
        Self::new(move |n| plans[n.min(plans.len() - 1)])
    }

    fn seen(&self) -> Vec<Attempt> {
        self.seen.lock().unwrap().clone()
    }

    fn fates(&self) -> Vec<Fate> {
        self.seen().iter().map(|attempt| attempt.fate).collect()
    }

    fn began(&self) -> Vec<u64> {
        self.seen().iter().map(|attempt| attempt.at).collect()
    }
}

impl Clone for Upstream {
    fn clone(&self) -> Self {
        Self {
            script: Arc::clone(&self.script),
            seen: Arc::clone(&self.seen),
            readies: self.readies,
            readying: None,
            begun: self.begun,
            ready: false,
        }
    }
}

/// Writes down what becomes of an attempt.
struct Watch {
    seen: Arc<Mutex<Vec<Attempt>>>,
    attempt: usize,
    over: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let fate = if self.over {
            Fate::Ended
        } else {
            Fate::Dropped(cause::current().map(Verdict::class))
        };
        self.seen.lock().unwrap()[self.attempt].fate = fate;
    }
}

impl Service<Ask> for Upstream {
    type Response = Said;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Said, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The first attempt's is ready at once.
        if !self.seen.lock().unwrap().is_empty()
            && let Some((wait, fails)) = self.readies
        {
            let readying = self.readying.get_or_insert_with(|| Box::pin(sleep(wait)));
            std::task::ready!(readying.as_mut().poll(cx));
            if fails {
                return Poll::Ready(Err("never ready".into()));
            }
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        assert!(mem::take(&mut self.ready), "called unready");
        let attempt = {
            let mut seen = self.seen.lock().unwrap();
            seen.push(Attempt {
                at: u64::try_from(self.begun.elapsed().as_millis()).unwrap(),
                number: ask.invocation().map(Invocation::attempt),
                fate: Fate::Running,
            });
            seen.len() - 1
        };
        let watch = Watch {
            seen: Arc::clone(&self.seen),
            attempt,
            over: false,
        };
        let plan = (self.script)(attempt);
        Box::pin(async move {
            // All of it, and not a copy of the field that is used.
            let mut watch = watch;
            if plan.after > 0 {
                sleep(ms(plan.after)).await;
            }
            watch.over = true;
            match plan.says {
                Says::Verdict(verdict) => Ok(Said { attempt, verdict }),
                Says::Refusal => Err(Rejection::new(Kind::Overloaded, "below").into()),
                Says::Panic => panic!("planted"),
            }
        })
    }
}

/// One hedge after 20 ms, and as many as a test may want.
fn after_20() -> HedgePolicy {
    let policy = HedgePolicy::after(ms(20)).unwrap().with(|config| {
        config.budget_min_per_second = 1e6;
        config.budget_min_in_flight = 1_000;
    });
    policy.unwrap()
}

type Layered = HedgeLayer<crate::retry::Cloned>;

fn layer(policy: HedgePolicy) -> Layered {
    HedgeLayer::new(policy).clone_body()
}

/// Makes a call through `layer`, as `oneshot` does.
async fn send(layer: &Layered, upstream: &Upstream, ask: Ask) -> Result<Said, BoxError> {
    let mut service = layer.layer(upstream.clone());
    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(ask).await
}
