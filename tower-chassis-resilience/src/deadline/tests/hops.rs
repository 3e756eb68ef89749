//! Five services, each of which asks the next: what is left at the leaf, and that nobody works for nothing.

use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneService};
use tower_chassis_core::Invocation;

use super::*;

const HOPS: usize = 5;

/// Answers what the leaf has left.
type Hop = BoxCloneService<Request<()>, Duration, BoxError>;

/// When each service began to work.
type Begun = Arc<Mutex<Vec<Instant>>>;

/// Lets through what a wire does.
fn wire(next: Hop) -> Hop {
    BoxCloneService::new(service_fn(move |request: Request<()>| {
        let mut arrives = Request::new(());
        arrives.headers_mut().clone_from(request.headers());
        next.clone().oneshot(arrives)
    }))
}

fn hop(work: Duration, grpc: bool, next: Option<Hop>, begun: &Begun) -> Hop {
    let client = DeadlineLayer::propagate(policy());
    let next = next.map(|next| Hop::new(client.layer(wire(next))));
    let begun = Arc::clone(begun);
    let handler = service_fn(move |incoming: Request<()>| {
        let (next, begun) = (next.clone(), Arc::clone(&begun));
        async move {
            begun.lock().unwrap().push(Instant::now());
            tokio::time::sleep(work).await;
            let Some(next) = next else {
                return left(&incoming).ok_or_else(|| BoxError::from("worked too long"));
            };
            let mut outgoing = request(if grpc { &[GRPC][..] } else { &[] });
            incoming.invocation().unwrap().carry(&mut outgoing);
            next.oneshot(outgoing).await
        }
    });
    BoxCloneService::new(DeadlineLayer::accept(policy()).layer(handler))
}

/// What the leaf sees, and how long it took; each service of `work` is asked by the one before.
fn run(
    deadline: Duration,
    work: &[Duration],
    grpc: bool,
) -> (Result<Duration, BoxError>, Duration, Vec<Duration>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let begun = Begun::default();
        let first = work
            .iter()
            .rev()
            .fold(None, |next, work| Some(hop(*work, grpc, next, &begun)));
        let client = DeadlineLayer::propagate(policy()).layer(wire(first.unwrap()));
        let mut request = request(if grpc { &[GRPC][..] } else { &[] });
        let began = Instant::now();
        let mut caller = Invocation::new(began);
        caller.limit_deadline(tower_chassis_core::Deadline::after(began, deadline));
        caller.carry(&mut request);
        let result = client.oneshot(request).await;
        let took = began.elapsed();
        let begun = begun.lock().unwrap().iter().map(|at| *at - began).collect();
        (result, took, begun)
    })
}

#[test]
fn the_leaf_sees_what_is_left_to_the_millisecond() {
    for grpc in [false, true] {
        let work = [120, 7, 333, 41, 2].map(ms);
        let (left, took, begun) = run(ms(4_000), &work, grpc);
        assert_eq!((took, begun.len()), (work.iter().sum(), HOPS));
        // Each hop keeps 5 ms for its way.
        let expected = ms(4_000) - took - ms(5) * HOPS as u32;
        let off = expected.abs_diff(left.unwrap());
        assert!(off <= ms(1), "grpc {grpc}: off by {off:?}");
    }
}

#[test]
fn who_asks_is_answered_in_time_also_where_a_service_sleeps() {
    for grpc in [false, true] {
        let (result, took, begun) = run(ms(1_000), &[100, 100, 5_000, 1, 1].map(ms), grpc);
        assert!(result.is_err());
        // The service that sleeps ends first, by the margins of the hops before it.
        assert!(took <= ms(1_000) && took >= ms(980), "{took:?}");
        assert_eq!(begun.len(), 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_service_works_for_a_caller_that_has_gone(
        deadline in 1..2_000_u64,
        work in prop::collection::vec(0..500_u64, HOPS),
        grpc in any::<bool>(),
    ) {
        let deadline = ms(deadline);
        let work: Vec<_> = work.into_iter().map(ms).collect();
        let (result, took, begun) = run(deadline, &work, grpc);
        prop_assert!(begun.iter().all(|at| *at < deadline), "{begun:?}");
        prop_assert!(took <= deadline + ms(1));
        // What the leaf should have, by plain arithmetic.
        let mut left = Some(deadline);
        for work in &work {
            left = left
                .map(|left| left - (left / 100).min(ms(5)))
                .and_then(|left| left.checked_sub(*work));
        }
        // HTTP counts in whole milliseconds, rounded down at each hop.
        let rounding = if grpc { ms(1) } else { ms(1) * HOPS as u32 };
        match (result, left) {
            (Ok(seen), Some(left)) => {
                prop_assert_eq!(took, work.iter().sum::<Duration>());
                prop_assert!(seen <= left && left - seen <= rounding, "{:?} {:?}", seen, left);
            }
            (Ok(seen), None) => prop_assert!(false, "{:?} too much", seen),
            (Err(_), left) => prop_assert!(left.unwrap_or_default() <= rounding),
        }
    }
}
