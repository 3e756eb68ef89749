use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use super::*;

/// A folder that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir =
            std::env::temp_dir().join(format!("chassis-rolling-{}-{name}", std::process::id()));
        _ = fs::remove_dir_all(&dir);
        Self(dir)
    }
    fn log(&self) -> PathBuf {
        self.0.join("a.log")
    }
    fn open(&self, change: impl FnOnce(&mut RollingConfig)) -> RollingFile {
        let policy = RollingPolicy::at(self.log()).with(|config| {
            config.size = 1_000;
            change(config);
        });
        RollingFile::open(policy.unwrap()).unwrap()
    }
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
    fn read(&self) -> String {
        fs::read_to_string(self.log()).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn line(file: &mut RollingFile, line: &str) {
    let line = format!("{line}\n");
    file.prepare(line.len()).unwrap();
    assert_eq!(file.write(line.as_bytes()).unwrap(), line.len());
}

fn long(c: char) -> String {
    c.to_string().repeat(599)
}

#[test]
fn it_is_rolled_before_it_is_too_large_and_appended_to() {
    let scratch = Scratch::new("size");
    let mut file = scratch.open(|_| {});
    line(&mut file, "one");
    drop(file);
    let mut file = scratch.open(|_| {});
    line(&mut file, &long('a'));
    assert_eq!(scratch.names(), ["a.log"]);
    line(&mut file, &long('b'));
    let names = scratch.names();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(scratch.read(), long('b') + "\n");
    let rolled = fs::read_to_string(scratch.0.join(&names[0])).unwrap();
    assert_eq!(rolled, format!("one\n{}\n", long('a')));
    // Larger than a file may be: it has one of its own.
    line(&mut file, &"c".repeat(5_000));
    line(&mut file, "d");
    assert_eq!((scratch.names().len(), scratch.read().as_str()), (4, "d\n"));
}

#[test]
fn it_is_rolled_when_it_is_old_and_what_is_old_is_deleted() {
    static NOW: AtomicU64 = AtomicU64::new(1_000_000);
    let scratch = Scratch::new("age");
    let mut file = scratch.open(|config| {
        config.age = Duration::from_secs(60);
        config.keep = Duration::from_secs(200);
    });
    file.clock = || SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::Relaxed));
    // What it knows of the time is from before.
    file.current.as_mut().unwrap().since = (file.clock)();
    for n in 0..6 {
        line(&mut file, &format!("{n}"));
        NOW.fetch_add(60, Ordering::Relaxed);
    }
    // Rolled at 60, 120, … 300: the first one was older than 200 then.
    assert_eq!(scratch.names().len(), 5, "{:?}", scratch.names());
    assert_eq!(scratch.read(), "5\n");
    NOW.fetch_add(1_000, Ordering::Relaxed);
    line(&mut file, "6");
    assert_eq!(scratch.names().len(), 2, "{:?}", scratch.names());
}

#[test]
fn the_newest_stay_and_what_is_not_ours_too() {
    let scratch = Scratch::new("count");
    let mut file = scratch.open(|config| config.backups = 2);
    fs::write(scratch.0.join("a-old.log"), "x").unwrap();
    for c in 'a'..'h' {
        line(&mut file, &long(c));
    }
    let names = scratch.names();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names.contains(&"a-old.log".to_owned()));
    let kept = fs::read_to_string(scratch.0.join(&names[1])).unwrap();
    assert_eq!(kept, long('f') + "\n");
}

#[test]
fn renamed_deleted_or_cut_it_goes_on() {
    let scratch = Scratch::new("moved");
    let mut file = scratch.open(|_| {});
    let looks = |file: &mut RollingFile| file.looked = Instant::now() - 2 * LOOK;
    line(&mut file, "one");
    fs::rename(scratch.log(), scratch.0.join("a.log.1")).unwrap();
    looks(&mut file);
    line(&mut file, "two");
    assert_eq!(scratch.read(), "two\n");
    // Renamed, and somebody else has begun another.
    fs::rename(scratch.log(), scratch.0.join("a.log.2")).unwrap();
    fs::write(scratch.log(), "").unwrap();
    looks(&mut file);
    line(&mut file, "and more");
    assert_eq!(scratch.read(), "and more\n");
    fs::remove_dir_all(&scratch.0).unwrap();
    looks(&mut file);
    line(&mut file, "three");
    assert_eq!(scratch.read(), "three\n");
    line(&mut file, &long('a'));
    // As `copytruncate` does.
    fs::write(scratch.log(), "").unwrap();
    looks(&mut file);
    line(&mut file, &long('b'));
    assert_eq!(scratch.names(), ["a.log"]);
    assert_eq!(scratch.read(), long('b') + "\n");
}

#[test]
fn a_line_that_was_cut_off_is_ended() {
    let scratch = Scratch::new("torn");
    fs::create_dir_all(&scratch.0).unwrap();
    fs::write(scratch.log(), "half").unwrap();
    let mut file = scratch.open(|_| {});
    line(&mut file, "whole");
    assert_eq!(scratch.read(), "half\nwhole\n");
}

#[test]
fn a_crash_between_the_names_loses_nothing() {
    let scratch = Scratch::new("crash");
    let mut file = scratch.open(|_| {});
    line(&mut file, "one");
    // It was renamed, and no new one was begun.
    let rolled = scratch.0.join("a-20200101T000000000Z.log");
    fs::rename(scratch.log(), &rolled).unwrap();
    drop(file);
    let mut file = scratch.open(|_| {});
    line(&mut file, "two");
    assert_eq!(scratch.names(), ["a-20200101T000000000Z.log", "a.log"]);
    assert_eq!(fs::read_to_string(rolled).unwrap(), "one\n");
}

#[test]
fn where_it_cannot_be_rolled_it_grows() {
    let scratch = Scratch::new("stuck");
    let mut file = scratch.open(|_| {});
    // A folder is where its rolled file would go: nobody can be denied anything where tests run as root.
    file.names = Names::of(&scratch.0.join("missing/a.log"));
    line(&mut file, &long('a'));
    line(&mut file, &long('b'));
    line(&mut file, &long('c'));
    assert_eq!(scratch.read().lines().count(), 3);
    // Said once, and not again for each try.
    let said = file.complained;
    assert!(said.is_some());
    file.hold = Some(Instant::now());
    line(&mut file, &long('c'));
    assert!(file.hold.is_some() && file.complained == said);
    file.names = Names::of(&scratch.log());
    file.hold = Some(Instant::now());
    line(&mut file, "d");
    assert_eq!(scratch.read(), "d\n");
}

#[cfg(unix)]
#[test]
fn what_points_to_a_file_stays() {
    let scratch = Scratch::new("link");
    fs::create_dir_all(scratch.0.join("real")).unwrap();
    fs::write(scratch.0.join("real/b.log"), "one\n").unwrap();
    std::os::unix::fs::symlink("real/b.log", scratch.log()).unwrap();
    let mut file = scratch.open(|_| {});
    line(&mut file, &long('a'));
    line(&mut file, &long('b'));
    assert_eq!(scratch.names(), ["a.log", "real"]);
    assert_eq!(scratch.read(), long('b') + "\n");
    assert_eq!(fs::read_dir(scratch.0.join("real")).unwrap().count(), 2);
}

#[test]
fn a_device_is_not_renamed() {
    let policy = RollingPolicy::at("/dev/null").with(|config| config.size = 1_000);
    let mut file = RollingFile::open(policy.unwrap()).unwrap();
    for _ in 0..3 {
        line(&mut file, &long('a'));
    }
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[cfg(feature = "compress")]
#[test]
fn what_is_rolled_is_compressed_also_after_a_crash() {
    let scratch = Scratch::new("gzip");
    fs::create_dir_all(&scratch.0).unwrap();
    // One that was to be compressed, one that was being, and one that was and is not yet deleted.
    for (name, text) in [
        ("a-20200101T000000000Z.log", "first\n"),
        ("a-20200102T000000000Z.log", "second\n"),
        ("a-20200102T000000000Z.log.gz.tmp", "\x1f"),
        ("a-20200102T120000000Z.log.gz.tmp", "of a file that is gone"),
        ("a-20200103T000000000Z.log", "third\n"),
        ("a-20200103T000000000Z.log.gz", "is whole"),
    ] {
        fs::write(scratch.0.join(name), text).unwrap();
    }
    let mut file = scratch.open(|config| config.compress = true);
    while file.work() {}
    line(&mut file, &long('a'));
    line(&mut file, &long('b'));
    while file.work() {}
    let names = scratch.names();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(
        names[..4].iter().all(|name| name.ends_with(".log.gz")),
        "{names:?}"
    );
    let text = |name: &str| {
        let mut text = String::new();
        let packed = File::open(scratch.0.join(name)).unwrap();
        flate2::read::GzDecoder::new(packed)
            .read_to_string(&mut text)
            .unwrap();
        text
    };
    assert_eq!(
        (text(&names[0]), text(&names[1])),
        ("first\n".into(), "second\n".into())
    );
    let whole = fs::read_to_string(scratch.0.join(&names[2])).unwrap();
    assert_eq!(whole, "is whole");
    assert_eq!(text(&names[3]), long('a') + "\n");
}

/// A relative path is that of the beginning.
#[cfg(unix)]
#[test]
fn it_stays_where_it_was_when_the_process_moves() {
    let scratch = Scratch::new("moves");
    let here = std::env::current_dir().unwrap();
    let up = "../".repeat(here.components().count() - 1);
    let path = PathBuf::from(format!("{up}{}", &scratch.log().to_str().unwrap()[1..]));
    let file = RollingFile::open(RollingPolicy::at(path)).unwrap();
    assert!(file.config.path.is_absolute(), "{:?}", file.config.path);
    assert!(file.names.dir().is_absolute());
    assert_eq!(scratch.names(), ["a.log"]);
}

/// It is made, and rolled, where it points to.
#[cfg(unix)]
#[test]
fn what_points_to_no_file_yet_stays() {
    let scratch = Scratch::new("dangling");
    fs::create_dir_all(scratch.0.join("real")).unwrap();
    std::os::unix::fs::symlink("real/b.log", scratch.log()).unwrap();
    let mut file = scratch.open(|_| {});
    line(&mut file, &long('a'));
    line(&mut file, &long('b'));
    assert_eq!(scratch.names(), ["a.log", "real"]);
    assert_eq!(fs::read_dir(scratch.0.join("real")).unwrap().count(), 2);
}

/// Two processes that have the same file are two of these.
#[test]
fn two_that_roll_at_once_lose_no_line() {
    let scratch = Scratch::new("two");
    let open = || scratch.open(|config| config.backups = 10_000);
    let files = [open(), open(), open(), open()];
    let start = std::sync::Barrier::new(files.len());
    std::thread::scope(|scope| {
        for (nth, mut file) in files.into_iter().enumerate() {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for n in 0..400 {
                    line(&mut file, &format!("{nth}-{n} {}", long('x')));
                }
            });
        }
    });
    let mut lines = Vec::new();
    for name in scratch.names() {
        let text = fs::read_to_string(scratch.0.join(name)).unwrap();
        lines.extend(
            text.lines()
                .map(|line| line.split_once(' ').unwrap().0.to_owned()),
        );
    }
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 4 * 400);
}
