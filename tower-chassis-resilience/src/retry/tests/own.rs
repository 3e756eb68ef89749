//! A protocol of one's own: no word of HTTP in it.

use http::Extensions;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_chassis_core::{
    Carrier, Class, Endpoint, Invocation, Verdict,
    discover::{Discover, StaticDiscover},
    verdict::Outcome,
};

use super::*;
use crate::{
    balance::{Balance, RoundRobin},
    breaker::{BreakerConfig, BreakerLayer, BreakerPolicy},
    timeout::{TimeoutLayer, TimeoutPolicy},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Ask {
    read_only: bool,
    grpc: bool,
    previous: Option<String>,
    extensions: Extensions,
}

impl Carrier for Ask {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
    fn is_idempotent(&self) -> bool {
        self.read_only
    }
    fn meta(&self, name: &str) -> Option<&str> {
        (name == "content-type" && self.grpc).then_some("application/grpc+own")
    }
    fn set_meta(&mut self, name: &'static str, value: std::borrow::Cow<'_, str>) -> bool {
        if name == "grpc-previous-rpc-attempts" {
            self.previous = Some(value.into_owned());
        }
        true
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Reply {
    Done,
    Wrong,
    Failed,
    Late,
    Busy(Duration),
    Leave,
}

impl Outcome for Reply {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Done => Verdict::SUCCESS,
            Self::Wrong => Verdict::new(Class::ClientFault),
            Self::Failed => Verdict::FAILURE,
            Self::Late => Verdict::TIMEOUT,
            Self::Busy(wait) => Verdict::new(Class::RateLimited).with_retry_after(*wait),
            Self::Leave => Verdict::FAILURE.without_retry(),
        }
    }
}

fn ask(read_only: bool) -> Ask {
    Ask {
        read_only,
        ..Ask::default()
    }
}

/// How often a call that always ends so is made, and how long all of it takes.
async fn attempts(
    request: Ask,
    script: impl Fn() -> Result<Reply, BoxError> + Clone,
) -> (u32, Duration) {
    let (made, start) = (std::cell::Cell::new(0), Instant::now());
    let inner = service_fn(|_: Ask| {
        made.set(made.get() + 1);
        std::future::ready(script())
    });
    let _ = layer().clone_body().layer(inner).oneshot(request).await;
    (made.get(), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn its_requests_and_answers_say_what_is_tried_again() {
    for (reply, again) in [
        (Reply::Done, false),
        (Reply::Wrong, false),
        (Reply::Failed, true),
        (Reply::Late, true),
        (Reply::Busy(ms(900)), true),
        (Reply::Busy(ms(1_100)), false),
        (Reply::Leave, false),
    ] {
        for read_only in [false, true] {
            let (made, _) = attempts(ask(read_only), move || Ok(reply)).await;
            let expected = if again && read_only { 3 } else { 1 };
            assert_eq!(made, expected, "{reply:?} {read_only}");
        }
    }
    for (kind, unsent) in [(Kind::Unreachable, true), (Kind::Reset, false)] {
        for read_only in [false, true] {
            let (made, _) = attempts(
                ask(read_only),
                move || Err(Rejection::new(kind, "x").into()),
            )
            .await;
            // One more for what never left us.
            let expected = match (unsent, read_only) {
                (true, _) => 4,
                (false, true) => 3,
                (false, false) => 1,
            };
            assert_eq!(made, expected, "{kind:?} {read_only}");
        }
    }
    let (_, elapsed) = attempts(ask(true), || Ok(Reply::Busy(ms(500)))).await;
    assert!((ms(1_000)..ms(1_110)).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn each_attempt_knows_its_number_and_what_was_tried() {
    let run = async |layer: RetryLayer, request: Ask| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&log);
        let inner = service_fn(move |request: Ask| {
            seen.lock().unwrap().push(match request.invocation() {
                None => "none".to_owned(),
                Some(invocation) => {
                    let attempt = invocation.attempt();
                    let tried: Vec<_> = (11..15).filter(|key| invocation.has_tried(*key)).collect();
                    invocation.note_endpoint(10 + u64::from(attempt));
                    format!("{attempt} {tried:?} {:?}", request.previous)
                }
            });
            std::future::ready(Ok::<_, BoxError>(Reply::Failed))
        });
        let service = layer.clone_body().layer(inner);
        assert_eq!(service.oneshot(request).await.unwrap(), Reply::Failed);
        let log = log.lock().unwrap();
        log.clone()
    };
    let plain = ["1 [] None", "2 [11] None", "3 [11, 12] None"];
    assert_eq!(run(layer(), ask(true)).await, plain);
    let mut with = ask(true);
    with.invocation_mut().set_service("own".into());
    assert_eq!(run(layer(), with).await, plain);
    assert_eq!(run(layer().untracked(), ask(true)).await, ["none"; 3]);
    // Whose content type is gRPC's is told how often it was tried.
    let grpc = Ask {
        grpc: true,
        ..ask(true)
    };
    assert_eq!(
        run(layer(), grpc).await,
        ["1 [] None", "2 [11] Some(\"1\")", "3 [11, 12] Some(\"2\")"]
    );
}

/// The whole client's stack over it: three endpoints, two of which are broken each in its own way.
#[tokio::test(start_paused = true)]
async fn it_runs_under_deadline_retry_balance_and_breaker() {
    let discover = StaticDiscover::new();
    let endpoints = [
        "http://10.0.0.1:1",
        "http://10.0.0.2:2",
        "http://10.0.0.3:3",
    ];
    discover.set(
        "own",
        endpoints.map(|address| Endpoint::new(address).unwrap()),
    );
    let log = Arc::new(Mutex::new(Vec::<(u32, String)>::new()));
    let seen = Arc::clone(&log);
    let rows = BreakerConfig {
        failure_rate: 0.0,
        ..BreakerConfig::default()
    };
    let breaker = BreakerLayer::new(BreakerPolicy::try_from(rows).unwrap());
    let (balance, worker) = Balance::new(
        discover.watch("own"),
        move |make| {
            let address = make.endpoint().address().to_string();
            let seen = Arc::clone(&seen);
            breaker
                .fresh()
                .gate(make.gate().clone())
                .layer(service_fn(move |request: Ask| {
                    let attempt = request.invocation().map_or(0, Invocation::attempt);
                    seen.lock().unwrap().push((attempt, address.clone()));
                    std::future::ready(match address.trim_end_matches('/').as_bytes().last() {
                        Some(b'1') => Ok(Reply::Failed),
                        Some(b'2') => Err(BoxError::from(Rejection::new(Kind::Unreachable, "own"))),
                        _ => Ok(Reply::Done),
                    })
                }))
        },
        RoundRobin::default(),
    );
    worker.spawn();
    let retry = layer().clone_body();
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::total(TimeoutPolicy::new(ms(5_000)).unwrap()))
        .layer(retry.clone())
        .layer(TimeoutLayer::per_try(TimeoutPolicy::new(ms(500)).unwrap()))
        .service(balance);
    for _ in 0..50 {
        let reply = service.clone().oneshot(ask(true)).await.unwrap();
        assert_eq!(reply, Reply::Done);
        let tried = mem::take(&mut *log.lock().unwrap());
        assert!(tried.iter().zip(1..).all(|((attempt, _), n)| *attempt == n));
        let places: std::collections::HashSet<_> = tried.iter().map(|(_, at)| at).collect();
        assert_eq!(places.len(), tried.len(), "each elsewhere: {tried:?}");
    }
    let retries = retry.handle().retries();
    // The breakers shut both of the broken ones.
    assert!((2..50).contains(&retries), "{retries}");
}

/// A request that is no `Clone`: a stream of parts that only its source can open again.
struct Upload {
    parts: std::vec::IntoIter<u8>,
    extensions: Extensions,
}

impl Carrier for Upload {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
    fn is_idempotent(&self) -> bool {
        true
    }
}

/// Opens an upload again, if it has no more parts than the limit.
#[derive(Clone)]
struct Reopened;

impl Replay<Upload> for Reopened {
    type Request = Upload;
    type Source = (Vec<u8>, Extensions);

    fn once(&self, request: Upload) -> Upload {
        request
    }
    fn split(&self, request: Upload, limit: usize, _: bool) -> (Upload, Option<Self::Source>) {
        let parts = request.parts.as_slice();
        let source = (parts.len() <= limit).then(|| (parts.to_vec(), request.extensions.clone()));
        (request, source)
    }
    fn again(&self, source: &mut Self::Source, last: bool) -> Option<Upload> {
        let (parts, extensions) = if last {
            mem::take(source)
        } else {
            source.clone()
        };
        Some(Upload {
            parts: parts.into_iter(),
            extensions,
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_cloned_is_sent_again_by_a_replay_of_its_own() {
    let config = RetryConfig {
        body_limit: 3,
        ..RetryConfig::default()
    };
    for (parts, expected) in [(vec![1, 2, 3], 3), (vec![1, 2, 3, 4], 1)] {
        let sent = std::cell::RefCell::new(Vec::new());
        let inner = service_fn(|request: Upload| {
            let attempt = request.invocation().map(Invocation::attempt);
            sent.borrow_mut().push((attempt, request.parts.collect()));
            std::future::ready(Ok::<_, BoxError>(Reply::Failed))
        });
        let upload = Upload {
            parts: parts.clone().into_iter(),
            extensions: Extensions::new(),
        };
        let layer = RetryLayer::new(policy(config.clone())).replay(Reopened);
        layer.layer(inner).oneshot(upload).await.unwrap();
        let expected: Vec<_> = match expected {
            1 => vec![(None, parts)],
            _ => (1..=3).map(|n| (Some(n), parts.clone())).collect(),
        };
        assert_eq!(sent.into_inner(), expected);
    }
}
