use tower::layer::util::Identity;

use super::{faulty::*, *};

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
    contract(|| case(LimitLayer::new(2))).assert();
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
            wrong.push(format!("{flaw:?} was to break {:?} alone: {report}", flaw.law()));
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
