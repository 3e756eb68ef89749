use http::Response;
use tower::Layer;
use tower_chassis::Body;
use tower_resilience_fallback::{Fallback, FallbackLayer};

use super::{Fault, Outcome, both, fault};
use crate::{
    fallback::{self, Closed, SlowOnce},
    paused,
    plain::{Ask, Failed, Of, Plain, Said, is_service},
    script::Script,
};

// What theirs does take, so that what it does not is not for another reason.
const _: () = assert!(is_service!(Fallback<Of<Said, Failed>, Ask, Said, Failed>));

fn answers_over_closed() -> bool {
    let layer = FallbackLayer::<Ask, Said, Failed>::value(Said::default());
    paused(fallback::answered(layer.layer(Closed)))
}

fn waiting() -> usize {
    let script = Script::default();
    let layer = FallbackLayer::<Ask, Said, Failed>::tower_service(SlowOnce::default());
    paused(fallback::waiting(layer.layer(Plain::new(&script)), &script))
}

pub fn faults() -> Vec<Fault> {
    vec![
        fault(
            26,
            "a readiness that fails is not answered by the fallback",
            both(
                answers_over_closed(),
                paused(fallback::ours_answers_over_closed()),
                |answered| Outcome::yes(!answered),
            ),
        ),
        fault(
            26,
            "of five callers, kept waiting by one slow readiness of a backup",
            both(waiting(), paused(fallback::ours_waiting()), |waiting| {
                Outcome::of(waiting, waiting > 1)
            }),
        ),
        fault(
            26,
            "does not compile with a response that cannot be cloned",
            both(
                is_service!(Fallback<Of<Response<Body>, Failed>, Ask, Response<Body>, Failed>),
                fallback::OURS_TAKES_A_BODY,
                |compiles| Outcome::yes(!compiles),
            ),
        ),
    ]
}
