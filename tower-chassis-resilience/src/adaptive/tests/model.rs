//! The controller against a plain one that keeps everything: what AIMD does exactly, and what any algorithm may do.

use proptest::prelude::*;

use super::policy;
use crate::adaptive::{
    Algorithm, Reason,
    limit::{Controller, MILLIS, Settings, Window},
};

#[derive(Clone, Debug)]
enum Act {
    /// A window after so many milliseconds: samples, latency in milliseconds, how much of the limit was in flight.
    Window(u64, u64, f64, f64),
    /// A call that was let in so many milliseconds ago found the service overloaded.
    Overloaded(u64),
    Bounds(u32, u32),
    /// For so many milliseconds.
    Force(u32, u64),
    Release,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (1_u64..2_000, 0_u64..600, 0.1_f64..8_000.0, 0.0_f64..1.3)
            .prop_map(|(after, samples, millis, used)| Act::Window(after, samples, millis, used)),
        4 => (0_u64..3_000).prop_map(Act::Overloaded),
        1 => (1_u32..50, 1_u32..500).prop_map(|(min, more)| Act::Bounds(min, min + more)),
        1 => (1_u32..200, 1_u64..5_000).prop_map(|(limit, time)| Act::Force(limit, time)),
        1 => Just(Act::Release),
    ]
}

fn settings(algorithm: Algorithm) -> Settings {
    let policy = policy(|config| {
        (config.algorithm, config.start, config.max) = (algorithm, 20, 400);
    });
    policy.config().settings()
}

/// AIMD, from the words that describe it.
struct Plain {
    limit: f64,
    min: f64,
    max: f64,
    lowered: u64,
    forced: Option<(u32, u64)>,
    /// What was in flight, when: of ten minutes counts.
    peaks: Vec<(u64, u32)>,
}

impl Plain {
    fn expire(&mut self, now: u64) {
        self.forced = self.forced.filter(|(_, until)| now < *until);
    }

    fn shown(&self) -> u32 {
        self.forced.map_or(self.limit as u32, |(limit, _)| limit)
    }

    fn window(&mut self, window: &Window, now: u64) {
        self.peaks.push((now, window.peak));
        if self.forced.is_none() {
            if window.p90 > 5_000.0 * MILLIS as f64 {
                self.limit *= 0.9;
                self.lowered = now + 1;
            } else if f64::from(window.peak) >= 0.6 * self.limit {
                self.limit += 1.0;
            }
            let slot = |at: u64| at / (1_200 * MILLIS);
            let seen = self
                .peaks
                .iter()
                .filter(|(at, _)| slot(*at) + 500 > slot(now));
            let peak = seen.map(|(_, peak)| *peak).max().unwrap_or(0);
            self.limit = self.limit.min((5.0 * f64::from(peak)).max(20.0));
        }
        self.limit = self.limit.clamp(self.min, self.max);
    }

    fn overloaded(&mut self, began: u64, now: u64) {
        if began >= self.lowered && self.forced.is_none() {
            self.limit = (self.limit * 0.9).max(self.min);
            self.lowered = now + 1;
        }
    }
}

/// Acts on both. What is shown to the controller is what a meter shows it.
fn play(
    algorithm: Algorithm,
    acts: &[Act],
    mut check: impl FnMut(&Controller, &Plain, Step) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut settings = settings(algorithm);
    let mut controller = Controller::new(settings, 7);
    let mut plain = Plain {
        limit: 20.0,
        min: 1.0,
        max: 400.0,
        lowered: 0,
        forced: None,
        peaks: Vec::new(),
    };
    let (mut now, mut samples) = (0, 0);
    for act in acts {
        if let Act::Window(after, ..) = act {
            now += after * MILLIS;
        }
        // As a meter does.
        if matches!(act, Act::Window(..) | Act::Overloaded(_)) {
            plain.expire(now);
            controller.expire(now);
        }
        let before = controller.now();
        let forced = controller.forced();
        let mut used = 0.0;
        let mut counted = false;
        let change = match *act {
            Act::Window(_, more, millis, share) => {
                samples += more;
                used = share;
                if !controller.is_over(samples, now) {
                    prop_assert!(samples < 250 || now < controller.due());
                    prop_assert!(controller.due() > now);
                    continue;
                }
                let window = Window {
                    samples,
                    p90: millis * MILLIS as f64,
                    mean: millis * 0.7 * MILLIS as f64,
                    peak: (f64::from(before.limit) * share) as u32,
                };
                samples = 0;
                counted = true;
                plain.window(&window, now);
                controller.window(&window, now)
            }
            Act::Overloaded(ago) => {
                let began = now.saturating_sub(ago * MILLIS);
                plain.overloaded(began, now);
                controller.overloaded(began, now)
            }
            Act::Bounds(min, max) => {
                (settings.min, settings.max) = (min, max);
                (plain.min, plain.max) = (f64::from(min), f64::from(max));
                plain.limit = plain.limit.clamp(plain.min, plain.max);
                controller.apply(settings)
            }
            Act::Force(limit, time) => {
                plain.forced = Some((limit, now + time * MILLIS));
                controller.force(plain.forced)
            }
            Act::Release => {
                plain.forced = None;
                controller.force(None)
            }
        };
        let after = controller.now();
        // A change is told if and only if there is one.
        prop_assert_eq!(
            change.map(|change| change.limit),
            (before.limit != after.limit).then_some(after.limit)
        );
        prop_assert!(after.limit >= 1);
        if controller.forced().is_none() {
            prop_assert!(
                (settings.min..=settings.max).contains(&after.limit),
                "{:?}",
                after
            );
        }
        let was_forced = forced.is_some();
        let step = Step {
            act: act.clone(),
            before: before.limit,
            after: after.limit,
            used,
            counted,
            was_forced,
        };
        check(&controller, &plain, step)?;
    }
    Ok(())
}

struct Step {
    act: Act,
    before: u32,
    after: u32,
    used: f64,
    counted: bool,
    was_forced: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("CHASSIS_LONG").is_some() { 20_000 } else { 256 }))]

    #[test]
    fn aimd_is_what_it_is_described_as(acts in proptest::collection::vec(act(), 1..200)) {
        play(Algorithm::Aimd, &acts, |controller, plain, step| {
            prop_assert_eq!(controller.now().limit, plain.shown(), "{:?}", step.act);
            Ok(())
        })?;
    }

    #[test]
    fn gradient_keeps_the_rules(acts in proptest::collection::vec(act(), 1..200)) {
        play(Algorithm::Gradient, &acts, |controller, plain, step| {
            // Forced as the plain one is, until the next act that looks at the clock.
            if step.counted {
                prop_assert_eq!(controller.forced(), plain.forced);
            }
            let free = controller.forced().is_none() && !step.was_forced;
            match step.act {
                // Less than 0.6 of the limit in flight: it does not grow, but for a fall that is taken back.
                Act::Window(..) if free && step.used < 0.59 => {
                    prop_assert!(step.after <= step.before || controller.now().reason == Reason::Baseline);
                }
                Act::Window(..) if free && step.counted => {
                    let least = (f64::from(step.before.min((f64::from(step.before) * step.used) as u32)) * 0.5).floor();
                    prop_assert!(f64::from(step.after) >= least.min(20.0), "{} to {}", step.before, step.after);
                }
                Act::Overloaded(_) if free => {
                    let lowered = f64::from(step.before) * 0.9;
                    prop_assert!(step.after == step.before || f64::from(step.after) >= lowered.floor() - 1.0);
                    prop_assert!(step.after <= step.before);
                }
                _ => {}
            }
            Ok(())
        })?;
    }
}
