use super::*;

/// A first call of one name, times 1,000, begun before discovery knows.
async fn a_thousand(
    bench: &Arc<Bench>,
    between: impl FnOnce(&mut Vec<JoinHandle<Answer>>),
) -> Vec<Result<Answer, tokio::task::JoinError>> {
    bench.board.set("shop", Snapshot::asking());
    let (upstreams, _) = bench.start();
    let mut calls: Vec<_> = (0..1_000)
        .map(|_| tokio::spawn(upstreams.clone().oneshot(of("shop"))))
        .collect();
    settle().await;
    assert_eq!(
        bench.made(),
        0,
        "nothing is built before discovery answered"
    );
    between(&mut calls);
    bench.know("shop");
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await);
    }
    assert_eq!(upstreams.handle().names(), [Arc::from("shop")]);
    answers
}

#[tokio::test(start_paused = true)]
async fn a_thousand_first_calls_build_once() {
    let bench = Bench::new(UpstreamsConfig::default());
    let answers = a_thousand(&bench, |_| ()).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Ok(_)))));
    assert_eq!(bench.made(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_goes_on_where_the_first_is_dropped() {
    let bench = Bench::new(UpstreamsConfig::default());
    let answers = a_thousand(&bench, |calls| {
        calls[..10].iter().for_each(JoinHandle::abort);
    })
    .await;
    assert!(answers[..10].iter().all(Result::is_err));
    assert!(
        answers[10..]
            .iter()
            .all(|answer| matches!(answer, Ok(Ok(_))))
    );
    assert_eq!(bench.made(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_builds_where_make_panics() {
    let bench = Bench::new(UpstreamsConfig::default());
    bench.panics.store(3, SeqCst);
    let answers = a_thousand(&bench, |_| ()).await;
    let panicked = answers.iter().filter(|answer| answer.is_err()).count();
    let served = answers.iter().filter(|answer| matches!(answer, Ok(Ok(_))));
    assert_eq!((panicked, served.count()), (3, 997));
    assert_eq!(bench.made(), 4);
}

#[tokio::test(start_paused = true)]
async fn all_that_wait_may_be_dropped() {
    let bench = Bench::new(UpstreamsConfig::default());
    bench.board.set("shop", Snapshot::asking());
    let (mut upstreams, _) = bench.start();
    for polls in 0..3 {
        let mut calls: Vec<_> = (0..3)
            .map(|_| Box::pin(upstreams.call(of("shop"))))
            .collect();
        for _ in 0..polls {
            assert!(calls.iter_mut().all(|call| poll(call).is_pending()));
        }
        assert_eq!(upstreams.asked(), usize::from(polls > 0));
        drop(calls);
        assert_eq!(upstreams.asked(), 0);
        assert!(bench.board.watched().is_empty());
    }
    bench.know("shop");
    assert!(call(&upstreams, "shop").await.is_ok());
    assert_eq!((bench.made(), upstreams.asked()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_answer_is_waited_for_so_long() {
    let bench = Bench::new(UpstreamsConfig::default());
    bench.board.set("shop", Snapshot::asking());
    let (upstreams, _) = bench.start();
    let began = tokio::time::Instant::now();
    let first = tokio::spawn(upstreams.clone().oneshot(of("shop")));
    tokio::time::sleep(Duration::from_millis(600)).await;
    let second = tokio::spawn(upstreams.clone().oneshot(of("shop")));
    assert_eq!(kind(&first.await.unwrap()), Some(Kind::NoEndpoint));
    assert_eq!(began.elapsed().as_millis(), 1_000);
    // The second one goes on with the question, for as long as it may wait.
    bench.know("shop");
    assert!(second.await.unwrap().is_ok());
    assert_eq!(began.elapsed().as_millis(), 1_000);
    assert_eq!((bench.made(), upstreams.handle().unknown()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn unknown_for_a_while_then_found() {
    let bench = Bench::new(UpstreamsConfig::default());
    let (upstreams, _) = bench.start();
    assert_eq!(
        kind(&call(&upstreams, "shop").await),
        Some(Kind::NoEndpoint)
    );
    bench.know("shop");
    tokio::time::sleep(Duration::from_millis(4_990)).await;
    assert_eq!(
        kind(&call(&upstreams, "shop").await),
        Some(Kind::NoEndpoint)
    );
    assert_eq!((bench.made(), upstreams.handle().unknown()), (0, 1));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(call(&upstreams, "shop").await.is_ok());
    assert_eq!((bench.made(), upstreams.handle().unknown()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_service_without_endpoints_is_known() {
    let bench = Bench::new(UpstreamsConfig::default());
    let (upstreams, _) = bench.start();
    bench.board.set("shop", Snapshot::seen([]));
    let refused = call(&upstreams, "shop").await.unwrap_err();
    assert_eq!(Rejection::find(&*refused).unwrap().layer(), "balance");
    bench.know("shop");
    settle().await;
    assert!(call(&upstreams, "shop").await.is_ok(), "its worker runs");
    assert_eq!(bench.made(), 1);
}

#[test]
fn eight_threads_build_once_and_call() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(8)
        .enable_time()
        .build()
        .unwrap();
    let bench = Bench::new(UpstreamsConfig::default());
    (0..20).for_each(|name| bench.know(&name.to_string()));
    runtime.block_on(async {
        let (upstreams, worker) = bench.start();
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let upstreams = upstreams.clone();
                tokio::spawn(async move {
                    for round in 0..2_000 {
                        let name = (round + thread) % 20;
                        assert!(call(&upstreams, &name.to_string()).await.is_ok());
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.await.unwrap();
        }
        assert_eq!((bench.made(), upstreams.handle().len()), (20, 20));
        drop(upstreams);
        worker.await.unwrap();
        assert_eq!(bench.alive(), 0);
    });
}
