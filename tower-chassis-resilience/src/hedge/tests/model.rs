//! Random attempts against a model that goes from millisecond to millisecond.

use proptest::prelude::*;

use super::*;

const DELAY: u64 = 20;

/// What an attempt says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Word {
    Good,
    CallersFault,
    Unavailable,
    Pushback(u64),
    Forbidden,
    TooMany,
    Refused,
}

impl Word {
    fn plan(self, after: u64) -> Plan {
        let verdict = match self {
            Self::Good => Verdict::SUCCESS,
            Self::CallersFault => Verdict::grpc(3),
            Self::Unavailable => Verdict::grpc(14),
            Self::Pushback(wait) => Verdict::grpc(14).with_retry_after(ms(wait)),
            Self::Forbidden => Verdict::grpc(14).without_retry(),
            Self::TooMany => Verdict::grpc(8),
            Self::Refused => {
                let says = Says::Refusal;
                return Plan { after, says };
            }
        };
        says(after, verdict)
    }
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        3 => Just(Word::Good),
        1 => Just(Word::CallersFault),
        3 => Just(Word::Unavailable),
        2 => (1u64..60).prop_map(Word::Pushback),
        1 => Just(Word::Forbidden),
        1 => Just(Word::TooMany),
        1 => Just(Word::Refused),
    ]
}

#[derive(Debug, PartialEq)]
struct Course {
    winner: usize,
    at: u64,
    began: Vec<u64>,
    fates: Vec<Fate>,
}

/// At equal times what began first ends first, and ends come before the next attempt.
fn model(hedges: usize, on_failure: bool, attempts: &[(u64, Word)]) -> Course {
    let (mut left, mut next) = (hedges, DELAY);
    // When it ends, while it is under way.
    let mut ends = vec![Some(attempts[0].0)];
    let mut course = Course {
        winner: 0,
        at: 0,
        began: vec![0],
        fates: vec![Fate::Running],
    };
    for now in 0.. {
        loop {
            let over = ends
                .iter()
                .position(|end| end.is_some_and(|end| end <= now));
            if let Some(index) = over {
                ends[index] = None;
                course.fates[index] = Fate::Ended;
                let alone = ends.iter().all(Option::is_none);
                let (mut wins, word) = (false, attempts[index].1);
                match word {
                    Word::Good | Word::CallersFault => wins = true,
                    Word::Unavailable if on_failure && left > 0 => next = now,
                    Word::Pushback(wait) if left > 0 && (on_failure || !alone) => next = now + wait,
                    Word::Forbidden | Word::TooMany => {
                        left = 0;
                        wins = alone;
                    }
                    _ => wins = alone,
                }
                if wins {
                    for (fate, end) in course.fates.iter_mut().zip(&ends) {
                        if end.is_some() {
                            *fate = Fate::Dropped(Some(Class::Cancelled));
                        }
                    }
                    return Course {
                        winner: index,
                        at: now,
                        ..course
                    };
                }
            } else if left > 0 && next <= now {
                left -= 1;
                next = now + DELAY;
                ends.push(Some(now + attempts[ends.len()].0));
                course.began.push(now);
                course.fates.push(Fate::Running);
            } else {
                break;
            }
        }
    }
    unreachable!("one of them ends")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("CHASSIS_LONG").is_some() { 20_000 } else { 512 },
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_same_attempts_with_the_same_ends(
        hedges in 0usize..=4,
        on_failure: bool,
        attempts in prop::collection::vec((0u64..120, word()), 5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let expected = model(hedges, on_failure, &attempts);
        runtime.block_on(async {
            let policy = after_20().with(|config| {
                config.hedges = hedges as u32;
                config.on_failure = on_failure;
            });
            let layer = layer(policy.unwrap());
            let plans: Vec<_> = attempts.iter().map(|(after, word)| word.plan(*after)).collect();
            let upstream = Upstream::plans(plans);
            let begun = Instant::now();
            let result = send(&layer, &upstream, Ask::default()).await;
            let course = Course {
                winner: match result {
                    Ok(said) => said.attempt,
                    // A refusal does not say whose it is: the last that ended.
                    Err(_) => expected.winner,
                },
                at: begun.elapsed().as_millis() as u64,
                began: upstream.began(),
                fates: upstream.fates(),
            };
            let handle = layer.handle();
            prop_assert_eq!(handle.sent() as usize, course.began.len() - 1);
            let budget = handle.budget();
            prop_assert_eq!((budget.calls, budget.retries), (0, 0));
            prop_assert_eq!(course, expected);
            Ok(())
        })?;
    }
}
