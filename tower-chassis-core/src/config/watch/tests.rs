#![cfg(unix)]

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
};

use tokio::time::{sleep, timeout};

use super::{super::scratch::Scratch, *};

/// Generous: the machine may be busy.
const SOON: Duration = Duration::from_secs(10);

async fn assert_changes(watch: &mut FileWatch, what: &str) {
    assert!(
        timeout(SOON, watch.changed()).await.is_ok(),
        "{what} is not seen"
    );
}

async fn assert_quiet(watch: &mut FileWatch, what: &str) {
    assert!(
        timeout(Duration::from_millis(900), watch.changed())
            .await
            .is_err(),
        "{what} is seen"
    );
}

/// The same file with events, and without.
fn both_ways(path: &Path) -> [FileWatch; 2] {
    let polling = FileWatch::new(path, DEBOUNCE, Arc::new(Notify::new()), None).unwrap();
    let watch = watch_file(path, DEBOUNCE).unwrap();
    assert!(polling.is_polling() && !watch.is_polling());
    [watch, polling]
}

/// `name -> ..data/name`, `..data -> ..v1/`: a volume of Kubernetes.
fn publish(scratch: &Scratch, version: &str, text: &str) {
    let dir = scratch.path(version);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("g.yaml"), text).unwrap();
    symlink(version, scratch.path("..data_tmp")).unwrap();
    fs::rename(scratch.path("..data_tmp"), scratch.path("..data")).unwrap();
}

#[tokio::test]
async fn every_way_to_change_a_file_is_seen() {
    type Way = (&'static str, fn(&Scratch, &Path));
    let ways: [Way; 9] = [
        ("an edit in place", |_, file| {
            fs::write(file, "b: 22").unwrap()
        }),
        ("an appended line", |_, file| {
            use std::io::Write as _;
            File::options()
                .append(true)
                .open(file)
                .unwrap()
                .write_all(b"\nb: 1")
                .unwrap();
        }),
        ("an edit that hides", |_, file| {
            // Same length, same time.
            let time = fs::metadata(file).unwrap().modified().unwrap();
            fs::write(file, "a: 2").unwrap();
            File::options()
                .write(true)
                .open(file)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }),
        ("a rename over it", |scratch, file| {
            let new = scratch.write("new", "a: 1");
            fs::rename(new, file).unwrap();
        }),
        ("removal", |_, file| fs::remove_file(file).unwrap()),
        ("removal and creation", |_, file| {
            fs::remove_file(file).unwrap();
            fs::write(file, "a: 2").unwrap();
        }),
        ("a link in its place", |scratch, file| {
            let other = scratch.write("other", "a: 1");
            fs::remove_file(file).unwrap();
            symlink(other, file).unwrap();
        }),
        ("removal of its directory", |scratch, _| {
            fs::remove_dir_all(scratch.path("dir")).unwrap()
        }),
        ("another directory in its place", |scratch, file| {
            fs::rename(scratch.path("dir"), scratch.path("old")).unwrap();
            fs::create_dir(scratch.path("dir")).unwrap();
            fs::write(file, "a: 1").unwrap();
        }),
    ];
    let run = |(what, change): Way| async move {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("dir")).unwrap();
        let file = scratch.write("dir/g.yaml", "a: 1");
        let watches = both_ways(&file);
        sleep(Duration::from_millis(20)).await;
        change(&scratch, &file);
        for mut watch in watches {
            assert_changes(&mut watch, what).await;
            assert_quiet(&mut watch, what).await;
        }
    };
    let mut all = tokio::task::JoinSet::new();
    for way in ways {
        all.spawn(run(way));
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_swapped_link_is_seen_again_and_again() {
    let scratch = Scratch::new();
    publish(&scratch, "..v1", "a: 1");
    symlink("..data/g.yaml", scratch.path("g.yaml")).unwrap();
    for mut watch in both_ways(&scratch.path("g.yaml")) {
        for n in 0..3 {
            let version = format!("..v{n}-{}", watch.is_polling());
            // Of the same length and content: it is another file all the same.
            publish(&scratch, &version, "a: 1");
            assert_changes(&mut watch, "a swapped link").await;
        }
        // The real directory is the one that is watched now.
        fs::write(scratch.path("..data/g.yaml"), "a: 33").unwrap();
        assert_changes(&mut watch, "an edit behind the link").await;
        assert_quiet(&mut watch, "nothing").await;
    }
}

#[tokio::test]
async fn a_file_may_come_into_being_and_go_again() {
    let scratch = Scratch::new();
    for mut watch in both_ways(&scratch.path("later/g.yaml")) {
        fs::create_dir(scratch.path("later")).unwrap();
        assert_quiet(&mut watch, "an empty directory").await;
        fs::write(scratch.path("later/g.yaml"), "a: 1").unwrap();
        assert_changes(&mut watch, "creation").await;
        fs::remove_dir_all(scratch.path("later")).unwrap();
        assert_changes(&mut watch, "removal").await;
    }
}

/// How long an edit takes at best to be reported, when polling alone would take half a second.
async fn fastest(watch: &mut FileWatch) -> Duration {
    let mut fastest = Duration::MAX;
    for n in 0..5 {
        let _ = timeout(Duration::from_millis(10), watch.changed()).await;
        watch.look().await;
        let start = Instant::now();
        fs::write(&watch.path, format!("a: {n}{n}")).unwrap();
        assert_changes(watch, "an edit").await;
        fastest = fastest.min(start.elapsed());
    }
    fastest
}

#[tokio::test]
async fn events_come_sooner_than_the_next_look() {
    let sooner = DEBOUNCE..Duration::from_millis(400);
    let scratch = Scratch::new();
    let file = scratch.write("plain.yaml", "a: 1");
    let mut watch = watch_file(&file, DEBOUNCE).unwrap();
    let best = fastest(&mut watch).await;
    assert!(sooner.contains(&best), "{best:?}");

    // The directories that count are others after each swap.
    publish(&scratch, "..v1", "a: 1");
    symlink("..data/g.yaml", scratch.path("g.yaml")).unwrap();
    let mut watch = watch_file(scratch.path("g.yaml"), DEBOUNCE).unwrap();
    publish(&scratch, "..v2", "a: 2");
    assert_changes(&mut watch, "a swapped link").await;
    let best = fastest(&mut watch).await;
    assert!(sooner.contains(&best), "{best:?} after a swap");

    // A new directory in the place of a watched one, between two looks.
    fs::rename(scratch.path("..v2"), scratch.path("old")).unwrap();
    fs::create_dir(scratch.path("..v2")).unwrap();
    scratch.write("..v2/g.yaml", "a: 3");
    assert_changes(&mut watch, "a new directory").await;
    let best = fastest(&mut watch).await;
    assert!(sooner.contains(&best), "{best:?} after a new directory");
}

#[tokio::test]
async fn a_look_that_is_dropped_is_made_again() {
    let scratch = Scratch::new();
    let file = scratch.write("g.yaml", "a: 1");
    let mut watch = watch_file(&file, DEBOUNCE).unwrap();
    fs::write(&file, "a: 22").unwrap();
    sleep(Duration::from_millis(100)).await;
    // One poll takes it as far as the file system.
    tokio::select! {
        biased;
        () = watch.changed() => panic!("too soon"),
        () = std::future::ready(()) => {}
    }
    assert!(watch.dirty || watch.pending.is_some());
    assert_changes(&mut watch, "an edit").await;
}

#[tokio::test]
async fn a_burst_is_one_change_and_an_endless_one_is_reported() {
    let scratch = Scratch::new();
    let file = scratch.write("g.yaml", "0");
    let mut watch = watch_file(&file, Duration::from_millis(200)).unwrap();
    for n in 0..5 {
        fs::write(&file, n.to_string()).unwrap();
        let _ = timeout(Duration::from_millis(30), watch.changed()).await;
    }
    assert_changes(&mut watch, "a burst").await;
    assert_quiet(&mut watch, "the end of a burst").await;

    let writer = tokio::spawn({
        let file = file.clone();
        async move {
            for n in 0u64.. {
                fs::write(&file, n.to_string()).unwrap();
                sleep(Duration::from_millis(30)).await;
            }
        }
    });
    assert_changes(&mut watch, "an endless burst").await;
    writer.abort();
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let scratch = Scratch::new();
    let file = scratch.write("g.yaml", "a: 1");
    for mut watch in both_ways(&file) {
        fs::write(&file, format!("a: {}", watch.is_polling())).unwrap();
        let mut reports = 0;
        for _ in 0..200 {
            reports += u32::from(
                timeout(Duration::from_millis(7), watch.changed())
                    .await
                    .is_ok(),
            );
        }
        assert_eq!(reports, 1);
    }
}

#[tokio::test]
async fn a_quiet_file_and_its_busy_neighbour_cost_next_to_nothing() {
    let scratch = Scratch::new();
    let file = scratch.write("g.yaml", "a: 1");
    let mut watch = watch_file(&file, DEBOUNCE).unwrap();
    assert!(
        timeout(Duration::from_millis(2200), watch.changed())
            .await
            .is_err()
    );
    assert!(
        (1..=6).contains(&watch.looks),
        "{} looks at a quiet file",
        watch.looks
    );

    watch.looks = 0;
    let storm = tokio::spawn({
        let neighbour = scratch.path("log");
        async move {
            for n in 0u64.. {
                fs::write(&neighbour, n.to_string()).unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    assert_quiet(&mut watch, "a neighbour").await;
    storm.abort();
    assert!(watch.looks <= 40, "{} looks in 900 ms", watch.looks);
}

#[tokio::test]
async fn a_dropped_watch_ends() {
    let scratch = Scratch::new();
    let file = scratch.write("g.yaml", "a: 1");
    let watch = watch_file(&file, DEBOUNCE).unwrap();
    let notice = Arc::downgrade(&watch.notice);
    drop(watch);
    let gone = async {
        while notice.strong_count() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        timeout(SOON, gone).await.is_ok(),
        "the watcher of the system lives on"
    );
}

#[test]
fn the_way_to_a_file_is_all_watched() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("real/deep")).unwrap();
    fs::create_dir(scratch.path("links")).unwrap();
    scratch.write("real/deep/g.yaml", "");
    symlink("../real", scratch.path("links/hop")).unwrap();
    symlink(
        scratch.path("links/hop/deep/g.yaml"),
        scratch.path("g.yaml"),
    )
    .unwrap();
    symlink("loop", scratch.path("loop")).unwrap();
    let found = |name: &str| {
        let all = look::directories(&scratch.path(name));
        let inside = all
            .keys()
            .filter_map(|dir| dir.strip_prefix(scratch.dir()).ok());
        inside
            .map(|dir| dir.display().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(found("g.yaml"), ["", "links", "real/deep"]);
    assert_eq!(found("real/../real/deep/g.yaml"), ["real/deep"]);
    assert_eq!(found("gone/deeper/g.yaml"), [""]);
    assert_eq!(found("loop"), [""]);
}

#[test]
fn a_path_that_is_none_is_an_error() {
    let error = watch_file("", DEBOUNCE).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot watch \"\": "),
        "{error}"
    );
}
