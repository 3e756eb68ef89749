use super::{
    Step,
    bench::{Bench, Outcome, run_woken, whole},
    subject::Subject,
};
use crate::testing::{
    Plan,
    hand::{Hand, settle},
};

/// A script that runs: the calls that it holds.
#[derive(Default)]
pub(super) struct Script {
    held: Vec<Hand<Outcome>>,
}

impl Script {
    /// Runs a step with `service`, and says how it went.
    pub(super) async fn step(
        &mut self,
        bench: &Bench,
        step: Step,
        service: Box<dyn Subject>,
    ) -> Vec<Outcome> {
        let control = &bench.control;
        match step {
            Step::Succeed | Step::Fail => {
                control.plan(if step == Step::Fail {
                    Plan::error()
                } else {
                    Plan::answer()
                });
                let outcome = if self.held.is_empty() {
                    bench.outcome(Hand::new(whole(service))).await
                } else {
                    // Time would end the calls that are held.
                    let mut hand = Hand::new(whole(service));
                    bench.poll_through(&mut hand).unwrap_or(Outcome::Hung)
                };
                control.plan(Plan::answer());
                vec![outcome]
            }
            Step::Hold => {
                control.plan(Plan::answer().held());
                let mut hand = Hand::new(whole(service));
                let outcome = bench.poll_through(&mut hand);
                control.plan(Plan::answer());
                if outcome.is_none() {
                    self.held.push(hand);
                }
                outcome.into_iter().collect()
            }
            Step::Release => {
                control.release();
                let mut held = std::mem::take(&mut self.held);
                run_woken(bench, &mut held).await
            }
            Step::Drop => {
                self.held.clear();
                settle().await;
                Vec::new()
            }
            Step::Wait(time) => {
                crate::testing::advance(time).await;
                Vec::new()
            }
        }
    }
}
