//! What only one who sees the word of a bucket can see.

use super::*;

const RULE: Rule = Rule::Gcra {
    interval: 1_000,
    burst: 1_000,
};

fn word(bucket: &Bucket) -> u64 {
    bucket.center.word.load(Relaxed)
}

fn is_hot(bucket: &Bucket) -> bool {
    word(bucket) & HOT != 0
}

fn left(bucket: &Bucket, now: u64) -> u32 {
    bucket.standing(now).remaining
}

fn spare(bucket: &Bucket, at: usize) -> usize {
    (0..100).take_while(|_| bucket.take_spare(at)).count()
}

fn take(bucket: &Bucket, cost: u32, mut now: u64) -> Result<Taken, u64> {
    bucket.take(0, cost, 0, &mut now)
}

/// Four cells, 64 calls at 0.
fn hot() -> Bucket {
    let bucket = Bucket::new(RULE, 4);
    for _ in 0..OFTEN {
        assert!(!is_hot(&bucket));
        take(&bucket, 1, 0).unwrap();
    }
    assert!(is_hot(&bucket));
    bucket
}

/// Another call came between the look and the swap.
#[test]
fn a_call_that_was_overtaken_counts_as_well() {
    let bucket = Bucket::new(RULE, 4);
    let before = word(&bucket);
    take(&bucket, 1, 0).unwrap();
    let taken = bucket.take_cold(before, 2, 0, 0).unwrap().ok().unwrap();
    assert_eq!((taken.place, left(&bucket, 0)), (word(&bucket), 997));

    let bucket = hot();
    let before = word(&bucket);
    take(&bucket, 1, 0).unwrap();
    assert_eq!(bucket.take_hot(before, 1, 1, 0), Ok(Some(word(&bucket))));
    assert_eq!((left(&bucket, 0), is_hot(&bucket)), (920, true));
    assert_eq!((spare(&bucket, 0), spare(&bucket, 1)), (7, 7));
}

/// What was looked at is not in force any more: the call is neither made nor refused.
#[test]
fn a_call_that_looked_at_another_rule_looks_again() {
    let bucket = Bucket::new(RULE, 4);
    let before = word(&bucket);
    assert_eq!(bucket.take_cold(before, 1_001, 0, 0), Ok(Err(u64::MAX)));
    bucket.apply(Rule::new(1_000, 2_000), &mut 0);
    assert_eq!(bucket.take_cold(before, 1, 0, 0), Err(Stale));
    assert_eq!(bucket.take_cold(before, 1_001, 0, 0), Err(Stale));
    assert_eq!(left(&bucket, 0), 2_000);

    let bucket = hot();
    let before = word(&bucket);
    assert_eq!(bucket.take_cold(before & !HOT, 1, 0, 0), Err(Stale));
    assert_eq!(bucket.take_cold(before & !HOT, 1_001, 0, 0), Err(Stale));
    bucket.apply(Rule::new(1_000, 2_000), &mut 0);
    bucket.heat(0);
    let (now, after) = (word(&bucket), left(&bucket, 0));
    assert_ne!(now & MARK, before & MARK);
    assert_eq!(bucket.take_hot(before, 1, 1, 0), Err(Stale));
    assert_eq!((word(&bucket), left(&bucket, 0)), (now, after));
    bucket.cool(&mut 0);
    assert_eq!(bucket.take_hot(now, 1, 1, 0), Err(Stale));
    assert_eq!((left(&bucket, 0), spare(&bucket, 1)), (after, 0));
}

#[test]
fn what_costs_more_than_one_is_not_taken_in_advance() {
    let bucket = hot();
    take(&bucket, 3, 0).unwrap();
    assert_eq!((left(&bucket, 0), spare(&bucket, 0)), (933, 0));
    take(&bucket, 1, 0).unwrap();
    take(&bucket, 2, 0).unwrap();
    assert_eq!((left(&bucket, 0), spare(&bucket, 0)), (923, 7));
    take(&bucket, 0, 0).unwrap();
    assert_eq!((left(&bucket, 0), is_hot(&bucket)), (923, true));
}

#[test]
fn one_that_is_half_empty_or_small_or_exact_stays_cold() {
    for (burst, cost, heats) in [
        (1_000, 500, true),
        (1_000, 501, false),
        (64, 1, true),
        (63, 1, false),
    ] {
        let bucket = Bucket::new(Rule::new(1_000, burst), 4);
        take(&bucket, cost, 0).unwrap();
        bucket.heat(0);
        assert_eq!(is_hot(&bucket), heats, "{cost} of {burst}");
    }
    let exact = Bucket::new(RULE, 0);
    assert!((0..100).all(|_| take(&exact, 1, 0).is_ok()));
    assert!(!is_hot(&exact));
    assert_eq!(exact.center.asked.load(Relaxed), 0);
}

#[test]
fn one_that_is_hot_is_not_heated_again() {
    let bucket = hot();
    take(&bucket, 1, 0).unwrap();
    bucket.heat(0);
    assert_eq!(spare(&bucket, 0), 7);
}

#[test]
fn it_cools_where_it_was_filled_less_than_four_times_in_a_span() {
    for (fills, stays) in [(3, false), (4, true)] {
        let (bucket, next) = (hot(), 1 << SPAN);
        for now in [next; 4].into_iter().take(fills) {
            take(&bucket, 1, now).unwrap();
            assert_eq!(spare(&bucket, 0), 7);
        }
        take(&bucket, 1, 2 * next).unwrap();
        assert_eq!(is_hot(&bucket), stays, "{fills}");
        // And where nobody came for longer.
        let bucket = hot();
        take(&bucket, 1, 2 * next).unwrap();
        assert!(!is_hot(&bucket));
    }
}

#[test]
fn cold_again_it_has_what_was_not_used() {
    for (now, remaining) in [(0, 935), (40_000, 975), (1 << 40, 979)] {
        let bucket = hot();
        take(&bucket, 1, 0).unwrap();
        bucket.cool(&mut { now });
        // In the end, what all cells may have held, but for what was in this one.
        assert_eq!((left(&bucket, now), is_hot(&bucket)), (remaining, false));
        assert_eq!(spare(&bucket, 0), 0);
        let cold = word(&bucket);
        bucket.cool(&mut { now });
        assert_eq!(word(&bucket), cold);
    }
}

#[test]
fn only_the_last_call_can_be_taken_back() {
    for bucket in [Bucket::new(RULE, 4), hot()] {
        let before = left(&bucket, 0);
        let first = take(&bucket, 2, 0).unwrap().place;
        let second = take(&bucket, 3, 0).unwrap().place;
        assert!(!bucket.take_back(first, 2));
        assert!(bucket.take_back(second, 3));
        assert_eq!(left(&bucket, 0), before - 2);
        assert!(!bucket.take_back(second, 3));
        assert!(bucket.take_back(first, 2));
        assert_eq!(left(&bucket, 0), before);
    }
}

#[test]
fn what_is_charged_empties_it_and_no_more() {
    let bucket = Bucket::new(RULE, 0);
    bucket.charge(300, 7);
    assert_eq!(left(&bucket, 7), 700);
    bucket.apply(Rule::new(1_000, 100), &mut 7);
    bucket.charge(10, 7);
    assert_eq!(left(&bucket, 7), 60);
    bucket.charge(5_000, 7);
    assert_eq!(take(&bucket, 1, 7), Err(1_000));
    assert_eq!(left(&bucket, 1_007), 1);
}

#[test]
fn filled_up_it_keeps_its_rule() {
    let (bucket, rule) = (hot(), Rule::new(1_000, 2_000));
    bucket.apply(rule, &mut 0);
    bucket.heat(0);
    take(&bucket, 1, 0).unwrap();
    bucket.reset(&mut 0);
    assert_eq!((left(&bucket, 0), is_hot(&bucket)), (2_000, false));
    assert_eq!((bucket.read(word(&bucket)), spare(&bucket, 0)), (rule, 0));
}

#[test]
fn rules_may_change_more_often_than_there_are_versions() {
    let bucket = Bucket::new(RULE, 4);
    let mut seen = Vec::new();
    for burst in 1..100 {
        let rule = Rule::new(1_000, burst);
        bucket.apply(rule, &mut 0);
        bucket.apply(rule, &mut 0);
        seen.push(word(&bucket));
        assert_eq!(bucket.read(word(&bucket)), rule);
    }
    assert!((1..100).map(|version| version % 16).eq(seen));
}

#[test]
fn a_batch_is_a_part_of_the_burst_and_of_what_is_left() {
    for (burst, batch) in [
        (31, (0, 0)),
        (63, (1, 0)),
        (64, (2, 4)),
        (255, (7, 24)),
        (256, (8, 28)),
        (1_000, (8, 28)),
    ] {
        let bucket = Bucket::new(RULE, 4);
        assert_eq!(bucket.batch(Rule::new(7, burst)), batch, "{burst}");
        let exact = Bucket::new(RULE, 0);
        assert_eq!(exact.batch(Rule::new(7, burst)), (1, 0));
        let (length, limit) = (7, burst);
        assert_eq!(bucket.batch(Rule::Window { length, limit }), (1, 0));
    }
    let bucket = Bucket::new(RULE, 4);
    for left in 0..=1_000 {
        // At 5, so much is left.
        let number = 5 + (1_000 - left) * 1_000;
        assert_eq!(bucket.share(RULE, number, 5, 8), 8.min(left / 8), "{left}");
    }
}

#[test]
fn it_counts_how_often_it_is_asked() {
    let (bucket, span) = (Bucket::new(RULE, 4), 1 << SPAN);
    assert_eq!(bucket.asked(0), (1, 0));
    assert_eq!(bucket.asked(span - 1), (2, 0));
    assert_eq!(bucket.asked(span), (1, 2));
    assert_eq!(bucket.asked(span), (2, 0));
    assert_eq!(bucket.asked(3 * span), (1, 0));
    for times in 2..70_000 {
        assert_eq!(bucket.asked(3 * span), (times.min(0xffff), 0));
    }
    assert_eq!(bucket.asked(4 * span), (1, 0xffff));
}
