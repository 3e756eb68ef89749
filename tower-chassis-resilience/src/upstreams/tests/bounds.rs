use super::*;

#[tokio::test(start_paused = true)]
async fn hostile_names_take_no_memory_and_harm_nobody() {
    let bench = Bench::new(UpstreamsConfig::default());
    bench.know("shop");
    let (upstreams, _) = bench.start();
    assert!(call(&upstreams, "shop").await.is_ok());
    for name in 0..100_000 {
        let refused = call(&upstreams, &format!("h{name}")).await;
        assert_eq!(kind(&refused), Some(Kind::NoEndpoint));
        if name % 1_000 == 0 {
            assert!(call(&upstreams, "shop").await.is_ok());
        }
    }
    let handle = upstreams.handle();
    assert_eq!((handle.len(), handle.unknown()), (1, 1_024));
    assert_eq!((bench.made(), upstreams.asked()), (1, 0));
    assert_eq!(bench.board.watched(), [Arc::from("shop")]);
    // What is remembered is forgotten in time.
    tokio::time::sleep(Duration::from_secs(80)).await;
    assert_eq!(handle.unknown(), 0);
}

#[tokio::test(start_paused = true)]
async fn names_that_wait_for_discovery_are_bounded() {
    let config = UpstreamsConfig {
        max_names: 10,
        ..UpstreamsConfig::default()
    };
    let bench = Bench::new(config);
    bench.know("shop");
    let (mut upstreams, _) = bench.start();
    assert!(call(&upstreams, "shop").await.is_ok());
    let mut waiting = Vec::new();
    for name in 0..100 {
        bench.board.set(&format!("h{name}"), Snapshot::asking());
        let mut call = Box::pin(upstreams.call(of(&format!("h{name}"))));
        match poll(&mut call) {
            Poll::Pending => waiting.push(call),
            Poll::Ready(answer) => assert_eq!(kind(&answer), Some(Kind::NoEndpoint)),
        }
    }
    assert_eq!((waiting.len(), upstreams.asked()), (10, 10));
    assert!(call(&upstreams, "shop").await.is_ok());
    drop(waiting);
    assert_eq!(upstreams.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn names_that_are_none_are_refused_unseen() {
    let bench = Bench::new(UpstreamsConfig::default());
    let (upstreams, _) = bench.start();
    let refused = upstreams.clone().oneshot(Request::new(Body::empty())).await;
    assert_eq!(kind(&refused), Some(Kind::NoEndpoint));
    let long = "a".repeat(256);
    assert_eq!(kind(&call(&upstreams, &long).await), Some(Kind::NoEndpoint));
    assert_eq!(upstreams.handle().unknown(), 0);
    let longest = "a".repeat(255);
    assert_eq!(
        kind(&call(&upstreams, &longest).await),
        Some(Kind::NoEndpoint)
    );
    assert_eq!(upstreams.handle().unknown(), 1);
}

#[tokio::test(start_paused = true)]
async fn over_the_bound_the_least_used_goes() {
    let config = UpstreamsConfig {
        max_names: 3,
        idle: Duration::from_secs(80),
        ..UpstreamsConfig::default()
    };
    let bench = Bench::new(config);
    let (upstreams, _) = bench.start();
    for name in ["a", "b", "c", "d", "e"] {
        bench.know(name);
    }
    for name in ["a", "b", "c"] {
        assert!(call(&upstreams, name).await.is_ok());
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    assert!(call(&upstreams, "a").await.is_ok());
    assert!(call(&upstreams, "d").await.is_ok());
    let names = || {
        let mut names = upstreams.handle().names();
        names.sort();
        names
            .iter()
            .map(|name| name.to_string())
            .collect::<String>()
    };
    assert_eq!(names(), "acd");
    settle().await;
    assert_eq!(bench.alive(), 3, "what was evicted is gone");

    // Those with a call in flight do not go.
    bench.held.store(true, SeqCst);
    let calls: Vec<_> = ["a", "c", "d"]
        .map(|name| tokio::spawn(upstreams.clone().oneshot(of(name))))
        .into();
    settle().await;
    let made = bench.made();
    assert_eq!(kind(&call(&upstreams, "e").await), Some(Kind::NoEndpoint));
    assert_eq!((names().as_str(), bench.made()), ("acd", made));
    assert_eq!(upstreams.asked(), 0);
    bench.answers.add_permits(3);
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
    bench.held.store(false, SeqCst);
    assert!(call(&upstreams, "e").await.is_ok());
    assert_eq!(upstreams.handle().len(), 3);

    // A smaller bound holds at once.
    let smaller = UpstreamsConfig {
        max_names: 1,
        ..bench.policy.load().config().clone()
    };
    bench.policy.set(smaller.try_into().unwrap()).unwrap();
    settle().await;
    assert_eq!(upstreams.handle().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_idle_are_evicted_unless_a_call_is_in_flight() {
    let bench = Bench::new(UpstreamsConfig::default());
    let (upstreams, worker) = bench.start();
    bench.know("idle");
    bench.know("busy");
    bench.know("used");
    for name in ["idle", "busy", "used"] {
        assert!(call(&upstreams, name).await.is_ok());
    }
    bench.held.store(true, SeqCst);
    let busy = tokio::spawn(upstreams.clone().oneshot(of("busy")));
    settle().await;
    bench.held.store(false, SeqCst);
    tokio::time::sleep(Duration::from_secs(590)).await;
    assert_eq!(upstreams.handle().len(), 3);
    assert!(call(&upstreams, "used").await.is_ok());
    tokio::time::sleep(Duration::from_secs(90)).await;
    let mut names = upstreams.handle().names();
    names.sort();
    assert_eq!(names, [Arc::from("busy"), Arc::from("used")]);
    assert_eq!(upstreams.handle().endpoints("busy").unwrap()[0].pending, 1);

    bench.answers.add_permits(1);
    assert!(busy.await.unwrap().is_ok());
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(upstreams.handle().is_empty());
    settle().await;
    assert_eq!(bench.alive(), 0);
    assert!(bench.board.watched().is_empty());
    // It is built anew.
    assert!(call(&upstreams, "idle").await.is_ok());
    assert_eq!(bench.made(), 4);
    drop(upstreams);
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_evicted_serves_the_calls_that_it_has() {
    let bench = Bench::new(UpstreamsConfig::default());
    let (upstreams, worker) = bench.start();
    bench.know("shop");
    bench.held.store(true, SeqCst);
    let busy = tokio::spawn(upstreams.clone().oneshot(of("shop")));
    settle().await;
    let handle = upstreams.handle();
    assert!(handle.evict("shop") && !handle.evict("shop"));
    drop(upstreams);
    settle().await;
    assert!(!busy.is_finished());
    bench.answers.add_permits(1);
    assert!(busy.await.unwrap().is_ok());
    worker.await.unwrap();
    assert_eq!(bench.alive(), 0);
    assert!(handle.is_empty());
}
