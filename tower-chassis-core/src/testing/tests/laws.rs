use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::Request;
use tower::{Service, layer::util::Identity};

use crate::{
    Body, BoxError, RescueLayer,
    testing::{faulty::*, *},
};

fn case(layer: LimitLayer) -> Case {
    let handle = layer.handle();
    Case::new(layer)
        .limit(2)
        .held(move || handle.in_use())
        .calls_once()
}

#[test]
fn a_pass_through_is_lawful() {
    contract(|| Case::new(Identity::new()).calls_once()).assert();
}

#[test]
fn a_right_limit_is_lawful() {
    let report = contract(|| case(LimitLayer::new(2)));
    report.assert();
    assert_eq!(report.skipped, [], "all laws were tried");
    assert!(report.future_size > 0);
}

#[test]
fn a_right_limit_is_lawful_without_a_probe() {
    contract(|| Case::new(LimitLayer::new(2)).limit(2)).assert();
}

#[test]
fn each_flaw_breaks_its_law_and_no_other() {
    let mut wrong = Vec::new();
    for flaw in Flaw::ALL.iter().copied() {
        let report = contract(move || case(LimitLayer::with(2, flaw)));
        if !report.laws().into_iter().eq([flaw.law()]) {
            wrong.push(format!(
                "{flaw:?} was to break {:?} alone: {report}",
                flaw.law()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_law_has_a_flaw() {
    for law in Law::ALL {
        assert!(Flaw::ALL.iter().any(|flaw| flaw.law() == *law), "{law:?}");
    }
}

#[test]
fn a_leak_shows_without_a_probe_where_there_is_a_limit() {
    let report = contract(|| Case::new(LimitLayer::with(2, Flaw::LeaksOnError)).limit(2));
    assert!(report.laws().into_iter().eq([Law::InnerError]), "{report}");
}

#[test]
#[should_panic(expected = "DroppedReady")]
fn a_report_that_asserts_names_the_law() {
    contract(|| case(LimitLayer::with(2, Flaw::LeaksWhenReady))).assert();
}

#[test]
fn a_layer_that_is_to_answer_errors_answers() {
    contract(|| Case::new(RescueLayer::new()).answers()).assert();
    let report = contract(|| Case::new(Identity::new()).answers());
    assert!(report.laws().into_iter().eq([Law::ErrorIsKept]), "{report}");
    // And one that swallows them though it is not to.
    let report = contract(|| Case::new(RescueLayer::new()));
    assert!(report.laws().into_iter().eq([Law::ErrorIsKept]), "{report}");
}

#[test]
fn a_law_that_is_skipped_is_said_to_be() {
    let case = || case(LimitLayer::with(2, Flaw::CallsTwice)).skip(Law::CallsOnce, "it mirrors");
    let report = contract(case);
    report.assert();
    assert_eq!(report.skipped.len(), 1);
    assert_eq!(
        (report.skipped[0].law, &*report.skipped[0].why),
        (Law::CallsOnce, "it mirrors")
    );
}

#[test]
fn a_case_begins_where_its_first_steps_lead() {
    // Two calls that were held and dropped leave both permits taken: nothing can be called any more.
    let report = contract(|| {
        case(LimitLayer::with(2, Flaw::LeaksUnpolled)).before([Step::Hold, Step::Hold, Step::Drop])
    });
    assert!(report.laws().contains(&Law::DroppedFuture), "{report}");
    let report = contract(|| {
        case(LimitLayer::with(2, Flaw::LeaksWhenReady)).before([Step::Succeed, Step::Fail])
    });
    assert!(
        report.laws().into_iter().eq([Law::DroppedReady]),
        "{report}"
    );
}

#[test]
fn a_case_that_panics_is_a_finding() {
    let report = contract(|| panic!("no such setting"));
    assert!(
        report.findings[0].what.contains("no such setting"),
        "{report}"
    );
}

#[test]
fn a_protocol_of_ones_own_is_under_the_same_laws() {
    let case = || {
        let inner: ControlledService<u32, BoxError> = ControlledService::answering(|| 7);
        Case::with(Identity::new(), inner, || "how many?").calls_once()
    };
    let report = contract(case);
    report.assert();
    let skipped: Vec<_> = report.skipped.iter().map(|skipped| skipped.law).collect();
    assert!(skipped.contains(&Law::BodyPasses), "{report}");
}

#[test]
fn what_a_handle_shows_is_the_same_over_two_services() {
    // Counts where it was made, as private counters do.
    #[derive(Clone, Default)]
    struct Counts(Arc<AtomicUsize>);
    impl<S> tower_layer::Layer<S> for Counts {
        type Service = Counted<S>;
        fn layer(&self, inner: S) -> Counted<S> {
            let first = self.0.fetch_add(1, Ordering::Relaxed) == 1;
            let count = if first {
                Arc::clone(&self.0)
            } else {
                Arc::default()
            };
            Counted(inner, count)
        }
    }
    #[derive(Clone)]
    struct Counted<S>(S, Arc<AtomicUsize>);
    impl<S: Service<Request<Body>>> Service<Request<Body>> for Counted<S> {
        type Response = S::Response;
        type Error = S::Error;
        type Future = S::Future;
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
            self.0.poll_ready(cx)
        }
        fn call(&mut self, request: Request<Body>) -> S::Future {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.call(request)
        }
    }
    let report = contract(|| {
        let layer = Counts::default();
        let count = Arc::clone(&layer.0);
        Case::new(layer).reads(move || count.load(Ordering::Relaxed))
    });
    assert!(report.laws().into_iter().eq([Law::SharedState]), "{report}");
}

#[test]
fn a_service_without_a_layer_is_under_the_same_laws() {
    contract_service(|inner| Case::service(inner).calls_once()).assert();
    let layer = |inner| tower_layer::Layer::layer(&LimitLayer::with(2, Flaw::LeaksUnread), inner);
    let report = contract_service(move |inner| Case::service(layer(inner)).limit(2));
    assert!(report.laws().into_iter().eq([Law::DroppedBody]), "{report}");
}
