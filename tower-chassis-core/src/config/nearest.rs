//! What somebody may have meant.

/// Names longer than this are not compared: the cost is the product of two lengths.
const LONGEST: usize = 64;

/// The candidate that `name` may be a slip of the pen for; the first of several that are equally near.
///
/// Near is one slip (a letter missing, added, changed, or two swapped) in three letters. Case does not
/// count, nor does `-` for `_`.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = folded(name)?;
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other = folded(candidate)?;
            let allowed = (name.len().max(other.len()) / 3).max(1);
            // A name of one letter is one slip away from every other.
            let shortest = name.len().min(other.len());
            let slips = slips(&name, &other);
            (slips <= allowed && slips < shortest).then_some((slips, candidate))
        })
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

fn folded(name: &str) -> Option<Vec<char>> {
    let fold = |c: char| {
        if c == '-' {
            '_'
        } else {
            c.to_ascii_lowercase()
        }
    };
    let chars: Vec<_> = name.chars().take(LONGEST + 1).map(fold).collect();
    (1..=LONGEST).contains(&chars.len()).then_some(chars)
}

/// The distance of Damerau and Levenshtein, in its form without edits inside a swapped pair.
fn slips(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut before_last = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, &y) in b.iter().enumerate() {
            let changed = last[j] + usize::from(x != y);
            row[j + 1] = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name() {
        let keys = ["listen", "failure_rate", "attempts", "timeout", "to"];
        for (name, near) in [
            ("lsten", Some("listen")),
            ("lisetn", Some("listen")),
            ("failure_rat", Some("failure_rate")),
            ("Failure-Rate", Some("failure_rate")),
            ("attemts", Some("attempts")),
            ("timeouts", Some("timeout")),
            ("ot", Some("to")),
            ("x", None),
            ("", None),
            ("completely_different", None),
            (&"x".repeat(1000), None),
        ] {
            assert_eq!(nearest(name, keys), near, "{name}");
        }
    }

    #[test]
    fn the_nearest_wins_and_the_first_of_equals() {
        assert_eq!(nearest("routes", ["router", "route"]), Some("router"));
        assert_eq!(
            nearest("route", ["routers", "routed", "router"]),
            Some("routed")
        );
    }

    #[test]
    fn slips_are_counted() {
        let n = |a: &str, b: &str| {
            slips(
                &a.chars().collect::<Vec<_>>(),
                &b.chars().collect::<Vec<_>>(),
            )
        };
        for (a, b, slip) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
            ("abc", "acb", 1),
        ] {
            assert_eq!(n(a, b), slip, "{a} {b}");
            assert_eq!(n(b, a), slip, "{b} {a}");
        }
    }
}
