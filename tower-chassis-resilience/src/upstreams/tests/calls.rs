use http::Extensions;
use tower_chassis_core::boxed::SharedService;

use super::*;

#[test]
fn a_name_is_the_service_else_the_authority() {
    let name = |uri: &str| {
        let request = Request::get(uri).header("host", "chosen").body(()).unwrap();
        request.upstream().map(Cow::into_owned)
    };
    assert_eq!(name("/items"), None);
    assert_eq!(name("http://shop/items").unwrap(), "shop");
    assert_eq!(name("http://me:pw@SHOP.test:80/").unwrap(), "shop.test:80");
    let mut request = of("elsewhere");
    request.invocation_mut().set_service(Arc::from("Shop"));
    assert_eq!(request.upstream().unwrap(), "Shop");
    assert!(matches!(of("shop").upstream(), Some(Cow::Borrowed(_))));
}

struct Command {
    to: &'static str,
    extensions: Extensions,
}

impl Carrier for Command {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
}

impl Named for Command {
    fn upstream(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.to))
    }
}

#[tokio::test]
async fn a_protocol_of_its_own() {
    let board = Board::new(Snapshot::unknown());
    board.set("Printer", Snapshot::sure([endpoint("http://printer:1")]));
    let (upstreams, worker) = Upstreams::new(
        board,
        |upstream: &Upstream<'_>| {
            let name = Arc::clone(upstream.name());
            let (balance, worker) = Balance::new(
                upstream.watch(),
                move |_| {
                    let name = Arc::clone(&name);
                    tower::service_fn(move |_: Command| {
                        std::future::ready(Ok::<_, BoxError>(name.len()))
                    })
                },
                Picker::default(),
            );
            Built::new(balance.classify_fn(|_: Result<&usize, &BoxError>| {
                tower_chassis_core::Verdict::new(tower_chassis_core::Class::Success)
            }))
            .worker(worker)
        },
        UpstreamsPolicy::default(),
    );
    let worker = worker.spawn();
    let command = |to| Command {
        to,
        extensions: Extensions::new(),
    };
    let answer = upstreams.clone().oneshot(command("Printer")).await;
    assert_eq!(answer.unwrap(), 7);
    let refused = upstreams.clone().oneshot(command("printer")).await;
    assert!(refused.is_err(), "names are compared as they are");
    drop(upstreams);
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn other_bodies_and_changes_of_the_endpoints() {
    let bench = Bench::new(UpstreamsConfig::default());
    bench.know("shop");
    let (upstreams, _) = bench.start();
    let channel = upstreams.for_body::<http_body_util::Full<bytes::Bytes>>();
    let request = || Request::get("http://shop/").body("x".to_owned().into());
    let answer = channel.clone().oneshot(request().unwrap()).await.unwrap();
    let body = http_body_util::BodyExt::collect(answer.into_body()).await;
    assert_eq!(body.unwrap().to_bytes(), "http://10.0.0.1:80/");

    let moved = Snapshot::sure([endpoint("http://10.0.0.2:80")]);
    bench.board.set("shop", moved);
    settle().await;
    let answer = channel.oneshot(request().unwrap()).await.unwrap();
    let body = http_body_util::BodyExt::collect(answer.into_body()).await;
    assert_eq!(body.unwrap().to_bytes(), "http://10.0.0.2:80/");
    assert_eq!(bench.made(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_takes_no_other_down() {
    let board = Board::new(Snapshot::unknown());
    board.set("a", Snapshot::sure([]));
    board.set("b", Snapshot::sure([]));
    let ended = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&ended);
    let (upstreams, worker) = Upstreams::new(
        board,
        move |upstream: &Upstream<'_>| {
            let (name, ended) = (Arc::clone(upstream.name()), Arc::clone(&ended));
            Built::new(tower::service_fn(|_: Request<Body>| {
                std::future::ready(Ok::<_, BoxError>(Response::new(Body::empty())))
            }))
            .worker(async move {
                assert_ne!(&*name, "a", "as it was told to");
                ended.fetch_add(1, SeqCst);
            })
        },
        UpstreamsPolicy::default(),
    );
    let worker = worker.spawn();
    assert!(call(&upstreams, "a").await.is_ok());
    assert!(call(&upstreams, "b").await.is_ok());
    drop(upstreams);
    worker.await.unwrap();
    assert_eq!(seen.load(SeqCst), 1);
}

/// Ready at the second poll, and only the one that was readied may be called.
#[derive(Default)]
struct Late {
    polls: u8,
}

impl Clone for Late {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<Body>> for Late {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.polls += 1;
        cx.waker().wake_by_ref();
        if self.polls < 2 {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        assert_eq!(self.polls, 2);
        std::future::ready(Ok(Response::new(Body::empty())))
    }
}

#[tokio::test]
async fn the_clone_that_is_readied_is_called() {
    let shared = SharedService::new(Late::default());
    for _ in 0..3 {
        assert!(shared.serve(of("x")).await.is_ok());
        assert!(shared.clone().oneshot(of("x")).await.is_ok());
    }
    let broken = SharedService::new(tower::util::BoxCloneSyncService::new(tower::service_fn(
        |_: Request<Body>| std::future::ready(Err::<Response<Body>, BoxError>("no".into())),
    )));
    assert_eq!(broken.serve(of("x")).await.unwrap_err().to_string(), "no");
}
