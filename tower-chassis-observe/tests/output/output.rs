//! Lines, and writers that do not write them.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_chassis_core::{Body, BoxError};
use tower_chassis_observe::{
    access_log::{AccessLogLayer, Format},
    output::{Bound, Output, OutputHandle, RollingPolicy},
};

const LONG: Duration = Duration::from_secs(30);

/// A folder that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir =
            std::env::temp_dir().join(format!("chassis-output-{}-{name}", std::process::id()));
        _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A file system of 256 KiB, until it is dropped.
#[cfg(target_os = "linux")]
struct Mounted(PathBuf);

#[cfg(target_os = "linux")]
impl Mounted {
    fn small(at: &Path) -> Option<Self> {
        let args = ["-t", "tmpfs", "-o", "size=256k", "none"];
        let done = std::process::Command::new("mount")
            .args(args)
            .arg(at)
            .output()
            .ok()?;
        done.status.success().then(|| Self(at.to_owned()))
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a test that fails may still have a file open.
        _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .output();
    }
}

/// A writer that writes while its gate is open.
#[derive(Clone, Default)]
struct Gated(Arc<(Mutex<Gate>, Condvar)>);

#[derive(Default)]
struct Gate {
    open: bool,
    entered: bool,
    written: Vec<u8>,
}

impl Gated {
    fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }
    fn wait_entered(&self) {
        let gate = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(gate, |gate| !gate.entered).unwrap());
    }
    fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().unwrap().written.clone()).unwrap()
    }
}

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut gate = self.0.0.lock().unwrap();
        gate.entered = true;
        self.0.1.notify_all();
        let mut gate = self.0.1.wait_while(gate, |gate| !gate.open).unwrap();
        gate.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer that does as it is told, write by write.
struct Scripted<F>(F, Arc<Mutex<Vec<u8>>>);

impl<F: FnMut(usize) -> io::Result<usize>> Write for Scripted<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wrote = (self.0)(bytes.len())?;
        self.1.lock().unwrap().extend_from_slice(&bytes[..wrote]);
        Ok(wrote)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn accounted(handle: &OutputHandle, lines: u64) {
    let (written, failed, lost) = (handle.written(), handle.failed(), handle.lost());
    let all = written + failed + lost + handle.waiting() as u64;
    assert_eq!(all, lines, "{handle:?}");
}

#[test]
fn a_writer_that_blocks_blocks_nobody_and_what_is_lost_is_counted() {
    let gated = Gated::default();
    let output = Output::new(gated.clone(), Bound::lines(100));
    let handle = output.handle();
    assert!(output.line("first"));
    gated.wait_entered();
    // The one that is being written has its place still.
    let taken = (0..1_000).filter(|n| output.line(&format!("{n}"))).count();
    assert_eq!(taken, 99);
    assert_eq!(
        (handle.written(), handle.lost(), handle.waiting()),
        (0, 901, 100)
    );
    assert!(!handle.flush_blocking(Duration::from_millis(20)));
    gated.open();
    assert!(handle.flush_blocking(Duration::MAX));
    assert!(handle.flush_blocking(LONG));
    assert_eq!(
        (handle.written(), handle.lost(), handle.waiting()),
        (100, 901, 0)
    );
    let expected: String = (0..99).map(|n| format!("{n}\n")).collect();
    assert_eq!(gated.text(), format!("first\n{expected}"));
}

#[test]
fn bytes_are_bounded_too() {
    let gated = Gated::default();
    let output = Output::new(gated.clone(), Bound::default().bytes(1_000));
    let line = "x".repeat(99);
    assert!(!output.line(&"x".repeat(1_000)));
    let taken = (0..100).filter(|_| output.line(&line)).count();
    assert_eq!((taken, output.handle().lost()), (10, 91));
    gated.open();
    assert!(output.handle().flush_blocking(LONG));
    assert!(output.line(&"x".repeat(999)));
}

#[cfg(unix)]
#[test]
fn a_pipe_that_nobody_reads_blocks_nobody() {
    let scratch = Scratch::new("fifo");
    let path = scratch.0.join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    let policy = RollingPolicy::at(&path);
    let output = Output::file(policy, Bound::lines(1_000)).unwrap();
    let handle = output.handle();
    let line = "x".repeat(1_023);
    for _ in 0..2_000 {
        output.line(&line);
    }
    // The pipe holds some of it.
    accounted(&handle, 2_000);
    assert!(handle.lost() > 0 && !handle.flush_blocking(Duration::from_millis(20)));
    let reader = thread::spawn(move || {
        let mut pipe = fs::File::open(path).unwrap();
        let mut read = 0;
        let mut piece = [0; 4096];
        while let Ok(more) = pipe.read(&mut piece) {
            read += more;
            if more == 0 {
                return read;
            }
        }
        read
    });
    assert!(handle.flush_blocking(LONG));
    accounted(&handle, 2_000);
    assert_eq!((handle.failed(), handle.waiting()), (0, 0));
    let written = handle.written() as usize;
    drop(output);
    assert_eq!(reader.join().unwrap(), written * 1_024);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_fails_and_is_counted() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = Output::new(full, Bound::lines(10));
    let handle = output.handle();
    for n in 0..1_000 {
        output.line(&format!("{n}"));
    }
    accounted(&handle, 1_000);
    assert!(handle.flush_blocking(LONG));
    accounted(&handle, 1_000);
    assert_eq!((handle.written(), handle.waiting()), (0, 0));
    assert!(handle.failed() >= 10, "{handle:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_on_a_full_disk_goes_on_when_there_is_room() {
    let scratch = Scratch::new("tmpfs");
    let Some(_mounted) = Mounted::small(&scratch.0) else {
        eprintln!("SKIPPED: may not mount a file system");
        return;
    };
    let policy = RollingPolicy::at(scratch.0.join("a.log"));
    let output = Output::file(policy, Bound::default()).unwrap();
    let handle = output.handle();
    let ballast = scratch.0.join("ballast");
    fs::write(&ballast, vec![0; 100 * 1024]).unwrap();
    let line = "x".repeat(1_023);
    for _ in 0..400 {
        output.line(&line);
    }
    assert!(handle.flush_blocking(LONG));
    accounted(&handle, 400);
    assert!(handle.failed() > 0 && handle.written() > 100, "{handle:?}");
    fs::remove_file(ballast).unwrap();
    for _ in 0..50 {
        output.line(&line);
    }
    assert!(handle.flush_blocking(LONG));
    accounted(&handle, 450);
    let whole = fs::read_to_string(scratch.0.join("a.log")).unwrap();
    let whole = whole.lines().filter(|read| *read == line).count() as u64;
    assert_eq!(whole, handle.written());
}

#[test]
fn eight_threads_and_sixty_files_lose_no_line() {
    const LINES: usize = 20_000;
    let scratch = Scratch::new("roll");
    let path = scratch.0.join("a.log");
    let policy = RollingPolicy::at(&path).with(|config| {
        config.size = 20_000;
        config.backups = 10_000;
        config.compress = cfg!(feature = "compress");
    });
    let output = Output::file(policy.unwrap(), Bound::lines(1_000_000).bytes(1 << 29)).unwrap();
    let handle = output.handle();
    thread::scope(|scope| {
        for writer in 0..8 {
            let output = &output;
            scope.spawn(move || {
                for n in 0..LINES {
                    assert!(output.line(&format!("{writer} {n}")));
                }
            });
        }
    });
    assert!(handle.flush_blocking(LONG));
    accounted(&handle, 8 * LINES as u64);
    assert_eq!((handle.failed(), handle.lost()), (0, 0));
    drop(output);

    let mut files: Vec<_> = fs::read_dir(&scratch.0)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    // `a.log` is the newest, and sorted behind `a-…`.
    assert!(files.len() > 50, "{files:?}");
    let mut next: HashMap<usize, usize> = HashMap::new();
    for file in &files {
        let Some(text) = text(file) else { continue };
        assert!(text.len() <= 20_000 && text.ends_with('\n'), "{file:?}");
        for line in text.lines() {
            let (writer, n) = line.split_once(' ').unwrap();
            let (writer, n) = (
                writer.parse::<usize>().unwrap(),
                n.parse::<usize>().unwrap(),
            );
            // The lines of a thread are in their order.
            assert_eq!(std::mem::replace(next.entry(writer).or_default(), n + 1), n);
        }
    }
    assert!((0..8).all(|writer| next[&writer] == LINES), "{next:?}");
}

/// None for what is still being made of a file that is there too.
fn text(path: &Path) -> Option<String> {
    let name = path.to_str().unwrap();
    if name.ends_with(".tmp") {
        return None;
    }
    #[cfg(feature = "compress")]
    if name.ends_with(".gz") {
        // Renamed, and the plain one is not yet deleted.
        if path.with_extension("").exists() {
            return None;
        }
        let mut text = String::new();
        let file = fs::File::open(path).unwrap();
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut text)
            .unwrap();
        return Some(text);
    }
    Some(fs::read_to_string(path).unwrap())
}

#[test]
fn the_last_drop_writes_what_is_there() {
    let gated = Gated::default();
    gated.open();
    let output = Output::new(gated.clone(), Bound::default());
    let sink = output.sink();
    let handle = output.handle();
    for n in 0..1_000 {
        assert!(sink(&format!("{n}\n")));
    }
    drop(output);
    assert!(sink("last\n"));
    drop(sink);
    assert_eq!(
        (handle.written(), gated.text().lines().count()),
        (1_001, 1_001)
    );
}

#[test]
fn the_writer_is_gone_with_the_last_output() {
    struct Gone(Arc<Mutex<bool>>);
    impl Write for Gone {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Drop for Gone {
        fn drop(&mut self) {
            thread::park_timeout(Duration::from_millis(20));
            *self.0.lock().unwrap() = true;
            panic!("planted");
        }
    }
    let gone = Arc::new(Mutex::new(false));
    let output = Output::new(Gone(Arc::clone(&gone)), Bound::default());
    output.line("one");
    drop(output);
    assert!(*gone.lock().unwrap());
}

#[test]
fn a_drop_does_not_wait_for_ever() {
    let gated = Gated::default();
    let output = Output::new(gated, Bound::default());
    let handle = output.handle();
    output.line("never");
    drop(output);
    assert_eq!((handle.written(), handle.waiting()), (0, 1));
}

#[test]
fn what_nobody_wrote_to_makes_no_thread() {
    drop(Output::new(Gated::default(), Bound::default()));
}

#[test]
fn a_line_that_was_cut_off_is_ended_before_the_next() {
    let written = Arc::<Mutex<Vec<u8>>>::default();
    let mut calls = 0;
    let script = move |len: usize| {
        calls += 1;
        match calls {
            1 => Ok(4),
            2 => Err(io::ErrorKind::StorageFull.into()),
            3 => Err(io::ErrorKind::Interrupted.into()),
            _ => Ok(len.min(3)),
        }
    };
    let output = Output::new(Scripted(script, Arc::clone(&written)), Bound::default());
    let handle = output.handle();
    output.line("first one");
    assert!(handle.flush_blocking(LONG));
    assert_eq!((handle.written(), handle.failed()), (0, 1));
    output.line("second one");
    assert!(handle.flush_blocking(LONG));
    assert_eq!((handle.written(), handle.failed()), (1, 1));
    assert_eq!(&**written.lock().unwrap(), b"firs\nsecond one\n");
}

#[test]
fn a_writer_that_panics_or_has_no_room_just_now_goes_on() {
    let written = Arc::<Mutex<Vec<u8>>>::default();
    let mut calls = 0;
    let script = move |len: usize| {
        calls += 1;
        match calls {
            1 => panic!("planted"),
            2 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(len),
        }
    };
    let output = Output::new(Scripted(script, Arc::clone(&written)), Bound::default());
    let handle = output.handle();
    output.line("one");
    assert!(handle.flush_blocking(LONG));
    output.line("two");
    assert!(handle.flush_blocking(LONG));
    assert_eq!((handle.written(), handle.failed()), (1, 1));
    assert_eq!(&**written.lock().unwrap(), b"two\n");
}

#[test]
fn what_a_writer_says_itself_is_lost() {
    let slot = Arc::new(Mutex::new(None::<Output>));
    let itself = Arc::clone(&slot);
    let written = Arc::<Mutex<Vec<u8>>>::default();
    let script = move |len: usize| {
        let output = itself.lock().unwrap().clone();
        assert!(output.is_none_or(|output| !output.line("wrote something")));
        Ok(len)
    };
    let output = Output::new(Scripted(script, Arc::clone(&written)), Bound::default());
    *slot.lock().unwrap() = Some(output.clone());
    let handle = output.handle();
    output.line("one");
    assert!(handle.flush_blocking(LONG));
    assert_eq!(
        (handle.written(), handle.failed(), handle.lost()),
        (1, 0, 1)
    );
    *slot.lock().unwrap() = None;
}

#[tokio::test]
async fn a_flush_waits_for_what_was_there_and_may_be_dropped() {
    let gated = Gated::default();
    let output = Output::new(gated.clone(), Bound::default());
    let handle = output.handle();
    assert!(handle.flush(LONG).await, "nothing was there");
    output.line("one");
    assert!(!handle.flush(Duration::from_millis(20)).await);
    drop(handle.flush(LONG));
    let (a, b) = (handle.flush(LONG), handle.flush(LONG));
    output.line("two");
    gated.open();
    let (a, b) = tokio::join!(a, b);
    assert!(a && b && handle.flush(LONG).await);
    assert_eq!(gated.text(), "one\ntwo\n");
}

#[test]
fn a_flush_does_not_wait_for_what_comes_later() {
    let gated = Gated::default();
    gated.open();
    let output = Output::new(gated, Bound::lines(1_000));
    let handle = output.handle();
    thread::scope(|scope| {
        let flood = {
            let output = output.clone();
            scope.spawn(move || {
                for _ in 0..200_000 {
                    output.line("on and on");
                }
            })
        };
        let mut flushes = 0;
        while !flood.is_finished() {
            assert!(handle.flush_blocking(LONG));
            flushes += 1;
        }
        assert!(flushes > 0);
    });
}

/// The time of each of so many calls with an access log, sorted.
async fn calls(output: &Output, calls: usize) -> Vec<Duration> {
    let service = AccessLogLayer::new(Format::Json, output.sink()).layer(service_fn(
        async |_: Request<()>| Ok::<_, BoxError>(Response::new(Body::empty())),
    ));
    let mut took = Vec::with_capacity(calls);
    for _ in 0..calls {
        let begun = tokio::time::Instant::now();
        service.clone().oneshot(Request::new(())).await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort();
    took
}

#[tokio::test]
async fn calls_do_not_notice_a_writer_that_blocks() {
    const CALLS: usize = 10_000;
    let open = Gated::default();
    open.open();
    let shut = Gated::default();
    let outputs = [open, shut.clone()].map(|gated| Output::new(gated, Bound::lines(1_000)));
    let [open, blocked] = &outputs;
    // Once to warm up.
    calls(open, CALLS).await;
    let as_ever = calls(open, CALLS).await;
    let meanwhile = calls(blocked, CALLS).await;
    let p99 = |took: &[Duration]| took[took.len() * 99 / 100];
    let (as_ever, meanwhile) = (p99(&as_ever), p99(&meanwhile));
    println!("p99 {as_ever:?}, with a writer that blocks {meanwhile:?}");
    // Whatever else runs on this machine: a wait would be thousands of times as long.
    assert!(meanwhile < as_ever * 10 + Duration::from_millis(1));
    let handle = blocked.handle();
    accounted(&handle, CALLS as u64);
    assert_eq!((handle.lost(), handle.waiting()), (9_000, 1_000));
    shut.open();
    assert!(handle.flush(LONG).await);
    assert_eq!((handle.written(), handle.lost()), (1_000, 9_000));
}

#[test]
fn a_file_that_cannot_be_opened_says_so_at_once() {
    let policy = RollingPolicy::at("/dev/null/no/such.log");
    assert!(Output::file(policy, Bound::default()).is_err());
}

/// Under a clock that stands still a second never passes.
#[test]
fn a_drop_is_bounded_where_time_stands_still() {
    let (done, over) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let output = Output::new(Gated::default(), Bound::default());
            output.line("never");
            let handle = output.handle();
            assert!(!handle.flush_blocking(Duration::from_millis(20)));
            drop(output);
        });
        done.send(()).unwrap();
    });
    over.recv_timeout(LONG).unwrap();
}

/// What takes lines into a buffer and cannot pass them on has not written them.
#[test]
fn what_cannot_be_flushed_has_failed() {
    struct Full(Arc<Mutex<bool>>);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            match *self.0.lock().unwrap() {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        }
    }
    let full = Arc::new(Mutex::new(true));
    let output = Output::new(Full(Arc::clone(&full)), Bound::default());
    let handle = output.handle();
    for n in 0..3 {
        output.line(&format!("{n}"));
    }
    assert!(handle.flush_blocking(LONG));
    assert_eq!((handle.written(), handle.failed()), (0, 3));
    *full.lock().unwrap() = false;
    output.line("there is room again");
    assert!(handle.flush_blocking(LONG));
    assert_eq!((handle.written(), handle.failed()), (1, 3));
}
