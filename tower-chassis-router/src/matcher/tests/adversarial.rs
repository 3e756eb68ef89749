//! Tables that are made to be slow: the walks assert by themselves (in debug builds) that no node is entered
//! twice.

use super::{
    oracle::{Answer, Oracle},
    property::{ask, matcher},
};
use crate::matcher::{
    Captures,
    key::{Segment, TOLD},
    sweep::Sweep,
};

/// All mixes of text and parameter over `depth` segments, but for the one of text alone.
fn mixes(depth: u32, end: &str) -> Vec<String> {
    let names = (0..2_u32.pow(depth)).skip(1);
    let routes = names.map(|mix| {
        let segments = (0..depth).map(|place| match mix >> place & 1 {
            0 => format!("/s{place}"),
            _ => format!("/{{p{place}}}"),
        });
        format!("GET {}{end}", segments.collect::<String>())
    });
    routes.collect()
}

fn path(depth: u32, text: impl Fn(u32) -> bool) -> String {
    let segments = (0..depth).map(|place| {
        if text(place) {
            format!("/s{place}")
        } else {
            "/x".to_owned()
        }
    });
    segments.collect()
}

#[test]
fn all_mixes_of_text_and_parameter() {
    let depth = if std::env::var_os("CHASSIS_LONG").is_some() {
        12
    } else {
        8
    };
    let lines = mixes(depth, "/end");
    let table = matcher(&lines, true, false);
    let oracle = Oracle::new(&lines.iter().take(255).cloned().collect::<Vec<_>>());
    let mut rng = fastrand::Rng::with_seed(1);
    for round in 0..200 {
        let mix = rng.u32(..);
        let path = path(depth, |place| mix >> place & 1 == 0);
        let end = if round % 3 == 0 { "/nd" } else { "/end" };
        let request = format!("{path}{end}");
        let found = ask(&table, "GET", &request, 0);
        assert_eq!(
            matches!(found, Answer::Route(..)),
            round % 3 > 0,
            "{request}"
        );
        if depth == 8 {
            assert_eq!(found, oracle.ask("GET", &request, 0));
        }
        let allowed = ask(&table, "PUT", &request, 0);
        assert_eq!(
            matches!(allowed, Answer::Methods(_)),
            round % 3 > 0,
            "{request}"
        );
    }
}

/// What is entered on the way to a miss, and to the last route.
#[test]
fn a_miss_enters_no_more_than_its_candidates() {
    for depth in [4, 8, 12] {
        let lines = mixes(depth, "/end");
        let table = matcher(&lines, true, false);
        let entered = |path: &str| {
            let mut sweep = Sweep::new(&table.trie, path.as_bytes(), 1);
            let wanted = table.trie.wanted(&http::Method::GET);
            sweep.search(wanted, &mut Captures::new());
            sweep.entered()
        };
        let text = path(depth, |_| true);
        // No route has this end, nor so many segments.
        assert_eq!(entered(&format!("{text}/nd")), 0);
        assert_eq!(entered(&format!("{text}/end/x")), 0);
        let all = path(depth, |_| false);
        assert!(entered(&format!("{all}/end")) <= depth as usize + 1);
        assert!(entered(&format!("{text}/end")) <= depth as usize + 1);
    }
}

/// Nothing to file by: bounded by the nodes of the table, and each is entered once.
#[test]
fn shapes_without_text_are_bounded_by_the_table() {
    let depth = 8;
    let routes = (0..2_u32.pow(depth)).map(|mix| {
        let segments = (0..depth).map(|place| match mix >> place & 1 {
            0 => format!("/u{{p{place}}}"),
            _ => format!("/{{p{place}}}"),
        });
        format!("GET {}/{{q}}z", segments.collect::<String>())
    });
    let lines: Vec<_> = routes.collect();
    let table = matcher(&lines, true, false);
    let path = "/ux".repeat(depth as usize);
    let mut sweep = Sweep::new(&table.trie, path.as_bytes(), 1);
    sweep.search(table.trie.wanted(&http::Method::GET), &mut Captures::new());
    assert!(sweep.entered() <= table.trie.nodes.len());
    for end in ["/z", "/x"] {
        let request = format!("{path}{end}");
        let hit = matches!(ask(&table, "GET", &request, 0), Answer::Route(0, _));
        assert_eq!(hit, end == "/z");
    }
}

#[test]
fn long_segments() {
    let long = "x-".repeat(4 << 10);
    let lines = [
        "GET /{a}-{b}-{c}",
        "GET /{d:[x-]+}-{e:y}",
        "GET /{f}",
        "GET /pre*",
    ]
    .map(str::to_owned);
    let table = matcher(&lines, true, false);
    let oracle = |path: &str| ask(&table, "GET", path, 0);
    assert!(matches!(oracle(&format!("/{long}")), Answer::Route(0, _)));
    let dashes = "-".repeat(8 << 10);
    assert!(matches!(
        oracle(&format!("/{dashes}y")),
        Answer::Route(1, _)
    ));
    assert_eq!(
        oracle(&format!("/{}", "x".repeat(8 << 10))),
        Answer::Route(2, vec![(1, 8193)])
    );
    let table = matcher(&lines[1..2], true, false);
    assert!(matches!(
        ask(&table, "GET", &format!("/{dashes}y"), 0),
        Answer::Route(0, _)
    ));
    assert_eq!(
        ask(&table, "GET", &format!("/{dashes}z"), 0),
        Answer::Nothing
    );
}

#[test]
fn nested_prefixes_and_many_slashes() {
    let mut lines: Vec<_> = (1..=256)
        .map(|len| format!("GET /{}", "a".repeat(len)))
        .collect();
    lines.extend((1..=256).map(|len| format!("GET /{}{{x}}", "b".repeat(len))));
    lines.push(format!("GET {}", "/{x}/y".replace("{x}", "").repeat(40)));
    let table = matcher(&lines, true, false);
    assert_eq!(
        ask(&table, "GET", &format!("/{}", "a".repeat(100)), 0),
        Answer::Route(99, vec![])
    );
    assert_eq!(
        ask(&table, "GET", &format!("/{}", "a".repeat(257)), 0),
        Answer::Nothing
    );
    assert_eq!(
        ask(&table, "GET", &format!("/{}c", "b".repeat(100)), 0),
        Answer::Route(256 + 99, vec![(101, 102)])
    );
    assert_eq!(ask(&table, "GET", &"/".repeat(60_000), 0), Answer::Nothing);
    assert_eq!(
        ask(&table, "GET", &"//y".repeat(40), 0),
        Answer::Route(512, vec![])
    );
}

/// Patterns and paths of more segments than are kept in place.
#[test]
fn deep_patterns() {
    let names = |text: &str| {
        let segments = (0..40).map(|place| match place % 3 {
            0 => format!("/{{{text}{place}}}"),
            _ => format!("/s{place}"),
        });
        segments.collect::<String>()
    };
    let first = names("p").replacen("/s1", "/{q}", 1);
    let lines = [
        format!("GET {first}/x"),
        format!("GET {}/y", names("p")),
        format!("GET {}/*", names("p")),
    ];
    let table = matcher(&lines, true, false);
    let filled = names("p").replace(['{', '}'], "");
    for (end, route) in [("/x", 2), ("/y", 1), ("/z/z", 2)] {
        let path = format!("{filled}{end}");
        let found = ask(&table, "GET", &path, 0);
        assert!(
            matches!(&found, Answer::Route(index, _) if *index == route),
            "{end} {found:?}"
        );
        assert_eq!(found, Oracle::new(&lines).ask("GET", &path, 0));
    }
    let other = filled.replacen("/s1/", "/t/", 1);
    assert!(matches!(
        ask(&table, "GET", &format!("{other}/x"), 0),
        Answer::Route(0, _)
    ));
    assert_eq!(
        ask(&table, "PUT", &format!("{other}/x"), 0),
        Answer::Methods("GET, HEAD".to_owned())
    );
}

/// Two texts of one hash in one node: the texts decide. The hash is open, so such a pair could be searched for.
#[test]
fn a_key_is_not_a_text() {
    let lines = ["GET /abcdefghijklmnopqrst/{x}", "GET /{y}/z"].map(str::to_owned);
    let mut table = matcher(&lines, true, false);
    let other = Segment::read(b"ABCDEFGHIJKLMNOPQRST", 0);
    assert_eq!(table.trie.root.size(), 1, "all keys have the same place");
    for slot in table
        .trie
        .slots
        .iter_mut()
        .filter(|slot| slot.text as usize == TOLD + 1)
    {
        (slot.first, slot.last) = (other.first, other.last);
    }
    let path = "/ABCDEFGHIJKLMNOPQRST/x";
    assert_eq!(ask(&table, "GET", path, 0), Answer::Nothing);
}
