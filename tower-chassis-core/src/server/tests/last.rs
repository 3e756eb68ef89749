//! What is done when the last server has ended.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use super::*;

async fn server(drain: &Drain) -> (String, tokio::task::JoinHandle<Drained>) {
    let policy = ServerPolicy::try_from(limits()).unwrap();
    let server = Server::new(policy).listen("127.0.0.1:0");
    let bound = server.bind().await.unwrap();
    let Address::Tcp(address) = bound.addresses()[0].clone() else {
        unreachable!()
    };
    let service = RescueLayer::new().layer(service_fn(app));
    let task = tokio::spawn(bound.serve(service, drain.clone()));
    (address.to_string(), task)
}

#[tokio::test]
async fn the_last_server_does_what_is_left_and_waits_for_it() {
    let drain = Drain::new();
    let (one, first) = server(&drain).await;
    let (_, second) = server(&drain).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(AtomicUsize::new(usize::MAX));
    drain.finally(Duration::from_secs(5), {
        let (answered, seen) = (Arc::clone(&answered), Arc::clone(&seen));
        async move {
            // Longer than a server would wait for nothing.
            tokio::time::sleep(Duration::from_millis(20)).await;
            seen.store(answered.load(SeqCst), SeqCst);
        }
    });
    drain.finally(Duration::from_secs(5), async {
        panic!("what fails is alone with it")
    });
    drain.finally(Duration::from_millis(20), std::future::pending());

    let call = tokio::spawn({
        let answered = Arc::clone(&answered);
        async move {
            let request = "GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            let answer = exchange(&one, request.as_bytes()).await;
            answered.fetch_add(1, SeqCst);
            answer
        }
    });
    // The call has begun when its connection is open.
    tokio::time::sleep(Duration::from_millis(50)).await;
    drain.start();
    drain.hurry();
    assert_eq!(second.await.unwrap(), Drained::Clean);
    assert_eq!(seen.load(SeqCst), usize::MAX, "a server is still there");
    assert_eq!(first.await.unwrap(), Drained::Clean);
    assert!(call.await.unwrap().starts_with("HTTP/1.1 200 "));
    assert_eq!(seen.load(SeqCst), 1, "before the last call was answered");
}

#[tokio::test]
async fn a_server_that_was_dropped_is_none() {
    let drain = Drain::new();
    let done = Arc::new(AtomicUsize::new(0));
    drain.finally(Duration::from_secs(5), {
        let done = Arc::clone(&done);
        async move {
            done.fetch_add(1, SeqCst);
        }
    });
    let (_, dropped) = server(&drain).await;
    let (_, other) = server(&drain).await;
    tokio::task::yield_now().await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    assert_eq!(done.load(SeqCst), 0);
    drain.start();
    drain.hurry();
    assert_eq!(other.await.unwrap(), Drained::Clean);
    assert_eq!(done.load(SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_has_yet_to_be_polled_is_waited_for() {
    let drain = Drain::new();
    let done = Arc::new(AtomicUsize::new(0));
    drain.finally(Duration::from_secs(5), {
        let done = Arc::clone(&done);
        async move {
            done.fetch_add(1, SeqCst);
        }
    });
    let late = Server::new(ServerPolicy::try_from(limits()).unwrap()).listen("127.0.0.1:0");
    let late = late.bind().await.unwrap();
    let late = late.serve(service_fn(app), drain.clone());
    let (_, first) = server(&drain).await;
    drain.start();
    drain.hurry();
    assert_eq!(first.await.unwrap(), Drained::Clean);
    assert_eq!(done.load(SeqCst), 0, "a server is still to come");
    assert_eq!(late.await, Drained::Clean);
    assert_eq!(done.load(SeqCst), 1);
}
