//! On a `ServiceBuilder` over a protocol that is not HTTP: a request of one's own that holds an `http::Extensions`,
//! a response that says how its call went, and errors where HTTP has answers of ours.

use std::{
    borrow::Cow,
    collections::HashMap,
    pin::Pin,
    task::{Context, Poll},
};

use http::Extensions;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_chassis::{
    BoxError, Carrier, Rejection, Verdict, bulkhead::BulkheadLayer, hedge::HedgeLayer,
    mirror::MirrorLayer, retry::RetryLayer, verdict::Outcome,
};

use crate::{
    backend::{Answer, Ask, Backend},
    rows::{self, Row},
};

#[derive(Clone, Debug)]
struct Frame {
    ask: Ask,
    meta: HashMap<&'static str, String>,
    extensions: Extensions,
}

impl Carrier for Frame {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
    fn meta(&self, name: &str) -> Option<&str> {
        self.meta.get(name).map(String::as_str)
    }
    fn set_meta(&mut self, name: &'static str, value: Cow<'_, str>) -> bool {
        self.meta.insert(name, value.into_owned());
        true
    }
    fn is_idempotent(&self) -> bool {
        true
    }
}

struct Reply(Answer);

impl Outcome for Reply {
    fn verdict(&self) -> Verdict {
        match self.0 {
            Answer::Ok => Verdict::SUCCESS,
            _ => Verdict::FAILURE,
        }
    }
}

#[derive(Clone)]
struct Wire(Backend);

impl Service<Frame> for Wire {
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, frame: Frame) -> Self::Future {
        let backend = self.0.clone();
        Box::pin(async move {
            let told = frame.meta.contains_key("x-request-timeout-ms");
            Ok(Reply(
                backend.answer(frame.ask, told, &frame.extensions).await,
            ))
        })
    }
}

async fn run<L>(row: Row<L>)
where
    L: Layer<Wire>,
    L::Service: Service<Frame, Response = Reply, Error: Into<BoxError>> + Clone,
{
    let backend = Backend::default();
    let service = ServiceBuilder::new()
        .layer(row.layer)
        .service(Wire(backend.clone()));
    let ask = async |ask: Ask| {
        let frame = Frame {
            ask,
            meta: HashMap::new(),
            extensions: Extensions::new(),
        };
        match service.clone().oneshot(frame).await.map_err(Into::into) {
            Ok(Reply(answer)) => answer,
            Err(error) => {
                let rejection = Rejection::find(&*error).expect("a refusal of ours");
                Answer::of_status(rejection.kind().status())
            }
        }
    };
    row.play.act(&backend, ask).await;
}

async fn shadow(_: Frame) -> Result<Reply, BoxError> {
    Ok(Reply(Answer::Ok))
}

rows! { run;
    timeout: rows::timeout(),
    retry: rows::retry().with(RetryLayer::clone_body),
    caller_attempt: rows::caller_attempt::<Frame>(),
    hedge: rows::hedge().with(HedgeLayer::clone_body),
    breaker: rows::breaker(),
    rate_limit: rows::rate_limit(),
    balance: rows::balance(),
    bulkhead: rows::bulkhead(),
    bulkhead_deadlines: rows::bulkhead().with(BulkheadLayer::deadlines),
    adaptive: rows::adaptive(),
    shed: rows::shed(),
    fault: rows::fault(),
    mirror: rows::mirror(tower::service_fn(shadow)).with(MirrorLayer::clone_request),
    accept: rows::accept(),
    propagate: rows::propagate(),
    fallback: rows::fallback(|_| Reply(Answer::Ok)),
    call_metrics: rows::call_metrics(),
}
