//! 26: when a fallback answers, and whom a backup keeps waiting.

use std::{
    future::{Future, Ready, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::Response;
use tokio::time::{Sleep, sleep};
use tower::{Layer, Service};
use tower_chassis::{
    Body, BoxError, Kind, Rejection,
    fallback::{ByFn, Failure, Fallback, FallbackLayer},
};

use crate::{
    plain::{Ask, Failed, Of, Plain, Said, Subject, call, is_service},
    script::{Answer, Script},
};

/// A pool that is closed, or whatever else is never ready again.
#[derive(Clone, Debug)]
pub struct Closed;

impl Service<Ask> for Closed {
    type Response = Said;
    type Error = Failed;
    type Future = Ready<Result<Said, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let rejection = Rejection::new(Kind::Unreachable, "pool");
        Poll::Ready(Err(BoxError::from(rejection).into()))
    }

    fn call(&mut self, _: Ask) -> Self::Future {
        unreachable!("it is never ready")
    }
}

/// A backup whose first readiness takes ten seconds; every other is there at once.
#[derive(Debug, Default)]
pub struct SlowOnce {
    asked: Arc<AtomicUsize>,
    waits: Option<Pin<Box<Sleep>>>,
    ready: bool,
}

impl Clone for SlowOnce {
    fn clone(&self) -> Self {
        Self {
            asked: Arc::clone(&self.asked),
            ..Self::default()
        }
    }
}

impl Service<Ask> for SlowOnce {
    type Response = Said;
    type Error = Failed;
    type Future = Ready<Result<Said, Failed>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if !self.ready && self.waits.is_none() && self.asked.fetch_add(1, SeqCst) == 0 {
            self.waits = Some(Box::pin(sleep(Duration::from_secs(10))));
        }
        if let Some(waits) = &mut self.waits {
            std::task::ready!(waits.as_mut().poll(cx));
            self.waits = None;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Ask) -> Self::Future {
        assert!(std::mem::take(&mut self.ready));
        ready(Ok(Response::new(())))
    }
}

/// Whether a call is answered by a fallback over [`Closed`].
pub async fn answered<S: Subject>(service: S) -> bool {
    call(service, "/").await.is_ok()
}

/// Of five callers of a service that fails, with [`SlowOnce`] behind it, how many still wait after a second.
pub async fn waiting<S: Subject>(service: S, script: &Script) -> usize {
    script.answer(Answer::Reset);
    let callers = [(); 5].map(|()| tokio::spawn(call(service.clone(), "/")));
    sleep(Duration::from_secs(1)).await;
    let waiting = callers.iter().filter(|caller| !caller.is_finished());
    let waiting = waiting.count();
    for caller in callers {
        assert!(caller.await.unwrap().is_ok());
    }
    waiting
}

/// Whether it answers when the inner service will never be ready.
pub async fn ours_answers_over_closed() -> bool {
    answered(FallbackLayer::value(Said::default()).layer(Closed)).await
}

/// Of five callers, how many a readiness keeps waiting.
pub async fn ours_waiting() -> usize {
    let script = Script::default();
    let layer = FallbackLayer::service(SlowOnce::default()).clone_body();
    waiting(layer.layer(Plain::new(&script)), &script).await
}

type Answering = ByFn<fn(Failure) -> Response<Body>>;
/// Whether responses may have bodies that cannot be cloned.
pub const OURS_TAKES_A_BODY: bool = is_service!(Fallback<Of<Response<Body>, Failed>, Answering>);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fault_26_a_readiness_that_fails_is_answered_too() {
        assert!(ours_answers_over_closed().await);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_26_one_slow_readiness_of_the_backup_keeps_one_waiting() {
        assert_eq!(ours_waiting().await, 1);
    }

    #[test]
    fn fault_26_a_response_need_not_be_cloned() {
        const { assert!(OURS_TAKES_A_BODY) }
    }
}
